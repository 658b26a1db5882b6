"""Training state on disk: weights, optimizer, step. Tensors in safetensors, the rest in JSON.

`checkpoints/step-N/` folders are written beside their place, made durable, and moved there whole;
each carries the checksums of its files. The newest one whose checksums hold is where a run goes on.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from speechssl import distributed
from speechssl.checkpoint import replace_folder, sweep, sync_folder, throw_away

_CHECKSUMS = "checksums.json"
"""Written last; SHA-256 of every other file of the folder."""

_FILES = {"model.safetensors", "optimizer.safetensors", "progress.json"}

_STEP = re.compile("step-[0-9]{8,18}")


@dataclass
class Progress:
    """Where a run is; what is not a function of this is a function of the config."""

    step: int = 0
    max_steps: int = 0
    micro_batches: int = 0
    """Of an update, in all processes together; 0: not known."""
    elapsed_s: float = 0.0
    audio_s: float = 0.0
    best_score: float | None = None
    """Lowest validation score so far."""
    best_step: int = 0
    windows: list[dict[str, Any]] = field(default_factory=list)
    """For each process, what was summed up since the last logged line."""
    faults: dict[str, str] = field(default_factory=dict)
    """Ids of the utterances that could not be read so far, and why."""
    config: dict[str, Any] = field(default_factory=dict)
    """The run's resolved config, to be compared on resume."""


@dataclass(frozen=True)
class TrainingState:
    """A state as it was read."""

    progress: Progress
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    """The optimizer's tensors, ``NUMBER.NAME`` with the parameter's number."""

    def restore(self, modules: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put it into the modules and the optimizer, in place."""
        spread_like = distributed.spread_like
        own = modules.state_dict()
        modules.load_state_dict(
            {n: spread_like(v, own[n]) if n in own else v for n, v in self.weights.items()}
        )
        parameters = _parameters(optimizer)
        for key, value in self.moments.items():
            number, name = key.split(".", 1)
            parameter = parameters[int(number)]
            value = value.to(parameter.device, copy=True)
            if value.shape == parameter.shape:  # all but Adam's count of steps
                value = spread_like(value, parameter)
            optimizer.state[parameter][name] = value


class StateWriter:
    """Writes states while the training goes on: a copy in memory, then a thread.

    Never two writes at once: a save waits for the one before. The error of a failed write (a full
    disk) is raised by the next :meth:`check`, :meth:`save` or :meth:`wait`.
    """

    def __init__(self, run: Path, *, keep: int, keep_every: int = 0) -> None:
        """Keep the newest `keep` states, that of the best validation where there is one, and for
        good those whose step is a multiple of `keep_every` (0: none)."""
        self._run, self._keep, self._keep_every = run, keep, keep_every
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._copies: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
        """Memory of the last copy, which the next one takes again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:
            self.wait()

    def save(
        self, modules: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
    ) -> None:
        """Copy the state, and begin to write it to `checkpoints/step-N`.

        Every process calls this; the first one copies and writes.
        """
        self.wait()
        _copy(modules.state_dict(), self._copies["model"])
        _copy(_optimizer_tensors(optimizer), self._copies["optimizer"])
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if distributed.rank() == 0:
            self._pending = self._thread.submit(self._write, asdict(progress))

    @property
    def idle(self) -> bool:
        """Whether nothing is being written."""
        return self._pending is None or self._pending.done()

    def check(self) -> None:
        """Raise the error of a write that has failed; does not wait."""
        if self.idle:
            self.wait()

    def wait(self) -> None:
        """Wait until everything is on the disk."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, progress: dict[str, Any]) -> None:
        step = progress["step"]
        folder = _folder(self._run, step)
        fresh = folder.with_name(f".{folder.name}.new-{os.getpid()}")
        fresh.mkdir(parents=True)
        try:
            for name, values in self._copies.items():
                save_file(values, fresh / f"{name}.safetensors")
            _write_json(fresh / "progress.json", progress)
            _write_json(fresh / _CHECKSUMS, _checksums(fresh))
            sync_folder(fresh)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        replace_folder(fresh, folder)
        for old in _superfluous(self._run, step, self._keep, self._keep_every, progress):
            throw_away(old)


def newest_state(run: Path) -> TrainingState | None:
    """The newest state that is whole; None where the run has none.

    A damaged folder is passed over for the one before, with a sentence on stderr. Raises
    ValueError where every one is damaged: beginning anew would throw the run away.
    """
    folders = _folders(run)
    for folder in folders:
        try:
            return _read(folder)
        except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
            line = f"The checkpoint {folder} is damaged ({error}); trying the one before."
            print(line, file=sys.stderr)
    if folders:
        raise ValueError(
            f"Every checkpoint in {run / 'checkpoints'} is damaged: restore one from a copy, or "
            "give --resume never to begin anew."
        )
    return None


def newest_weights(run: Path) -> dict[str, Tensor]:
    """Every tensor that the run trains, the heads too, from the newest state; ``{}`` where there is
    none. For looking at: checksums are not verified."""
    for folder in _folders(run):
        with contextlib.suppress(OSError, SafetensorError):  # a run under way removes old states
            return load_file(folder / "model.safetensors")
    return {}


def has_state(run: Path) -> bool:
    """Whether there is something to go on from."""
    return bool(_folders(run))


def clear_leftovers(run: Path, *, resume: bool) -> None:
    """Remove what a killed save left half-written; without `resume` every old state too."""
    for parent in (run, run / "checkpoints"):
        sweep(parent)
    if not resume:
        for folder in _folders(run):
            throw_away(folder)


def _read(folder: Path) -> TrainingState:
    """The state in a folder; an error of any kind where a file is missing or not what it was."""
    expected = json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8"))
    if not isinstance(expected, dict) or expected.keys() != _FILES:
        raise ValueError(f"{_CHECKSUMS} does not hold the checksums of {', '.join(sorted(_FILES))}")
    wrong = [name for name, value in expected.items() if _checksum(folder / name) != value]
    if wrong:
        raise ValueError(f"the checksum of {' and '.join(wrong)} is wrong")
    return TrainingState(
        Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8"))),
        load_file(folder / "model.safetensors"),
        load_file(folder / "optimizer.safetensors"),
    )


def _folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def _folders(run: Path) -> list[Path]:
    """Newest first; what somebody else put there (``step-00000020 (copy)``) is none."""
    found = [f for f in (run / "checkpoints").glob("step-*") if _STEP.fullmatch(f.name)]
    return sorted(found, key=_step, reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _superfluous(
    run: Path, newest: int, keep: int, keep_every: int, progress: dict[str, Any]
) -> list[Path]:
    """Those to be removed; states after the newest belong to a past that was given up as
    damaged."""
    folders = _folders(run)
    past = [folder for folder in folders if _step(folder) <= newest]
    kept = set(past[:keep])
    kept |= {f for f in past if _step(f) == progress["best_step"]}
    kept |= {f for f in past if keep_every and _step(f) % keep_every == 0}
    return [folder for folder in folders if folder not in kept]


def _checksums(folder: Path) -> dict[str, str]:
    return {path.name: _checksum(path) for path in sorted(folder.iterdir())}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def _copy(tensors: dict[str, Tensor], into: dict[str, Tensor]) -> None:
    """Copy to the CPU, each in one piece, over what `into` holds of the same names; in the first
    process. Copies from a GPU may end later (pinned memory)."""
    for name, value in tensors.items():
        one = distributed.whole(value.detach())
        if distributed.rank() > 0:
            continue
        if name not in into:
            into[name] = torch.empty(one.shape, dtype=one.dtype, pin_memory=one.is_cuda)
        into[name].copy_(one, non_blocking=True)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": value
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }
