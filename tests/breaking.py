"""Saves that break off: any call to the system may be the last one."""

import io
import os
from pathlib import Path
from types import ModuleType

import pytest


class Killed(BaseException):
    """What no handler catches: the process is gone."""


def break_at(
    patch: pytest.MonkeyPatch, module: ModuleType, number: int, error: type[BaseException]
) -> list[str]:
    """Let call `number` to the system fail, half-done where it writes; the calls there were.

    With :class:`Killed` every call after it fails too. `module` is the one that saves.
    """
    calls: list[str] = []

    def breaking(name, real, half=None):
        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) - 1 == number or (error is Killed and len(calls) - 1 > number):
                if half and len(calls) - 1 == number:
                    real(*args, **kwargs)
                    half(*args)
                raise error(f"at {name}")
            return real(*args, **kwargs)

        return call

    def cut(*args):
        path = next(Path(a) for a in args if isinstance(a, Path))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    for name in ("mkdir", "rename", "replace", "fsync", "unlink", "rmdir"):
        patch.setattr(os, name, breaking(name, getattr(os, name)))
    writers = [n for n in ("write_tensors", "write_json", "_write_json") if hasattr(module, n)]
    assert len(writers) == 2
    for name in writers:
        patch.setattr(module, name, breaking(name, getattr(module, name), cut))
    patch.setattr(io, "open", breaking("open", io.open))
    return calls
