"""Inference with weights and inputs of 8 bits, on a CPU that multiplies those several times faster.

Dynamic quantization: each output channel of a weight has its scale, and so has each input frame of
the encoder's convolutions. Other inputs are scaled as a whole, by what they hold at that moment, so
that what is computed for an utterance depends on what it is batched with. Norms, the weights of
attention, a filterbank and the head stay as they are.

Shapes: B batch, T frames, C channels, O channels out, K kernel, G groups.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.model.attention import SelfAttention
from speechssl.model.encoder import ConvEncoder, ConvLayer
from speechssl.model.fast import loops
from speechssl.model.fast.conv_encoder import first_products, unfolded_norm
from speechssl.model.layers import TransformerLayer
from speechssl.model.position import PositionalConv
from speechssl.model.speech_model import CTCModel, SpeechModel

_AT_ONCE = 1 << 20
"""Numbers that are computed at a time in the convolutions; they stay in the caches."""

_A_THREAD = 1 << 19
"""Of how many of them a thread is worth waking up for, which takes a tenth of a millisecond."""

_LEAST_SCALE = 1e-30
"""Of a frame; below it the frame is taken for constant."""

Model = TypeVar("Model", SpeechModel, CTCModel)


def int8_is_fast(device: torch.device) -> bool:
    """Whether a device multiplies 8-bit matrices several times faster than float32 ones: an x86 CPU
    with VNNI instructions (every server's and most laptops' since 2019)."""
    return device.type == "cpu" and bool(torch.cpu._is_vnni_supported())


def quantized(model: Model) -> Model:
    """What :func:`quantize_model` makes of the model, kept with it until one of its weights changes
    (in place, or by an optimizer; not through ``.data``, which leaves no trace)."""
    weights = tuple(model.parameters())
    if any(weight.is_inference() for weight in weights):  # those do not count their changes
        return quantize_model(model)
    state = tuple((id(weight), weight.data_ptr(), weight._version) for weight in weights)
    kept = _KEPT.get(model)
    if kept is None or kept.state != state:
        kept = _KEPT[model] = _Kept(weights, state, quantize_model(model))
    return cast(Model, kept.copy)


@dataclass(frozen=True)
class _Kept:
    weights: tuple[Tensor, ...]
    """Held, so that no other weight gets the identity or the memory of one that is replaced."""
    state: tuple[tuple[int, int, int], ...]
    copy: nn.Module


_KEPT: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def quantize_model(model: Model) -> Model:
    """The model with 8-bit products, for inference on a CPU; all else is shared with the given one,
    which stays as it is.

    Raises ValueError where the model is not on a CPU.
    """
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise ValueError(f"precision int8 is for a CPU, the model is on {device}: take bf16.")
    shared = {id(value): value for value in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)
    speech = copied.speech if isinstance(copied, CTCModel) else copied
    if isinstance(speech.encoder, ConvEncoder) and len(speech.encoder.layers) > 1:
        speech.encoder.__class__ = Int8ConvEncoder
        speech.encoder.upper = Int8ConvLayers(speech.encoder.layers[1:])  # the first is narrow
    if isinstance(speech.context.position, PositionalConv):
        speech.context.position = Int8PositionalConv(speech.context.position)  # type: ignore[assignment]
    _replace_linear(speech.context)
    speech.project = Int8Linear(speech.project)  # type: ignore[assignment]
    return copied.eval()


def _replace_linear(module: nn.Module) -> None:
    if isinstance(module, SelfAttention):
        module.__class__ = Int8SelfAttention
        module.fused = Int8Linear(module.query, module.key, module.value)
        del module.query, module.key, module.value
    if isinstance(module, TransformerLayer):
        module.__class__ = Int8TransformerLayer
        module.fused = Int8Linear(module.ffn_in, gelu=True)
        del module.ffn_in
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Int8Linear(child))
        else:
            _replace_linear(child)


class Int8SelfAttention(SelfAttention):
    """:class:`SelfAttention` whose first three products are one."""

    fused: "Int8Linear"

    def project(self, x: Tensor) -> Sequence[Tensor]:
        """(B, T, D) -> query, key, value, each (B, T, D)."""
        return self.fused(x).chunk(3, 2)


class Int8TransformerLayer(TransformerLayer):
    """:class:`TransformerLayer` whose first feed-forward product and GELU are one."""

    fused: "Int8Linear"

    def feed_forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.ffn_out(self.fused(x))


class Int8ConvEncoder(ConvEncoder):
    """:class:`ConvEncoder` whose layers but the first are 8-bit products."""

    upper: "Int8ConvLayers"

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) float, (B,) samples -> latents (B, T, C), (B,) frames."""
        first = self.layers[0]
        windows, taps, _ = first_products(first, wave, lengths)
        norm = unfolded_norm(first)
        if norm is None:
            latents = self.upper(windows, taps)  # (B, T, C)
        else:
            latents = self.upper(norm(windows @ taps.transpose(1, 2)))
        lengths = self.output_lengths(lengths)
        return shapes.zero_padding(latents, lengths), lengths


class _Product(nn.Module):
    """Rows (N, I) -> rows (N, O) float32, times a weight of 8 bits."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        with torch.no_grad():
            scale = weight.abs().amax(1).clamp_min(1e-12) / 127  # (O,)
            rows = (weight / scale[:, None]).round().to(torch.int8)  # (O, I)
            self.weight = torch.ops.onednn.qlinear_prepack(rows, None)
            self.scale = scale.float()
            self.sums = self.scale * rows.sum(1)  # (O,) product with rows of ones
            self.zero = torch.zeros(len(scale), dtype=torch.int32)
            self.bias = None if bias is None else bias.detach().float()

    def forward(self, rows: Tensor, scale: float, zero: int, activation: str) -> Tensor:
        """Rows (N, I) uint8, which stand for (rows - zero) * scale; `activation` is none or
        gelu."""
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows,
            scale,
            zero,
            self.weight,
            self.scale,
            self.zero,
            self.bias,
            1.0,
            0,
            torch.float32,
            activation,
            [],
            "none",
        )
        return product


class Int8Linear(nn.Module):
    """``nn.Linear``, one or several with biases on the same input: (..., I) -> (..., O) float32."""

    def __init__(self, *linears: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
        weights: list[Tensor] = [linear.weight for linear in linears]
        self.product = _Product(torch.cat(weights), torch.cat(biases) if biases else None)
        self.activation = "gelu" if gelu else "none"

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O) float32, after GELU where that was asked for."""
        codes, scale, zero = quantize(x.flatten(0, -2))
        return self.product(codes, scale, zero, self.activation).unflatten(0, x.shape[:-1])


class Int8ConvLayers(nn.Module):
    """All layers of a :class:`ConvEncoder` but the first, over frames laid out (B, T, C)."""

    def __init__(self, layers: Sequence[ConvLayer]) -> None:
        super().__init__()
        self.convs: Sequence[Int8Conv] = nn.ModuleList(  # type: ignore[assignment]
            Int8Conv(layer.conv, layer.norm) for layer in layers
        )

    def forward(self, frames: Tensor, taps: Tensor | None = None) -> Tensor:
        """The first layer's output before its GELU, (B, T, C), or the windows (B, T, W) and taps
        (B, C, W) whose product it is -> the last one's after GELU, (B, T', O) float32.

        No layer's output is ever held as float32: of all that a model computes it is the largest.
        """
        latents = []
        for index, own in enumerate(frames):  # (T, C) or (T, W)
            if taps is None:
                rows_of, width = own.__getitem__, own.shape[1]
            else:
                rows_of, width = partial(_windowed, own, taps[index]), taps.shape[1]
            num = len(own)
            for conv in self.convs:
                rows_of = partial(conv, gelu_codes(rows_of, num, width))
                num, width = conv.num_frames(num), len(conv.bias)
            latents.append(rows_of(slice(0, num)))  # (T', O)
        return F.gelu(torch.stack(latents))


def _windowed(windows: Tensor, taps: Tensor, span: slice) -> Tensor:
    """(T, W), (C, W) -> (N, C)."""
    return windows[span] @ taps.T


class Int8Conv(nn.Module):
    """``nn.Conv1d`` and the norm behind it, if any, over the frames of an utterance, (T, C).

    Each frame has a scale of its own: with one for all, the loud ones leave too little for the
    others (docs/log). What a tap makes of a frame is scaled after the product, so that the frames
    that meet the same taps, every `stride`-th, are multiplied with those taps only.
    """

    def __init__(self, conv: nn.Conv1d, norm: nn.Module | None) -> None:
        super().__init__()
        (self.kernel,), (self.stride,) = conv.kernel_size, conv.stride
        taps = conv.weight.detach().permute(2, 0, 1)  # (K, O, C)
        self.products: Sequence[_Product] = nn.ModuleList(  # type: ignore[assignment]
            _Product(taps[first :: self.stride].flatten(0, 1), None)
            for first in range(min(self.stride, self.kernel))
        )
        sums = [self.products[tap % self.stride].sums for tap in range(self.kernel)]
        out = conv.out_channels
        self.sums = torch.stack(  # (K, O)
            [row[tap // self.stride * out :][:out] for tap, row in enumerate(sums)]
        )
        self.bias = conv.weight.new_zeros(out) if conv.bias is None else conv.bias.detach().float()
        self.norm = norm

    def num_frames(self, num: int) -> int:
        """Frames that come out where `num` go in."""
        return shapes.conv_output_length(num, self.kernel, self.stride)

    def forward(self, codes: "FrameCodes", span: slice) -> Tensor:
        """Codes of (T, C) -> a slice of the frames that come out, (N, O) float32."""
        num, start = span.stop - span.start, span.start * self.stride
        products = []
        for first, product in enumerate(self.products):
            at = start + first
            reach = num + (self.kernel - 1 - first) // self.stride  # (N + later taps, C)
            rows = codes.values[at : at + (reach - 1) * self.stride + 1 : self.stride]
            products.append(product(rows, 1.0, 0, "none"))
        scale, low = codes.scale[start:], codes.low[start:]
        found = loops.load("int8_loops")
        if found is not None:
            out = torch.empty(num, len(self.bias))
            arrays = tuple(map(loops.array, products))
            _run(found.add_taps, out, self.bias, self.sums, scale, low, self.stride, arrays)
        else:
            out = self.bias.expand(num, -1)
            for tap, sums in enumerate(self.sums):
                later, first = divmod(tap, self.stride)
                part = products[first].unflatten(1, (-1, len(sums)))[later : later + num, later]
                own = slice(tap, tap + (num - 1) * self.stride + 1, self.stride)
                out = out + scale[own, None] * part + low[own, None] * sums
        return out if self.norm is None else cast(Tensor, self.norm(out))


class Int8PositionalConv(nn.Module):
    """:class:`PositionalConv`, its groups one after another."""

    def __init__(self, position: PositionalConv) -> None:
        super().__init__()
        conv = position.conv
        (self.kernel,), (self.before,), self.groups = conv.kernel_size, conv.padding, conv.groups
        weight = conv.weight.permute(0, 2, 1).flatten(1).chunk(conv.groups)  # (O / G, K C / G) each
        biases = conv.bias.chunk(conv.groups)
        self.products = nn.ModuleList(map(_Product, weight, biases))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D) float32."""
        num = x.shape[1]
        codes, scale, zero = quantize(x)
        codes = F.pad(codes, (0, 0, self.before, self.kernel - 1 - self.before), value=zero)
        parts = []
        for product, group in zip(self.products, codes.chunk(self.groups, 2), strict=True):
            windows = group.unfold(1, self.kernel, 1).transpose(2, 3)  # (B, T, K, C / G)
            rows = windows.flatten(0, 1).flatten(1)  # (B T, K C / G)
            parts.append(product(rows, scale, zero, "gelu"))
        return torch.cat(parts, 1).unflatten(0, (-1, num))


def quantize(values: Tensor) -> tuple[Tensor, float, int]:
    """uint8 of the same shape, scale and zero: values are about (uint8 - zero) * scale."""
    rows = values.detach().reshape(-1, values.shape[-1])
    low, high = _limits(rows)
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    found = loops.load("int8_loops")
    if found is not None:
        codes = torch.empty(rows.shape, dtype=torch.uint8)
        _run(found.codes, rows, 1 / scale, float(zero), codes)
    else:
        # Values are not negative here, so that cutting off half more than the value rounds it. By
        # way of int16, because a CPU turns float32 into uint8 several times more slowly.
        offset = rows.new_full((1,), zero + 0.5)
        codes = torch.add(offset, rows, alpha=1 / scale).clamp_(0, 255).to(torch.int16).byte()
    return codes.view(values.shape), scale, zero


@dataclass(frozen=True)
class FrameCodes:
    """float32 numbers in one byte each: about values * scale + low, by frames."""

    values: Tensor
    """(T, C) uint8."""
    scale: Tensor
    """(T,) float32."""
    low: Tensor
    """(T,) float32, the least of each frame."""


@torch.no_grad()
def gelu_codes(rows_of: Callable[[slice], Tensor], num: int, width: int) -> FrameCodes:
    """The codes of the GELU of (num, width) float32, of which `rows_of` gives the rows of a slice:
    they are computed a part at a time, so that they are never held as a whole."""
    values = torch.empty(num, width, dtype=torch.uint8)
    scale, low = torch.empty(2, num)
    found = loops.load("int8_loops")
    step = max(_AT_ONCE // width, 1)
    for start in range(0, num, step):
        span = slice(start, min(start + step, num))
        rows = rows_of(span)
        if found is not None:
            _run(found.gelu_codes, rows, values[span], scale[span], low[span])
            continue
        rows = F.gelu(rows)
        least, most = torch.aminmax(rows, dim=1)
        each = (most - least) / 255
        each[each < _LEAST_SCALE] = 1
        low[span], scale[span] = least, each
        values[span] = ((rows - least[:, None]) / each[:, None]).round().to(torch.uint8)
    return FrameCodes(values, scale, low)


def _limits(values: Tensor) -> tuple[float, float]:
    """The least and the greatest of (N, C) float32."""
    found = loops.load("int8_loops")
    if found is None:
        lowest, highest = torch.aminmax(values)
    else:
        lowest, highest = torch.empty(2, len(values))
        _run(found.limits, values, lowest, highest)
        lowest, highest = lowest.min(), highest.max()
    return float(lowest), float(highest)


def _run(loop: Callable[..., None], values: Tensor, *args: object) -> None:
    """A loop over the rows of `values` (N, C), in one thread where they are few."""
    arrays = [loops.array(a) if isinstance(a, Tensor) else a for a in (values, *args)]
    loops.over_rows(loop, len(values), *arrays, least=_A_THREAD // values.shape[1])
