"""What lies in a run's folder: its lock, its config, its last hypotheses."""

import errno
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speechssl import distributed
from speechssl.files import writing
from speechssl.scoring.wer import EvalResult

VALID_SET = "valid.jsonl"
"""Manifest, in the run folder, of what the run validates on."""
HYPOTHESES = "hypotheses.jsonl"
"""In the model folder: ``{"id", "reference", "hypothesis"}`` of each utterance, a line."""

_LOCK = ".lock"
_WAIT_S = 10.0
"""For a command that was told to stop and is still saving."""


class BusyRunError(RuntimeError):
    """Another command is at work in the run's folder."""


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Keep other commands out of a run's folder, in which both would write the same files.

    The lock of a killed process is gone, also where processes that it forked live on. Raises
    BusyRunError, in every process of a job, where the folder is not free after ten seconds.
    """
    if sys.platform == "win32":
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run / _LOCK).open("a") as file:
        if not distributed.broadcast(lambda: _take(file.fileno(), time.monotonic() + _WAIT_S)):
            raise BusyRunError(
                f"Another command is at work in {run}: wait for its end or stop it, or give "
                "another --out."
            )
        yield


def _take(number: int, deadline: float) -> bool:
    """Lock an open file; False where another process still has it at the deadline."""
    import fcntl

    while True:
        try:
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return True  # a disk that knows no locks
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Write `run/config.json`."""
    with writing(run / "config.json") as file:
        file.write(json.dumps(config, indent=2) + "\n")


def write_hypotheses(model: Path, result: EvalResult) -> None:
    """Write what a model wrote in its validation to ``hypotheses.jsonl`` in its folder."""
    lines = (
        {"id": u.id, "reference": u.reference, "hypothesis": u.hypothesis}
        for u in result.utterances
    )
    with writing(model / HYPOTHESES) as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
