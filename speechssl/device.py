"""The machine: device, precision, memory allocator."""

import contextlib
import ctypes
import sys
from contextlib import AbstractContextManager
from typing import Literal, get_args

import torch

Precision = Literal["auto", "bf16", "fp32"]


def pick_device(name: str = "auto") -> torch.device:
    """``auto``: the GPU where there is one."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device, precision: Precision = "auto") -> AbstractContextManager[object]:
    """bfloat16 where asked for, or where ``auto`` finds it fast; else float32."""
    if precision not in get_args(Precision):
        raise ValueError(
            f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}."
        )
    if precision == "bf16" or (precision == "auto" and bf16_is_fast(device)):
        return torch.autocast(device.type, torch.bfloat16)
    if device.type == "cuda":  # full float32: cuDNN's convolutions else round to TF32, 10 bits
        flags: AbstractContextManager[object] = torch.backends.cudnn.flags(
            enabled=True, allow_tf32=False
        )
        return flags
    return contextlib.nullcontext()


def keep_freed_memory() -> None:
    """Tell glibc not to give freed memory back to the system after each step.

    Large activations are otherwise unmapped and faulted in again at every step, which costs a
    training step on a CPU a fifth of its time. Does nothing where the allocator is not glibc's.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_max, top_pad = (
        -1,
        -4,
        -2,
    )  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX, M_TOP_PAD
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 64 << 20)
