"""Training state on disk: weights, optimizer, step. Tensors in safetensors, the rest in JSON.

`checkpoints/step-N/` folders are written beside their place, made durable, and moved there whole;
each carries the checksums of its files. The newest one whose checksums hold is where a run goes on.

A state is written by the first process. Where the weights are spread over several (``fsdp``), each
writes its own part, by torch.distributed.checkpoint in its safetensors form (its other form and
its index are pickles, which are not read here). Both are read by the same way, in any number of
processes: of a tensor that is spread, each process reads what it holds.

What torch.distributed.checkpoint.state_dict offers is not used: it refuses a state in which a
weight that learns has no moments yet (it was frozen or left out so far), or, where it is not to be
strict, no longer tells what else is missing.
"""

import contextlib
import hashlib
import json
import re
import shutil
import sys
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from speechssl import distributed
from speechssl.checkpoint import (
    replace_folder,
    sweep,
    sync_folder,
    throw_away,
    write_tensors,
)
from speechssl.training.version_0_1 import renamed_weights

_CHECKSUMS = "checksums.json"
"""Written last; SHA-256 of every other file of the folder."""

_PROGRESS = "progress.json"

_WHOLE = ("model.safetensors", "optimizer.safetensors")
"""The tensors of a state that one process wrote."""

_MOMENT = re.compile(r"[0-9]{1,9}\.(step|exp_avg|exp_avg_sq)")
"""The optimizer's tensors, ``NUMBER.NAME`` with the parameter's number."""

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
    inputs: dict[str, str] = field(default_factory=dict)
    """Digests of what the run was started on, by name, to be compared too; none in old states."""
    files: list[str] = field(default_factory=list)
    """Of the state's tensors: one process's, or a part of each; set as it is written."""


@dataclass(frozen=True)
class TrainingState:
    """A state whose checksums hold."""

    progress: Progress
    folder: Path

    def tensors(self) -> dict[str, Tensor]:
        """Weights by name and moments by number, each in one piece."""
        return _read_whole(self.folder, _stored(self.folder))

    def restore(self, modules: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put it into the modules and the optimizer, in place; each process reads what it holds.

        Raises ValueError where it is of another model.
        """
        places = renamed_weights(_stored(self.folder))  # stored name -> name of today
        stored = {places[name]: value for name, value in _stored(self.folder).items()}
        into = dict(modules.state_dict())
        parameters = dict(enumerate(_parameters(optimizer)))
        unknown = {name for name in stored if name not in into and not _MOMENT.fullmatch(name)}
        if odd := sorted(unknown ^ (into.keys() - stored.keys())):
            raise ValueError(f"{self.folder} is of another model: {', '.join(odd[:5])} differ.")
        for name in stored.keys() - into.keys():
            number, kind = name.split(".")
            if (parameter := parameters.get(int(number))) is None:
                raise ValueError(f"{self.folder} is of another model: it has more weights.")
            value = torch.zeros_like(parameter)
            if stored[name].shape != parameter.shape:  # Adam's count of steps
                value = torch.zeros_like(stored[name], device=parameter.device)
            optimizer.state[parameter][kind] = into[name] = value
        _fill({name: into[today] for name, today in places.items()}, self.folder)


class StateWriter:
    """Writes states while the training goes on: a copy in memory, then a thread.

    Never two writes at once: a save waits for the one before. The error of a failed write (a full
    disk) is raised by the next :meth:`check`, :meth:`save` or :meth:`wait`.
    """

    def __init__(self, run: Path, *, keep: int, keep_every: int = 0) -> None:
        """Keep the newest `keep` states, that of the best validation where there is one, and for
        good those whose step is a multiple of `keep_every` (0: none)."""
        self._run, self._keep, self._keep_every = run, keep, keep_every
        gpu = torch.cuda.current_device() if torch.cuda.is_available() else -1  # else it takes 0
        self._thread = ThreadPoolExecutor(1, "checkpoint", torch.cuda.set_device, (gpu,))
        self._pending: Future[None] | None = None
        self._copies: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
        """Memory of the last copy, which the next one takes again."""
        self._group: distributed.HostGroup | None = None
        """In which the processes' threads agree on a state that each writes a part of."""

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

        Every process calls this. The first one copies and writes, or each its part where the
        weights are spread.
        """
        self.wait()
        weights = modules.state_dict()
        if any(distributed.is_spread(value) for value in weights.values()):
            self._group = self._group or distributed.HostGroup()
        elif distributed.rank() > 0:
            return
        self._copy(weights, "model")
        self._copy(_optimizer_tensors(optimizer), "optimizer")
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        write = self._write if self._group is None else self._write_part
        self._pending = self._thread.submit(write, asdict(progress))

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

    def _copy(self, tensors: dict[str, Tensor], kind: str) -> None:
        """Copy to the CPU what this process holds of each, over what the last copy left. Copies
        from a GPU may end later (pinned memory)."""
        into = self._copies[kind]
        for name, value in tensors.items():
            own = distributed.part(value.detach())
            if name not in into:
                empty = torch.empty(own.shape, dtype=own.dtype, pin_memory=own.is_cuda)
                into[name] = empty if self._group is None else self._group.spread(empty, value)
            distributed.part(into[name]).copy_(own, non_blocking=True)

    def _write(self, progress: dict[str, Any]) -> None:
        """A whole state, by the first process."""
        fresh = self._fresh(progress)
        fresh.mkdir(parents=True)
        try:
            for name, values in self._copies.items():
                write_tensors(values, fresh / f"{name}.safetensors")
            checksums = {name: _checksum(fresh / name) for name in _WHOLE}
            self._complete(fresh, progress, checksums)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _write_part(self, progress: dict[str, Any]) -> None:
        """This process's part of a state; the first one makes it a state when all are written."""
        assert self._group is not None
        fresh = self._fresh(progress)
        try:
            writer = HuggingFaceStorageWriter(str(fresh), save_distributed=True)
            tensors = self._copies["model"] | self._copies["optimizer"]
            try:
                save(tensors, storage_writer=writer, process_group=self._group.group)
            except CheckpointException as error:  # no Exception, and of any process
                raise OSError(f"{fresh} could not be written: {_reason(error)}.") from error
            own = fresh.glob(f"shard-{distributed.rank() + 1:05d}-*")
            found = self._group.gather({path.name: _checksum(path) for path in own})
            if distributed.rank() == 0:
                checksums = {name: value for part in found for name, value in part.items()}
                self._complete(fresh, progress, checksums)
            self._group.gather(True)  # in every process a state is saved when it is one
        except BaseException:
            if distributed.rank() == 0:
                shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _fresh(self, progress: dict[str, Any]) -> Path:
        """Where a state is written before it takes its place; the same in every process."""
        folder = _folder(self._run, progress["step"])
        return folder.with_name(f".{folder.name}.new-state")

    def _complete(self, fresh: Path, progress: dict[str, Any], checksums: dict[str, str]) -> None:
        """Write what is not tensors, put the state in its place, and remove superfluous ones."""
        _write_json(fresh / _PROGRESS, progress | {"files": sorted(checksums)})
        checksums = checksums | {_PROGRESS: _checksum(fresh / _PROGRESS)}
        _write_json(fresh / _CHECKSUMS, checksums)
        sync_folder(fresh)
        replace_folder(fresh, _folder(self._run, progress["step"]))
        old = _superfluous(self._run, progress["step"], self._keep, self._keep_every, progress)
        for folder in old:
            throw_away(folder)


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


def newest_progress(run: Path) -> Progress | None:
    """What the newest state that can be read says of the run; None where there is none. For looking
    at: checksums are not verified."""
    for folder in _folders(run):
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            return _read_progress(folder)
    return None


def newest_weights(run: Path) -> dict[str, Tensor]:
    """Every tensor that the run trains, the heads too, from the newest state; ``{}`` where there is
    none. For looking at: checksums are not verified."""
    for folder in _folders(run):
        # A run under way removes old states.
        with contextlib.suppress(OSError, SafetensorError, ValueError):
            stored = {n: v for n, v in _stored(folder).items() if not _MOMENT.fullmatch(n)}
            places = renamed_weights(stored)
            return {places[n]: value for n, value in _read_whole(folder, stored).items()}
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
    if not isinstance(expected, dict) or _PROGRESS not in expected:
        raise ValueError(f"{_CHECKSUMS} does not hold the checksum of {_PROGRESS}")
    wrong = [name for name, value in expected.items() if _checksum(folder / name) != value]
    if wrong:
        raise ValueError(f"the checksum of {' and '.join(wrong)} is wrong")
    progress = _read_progress(folder)
    files = set(progress.files or _WHOLE)
    if expected.keys() != {_PROGRESS, *files}:
        raise ValueError(f"{_CHECKSUMS} does not hold the checksums of {', '.join(sorted(files))}")
    if others := {path.name for path in folder.glob("*.safetensors")} - files:
        raise ValueError(f"{', '.join(sorted(others))} is not of this state")
    _stored(folder)
    return TrainingState(progress, folder)


def _read_progress(folder: Path) -> Progress:
    return Progress(**json.loads((folder / _PROGRESS).read_text(encoding="utf-8")))


def _stored(folder: Path) -> dict[str, Tensor]:
    """What a state's files hold, as tensors that have a shape and no memory."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {
        name: torch.empty(one.size, dtype=one.properties.dtype, device="meta")
        for name, one in found.items()
        if isinstance(one, TensorStorageMetadata)
    }


def _read_whole(folder: Path, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    into = {name: torch.empty_like(value, device="cpu") for name, value in stored.items()}
    _fill(into, folder)
    return into


def _fill(into: dict[str, Tensor], folder: Path) -> None:
    """Read a state's tensors into these, in place."""
    with warnings.catch_warnings():
        # Each process reads by itself, and waits for no other.
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        try:
            reader = HuggingFaceStorageReader(str(folder))
            load(into, storage_reader=reader, no_dist=True)
        except CheckpointException as error:  # no Exception
            raise ValueError(f"{folder} does not fit: {_reason(error)}.") from error


def _reason(error: CheckpointException) -> str:
    """What the first process that failed said, without the places in the code."""
    number, (cause, _) = min(error.failures.items(), key=lambda failure: failure[0])
    return (
        f"{cause} (process {number})" if len(error.failures) < distributed.world() else f"{cause}"
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


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": value
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }
