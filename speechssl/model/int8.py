"""Inference with weights and inputs of 8 bits, on a CPU that multiplies those several times faster.

Dynamic quantization: each output channel of a weight has its scale; an input is scaled by what it
holds at that moment, as a whole, so that what is computed for an utterance depends on what it is
batched with; those of the encoder's convolutions take two bytes. Norms, the weights of attention, a
filterbank and the head stay as they are.

Shapes: B batch, T frames, C channels, O channels out, K kernel, G groups.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.model import loops
from speechssl.model.context import PositionalConv, SelfAttention, TransformerLayer
from speechssl.model.encoder import ConvEncoder, ConvLayer
from speechssl.model.speech_model import CTCModel, SpeechModel

_AT_ONCE = 1 << 23
"""Numbers that are coded at a time in the convolutions."""

_A_THREAD = 1 << 19
"""Of how many of them a thread is worth waking up for."""

_LEAST_GELU = -0.17
"""Below which GELU never is."""

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
    if isinstance(speech.encoder, ConvEncoder):
        others = speech.encoder.layers[1:]  # the first is narrow
        speech.encoder.int8 = Int8ConvLayers(others) if others else None
    if isinstance(speech.context.position, PositionalConv):
        speech.context.position = Int8PositionalConv(speech.context.position)  # type: ignore[assignment]
    _replace_linear(speech.context)
    speech.project = Int8Linear(speech.project)  # type: ignore[assignment]
    return copied.eval()


def _replace_linear(module: nn.Module) -> None:
    if isinstance(module, SelfAttention):
        module.fused = Int8Linear(module.query, module.key, module.value)
        del module.query, module.key, module.value
    if isinstance(module, TransformerLayer):
        module.fused = Int8Linear(module.ffn_in, gelu=True)
        del module.ffn_in
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Int8Linear(child))
        else:
            _replace_linear(child)


class _Product(nn.Module):
    """Rows (N, I) -> rows (N, O) float32, times a weight of 8 bits."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        with torch.no_grad():
            scale = weight.abs().amax(1).clamp_min(1e-12) / 127  # (O,)
            rows = (weight / scale[:, None]).round().to(torch.int8)  # (O, I)
            self.weight = torch.ops.onednn.qlinear_prepack(rows, None)
            self.scale = scale.float()
            self.zero = torch.zeros(len(scale), dtype=torch.int32)
            self.bias = None if bias is None else bias.detach().float()

    def forward(self, rows: Tensor, scale: float, zero: int, activation: str) -> Tensor:
        """Rows (N, I) uint8, which stand for (rows - zero) * scale; `activation` is none or
        gelu."""
        return self._times(rows, scale, zero, self.bias, activation)

    def fine(self, codes: "FineCodes") -> Tensor:
        """The same of rows in two bytes."""
        low = self._times(codes.low, codes.scale, codes.zero & 255, None, "none")
        product: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
            codes.high,
            256 * codes.scale,
            codes.zero >> 8,
            self.weight,
            self.scale,
            self.zero,
            low,
            self.bias,
            1.0,
            0,
            torch.float32,
            1.0,
            0,
            "sum",
            1.0,
            "none",
            [],
            "none",
        )
        return product

    def _times(
        self, rows: Tensor, scale: float, zero: int, bias: Tensor | None, activation: str
    ) -> Tensor:
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows,
            scale,
            zero,
            self.weight,
            self.scale,
            self.zero,
            bias,
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
    """All layers of a :class:`.encoder.ConvEncoder` but the first, over frames laid out (B, T, C),
    as in :mod:`speechssl.model.strided_conv`."""

    def __init__(self, layers: Sequence[ConvLayer]) -> None:
        super().__init__()
        self.convs: Sequence[Int8Conv] = nn.ModuleList(  # type: ignore[assignment]
            Int8Conv(layer.conv, layer.norm) for layer in layers
        )

    def forward(self, frames: Tensor, taps: Tensor | None = None) -> Tensor:
        """The first layer's output before its GELU, (B, T, C), or the windows (B, T, W) and taps
        (B, C, W) whose product it is -> the last one's after GELU, (B, T', O) float32.

        A product is never held as a whole: of all that a model computes it is the largest.
        """
        batch, num, width = frames.shape
        if taps is None:
            hear = frames.flatten(0, 1).__getitem__
        else:
            hear, width = functools.partial(_windowed, frames, taps), taps.shape[1]
        for conv in self.convs:
            out = conv(gelu_codes(hear, batch * num, width), batch)  # (B, T', O)
            num, width = out.shape[1:]
            hear = out.flatten(0, 1).__getitem__
        return F.gelu(out)


def _windowed(windows: Tensor, taps: Tensor, span: slice) -> Tensor:
    """A slice of the rows of ``windows @ taps.transpose(1, 2)``, all utterances one after another:
    (B, T, W), (B, C, W) -> (N, C)."""
    num, parts = windows.shape[1], []
    for index in range(span.start // num, (span.stop - 1) // num + 1):
        own = slice(max(span.start - index * num, 0), span.stop - index * num)
        parts.append(windows[index, own] @ taps[index].T)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class Int8Conv(nn.Module):
    """``nn.Conv1d`` and the norm behind it, if any, over frames laid out (B, T, C).

    Its input is coded in two bytes, each of which meets the weights of 8 bits: in one byte the loud
    frames leave too little for the others (RESULTS.md).
    """

    def __init__(self, conv: nn.Conv1d, norm: nn.Module | None) -> None:
        super().__init__()
        (self.kernel,), (self.stride,) = conv.kernel_size, conv.stride
        weight = conv.weight.permute(0, 2, 1).flatten(1)  # (O, K C)
        self.product = _Product(weight, conv.bias)
        self.norm = norm

    def forward(self, codes: "FineCodes", batch: int) -> Tensor:
        """(B T, C) -> (B, T', O) float32."""
        num, channels = len(codes.high) // batch, codes.high.shape[1]
        count = (num - self.kernel) // self.stride + 1
        size = (batch, count, self.kernel * channels)
        steps = (num * channels, self.stride * channels, 1)
        high, low = (
            half.as_strided(size, steps).flatten(0, 1)  # (B T', K C)
            for half in (codes.high, codes.low)
        )
        rows = self.product.fine(replace(codes, high=high, low=low))
        out = rows.unflatten(0, (batch, count))
        return out if self.norm is None else cast(Tensor, self.norm(out))


class Int8PositionalConv(nn.Module):
    """:class:`speechssl.model.context.PositionalConv`, its groups one after another."""

    def __init__(self, position: PositionalConv) -> None:
        super().__init__()
        conv = position.conv
        (self.kernel,), self.groups = conv.kernel_size, conv.groups
        weight = conv.weight.permute(0, 2, 1).flatten(1).chunk(conv.groups)  # (O / G, K C / G) each
        biases = conv.bias.chunk(conv.groups)
        self.products = nn.ModuleList(map(_Product, weight, biases))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D) float32."""
        num = x.shape[1]
        codes, scale, zero = quantize(x)
        left = self.kernel // 2
        codes = F.pad(codes, (0, 0, left, self.kernel - 1 - left), value=zero)
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
class FineCodes:
    """float32 numbers in two bytes: about (256 * high + low - zero) * scale."""

    high: Tensor
    """(N, C) uint8."""
    low: Tensor
    """(N, C) uint8."""
    scale: float
    zero: int


@torch.no_grad()
def gelu_codes(hear: Callable[[slice], Tensor], num: int, width: int) -> FineCodes:
    """The codes of the GELU of (num, width) float32, of which `hear` gives the rows of a slice:
    many are asked for a part at a time, and twice, so that they are never held as a whole."""
    step = max(_AT_ONCE // width, 1)
    spans = [slice(start, min(start + step, num)) for start in range(0, num, step)]
    if len(spans) == 1:
        whole = hear(spans[0])
        hear = whole.__getitem__
    limits = [_limits(hear(span)) for span in spans]
    low = min([0.0, *(lowest for lowest, _ in limits)])
    high = max([0.0, *(highest for _, highest in limits)])
    low, high = max(low, _LEAST_GELU), float(F.gelu(torch.tensor(high)))
    scale = (high - low) / 65535 or 1.0
    zero = round(-low / scale)
    found = loops.load("int8_loops")
    halves = torch.empty(2, num, width, dtype=torch.uint8)
    for span in spans:
        values, upper, lower = hear(span), halves[0, span], halves[1, span]
        if found is not None:
            _run(found.gelu_codes, values, 1 / scale, float(zero), upper, lower)
            continue
        codes = torch.add(zero + 0.5, F.gelu(values), alpha=1 / scale).clamp_(0, 65535).int()
        upper.copy_(codes >> 8)
        lower.copy_(codes & 255)
    return FineCodes(halves[0], halves[1], scale, zero)


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


def _run(loop: Callable[..., None], values: Tensor, *args: Tensor | float) -> None:
    """A loop over the rows of `values` (N, C), in one thread where they are few."""
    arrays = [loops.array(a) if isinstance(a, Tensor) else a for a in (values, *args)]
    loops.over_rows(loop, len(values), *arrays, least=_A_THREAD // values.shape[1])
