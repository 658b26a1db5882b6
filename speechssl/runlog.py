"""What a run says while it works: metrics.jsonl, a progress bar, lines for the person."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm


class RunLog:
    """Appends to ``metrics.jsonl``, one object a line, and draws the progress bar on stderr."""

    def __init__(self, folder: Path, *, resume_step: int = 0, quiet: bool = False) -> None:
        """Open `folder`'s metrics; lines of steps after `resume_step` are cut off, as they will be
        made again. `quiet` writes nothing anywhere: for all processes but the first."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        if not quiet and self.path.exists():
            os.truncate(self.path, _size_until(self.path, resume_step))  # one call: all or nothing
        target = Path(os.devnull) if quiet else self.path
        self._file = target.open("a", encoding="utf-8", newline="\n")
        self._bar = tqdm(
            disable=quiet or not sys.stderr.isatty(),
            unit="step",
            file=sys.stderr,
            dynamic_ncols=True,
        )
        self._quiet = quiet

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._file.close()

    def metrics(self, step: int, time_s: float, values: dict[str, float]) -> None:
        """Write one line: the step, the run's seconds, and slash names."""
        self._write({"step": step, "time_s": round(time_s, 3), **values})

    def counts(self, step: int, time_s: float, values: dict[str, list[int]]) -> None:
        """Write one line of lists: how often each of several things was seen."""
        self._write({"step": step, "time_s": round(time_s, 3), **values})

    def progress(self, step: int, max_steps: int, shown: dict[str, str]) -> None:
        """Move the bar."""
        self._bar.total = max_steps
        self._bar.n = step
        self._bar.set_postfix(shown, refresh=False)
        self._bar.refresh()

    def say(self, line: str) -> None:
        """A line for the person, above the bar."""
        if not self._quiet:
            self._bar.write(line, file=sys.stderr)
            sys.stderr.flush()

    def sync(self) -> None:
        """Wait until all lines are on the disk, before a state that counts on them."""
        if not self._quiet:
            os.fsync(self._file.fileno())

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()


def _size_until(path: Path, step: int) -> int:
    """Bytes of the whole lines up to `step`; ValueError as of :func:`check_record`."""
    size = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):  # cut off by a kill
                break
            if not isinstance(record, dict) or "step" not in record or not line.endswith(b"\n"):
                break
            check_record(record, path, number)  # what follows an edited line is not thrown away
            if record["step"] > step:
                break
            size += len(line)
    return size


def check_record(record: Mapping[str, Any], path: Path, number: int) -> None:
    """ValueError, with the file and the line, where the step of a record is no whole number or its
    time no number: somebody has edited it."""
    for name, kinds, wanted in (
        ("step", int, "a whole number"),
        ("time_s", (int, float), "a number of seconds"),
    ):
        value = record.get(name, 0)
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(
                f"{path}, line {number}: {name} is {json.dumps(value)[:40]}, not {wanted}; restore "
                "the line from a copy, or delete it."
            )


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The records of a run folder's metrics.jsonl, up to a line that a kill cut off."""
    path = Path(folder) / "metrics.jsonl"
    records = []
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(record, dict):
                break
            records.append(record)
    return records


def check_metrics(folder: str | Path) -> None:
    """ValueError naming the line of a run folder's metrics.jsonl where a value is neither a number
    nor a list of counts, and what was found."""
    for number, record in enumerate(read_metrics(folder), 1):
        for name, value in record.items():
            _check_value(name, value, f"{Path(folder) / 'metrics.jsonl'}, line {number}")


def _check_value(name: str, value: Any, where: str) -> None:
    """ValueError unless it is what a run logs."""
    if isinstance(value, list) and name not in ("step", "time_s"):
        wrong = [item for item in value if not _is_number(item)]
    else:
        wrong = [] if _is_number(value) else [value]
    if wrong:
        found = json.dumps(wrong[0], ensure_ascii=False)
        raise ValueError(
            f"{where}: {name!r} must be a number, got {found[:60]}: a run writes only numbers. "
            "Correct or delete this line."
        )


def _is_number(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 1000  # a float holds it
    return isinstance(value, float)
