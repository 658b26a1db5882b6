"""The names of transformers' weights, and ours, both ways: bit for bit the same tensors."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from speechssl.interop.huggingface.config import published_encoder
from speechssl.interop.huggingface.families import FAMILIES, WAV2VEC2, family_for
from speechssl.model.config import ModelConfig
from speechssl.model.speech_model import CTCModel, SpeechModel

_PREFIX = re.compile(rf"^({'|'.join(f.prefix for f in FAMILIES.values())})\.")

# Our names -> theirs, one rule a name.
_RULES = (
    (r"encoder\.layers\.(\d+)\.conv\.(.+)", r"feature_extractor.conv_layers.\1.conv.\2"),
    (r"encoder\.layers\.(\d+)\.norm\.(.+)", r"feature_extractor.conv_layers.\1.layer_norm.\2"),
    (r"latent_norm\.(.+)", r"feature_projection.layer_norm.\1"),
    (r"project\.(.+)", r"feature_projection.projection.\1"),
    (r"mask_embedding", r"masked_spec_embed"),
    (r"context\.position\.conv\.(.+)", r"encoder.pos_conv_embed.conv.\1"),
    (r"context\.position\.layers\.(\d+)\.(.+)", r"encoder.pos_conv_embed.layers.\1.conv.\2"),
    (r"context\.norm\.(.+)", r"encoder.layer_norm.\1"),
    (r"context\.distance\.weight", r"encoder.layers.0.attention.rel_attn_embed.weight"),
    (
        r"context\.layers\.(\d+)\.attention\.gate\.(.+)",
        r"encoder.layers.\1.attention.gru_rel_pos_linear.\2",
    ),
    (
        r"context\.layers\.(\d+)\.attention\.gate_scale",
        r"encoder.layers.\1.attention.gru_rel_pos_const",
    ),
    (r"context\.layers\.(\d+)\.adapter\.norm\.(.+)", r"encoder.layers.\1.adapter_layer.norm.\2"),
    (
        r"context\.layers\.(\d+)\.adapter\.down\.(.+)",
        r"encoder.layers.\1.adapter_layer.linear_1.\2",
    ),
    (r"context\.layers\.(\d+)\.adapter\.up\.(.+)", r"encoder.layers.\1.adapter_layer.linear_2.\2"),
    (r"context\.layers\.(\d+)\.attention\.query\.(.+)", r"encoder.layers.\1.attention.q_proj.\2"),
    (r"context\.layers\.(\d+)\.attention\.key\.(.+)", r"encoder.layers.\1.attention.k_proj.\2"),
    (r"context\.layers\.(\d+)\.attention\.value\.(.+)", r"encoder.layers.\1.attention.v_proj.\2"),
    (r"context\.layers\.(\d+)\.attention\.out\.(.+)", r"encoder.layers.\1.attention.out_proj.\2"),
    (r"context\.layers\.(\d+)\.attention_norm\.(.+)", r"encoder.layers.\1.layer_norm.\2"),
    (
        r"context\.layers\.(\d+)\.ffn_in\.(.+)",
        r"encoder.layers.\1.feed_forward.intermediate_dense.\2",
    ),
    (r"context\.layers\.(\d+)\.ffn_out\.(.+)", r"encoder.layers.\1.feed_forward.output_dense.\2"),
    (r"context\.layers\.(\d+)\.ffn_norm\.(.+)", r"encoder.layers.\1.final_layer_norm.\2"),
)
_CONTRASTIVE = {
    "quantizer.logits.weight": "quantizer.weight_proj.weight",
    "quantizer.logits.bias": "quantizer.weight_proj.bias",
    "quantizer.codebook": "quantizer.codevectors",
    "project_target.weight": "project_q.weight",
    "project_target.bias": "project_q.bias",
    "project_context.weight": "project_hid.weight",
    "project_context.bias": "project_hid.bias",
}
_HEAD = {"linear.weight": "lm_head.weight", "linear.bias": "lm_head.bias"}
# torch's weight norm had the first names before 2.0, and has the second ones since.
_WEIGHT_NORM = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


@dataclass(frozen=True)
class ImportedWeights:
    """State dicts under our names."""

    speech: dict[str, Tensor]
    """Of :class:`SpeechModel`."""
    head: dict[str, Tensor] | None
    """Of ``CTCHead``, its rows in their vocabulary's order; None where there was no ``lm_head``."""
    contrastive: dict[str, Tensor] | None
    """Of ``ContrastiveTask``; None where the checkpoint was not one for pretraining."""
    left_out: tuple[str, ...] = ()
    """Heads of other jobs (``classifier``), whose tensors are not read."""


def to_hf_state(
    model: SpeechModel | CTCModel,
    contrastive: Mapping[str, Tensor] | None = None,
    *,
    old_weight_norm: bool = False,
    family: str | None = None,
) -> dict[str, Tensor]:
    """The weights under transformers' names; the tensors are the model's own, not copies.

    Args:
        model: gives a Wav2Vec2Model, or a Wav2Vec2ForCTC if it has a head.
        contrastive: the state of ``ContrastiveTask``; with it, a Wav2Vec2ForPreTraining.
        old_weight_norm: name the positional convolution's weights as torch did before 2.0
            (``weight_g`` and ``weight_v``), which transformers reads as well.
        family: the model type, as in :func:`hf_config`.

    Raises ValueError naming what the family does not have.
    """
    head = model.head if isinstance(model, CTCModel) else None
    speech = model.speech if isinstance(model, CTCModel) else model
    if head is not None and head.upsample > 1:
        raise ValueError(
            f"A CTC model of transformers outputs one row per frame, this head {head.upsample}."
        )
    if head is not None and contrastive is not None:
        raise ValueError("A checkpoint of transformers has a CTC head or the pretraining heads.")
    names = tensor_names(speech.config)
    kind = family_for(speech.config, family)
    state = {names[name]: value for name, value in speech.state_dict().items()}
    if old_weight_norm:
        state = {
            _replace_ending(n, {b: a for a, b in _WEIGHT_NORM.items()}): v for n, v in state.items()
        }
    if head is None and contrastive is None:
        return state
    state = {f"{kind.prefix}.{name}": value for name, value in state.items()}
    if head is not None:
        return state | {_HEAD[name]: value for name, value in head.state_dict().items()}
    for name, theirs in _CONTRASTIVE.items():
        if contrastive is None or name not in contrastive:
            raise ValueError(f"The pretraining heads of gumbel hold {name}, which is missing here.")
        value = contrastive[name]
        state[theirs] = value.reshape(1, -1, value.shape[2]) if name.endswith("codebook") else value
    return state


def from_hf_state(state: Mapping[str, Tensor], config: ModelConfig) -> ImportedWeights:
    """Our names for the weights of a model of any family, with a CTC head or pretraining heads.

    Both namings of weight norm are read. A model that was never masked has no mask embedding; it
    is zero then. Where the body's names have its family's prefix, whatever else has none belongs to
    a head: those of classification, speakers and other pretraining are left out by name. The
    tensors are those of `state`, not copies. Raises ValueError naming the tensors that are missing,
    unknown or of another shape.
    """
    plain, left_out = _without_other_heads(state)
    head = _take(plain, _HEAD)
    contrastive = _take(plain, _CONTRASTIVE)
    if head is not None and head["linear.weight"].shape != (
        *head["linear.bias"].shape,
        config.context.dim,
    ):
        raise ValueError(
            f"lm_head.weight has shape {tuple(head['linear.weight'].shape)}, its bias "
            f"{tuple(head['linear.bias'].shape)} and a model of width {config.context.dim} ask for "
            f"{(len(head['linear.bias']), config.context.dim)}."
        )
    if contrastive is not None:
        codes, mixed = contrastive["quantizer.codebook"], contrastive["project_target.weight"]
        groups = mixed.shape[1] // codes.shape[-1]
        contrastive["quantizer.codebook"] = codes.reshape(groups, -1, codes.shape[-1])  # (G, V, E)
    names = tensor_names(config)
    plain.setdefault("masked_spec_embed", torch.zeros(config.context.dim))
    check_names(plain, names.values(), "their config")
    speech = {ours: plain[theirs] for ours, theirs in names.items()}
    for name, shape in _shapes(config).items():
        if speech[name].shape != shape:
            raise ValueError(
                f"{names[name]} has shape {tuple(speech[name].shape)}, the config asks for "
                f"{tuple(shape)}."
            )
    return ImportedWeights(speech, head, contrastive, left_out)


def _without_other_heads(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """``(tensors without the family's prefix, names of the heads that are not read)``."""
    prefixes = {match[1] for name in state if (match := _PREFIX.match(name))}
    read = set(_HEAD.values()) | (
        set(_CONTRASTIVE.values()) if WAV2VEC2.prefix in prefixes else set()
    )
    plain: dict[str, Tensor] = {}
    left_out: set[str] = set()
    for name, value in state.items():
        if prefixes and not _PREFIX.match(name) and name not in read:
            left_out.add(name.partition(".")[0])
        else:
            plain[_replace_ending(_PREFIX.sub("", name), _WEIGHT_NORM)] = value
    return plain, tuple(sorted(left_out))


def check_names(found: Iterable[str], wanted: Iterable[str], what: str) -> None:
    """ValueError with the first few and the number of the tensors missing and not known."""
    found, wanted = set(found), set(wanted)
    if found != wanted:
        raise ValueError(
            f"These weights are not what {what} describes: missing {_list(wanted - found)}; not "
            f"known here {_list(found - wanted)}."
        )


def _list(names: set[str], shown: int = 4) -> str:
    """``2 (a, b)``, ``70 (a, b, c, d, ...)`` or ``none``."""
    if not names:
        return "none"
    first = ", ".join(sorted(names)[:shown])
    return f"{len(names)} ({first}{', ...' if len(names) > shown else ''})"


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Name -> shape of every tensor of a model, without making it."""
    with torch.device("meta"):
        return {name: value.shape for name, value in SpeechModel(config).state_dict().items()}


def tensor_names(config: ModelConfig) -> dict[str, str]:
    """Our name -> theirs, for every tensor of a model in the published form."""
    published_encoder(config)
    return {name: _translate(name) for name in _shapes(config)}


def _translate(name: str) -> str:
    for ours, theirs in _RULES:
        if match := re.fullmatch(ours, name):
            return match.expand(theirs)
    raise AssertionError(f"no rule for {name}")


def _replace_ending(name: str, endings: Mapping[str, str]) -> str:
    """`name` with its ending replaced, for the positional convolution only."""
    stem = "encoder.pos_conv_embed.conv."
    return stem + endings.get(rest, rest) if (rest := name.removeprefix(stem)) != name else name


def _take(state: dict[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor] | None:
    """Move the tensors of one part out of `state`, under our names; None where it has none."""
    missing = sorted(theirs for theirs in names.values() if theirs not in state)
    if len(missing) == len(names):
        return None
    if missing:
        raise ValueError(f"These weights hold only a part of a head: missing {missing}.")
    return {ours: state.pop(theirs) for ours, theirs in names.items()}
