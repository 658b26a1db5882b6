"""Joins the rows of a table to the recordings of a folder."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from speechssl.audio import AudioError, probe
from speechssl.data.layouts.plain_text import MOST_LISTED
from speechssl.data.layouts.recording import Recording, nfc

MIN_REST_S = 0.5
"""What the rows of a table leave of a recording is taken from this length on."""


def join_table(
    recordings: Iterable[Recording],
    rows: Iterable[Recording],
    *,
    own_ids: bool = False,
    all_timed: bool = False,
) -> tuple[list[Recording], list[Recording]]:
    """``(recordings with what the rows of a table give for them, rows of other files)``.

    A recording that no row names stays as it is. What a row leaves open (speaker, split, text of
    the whole) stays as well. Several rows of a file are parts of it, a Recording each; what lies
    before, between and after them is there too, without a transcript, from :data:`MIN_REST_S` on.

    A recording keeps its id, whatever form its path has in the table, and a part of `x` that starts
    at 2 s is `x@2.000`, so that an id does not change with other rows. `own_ids`: the rows' ids are
    kept. `all_timed`: each row has its time, and rows of several speakers may have the same.

    Equal rows are one. Where several have only a start_s, each ends where the next one begins.

    Raises ValueError that names each file with several rows that have not each a time of their own.
    """
    recordings, real = list(recordings), resolver()
    places = [real(recording.audio) for recording in recordings]
    by_path: dict[str, dict[tuple[object, ...], Recording]] = {}
    for row in rows:
        by_path.setdefault(real(row.audio), {}).setdefault(content_of(row), row)
    _rename(by_path, places)
    parts_of = {path: list(parts.values()) for path, parts in by_path.items()}
    if not all_timed:
        parts_of = _all_timed(parts_of)
    joined = []
    for recording, place in zip(recordings, places, strict=True):
        parts = parts_of.pop(place, [])
        described = [_joined(recording, row, own_ids) for row in parts]
        described += _rests(recording, described)
        joined += sorted(described, key=lambda part: part.start_s) or [recording]
    return joined, [row for parts in parts_of.values() for row in parts]


def content_of(row: Recording) -> tuple[object, ...]:
    """What makes two rows of a file equal."""
    return (row.start_s, row.duration_s, row.speaker, row.text, row.split)


def resolver() -> Callable[[str | Path], str]:
    """What turns a path into the one by which its file is known, links followed."""
    folder = lru_cache(maxsize=None)(os.path.realpath)

    def real(path: str | Path) -> str:
        text = str(path)
        parent, name = os.path.split(text)
        if name in ("", ".", "..") or "\0" in text or os.path.islink(text):
            return text if "\0" in text else os.path.realpath(text)
        return os.path.join(folder(parent), name)

    return real


def _rename(by_path: dict[str, dict[tuple[object, ...], Recording]], places: Sequence[str]) -> None:
    """Give rows whose path is that of a recording in another Unicode form the recording's own, as
    some disks open a file under either."""
    known = set(places)
    others = [path for path in by_path if path not in known and not path.isascii()]
    forms = {nfc(place): place for place in places if not place.isascii()} if others else {}
    for path in others:
        place = forms.get(nfc(path))
        if place is not None and place not in by_path:
            by_path[place] = by_path.pop(path)


def _all_timed(by_path: dict[str, list[Recording]]) -> dict[str, list[Recording]]:
    """The rows of each file with their times; ValueError that names all files without."""
    timed, errors = {}, []
    for path, rows in by_path.items():
        try:
            timed[path] = _timed(Path(path), rows)
        except ValueError as error:
            errors.append(str(error))
    if len(errors) > 1:
        more = len(errors) - MOST_LISTED
        errors[MOST_LISTED:] = [f"... and {more} more files."] if more > 0 else []
    if errors:
        raise ValueError("\n".join(errors))
    return timed


def lack_times(rows: Sequence[Recording]) -> bool:
    """Whether rows of one file, no two of them equal, have not each a time of their own."""
    times = {(row.start_s, row.duration_s) for row in rows}
    starts_only = all(row.duration_s is None for row in rows)
    return len(times) < len(rows) or (len(rows) > 1 and (0.0, None) in times and not starts_only)


def _timed(path: Path, rows: list[Recording]) -> list[Recording]:
    """The rows of one file, each with its time."""
    starts_only = all(row.duration_s is None for row in rows)
    if lack_times(rows):
        lines = ", ".join(str(row.line) for row in rows if row.line)
        raise ValueError(
            f"The table has {len(rows)} rows for {path}; each needs a start_s and duration_s "
            f"of its own, or only one of them may stay{lines and f' (lines {lines})'}."
        )
    return with_ends(rows) if starts_only else rows


def with_ends(rows: Sequence[Recording]) -> list[Recording]:
    """Rows of one file; where none has a duration, each ends where the next one begins."""
    if any(row.duration_s is not None for row in rows):
        return list(rows)
    rows = sorted(rows, key=lambda row: row.start_s)
    ends = [round(after.start_s - row.start_s, 6) for row, after in pairwise(rows)]
    return [replace(r, duration_s=d) for r, d in zip(rows, [*ends, None], strict=True)]


def _joined(recording: Recording, row: Recording, own_id: bool) -> Recording:
    whole = row.is_whole
    text = recording.text if recording.text is not None else row.text  # of the whole
    identifier = recording.id if whole else _part_id(recording, row.start_s)
    return replace(
        row,
        id=row.id if own_id else identifier,
        audio=recording.audio,
        speaker=row.speaker or recording.speaker,
        text=(row.text or text) if whole else row.text,
        split=row.split or recording.split,
    )


def _rests(recording: Recording, parts: list[Recording]) -> list[Recording]:
    """What `parts`, which may overlap, leave of a recording; the last rest goes to its end. Speaker
    and split are those that all parts have, else the folder's speaker and no split.

    Nothing where the header cannot be read: no part can be read then, and `prepare` names the file.
    """
    if not parts or any(part.is_whole for part in parts):
        return []
    try:
        end_s = probe(recording.audio).duration_s
    except (AudioError, OSError):
        return []
    speakers, splits = {part.speaker for part in parts}, {part.split for part in parts}
    speaker = speakers.pop() if len(speakers) == 1 else recording.speaker
    split = splits.pop() if len(splits) == 1 else None
    edges = sorted((p.start_s, math.inf if p.duration_s is None else p.duration_s) for p in parts)
    rests, covered_s = [], 0.0
    for start_s, duration_s in [*edges, (end_s, 0.0)]:
        rest_s = round(min(start_s, end_s) - covered_s, 6)
        if rest_s >= MIN_REST_S:
            rests.append(
                Recording(
                    _part_id(recording, covered_s),
                    recording.audio,
                    covered_s,
                    rest_s if start_s < end_s else None,
                    speaker,
                    None,
                    split,
                )
            )
        covered_s = max(covered_s, round(start_s + duration_s, 6))
    return rests


def _part_id(recording: Recording, start_s: float) -> str:
    return f"{recording.id}@{start_s:.3f}"
