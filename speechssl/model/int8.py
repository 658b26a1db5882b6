"""Inference with weights and inputs of 8 bits, on a CPU that multiplies those several times faster.

Dynamic quantization: each output channel of a weight has its scale; an input is scaled by what it
holds at that moment, as a whole, so that what is computed for an utterance depends on what it is
batched with. Norms, the weights of attention, a filterbank and the head stay as they are.

Shapes: B batch, T frames, C channels, O channels out, K kernel, G groups.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.model.context import PositionalConv, SelfAttention
from speechssl.model.encoder import ConvEncoder
from speechssl.model.speech_model import CTCModel, SpeechModel

_AT_ONCE = 1 << 23
"""Numbers that are turned into 8 bits at a time."""

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
        for layer in speech.encoder.layers[1:]:  # the first is narrow
            layer.int8 = Int8Conv(layer.conv)
    if isinstance(speech.context.position, PositionalConv):
        speech.context.position = Int8PositionalConv(speech.context.position)  # type: ignore[assignment]
    _replace_linear(speech.context)
    speech.project = Int8Linear(speech.project)  # type: ignore[assignment]
    return copied.eval()


def _replace_linear(module: nn.Module) -> None:
    if isinstance(module, SelfAttention):
        module.fused = Int8Linear(module.query, module.key, module.value)
        del module.query, module.key, module.value
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

    def __init__(self, *linears: nn.Linear) -> None:
        super().__init__()
        biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
        weights: list[Tensor] = [linear.weight for linear in linears]
        self.product = _Product(torch.cat(weights), torch.cat(biases) if biases else None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O) float32."""
        codes, scale, zero = quantize(x.flatten(0, -2))
        return self.product(codes, scale, zero, "none").unflatten(0, x.shape[:-1])


class Int8Conv(nn.Module):
    """GELU and ``nn.Conv1d`` over frames laid out (B, T, C), as in
    :mod:`speechssl.model.strided_conv`."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        (self.kernel,), (self.stride,) = conv.kernel_size, conv.stride
        weight = conv.weight.permute(0, 2, 1).flatten(1)  # (O, K C)
        self.product = _Product(weight, conv.bias)

    def forward(self, frames: Tensor, taps: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T', O) float32; with taps (B, C, W) for windows (B, T, W), whose product
        they are, as in :func:`.strided_conv.windows_gelu_conv`."""
        if taps is not None:
            return self._of_windows(frames, taps)
        rows = frames.flatten(0, 1)
        coded = quantize_pieces(lambda span: F.gelu(rows[span]), *rows.shape)
        return self._convolve(*coded, len(frames))

    def _of_windows(self, windows: Tensor, taps: Tensor) -> Tensor:
        batch, num, _ = windows.shape

        def hear(span: slice) -> Tensor:
            """A slice of the rows of all utterances, one after another."""
            parts = []
            for index in range(span.start // num, (span.stop - 1) // num + 1):
                own = slice(max(span.start - index * num, 0), span.stop - index * num)
                parts.append(windows[index, own] @ taps[index].T)
            return F.gelu(parts[0] if len(parts) == 1 else torch.cat(parts))

        return self._convolve(*quantize_pieces(hear, batch * num, taps.shape[1]), batch)

    def _convolve(self, codes: Tensor, scale: float, zero: int, batch: int) -> Tensor:
        """(B T, C) uint8 -> (B, T', O) float32."""
        channels, num = codes.shape[1], len(codes) // batch
        step = self.stride * channels
        count = (num - self.kernel) // self.stride + 1
        windows = codes.as_strided(
            (batch, count, self.kernel * channels), (num * channels, step, 1)
        )  # (B, T', K C)
        rows = self.product(windows.flatten(0, 1), scale, zero, "none")
        return rows.unflatten(0, (batch, count))


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
    rows = values.reshape(-1, values.shape[-1])
    codes, scale, zero = quantize_pieces(rows.__getitem__, *rows.shape)
    return codes.view(values.shape), scale, zero


@torch.no_grad()
def quantize_pieces(
    hear: Callable[[slice], Tensor], num: int, width: int
) -> tuple[Tensor, float, int]:
    """:func:`quantize` of (num, width) float32, of which `hear` gives the rows of a slice: many are
    asked for a part at a time, and twice, so that they are never held as a whole."""
    step = max(_AT_ONCE // width, 1)
    spans = [slice(start, min(start + step, num)) for start in range(0, num, step)]
    if len(spans) == 1:
        whole = hear(spans[0])
        hear = whole.__getitem__
    limits = [torch.aminmax(hear(span)) for span in spans]
    low = min([0.0, *(float(lowest) for lowest, _ in limits)])
    high = max([0.0, *(float(highest) for _, highest in limits)])
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    codes = torch.empty(num, width, dtype=torch.uint8)
    for span in spans:
        values = hear(span)
        # Values are not negative here, so that cutting off half more than the value rounds it. By
        # way of int16, because a CPU turns float32 into uint8 several times more slowly.
        offset = values.new_full((1,), zero + 0.5)
        rounded = torch.add(offset, values, alpha=1 / scale).clamp_(0, 255).to(torch.int16)
        codes[span] = rounded
    return codes, scale, zero
