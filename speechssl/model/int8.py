"""Inference with weights and inputs of 8 bits, on a CPU that multiplies those several times faster.

Dynamic quantization: each output channel of a weight has its scale; an input is scaled by what it
holds at that moment, as a whole, so that what is computed for an utterance depends on what it is
batched with. Norms, attention, the positional convolution, a filterbank and the head stay as they
are.

Shapes: B batch, T frames, C channels, O channels out, K kernel.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from speechssl.model.encoder import ConvEncoder
from speechssl.model.speech_model import CTCModel, SpeechModel

Model = TypeVar("Model", SpeechModel, CTCModel)


def int8_is_fast(device: torch.device) -> bool:
    """Whether a device multiplies 8-bit matrices several times faster than float32 ones: an x86 CPU
    with VNNI instructions (every server's and most laptops' since 2019)."""
    return device.type == "cpu" and bool(torch.cpu._is_vnni_supported())


def quantized(model: Model) -> Model:
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
    _replace_linear(speech.context)
    speech.project = Int8Linear(speech.project)  # type: ignore[assignment]
    return copied.eval()


def _replace_linear(module: nn.Module) -> None:
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
    """``nn.Linear``: (..., I) -> (..., O) float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.product = _Product(linear.weight, linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O) float32."""
        codes, scale, zero = quantize(x.flatten(0, -2))
        return self.product(codes, scale, zero, "none").unflatten(0, x.shape[:-1])


class Int8Conv(nn.Module):
    """``nn.Conv1d`` over frames laid out (B, T, C), as in :mod:`speechssl.model.strided_conv`."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        (self.kernel,), (self.stride,) = conv.kernel_size, conv.stride
        weight = conv.weight.permute(0, 2, 1).flatten(1)  # (O, K C)
        self.product = _Product(weight, conv.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, C) -> (B, T', O) float32."""
        batch, num, channels = frames.shape
        codes, scale, zero = quantize(frames.contiguous())
        num = (num - self.kernel) // self.stride + 1
        step = self.stride * channels
        windows = codes.as_strided(
            (batch, num, self.kernel * channels), (codes.stride(0), step, 1)
        )  # (B, T', K C)
        rows = self.product(windows.flatten(0, 1), scale, zero, "none")
        return rows.unflatten(0, (batch, num))


def quantize(values: Tensor) -> tuple[Tensor, float, int]:
    """uint8 of the same shape, scale and zero: values are about (uint8 - zero) * scale."""
    lowest, highest = torch.aminmax(values.detach())
    low, high = min(float(lowest), 0.0), max(float(highest), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    # Values are not negative here, so that cutting off half more than the value rounds it.
    codes = (values * (1 / scale)).add_(zero + 0.5).clamp_(0, 255).to(torch.uint8)
    return codes, scale, zero
