"""Utterances that a run could not read: counted, named in ``faults.jsonl``, and limited."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from speechssl import distributed
from speechssl.data.dataset import Batch, Waves, check_faults
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.data.wave_cache import WaveCache
from speechssl.runlog import RunLog
from speechssl.training.resume import has_state
from speechssl.training.runfolder import VALID_SET

_SHOWN = 5
"""Faults that are told on the screen; the others are in the file."""


def open_waves(
    sets: Iterable[Sequence[Utterance]],
    run: Path,
    sample_rate: int,
    resume: bool,
    most_share: float,
    cache: bool = True,
) -> list[Waves]:
    """The sound of a run's sets, the last of which is what it validates on: ``valid.jsonl`` names
    that. A run that goes on uses what it began with, whatever has become of the recordings
    since. Caches in its folder that it does not use are told, with their size."""
    sets = list(sets)
    if distributed.rank() == 0:
        write_manifest(run / VALID_SET, sets[-1], relative=False)
    keep = resume and has_state(run)
    show = distributed.rank() == 0 and sys.stderr.isatty()
    opened = [
        Waves.open(
            utterances,
            run / "cache" if cache else None,
            sample_rate,
            show,
            keep=keep,
            max_fault_share=most_share,
        )
        for utterances in sets
    ]
    if distributed.rank() == 0:
        _tell_unused(run / "cache", opened)
    return opened


def _tell_unused(folder: Path, opened: Sequence[Waves]) -> None:
    """Caches of earlier data, or of the same before its folder was moved, are for the person to
    delete: a run may go back to them."""
    used = {waves.cache.path for waves in opened if isinstance(waves.cache, WaveCache)}
    unused = sorted(path for path in folder.glob("*.i16") if path not in used)
    if unused:
        print(
            f"{folder} holds {sum(path.stat().st_size for path in unused) / 1e9:.3g} GB of decoded "
            "sound of other data, or of the same in another place, which this run does not use; to "
            f"free it, delete {', '.join(path.name for path in unused)}.",
            file=sys.stderr,
            flush=True,
        )


class FaultTally:
    """What could not be read so far, by any process: the same in all of them."""

    def __init__(
        self, run: Path, log: RunLog, known: dict[str, str], num_utterances: int, most_share: float
    ) -> None:
        """`known`: id -> why, of the run's earlier sessions and of the cache."""
        self.found: dict[str, str] = {}
        self._log, self._path = log, run / "faults.jsonl"
        self._num_utterances, self._most_share = num_utterances, most_share
        if distributed.rank() == 0:
            self._path.unlink(missing_ok=True)
        self._add(known)

    def add(self, batches: Sequence[Batch], device: torch.device) -> int:
        """Note the faults of an update's batches in all processes; how many utterances were
        replaced.

        Raises FaultyDataError, in every process, where more than the allowed share of the
        utterances is faulty.
        """
        faults = [fault for batch in batches for fault in batch.faults]
        if distributed.all_reduce_max(len(faults), device):
            faults = [fault for part in distributed.gather(faults) for fault in part]
        self._add(dict(faults))
        check_faults(self.found, self._num_utterances, self._most_share)
        return len(faults)

    def _add(self, faults: dict[str, str]) -> None:
        fresh = {name: reason for name, reason in faults.items() if name not in self.found}
        if not fresh:
            return
        for name, reason in list(fresh.items())[: max(_SHOWN - len(self.found), 0)]:
            self._log.say(f"{name} is replaced by other utterances: {reason}")
        self.found |= fresh
        if distributed.rank() == 0:
            with self._path.open(
                "a", encoding="utf-8", errors="backslashreplace", newline="\n"
            ) as file:
                for name, reason in fresh.items():
                    file.write(json.dumps({"id": name, "reason": reason}, ensure_ascii=False))
                    file.write("\n")
