"""A fine-tuning on what was checked, as a command of its own beside the service.

Where the model's run has a validation set, that is the measure, and what it holds of the desk is
not learned from. Else the labels are parted once and for all: each goes by its own id to those that
are learned from or to those that are held out, so that later runs are compared on the same.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.desk.held_out import HeldOut, known_sets
from speechssl.desk.labels import to_manifest
from speechssl.service.desk_index import MODELS
from speechssl.system import ask_to_end, own_group

HELD_OUT = 6
"""One label of so many is held out."""
MIN_LABELS = 12
MIN_SECONDS = 20.0
LINES = 40
"""Of what the command says, the last ones are kept."""


@dataclass(frozen=True)
class Progress:
    """Where a fine-tuning is."""

    state: str = "none"
    """none, running, stopping, done, stopped or failed."""
    number: int = 0
    minutes: float = 0.0
    labels: int = 0
    """That are learned from."""
    held_out: int = 0
    """That it is measured by."""
    seconds: float = 0.0
    """Of speech that is learned from."""
    step: int = 0
    time_s: float = 0.0
    loss: float | None = None
    wer: float | None = None
    """Of the last validation, as fractions."""
    cer: float | None = None
    said: tuple[str, ...] = ()
    """The last lines of the command."""
    model: str = ""
    """Of what was learned, when it is done."""


class TooFewLabels(ValueError):
    """There is not enough to learn from yet; one sentence says what is missing."""


def part_labels(
    labels: Sequence[Utterance], model: str = ""
) -> tuple[list[Utterance], list[Utterance]]:
    """(to learn from, held out), the same for the same ids; TooFewLabels where one is too small.

    `model`: the one to learn on with, whose own validation set is taken where there is one.
    """
    known, _ = known_sets(model)
    if known:
        held_out = HeldOut(known)
        held = read_manifest(known[0])
        train = [label for label in labels if not _is_held(held_out, label)]
    else:
        held = [label for label in labels if _hash(label.id) % HELD_OUT == 0]
        train = [label for label in labels if _hash(label.id) % HELD_OUT]
    seconds = sum(label.duration_s for label in train)
    if len(labels) < MIN_LABELS or seconds < MIN_SECONDS or not held:
        raise TooFewLabels(
            f"{len(labels)} segments of {sum(label.duration_s for label in labels):.0f} s are "
            f"checked, and {seconds:.0f} s of them can be learned from: check at least "
            f"{max(MIN_LABELS, len(labels) + 1)} segments and {MIN_SECONDS:.0f} s."
        )
    return train, held


def _is_held(held_out: HeldOut, label: Utterance) -> bool:
    end_s = label.start_s + (label.duration_s or 0.0)
    return bool(held_out.part(held_out.files_of(label.audio), label.start_s, end_s))


def _hash(text: str) -> int:
    return int(sha256(text.encode()).hexdigest(), 16)


class Learning:
    """The one fine-tuning of a desk that runs at a time."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._run: Path | None = None
        self._progress = Progress()
        self._said: list[str] = []
        self._stopping = False

    def start(self, minutes: float) -> Progress:
        """Begin one of so many minutes; ValueError where one runs, or there is too little to learn
        from."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                raise ValueError("A fine-tuning runs already: wait for it, or stop it.")
            labels = to_manifest(self.folder)
            train, held = part_labels(labels, self.model)
            number = 1
            while (run := self.folder / MODELS / str(number)).exists():
                number += 1
            run.mkdir(parents=True)
            write_manifest(run / "train.jsonl", train)
            write_manifest(run / "valid.jsonl", held)
            self._run, self._said, self._stopping = run, [], False
            self._process = subprocess.Popen(
                self._command(run, minutes),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                **own_group(),
            )
            seconds = round(sum(label.duration_s for label in train), 1)
            self._progress = Progress("running", number, minutes, len(train), len(held), seconds)
            threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
            return self._progress

    def _command(self, run: Path, minutes: float) -> list[str]:
        options = ["--init", self.model, "--train", str(run / "train.jsonl")]
        options += ["--valid", str(run / "valid.jsonl"), "--out", str(run / "run")]
        options += ["--budget-minutes", str(minutes)]
        return [sys.executable, "-m", "speechssl", "finetune", *options]

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if line.strip():
                    self._said = [*self._said, line.rstrip()][-LINES:]
        process.wait()

    def stop(self) -> None:
        """Ask a running one to save and end; does nothing where none runs."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._stopping = True
                ask_to_end(self._process)

    def close(self) -> None:
        """With the service: end it, which saves its state."""
        self.stop()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=20)

    def progress(self) -> Progress:
        """Where it is now."""
        process, run = self._process, self._run
        if process is None or run is None:
            return self._progress
        code = process.poll()
        best = run / "run" / "best"
        state = "stopping" if self._stopping else "running"
        if code is not None:
            state = "stopped" if self._stopping else "failed" if code else "done"
        fields: dict[str, Any] = asdict(self._progress) | _metrics(run / "run" / "metrics.jsonl")
        is_model = code is not None and (best / "config.json").exists()
        return Progress(
            **fields | {"state": state, "said": tuple(self._said), "model": str(best) * is_model}
        )


def _metrics(path: Path) -> dict[str, Any]:
    """The last values of a run's metrics."""
    found: dict[str, Any] = {}
    names = {"loss/ctc": "loss", "valid/wer": "wer", "valid/cer": "cer"}
    with contextlib.suppress(OSError):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            lines = file.read().decode(errors="replace").splitlines()
        for line in lines:
            with contextlib.suppress(ValueError):  # one that is being written, or was cut
                row = json.loads(line)
                found |= {key: row[key] for key in ("step", "time_s")}
                found |= {ours: row[name] for name, ours in names.items() if name in row}
    return found
