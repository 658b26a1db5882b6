"""What a model is made of: frozen dataclasses, and the published sizes as functions.

A config is data only. Every field is checked when it is made, so a config that exists can be built.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, cast

from speechssl.config.bounds import (
    AtLeast,
    AtMost,
    Even,
    NotNegative,
    Odd,
    Positive,
    Probability,
    check_fields,
)
from speechssl.config.json import from_json, to_json

NormOrder = Literal["pre", "post"]
UpperLayer = Literal["attention", "gru"]
EncoderNorm = Literal["group", "layer"]


_MOST = 1 << 20
"""Of any width, length or number in a model: more is a slip, and asks for all memory there is."""
Size = Annotated[int, AtLeast(1), AtMost(_MOST)]
SizeOrNone = Annotated[int, AtLeast(0), AtMost(_MOST)]
"""0 leaves the part out."""
Sizes = tuple[Size, ...]


@dataclass(frozen=True)
class ConvEncoderConfig:
    """Convolutions on the raw wave (wav2vec 2.0, arXiv:2006.11477, section 2)."""

    kind: ClassVar[str] = "conv"

    dims: Sizes = (512,) * 7
    """Channels of each layer."""
    kernels: Sizes = (10, 3, 3, 3, 3, 2, 2)
    """Kernel of each layer, in frames of the layer below."""
    strides: Sizes = (5, 2, 2, 2, 2, 2, 2)
    """Stride of each layer; their product is the hop in samples (320 = 20 ms at 16 kHz)."""
    norm: EncoderNorm = "group"
    """``group``: one group per channel over time, after the first layer only (BASE). ``layer``:
    over channels, after every layer (LARGE). With ``layer`` the loudness is lost in the first
    layers, which narrow encoders cannot afford."""
    bias: bool = False
    """Bias in the convolutions (LARGE has it)."""

    def __post_init__(self) -> None:
        check_fields(self, "encoder")
        if not len(self.dims) == len(self.kernels) == len(self.strides) > 0:
            raise ValueError(
                "encoder: dims, kernels and strides must have the same number of layers, got "
                f"{len(self.dims)}, {len(self.kernels)} and {len(self.strides)}."
            )


@dataclass(frozen=True)
class FilterbankEncoderConfig:
    """A learnable time-domain filterbank (arXiv:1711.01161; LEAF, arXiv:2101.08596).

    It starts as a mel filterbank and learns from the first minute, which a deep stack of
    convolutions does not with the few updates that a CPU affords.
    """

    kind: ClassVar[str] = "filterbank"

    num_filters: Size = 80
    """Pairs of filters (a real and an imaginary part), one pair per output channel."""
    kernel_samples: Size = 400
    """Length of each filter (400 = 25 ms at 16 kHz)."""
    hop_samples: Annotated[Size, Even()] = 160
    """Samples between two pooled energies (160 = 10 ms)."""
    stack: Size = 4
    """Energies stacked into one latent frame; ``hop_samples * stack`` is the hop of the model.
    Half of wav2vec 2.0's frame rate or less is what makes the context network cheap
    (arXiv:2109.06870)."""
    min_hz: Annotated[float, NotNegative()] = 50.0
    """Centre of the lowest filter's lower neighbour."""
    max_hz: Positive = 7800.0
    """Centre of the highest filter's upper neighbour."""

    def __post_init__(self) -> None:
        check_fields(self, "encoder")
        if self.min_hz >= self.max_hz:
            raise ValueError(
                f"encoder.min_hz must be below encoder.max_hz, got {self.min_hz} and {self.max_hz}."
            )


EncoderConfig = ConvEncoderConfig | FilterbankEncoderConfig


@dataclass(frozen=True)
class ContextConfig:
    """The network over the frames (arXiv:2006.11477, section 2)."""

    dim: Size = 768
    """Width D of the frames."""
    num_layers: Size = 12
    """All layers, the local ones among them."""
    local_layers: SizeOrNone = 0
    """How many of them, the lowest, are convolutions instead of attention (pre-norm only). What a
    phone sounds like is local, and convolutions learn it in far fewer updates than attention
    does."""
    local_kernel: Annotated[Size, Odd()] = 5
    """Frames that an output of a local layer depends on, odd."""
    upper: UpperLayer = "attention"
    """The layers above the local ones: ``attention`` (the published form), or ``gru``,
    bidirectional (pre-norm only), which learns from fewer updates and does not run in parallel
    over time."""
    num_heads: Size = 12
    """Of the attention; they divide `dim`."""
    ffn_dim: Size = 3072
    """Inner width of the feed-forward parts."""
    norm_order: NormOrder = "post"
    """``post``: norm after each residual sum (BASE). ``pre``: before each part, and once at the end
    (LARGE)."""
    pos_kernel: Size = 128
    """Kernel of the positional convolution, in frames."""
    pos_groups: Size = 16
    """Groups of that convolution; they divide `dim`."""
    pos_stack: SizeOrNone = 0
    """0: one weight-normed convolution (wav2vec 2.0). Else so many convolutions, each followed by
    a norm without parameters and GELU (data2vec, arXiv:2202.03555; five of kernel 19)."""
    pos_norm: bool = False
    """A LayerNorm after the positional convolution. The published pre-norm form has none, and in
    small pre-norm models the residual stream then grows until the layers above hardly take part."""
    dropout: Probability = 0.1
    """After each part, and on the input of the first layer."""
    attention_dropout: Probability = 0.1
    """On the attention weights."""
    activation_dropout: Probability = 0.0
    """Inside the feed-forward parts."""
    layerdrop: Probability = 0.05
    """Probability with which a whole layer is left out in training (arXiv:1909.11556)."""
    norm_eps: Positive = 1e-5
    """Added to the variance in every LayerNorm."""
    rel_buckets: SizeOrNone = 0
    """Buckets of the gated relative position bias in attention (WavLM, arXiv:2110.13900, section
    3.1; 320 there); 0: none."""
    rel_max_distance: SizeOrNone = 800
    """Frames from which on all distances share a bucket."""
    adapter_dim: SizeOrNone = 0
    """Inner width of an adapter at the end of every layer (MMS, arXiv:2305.13516, has 16); 0:
    none."""
    causal: bool = False
    """No frame depends on a later one: attention is masked, convolutions are padded on the left,
    and a GRU runs forwards only. See ``running_norm`` for the encoder."""

    def __post_init__(self) -> None:
        check_fields(self, "context")
        self._check_attention()
        if self.local_layers > self.num_layers:
            raise ValueError(
                "context.local_layers must be between 0 and context.num_layers "
                f"({self.num_layers}), got {self.local_layers}."
            )
        if (self.local_layers or self.upper == "gru") and self.norm_order != "pre":
            raise ValueError(
                "context.local_layers and context.upper 'gru' need context.norm_order 'pre', "
                "got 'post'."
            )
        if self.upper == "gru" and self.dim % 2:
            raise ValueError(f"context.dim must be even for context.upper 'gru', got {self.dim}.")
        if self.dim % self.num_heads:
            raise ValueError(
                "context.dim must be a multiple of context.num_heads, got "
                f"{self.dim} and {self.num_heads}."
            )
        if self.dim % self.pos_groups:
            raise ValueError(
                "context.dim must be a multiple of context.pos_groups, got "
                f"{self.dim} and {self.pos_groups}."
            )

    @property
    def is_convolutional(self) -> bool:
        """Whether all layers are local convolutions."""
        return self.local_layers == self.num_layers

    def _check_attention(self) -> None:
        """What the relative position bias needs."""
        if self.rel_buckets and (self.local_layers or self.upper != "attention"):
            raise ValueError(
                "context.rel_buckets is for attention in every layer: set context.local_layers to "
                "0 and context.upper to 'attention'."
            )
        if self.rel_buckets and (
            self.rel_buckets % 4 or self.rel_max_distance <= self.rel_buckets // 4
        ):
            raise ValueError(
                "context.rel_buckets must be a multiple of 4 and context.rel_max_distance above a "
                f"quarter of it, got {self.rel_buckets} and {self.rel_max_distance}."
            )


@dataclass(frozen=True)
class ModelConfig:
    """Encoder and context: the thing that is pretrained, fine-tuned and reused."""

    encoder: EncoderConfig = ConvEncoderConfig()
    """From the wave to latents: ``conv`` or ``filterbank``."""
    context: ContextConfig = ContextConfig()
    """From latents to contextual frames."""
    sample_rate: Size = 16000
    """Hz of the input wave."""
    normalize_wave: bool = False
    """Zero mean and unit variance for each utterance before the encoder (LARGE)."""
    latent_dropout: Probability = 0.0
    """On the projected latents (``dropout_input`` of wav2vec 2.0)."""
    running_norm: bool = False
    """Whatever is normalised over time (the wave, a filterbank's channels, the first layer of a
    convolutional encoder) is so by the statistics up to each frame instead of the whole
    utterance's, which would show a causal model the future."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def is_causal(self) -> bool:
        """Whether no output depends on samples later than those of its own frame's filters."""
        encoder = self.encoder
        over_time = isinstance(encoder, FilterbankEncoderConfig) or encoder.norm == "group"
        return self.context.causal and (self.running_norm or not (over_time or self.normalize_wave))

    @property
    def latent_dim(self) -> int:
        """C, the width of the encoder's output."""
        encoder = self.encoder
        if isinstance(encoder, ConvEncoderConfig):
            return encoder.dims[-1]
        return encoder.num_filters * encoder.stack

    @property
    def hop_samples(self) -> int:
        """Samples between two frames."""
        encoder = self.encoder
        if isinstance(encoder, FilterbankEncoderConfig):
            return encoder.hop_samples * encoder.stack
        hop = 1
        for stride in encoder.strides:
            hop *= stride
        return hop


def tiny() -> ModelConfig:
    """About 5 M parameters, 40 ms frames: learns on a laptop's CPU."""
    return ModelConfig(
        encoder=FilterbankEncoderConfig(),
        context=ContextConfig(
            dim=288,
            num_layers=6,
            local_layers=3,
            upper="gru",
            num_heads=4,
            ffn_dim=1152,
            norm_order="pre",
            pos_kernel=31,
            pos_norm=True,
            dropout=0.0,
            attention_dropout=0.0,
            layerdrop=0.0,
        ),
    )


def small() -> ModelConfig:
    """About 20 M parameters, 40 ms frames: a good CPU or a small GPU."""
    config = tiny()
    context = replace(
        config.context,
        dim=384,
        num_layers=12,
        local_layers=4,
        upper="attention",
        num_heads=6,
        ffn_dim=1536,
    )
    return replace(config, context=context)


def base() -> ModelConfig:
    """wav2vec 2.0 BASE, 95 M parameters (arXiv:2006.11477, section 4.2)."""
    return ModelConfig(latent_dropout=0.1)


def large() -> ModelConfig:
    """wav2vec 2.0 LARGE in the LV-60k form, 317 M parameters."""
    return ModelConfig(
        encoder=ConvEncoderConfig(norm="layer", bias=True),
        context=ContextConfig(
            dim=1024,
            num_layers=24,
            num_heads=16,
            ffn_dim=4096,
            norm_order="pre",
            dropout=0.0,
            attention_dropout=0.0,
            layerdrop=0.0,
        ),
        normalize_wave=True,
        latent_dropout=0.1,
    )


def tiny_conv() -> ModelConfig:
    """A wav2vec 2.0 in small (about 6 M parameters), in the published form that other tools
    open."""
    return ModelConfig(
        encoder=ConvEncoderConfig(dims=(64, 64, 128, 128, 256, 256, 256)),
        context=ContextConfig(
            dim=256,
            num_layers=6,
            num_heads=4,
            ffn_dim=1024,
            dropout=0.0,
            attention_dropout=0.0,
            layerdrop=0.0,
        ),
    )


def wav2vec() -> ModelConfig:
    """Two convolutional networks, one on top of the other, that see no future (wav2vec,
    arXiv:1904.05862, section 2): 24 M parameters, 10 ms frames.

    A latent is made from 29 ms, a context frame, by nine layers of kernel 3, from 210 ms, as in the
    paper. Adapted: a context layer has a norm before its convolution and a linear map behind it,
    and all have one kernel (those of ``wav2vec large`` grow from 2 to 13; ``context.local_kernel``
    9 reaches about as far); where the paper normalises over channels and time together, which shows
    the first frames the last ones, here the first layer is normalised by running statistics.
    """
    # Without biases leading zeros stay zero up to the last norm, each norm of which multiplies the
    # gradient by 300.
    encoder = ConvEncoderConfig((512,) * 5, (10, 8, 4, 4, 4), (5, 4, 2, 2, 2), bias=True)
    layers = replace(tiny().context, num_layers=9, local_layers=9, local_kernel=3, causal=True)
    context = replace(layers, dim=512, num_heads=8, ffn_dim=2048, pos_kernel=1)
    return ModelConfig(encoder=encoder, context=context, running_norm=True)


def tiny_wav2vec() -> ModelConfig:
    """`wav2vec` in small: 3 M parameters, for a CPU."""
    dims, kernels, strides = (64, 128, 128, 192, 192), (10, 8, 4, 4, 4), (5, 4, 2, 2, 2)
    encoder = ConvEncoderConfig(dims, kernels, strides, bias=True)
    context = replace(wav2vec().context, dim=192, num_heads=4, ffn_dim=768)
    return replace(wav2vec(), encoder=encoder, context=context)


SIZES = {
    "tiny": tiny,
    "tiny-conv": tiny_conv,
    "tiny-wav2vec": tiny_wav2vec,
    "small": small,
    "base": base,
    "large": large,
    "wav2vec": wav2vec,
}
"""The sizes that ``--size`` knows."""


def size(name: str) -> ModelConfig:
    """The config of a named size; ValueError names the sizes that exist."""
    if name not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {name!r}.")
    return SIZES[name]()


def nearest_size(config: ModelConfig) -> str:
    """The name of the size that a model has, else of that with the same kind of encoder (and of
    context, where that is of convolutions alone) whose width is nearest."""
    made = {name: make() for name, make in SIZES.items()}
    alike = {n: m for n, m in made.items() if isinstance(m.encoder, type(config.encoder))}
    return min(
        alike,
        key=lambda n: (
            alike[n] != config,
            alike[n].context.is_convolutional != config.context.is_convolutional,
            abs(alike[n].context.dim - config.context.dim),
        ),
    )


def to_dict(config: ModelConfig) -> dict[str, Any]:
    """Plain JSON types; the encoder's class is named by its ``kind``."""
    return cast(dict[str, Any], to_json(config))


def from_dict(data: Any) -> ModelConfig:
    """The config that :func:`to_dict` wrote; missing keys take their defaults.

    Raises ValueError for an unknown encoder kind or an unknown key, naming it.
    """
    return from_json(ModelConfig, data, "model")
