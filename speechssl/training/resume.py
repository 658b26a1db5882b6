"""Training states on disk, written while the training goes on; states.py reads them.

`checkpoints/step-N/` folders are written beside their place, made durable, and moved there whole;
each carries the checksums of its files. The newest one whose checksums hold is where a run goes on.

A state is written by the first process. Where the weights are sharded over several (``fsdp``), each
writes its own part, by torch.distributed.checkpoint in its safetensors form (its other form and its
index are pickles, which are not read here).
"""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import save

from speechssl import distributed
from speechssl.checkpoint import replace_folder, sync_folder, throw_away, write_tensors
from speechssl.files import sha256
from speechssl.training.states import (
    CHECKSUMS,
    PROGRESS,
    WHOLE,
    failure_reason,
    learned_parameters,
    state_folder,
    state_folders,
    state_step,
    write_json,
)
from speechssl.training.states import Progress as Progress
from speechssl.training.states import clear_leftovers as clear_leftovers
from speechssl.training.states import has_state as has_state
from speechssl.training.states import newest_progress as newest_progress
from speechssl.training.states import newest_state as newest_state
from speechssl.training.states import newest_weights as newest_weights


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
        weights are sharded.
        """
        self.wait()
        weights = modules.state_dict()
        if any(distributed.is_sharded(value) for value in weights.values()):
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
                into[name] = empty if self._group is None else self._group.shard(empty, value)
            distributed.part(into[name]).copy_(own, non_blocking=True)

    def _write(self, progress: dict[str, Any]) -> None:
        """A whole state, by the first process."""
        fresh = self._fresh(progress)
        fresh.mkdir(parents=True)
        try:
            for name, values in self._copies.items():
                write_tensors(values, fresh / f"{name}.safetensors")
            checksums = {name: sha256(fresh / name) for name in WHOLE}
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
                raise OSError(f"{fresh} could not be written: {failure_reason(error)}.") from error
            own = fresh.glob(f"shard-{distributed.rank() + 1:05d}-*")
            found = self._group.gather({path.name: sha256(path) for path in own})
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
        folder = state_folder(self._run, progress["step"])
        return folder.with_name(f".{folder.name}.new-state")

    def _complete(self, fresh: Path, progress: dict[str, Any], checksums: dict[str, str]) -> None:
        """Write what is not tensors, put the state in its place, and remove superfluous ones."""
        write_json(fresh / PROGRESS, progress | {"files": sorted(checksums)})
        checksums = checksums | {PROGRESS: sha256(fresh / PROGRESS)}
        write_json(fresh / CHECKSUMS, checksums)
        sync_folder(fresh)
        replace_folder(fresh, state_folder(self._run, progress["step"]))
        old = _superfluous(self._run, progress["step"], self._keep, self._keep_every, progress)
        for folder in old:
            throw_away(folder)


def _superfluous(
    run: Path, newest: int, keep: int, keep_every: int, progress: dict[str, Any]
) -> list[Path]:
    """Those to be removed; states after the newest belong to a past that was given up as
    damaged."""
    folders = state_folders(run)
    past = [folder for folder in folders if state_step(folder) <= newest]
    kept = set(past[:keep])
    kept |= {f for f in past if state_step(f) == progress["best_step"]}
    kept |= {f for f in past if keep_every and state_step(f) % keep_every == 0}
    return [folder for folder in folders if folder not in kept]


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": value
        for number, parameter in enumerate(learned_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }
