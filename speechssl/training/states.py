"""Training states on disk, read: where a run is, and its newest state that is whole.

`checkpoints/step-N/` holds the tensors in safetensors, the rest in JSON, and the checksums of all;
resume.py writes them. Both forms, of one process or a part of each, are read by the same way, in
any number of processes: of a tensor that is sharded, each process reads what it holds.

What torch.distributed.checkpoint.state_dict offers is not used: it refuses a state in which a
weight that learns has no moments yet (it was frozen or left out so far), or, where it is not to be
strict, no longer says what else is missing.
"""

import contextlib
import json
import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from speechssl import distributed
from speechssl.checkpoint import sweep, throw_away
from speechssl.files import sha256
from speechssl.training.version_0_1 import renamed_weights

CHECKSUMS = "checksums.json"
"""Written last; SHA-256 of every other file of the folder."""

PROGRESS = "progress.json"

WHOLE = ("model.safetensors", "optimizer.safetensors")
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
    processes: int = 0
    """Of a command, that shared the updates; 0: not known, 1: there was one."""
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
        parameters = dict(enumerate(learned_parameters(optimizer)))
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


def newest_state(run: Path) -> TrainingState | None:
    """The newest state that is whole; None where the run has none.

    A damaged folder is passed over for the one before, with a sentence on stderr. Raises
    ValueError where every one is damaged: beginning anew would throw the run away.
    """
    folders = state_folders(run)
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
    for folder in state_folders(run):
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            return _read_progress(folder)
    return None


def newest_weights(run: Path) -> dict[str, Tensor]:
    """Every tensor that the run trains, the heads too, from the newest state; ``{}`` where there is
    none. For looking at: checksums are not verified."""
    for folder in state_folders(run):
        # A run under way removes old states.
        with contextlib.suppress(OSError, SafetensorError, ValueError):
            stored = {n: v for n, v in _stored(folder).items() if not _MOMENT.fullmatch(n)}
            places = renamed_weights(stored)
            return {places[n]: value for n, value in _read_whole(folder, stored).items()}
    return {}


def has_state(run: Path) -> bool:
    """Whether there is something to go on from."""
    return bool(state_folders(run))


def clear_leftovers(run: Path, *, resume: bool) -> None:
    """Remove what a killed save left half-written; without `resume` every old state too."""
    for parent in (run, run / "checkpoints"):
        sweep(parent)
    if not resume:
        for folder in state_folders(run):
            throw_away(folder)


def _read(folder: Path) -> TrainingState:
    """The state in a folder; an error of any kind where a file is missing or not what it was."""
    expected = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    if not isinstance(expected, dict) or PROGRESS not in expected:
        raise ValueError(f"{CHECKSUMS} does not hold the checksum of {PROGRESS}")
    wrong = [name for name, value in expected.items() if sha256(folder / name) != value]
    if wrong:
        raise ValueError(f"the checksum of {' and '.join(wrong)} is wrong")
    progress = _read_progress(folder)
    files = set(progress.files or WHOLE)
    if expected.keys() != {PROGRESS, *files}:
        raise ValueError(f"{CHECKSUMS} does not hold the checksums of {', '.join(sorted(files))}")
    if others := {path.name for path in folder.glob("*.safetensors")} - files:
        raise ValueError(f"{', '.join(sorted(others))} is not of this state")
    _stored(folder)
    return TrainingState(progress, folder)


def _read_progress(folder: Path) -> Progress:
    return Progress(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))


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
            raise ValueError(f"{folder} does not fit: {failure_reason(error)}.") from error


def failure_reason(error: CheckpointException) -> str:
    """What the first process that failed said, without the places in the code."""
    number, (cause, _) = min(error.failures.items(), key=lambda failure: failure[0])
    return (
        f"{cause} (process {number})" if len(error.failures) < distributed.world() else f"{cause}"
    )


def state_folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def state_folders(run: Path) -> list[Path]:
    """Newest first; what somebody else put there (``step-00000020 (copy)``) is none."""
    found = [f for f in (run / "checkpoints").glob("step-*") if _STEP.fullmatch(f.name)]
    return sorted(found, key=state_step, reverse=True)


def state_step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data), encoding="utf-8", newline="\n")


def learned_parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
