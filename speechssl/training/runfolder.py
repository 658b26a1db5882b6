"""What lies in a run's folder: its lock, its config, its last hypotheses."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from speechssl import distributed
from speechssl.files import writing
from speechssl.scoring.wer import EvalResult
from speechssl.system import try_lock

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
    BusyRunError, in every process of a job, with the process that has it, where the folder is not
    free after ten seconds.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / _LOCK).open("a+", encoding="utf-8", newline="\n") as file:
        holder = distributed.broadcast(lambda: _take(file, time.monotonic() + _WAIT_S))
        if holder is not None:
            raise BusyRunError(
                f"Another command is at work in {run}: {holder}. Wait for its end or stop it, or "
                "give another --out."
            )
        yield


def _take(file: TextIO, deadline: float) -> str | None:
    """Lock an open file and note in it who has it; who else has it at the deadline."""
    while not try_lock(file.fileno()):
        if time.monotonic() > deadline:
            file.seek(0)
            return file.readline().strip() or "its process is not known"
        time.sleep(0.1)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {time.ctime()}\n")
    file.flush()
    return None


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
