"""What to correct first: ``queue.jsonl`` in a desk, the first line before the others.

A line names the file of corrections and the segment in it, where hypothesis, words and text are; it
repeats what a list shows of it.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from speechssl.data.manifest import relative_path
from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, Corrections
from speechssl.files import writing

QUEUE = "queue.jsonl"
LIST = "queue.txt"
"""The same for a person to read."""


@dataclass(frozen=True)
class QueueItem:
    """A stretch of a recording to correct."""

    corrections: str
    """The name of its file of corrections, in the folder of the queue."""
    segment: str
    """Its id there."""
    audio: Path
    """Absolute after :func:`read_queue`; in the file relative to its folder."""
    start_s: float
    end_s: float
    hypothesis: str
    confidence: float
    speaker: str = ""
    score: float = 0.0
    """By which it was chosen, more is better; of one queue only."""
    reason: str = ""
    """Why it is here, for a person."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


def write_queue(folder: Path, items: Sequence[QueueItem]) -> None:
    """Write ``queue.jsonl`` and ``queue.txt`` into a folder, in the order of the items."""
    root = os.path.abspath(folder)
    with writing(folder / QUEUE) as file:
        for item in items:
            row = asdict(item) | {"audio": relative_path(item.audio, root)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    with writing(folder / LIST) as file:
        file.write(listing(items))


def read_queue(folder: Path) -> list[QueueItem]:
    """The items of a folder's queue in their order; none where there is no queue.

    Raises ValueError, naming the line, where one is broken.
    """
    path = folder / QUEUE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text.") from error
    return [_item(line, f"{path}, line {n}", folder) for n, line in enumerate(lines, 1) if line]


def _item(line: str, where: str, folder: Path) -> QueueItem:
    try:
        row: dict[str, Any] = json.loads(line)
        item = QueueItem(**row)
        audio = os.path.normpath(os.path.join(os.path.abspath(folder), item.audio))
        numbers = (item.start_s, item.end_s, item.confidence, item.score)
        texts = (item.corrections, item.segment, item.hypothesis, item.speaker, item.reason)
        is_right = all(isinstance(n, int | float) for n in numbers) and all(
            isinstance(text, str) for text in texts
        )
    except (ValueError, TypeError, RecursionError):
        is_right = False
    if not is_right:
        raise ValueError(f"{where} is no line of a queue: let `speechssl next` write it anew.")
    return replace(item, audio=Path(audio))


def open_items(folder: Path, items: Iterable[QueueItem] | None = None) -> list[QueueItem]:
    """Those of the queue that nobody has checked yet; an item whose segment was split or removed
    is done."""
    found: dict[str, dict[str, CorrectedSegment]] = {}
    left = []
    for item in read_queue(folder) if items is None else items:
        if item.corrections not in found:
            found[item.corrections] = _segments(folder / item.corrections)
        segment = found[item.corrections].get(item.segment)
        if segment is not None and not segment.checked:
            left.append(item)
    return left


def _segments(path: Path) -> dict[str, CorrectedSegment]:
    try:
        made: Corrections = corrections.read(path)
    except FileNotFoundError:
        return {}
    return {segment.id: segment for segment in made.segments}


def listing(items: Sequence[QueueItem]) -> str:
    """A queue for a person: where each stretch is, how sure the model is, and what it gave."""
    lines = []
    for place, item in enumerate(items, 1):
        who = f", {item.speaker}" if item.speaker else ""
        times = f"{clock(item.start_s)}-{clock(item.end_s)}"
        lines.append(
            f"{place:>4}. {item.audio.name} {times}{who}: confidence "
            f"{100 * item.confidence:.0f} % ({item.reason})"
        )
        lines.append(f"      {item.hypothesis or '(no word)'}")
    return "".join(f"{line}\n" for line in lines)


def clock(seconds: float) -> str:
    """``0:01:02.3``."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes // 60}:{minutes % 60:02}:{rest // 10:02}.{rest % 10}"
