"""Offline units: the fixed targets of tasks, computed once for every utterance and kept on disk.

A file of units lies beside the cache of decoded waves, named by a digest of what the units depend
on (the utterances, the centroids, the teacher), so that a run that goes on, or another one with the
same units, finds it; beside it a JSON file says how many units a second there are, and what they
are made of. Without a wave cache units are computed for each batch, of its crops; so are those of
samples whose voice is changed. Where the disk takes no file, they are computed for each batch as
they would be in it, of whole utterances.

Shapes: N utterances, B batch, T frames, G names of units.
"""

import json
import os
import sys
import warnings
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from speechssl import distributed
from speechssl.data.dataset import Batch, Waves
from speechssl.data.index import digests
from speechssl.device import autocast, send
from speechssl.files import writing
from speechssl.model.config import ModelConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.task import MaskConfig
from speechssl.pretext.tasks import Tasks
from speechssl.system import write_at

_FORMAT = 1
_MOST_UNITS = 1 << 16
"""Of a codebook: units are kept in two bytes."""


class OfflineUnits:
    """The units of the tasks for some utterances, opened when they are first asked for."""

    def __init__(
        self,
        tasks: Tasks,
        model: SpeechModel,
        waves: Waves,
        folder: Path | None,
        device: torch.device,
    ) -> None:
        """`folder`: of the wave cache; None: nothing is kept."""
        self._tasks, self._model, self._waves = tasks, model, waves
        self._folder, self._device = folder, device
        self._names: tuple[str, ...] = ()
        self._path: Path | None = None
        """Of the file; None: there is none, and units are computed for each batch."""
        self._units: np.ndarray | None = None
        self._offsets = np.zeros(1, np.int64)
        self._of_batch: tuple[Batch | None, dict[str, Tensor]] = (None, {})
        self._is_open = False

    def of_inputs(self, name: str, x: Inputs) -> Tensor:
        """(B, T) int64 on the device, 0 in the padding: the units `name` of a micro-batch."""
        if not self._is_open:
            self._open()
        if self._path is None:
            return (self._computed(x) if self._folder is None else self._of_whole(x))[name]
        found = send(self._looked_up(name, x), self._device)
        if altered := altered_rows(x):
            own = self._computed(x, altered)[name]
            for row, units in zip(altered, own, strict=True):
                num = int(x.frames[row])
                found[row, :num] = units[:num]
        return found

    def _computed(self, x: Inputs, rows: Sequence[int] = ()) -> dict[str, Tensor]:
        """All units of a batch, or of some of its rows; kept until the next batch."""
        if self._of_batch[0] is not x.batch:
            chosen = rows_of_inputs(x, rows) if rows else x
            self._of_batch = (x.batch, compute_units(self._tasks, chosen))  # type: ignore[assignment]
        return self._of_batch[1]

    def _of_whole(self, x: Inputs) -> dict[str, Tensor]:
        """All units of a batch where no file could be written: as they would be in it, the units of
        a crop those of its part of the whole utterance."""
        if self._of_batch[0] is not x.batch:
            found: dict[str, Tensor] = {}
            for row, num in enumerate(x.frames.tolist()):
                for name, units in self._of_row(x, row).items():
                    if name not in found:
                        found[name] = units.new_zeros(len(x.frames), x.num_frames)  # (B, T)
                    found[name][row, :num] = units[:num]
            self._of_batch = (x.batch, found)  # type: ignore[assignment]
        return self._of_batch[1]

    def _of_row(self, x: Inputs, row: int) -> dict[str, Tensor]:
        """All units of a row, (T or more,), from its first frame on."""
        batch: Batch = x.batch  # type: ignore[assignment]
        own = batch.clean[row, : int(batch.lengths[row])].numpy()
        if batch.altered[row] or not batch.cropped[row]:
            first, wave = 0, own
        else:
            first = batch.starts[row] // self._model.config.hop_samples
            wave = self._waves.cache.get(batch.items[row])
        units = compute_units(self._tasks, single_inputs(self._model, wave, self._device))
        return {name: values[0, first:] for name, values in units.items()}

    def _looked_up(self, name: str, x: Inputs) -> Tensor:
        """(B, T) of the utterances as they were recorded; 0 in rows that are altered."""
        table, column = self._mapped(), self._names.index(name)
        batch: Batch = x.batch  # type: ignore[assignment]
        found = torch.zeros(len(batch.items), x.num_frames, dtype=torch.long)  # (B, T)
        places = zip(batch.items, batch.starts, x.frames.tolist(), strict=True)
        altered = set(altered_rows(x))
        for row, (item, start, num) in enumerate(places):
            if row in altered:
                continue
            first = int(self._offsets[item]) + start // self._model.config.hop_samples
            units = table[first : first + num, column]
            found[row, : len(units)] = torch.from_numpy(units.astype(np.int64))
        return found

    def _open(self) -> None:
        """Find or compute the file; every process calls it at the same time."""
        self._is_open = True
        lengths = getattr(self._waves.cache, "num_samples", lambda: None)()
        if self._folder is None or lengths is None:
            return
        frames = self._model.frame_lengths(torch.from_numpy(lengths)).numpy()
        frames = np.where(lengths > 0, frames, 0)  # (N,)
        self._offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(frames)])
        self._names = tuple(compute_units(self._tasks, self._inputs(int(np.argmax(lengths > 0)))))
        path = self._folder / f"units-{self._digest()}.u16"
        index = path.with_suffix(".json")
        size = 2 * int(self._offsets[-1]) * len(self._names)
        try:
            facts = self._facts(size)
            if not distributed.broadcast(lambda: _is_whole(path, index, facts)):
                self._fill(path, size)
                distributed.broadcast(lambda: _write_index(index, facts))
        except OSError as error:
            warnings.warn(
                f"No file of units in {self._folder} ({error.strerror or error}); they are "
                "computed for each batch, which is slower.",
                stacklevel=2,
            )
            return
        self._path = path

    def _mapped(self) -> np.ndarray:
        """(sum of T, G) uint16, the whole file."""
        if self._units is None:
            assert self._path is not None
            has_any = self._path.stat().st_size > 0
            units = np.memmap(self._path, "<u2", "r") if has_any else np.zeros(0, np.uint16)
            self._units = np.asarray(units).reshape(-1, len(self._names))
        return self._units

    def __getstate__(self) -> dict[str, Any]:
        """For another process: the file is there then, and not a part of what it gets."""
        if not self._is_open:
            self._open()
        return {**self.__dict__, "_units": None, "_of_batch": (None, {})}

    def _facts(self, size: int) -> dict[str, Any]:
        """What is written beside the file."""
        about = describe_units(self._tasks, self._model.config)
        rate = frame_rate_hz(self._model.config)
        units = {name: about.get(name, {"rate_hz": rate}) for name in self._names}
        return {"names": list(self._names), "bytes": size, "rate_hz": rate, "units": units}

    def _fill(self, path: Path, size: int) -> None:
        """Compute the units of this process's share of the utterances into the file.

        Raises OSError in every process where one of them could not write its share.
        """
        distributed.broadcast(lambda: _allocate(path, size))
        error = ""
        try:
            with path.open("r+b") as file:
                self._write_share(file.fileno())
        except OSError as failed:
            error = str(failed.strerror or failed)
        if errors := [each for each in distributed.gather(error) if each]:
            raise OSError(errors[0])

    def _write_share(self, number: int) -> None:
        """Neighbouring utterances, so that no two processes write to one page of the file."""
        items = np.flatnonzero(np.diff(self._offsets))
        share = np.array_split(items, distributed.world())[distributed.rank()].tolist()
        show = distributed.rank() == 0 and sys.stderr.isatty()
        for item in tqdm(share, "units", unit="rec", disable=not show, file=sys.stderr):
            own = compute_units(self._tasks, self._inputs(item))
            columns = torch.stack([own[name][0] for name in self._names], dim=1)  # (T, G)
            if not 0 <= int(columns.min()) <= int(columns.max()) < _MOST_UNITS:
                raise ValueError(f"Offline units must be from 0 to {_MOST_UNITS - 1}.")
            place = 2 * len(self._names) * int(self._offsets[item])
            write_at(number, columns.cpu().numpy().astype("<u2").tobytes(), place)
        os.fsync(number)

    def _inputs(self, item: int) -> Inputs:
        """A whole utterance."""
        return single_inputs(self._model, self._waves.wave(item), self._device)

    def _digest(self) -> str:
        digest = blake2b(repr((_FORMAT, self._names)).encode(), digest_size=12)
        digest.update(np.ascontiguousarray(digests(self._waves.utterances)).tobytes())
        digest.update(np.ascontiguousarray(self._offsets).tobytes())
        if path := getattr(self._waves.cache, "path", None):  # of recordings as they were then
            digest.update(repr((path.stat().st_size, path.stat().st_mtime_ns)).encode())
        for task in self._tasks:
            for name, value in task.state_of_units().items():
                digest.update(f"{task.name} {name} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _allocate(path: Path, size: int) -> None:
    """An empty file whose room on the disk is taken. An index of one that is no more goes first:
    with it the file would count as whole while it is filled."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)


def _write_index(path: Path, facts: dict[str, Any]) -> None:
    """Written last: with it the file is whole."""
    with writing(path) as file:
        file.write(json.dumps(facts) + "\n")


def describe_units(tasks: Tasks, config: ModelConfig) -> dict[str, dict[str, object]]:
    """Of the offline units of all tasks, by name: units a second, and what they are made of."""
    return {
        name: {"rate_hz": frame_rate_hz(config), **about}
        for task in tasks
        for name, about in task.describe_units().items()
    }


def single_inputs(model: SpeechModel, wave: np.ndarray, device: torch.device) -> Inputs:
    """The inputs of one clean wave (S,) float32."""
    padded = torch.from_numpy(wave)[None]  # (1, S)
    batch = Batch(0, ("",), ("",), padded, padded, torch.tensor([len(wave)]), (0,), (0,))
    return Inputs(model, batch, device=device, seed=0, mask=MaskConfig())


def altered_rows(x: Inputs) -> list[int]:
    """The rows of a micro-batch whose voice is another than the recording's."""
    batch: Batch = x.batch  # type: ignore[assignment]
    return [row for row, altered in enumerate(batch.altered) if altered]


def rows_of_inputs(x: Inputs, rows: Sequence[int]) -> Inputs:
    """The clean waves of some rows of a micro-batch."""
    lengths = x.batch.lengths[list(rows)]
    clean = x.batch.clean[list(rows), : int(lengths.max())]
    nameless = ("",) * len(rows)
    batch = Batch(x.batch.index, nameless, nameless, clean, clean, lengths)
    return Inputs(x.model, batch, device=x.device, seed=0, mask=MaskConfig())


@torch.no_grad()
def compute_units(tasks: Tasks, x: Inputs) -> dict[str, Tensor]:
    """(B, T) int64 of every name of every task, in float32 whatever the autocast."""
    found: dict[str, Tensor] = {}
    with torch.autocast(x.device.type, enabled=False), autocast(x.device, "fp32"):
        for task in tasks:
            found |= task.offline_units(x)
    return found


def frame_rate_hz(config: ModelConfig) -> float:
    """Frames, and with them units, a second."""
    return config.sample_rate / config.hop_samples


def _is_whole(path: Path, index: Path, facts: dict[str, Any]) -> bool:
    """Whether the file was finished: its index is written last.

    Raises ValueError where its units are of another rate than the model's frames.
    """
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        rate = found.get("rate_hz", facts["rate_hz"])  # version 0.1 did not say
        is_whole = bool(found["bytes"] == facts["bytes"] == path.stat().st_size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if rate != facts["rate_hz"]:
        raise ValueError(
            f"{path} holds {rate} units a second, and the model has {facts['rate_hz']:g} frames a "
            "second: delete the file, so that the units are computed anew."
        )
    return is_whole
