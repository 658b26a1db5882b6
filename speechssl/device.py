"""The machine: device, precision, memory allocator."""

import contextlib
import ctypes
import platform
import re
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from speechssl import torchrun
from speechssl.system import free_memory, total_memory

Precision = Literal["auto", "bf16", "fp32"]


def pick_device(name: str = "auto") -> torch.device:
    """``auto``: the GPU where there is one; of several, each process that `torchrun` started on a
    machine takes its own, for ``cuda`` too. Else ``cpu``, ``cuda:N`` or ``mps`` (Apple's GPU, which
    ``auto`` does not choose, as it was never measured); ValueError where it is none of these or not
    there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]{1,3})?", name):
        raise ValueError(f"device must be one of auto, cpu, cuda, cuda:NUMBER, mps, got {name!r}.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            "device is 'mps', and torch finds no GPU of Apple here (it needs a Mac with an M "
            "processor and macOS 12.3 or newer): give --device cpu."
        )
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, and torch finds no GPU here: give --device cpu.")
    device = torch.device(name)
    if device.type == "cuda" and device.index is None:
        number = torchrun.number_on_this_machine()
        own = torch.cuda.current_device() if number is None else number
        device = torch.device("cuda", own)
    return device


def has_bf16_units(device: torch.device) -> bool:
    """Whether the device has units that multiply bfloat16 matrices: a CPU tiles (AMX), a GPU those
    of Ampere (2020) and later; older ones emulate them.

    How fast they are for a model is measured (:mod:`speechssl.precision`).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())


def machine_name(device: torch.device) -> str:
    """The name of the GPU or CPU, as its maker gives it where the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return name if device.type == "cpu" else f"{device.type} of {name}"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """bfloat16 for ``bf16``, float32 for ``fp32``; ValueError for ``auto``, which has to be chosen
    before (:mod:`speechssl.precision`), and for any other name."""
    if precision not in get_args(Precision):
        raise ValueError(
            f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}."
        )
    if precision == "auto":
        raise ValueError("precision is 'auto' and has not been chosen: give fp32 or bf16 here.")
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    if device.type == "cuda":  # full float32: cuDNN's convolutions else round to TF32, 10 bits
        flags: AbstractContextManager[object] = torch.backends.cudnn.flags(
            enabled=True, allow_tf32=False
        )
        return flags
    return contextlib.nullcontext()


def send(values: Tensor, device: torch.device) -> Tensor:
    """Values of the host on the device, without waiting: a GPU fetches them from pinned memory when
    it gets there. From other memory the host would wait for all that the GPU has still to do."""
    if device.type == "cuda" and values.is_cpu:
        values = values.pin_memory()
    return values.to(device, non_blocking=device.type != "mps")


def double(values: Tensor) -> Tensor:
    """In float64; on Apple's GPUs, which have none, in float32."""
    return values.float() if values.device.type == "mps" else values.double()


def finished_s(device: torch.device) -> float:
    """Seconds of a clock, read when the device has done all that it was given so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def take(values: Tensor, mask: Tensor) -> Tensor:
    """``values[mask]`` for (B, T, ...) and a bool (B, T): (M, ...). Where the mask is on the host,
    nobody waits for the device to say how many there are."""
    places = send(mask.flatten().nonzero()[:, 0], values.device)  # (M,)
    return values.flatten(0, 1).index_select(0, places)


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


@dataclass(frozen=True)
class Memory:
    """Bytes of a device, or of what this process may use of it."""

    free: int
    total: int


def memory(device: torch.device) -> Memory:
    """Of the GPU, or of the machine within the limit that a container sets; where a system says
    nothing, more than any machine has."""
    if device.type == "cuda":
        return Memory(*torch.cuda.mem_get_info(device))
    total = total_memory() or UNKNOWN
    free = free_memory() or total
    for group, (limit, used, cached) in _cgroups():
        most = _number_in(group / limit)
        if most is not None and most < total:
            taken = _number_in(group / used) or 0
            taken -= _number_in(group / "memory.stat", cached) or 0
            total, free = most, min(free, max(most - taken, 0))
    return Memory(free, total)


UNKNOWN = 1 << 60
"""Bytes of memory, where a system does not say how many there are."""

_CGROUP_FILES = {  # limit, use, and in memory.stat what of it is only cached
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _cgroups() -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The memory control groups that this process is in, and all above them."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        root = Path("/sys/fs/cgroup")
        if number != "0" and "memory" not in controllers.split(","):
            continue
        files = _CGROUP_FILES[2 if number == "0" else 1]
        root = root if number == "0" else root / "memory"
        own = root / path.strip("/")
        for group in (own, *own.parents):
            if group.is_relative_to(root):
                yield group, files


def _number_in(path: Path, name: str = "") -> int | None:
    """The number in a file, or behind a name in it; None where there is none."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return None
    words = text.split()
    found = words[words.index(name) + 1] if name in words else "" if name else text.strip()
    return int(found) if found.isdigit() else None
