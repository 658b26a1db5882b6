"""A table (TSV, CSV, JSON lines) whose rows name recordings or parts of them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from speechssl.audio import AudioError, probe
from speechssl.data.layouts.columns import (
    PATH_COLUMNS,
    TEXT_COLUMNS,
    Columns,
    TimeColumn,
    TimeRole,
    find_columns,
    parse_time,
)
from speechssl.data.layouts.dialect import Table, read_cells
from speechssl.data.layouts.finder import Finder, slashes
from speechssl.data.layouts.join import content_of, lack_times
from speechssl.data.layouts.plain_text import Problems
from speechssl.data.layouts.recording import Recording, Split, nfc, split_name
from speechssl.data.layouts.unused import Account

AUDIO_FOLDERS = ("", "clips", "audio", "wav", "wavs")
"""Where the recordings of a table are looked for, from the folder of the table."""

WHOLE_S, WHOLE_SHARE = 0.25, 0.02
"""A duration without a start that differs no more from that of its file is that of the whole."""

MIN_SPAN_S = 0.1
"""Half of the parts in a table are longer, for words are."""

_PROBED = 40
"""So many files are looked at to find out the unit of times."""

LengthOf = Callable[[Path], float | None]
"""The seconds that a file holds; None where that cannot be known."""


@dataclass(slots=True)
class _Row:
    """A row whose times are still numbers of a unit."""

    line: int
    id: str
    audio: Path
    speaker: str | None
    text: str | None
    split: Split | None
    cells: dict[TimeRole, str]
    """The cells of times that are not empty, by role."""


def read_table(
    path: Path,
    *,
    split: Split | None = None,
    audio_folder: Path | None = None,
    more_folders: Sequence[Path] = (),
    needs_text: bool = False,
    account: Account | None = None,
) -> list[Recording]:
    """A table of any dialect (see :mod:`speechssl.data.layouts.dialect`).

    Columns by their usual names (:mod:`speechssl.data.layouts.columns`): a path is needed; text,
    speaker, id, split and times are taken where they are there. Times are seconds or milliseconds,
    by the column's name or, where that has no unit, by the length of the recordings. A relative
    path starts at `audio_folder`, by default the folder of the table or one of
    :data:`AUDIO_FOLDERS` in it, then in each of `more_folders`. `split` holds for rows that name
    none.

    Raises ValueError that names the file and all lines that are wrong; with `needs_text` also where
    there is no column of transcripts. What is not used of it goes to `account`.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no table {path}{_but(path)}.")
    finder = _finder(path, audio_folder, more_folders)
    table = read_cells(path, finder.has_recording)
    columns = _columns_of(table, needs_text)
    if account is not None:
        _note_columns(account, table, columns)
    rows = _rows(table, columns, finder, split)
    made = _with_times(table, columns, rows, _lengths(), account)
    if table.problems.found and (audio_folder or more_folders):  # without others the join says it
        _note_rows_without_times(made, table.problems)
    table.problems.raise_if_any()
    return made


def read_parts(table: Table, recording: Path) -> list[Recording]:
    """The rows of a table that names no recordings, as parts of one; ValueError as
    :func:`read_table`."""
    columns = _columns_of(table, needs_text=True, of_one=True)
    places = columns.places | {"path": None, "id": None}
    rows = _rows(
        table, replace(columns, places=places), Finder([recording.parent]), None, recording
    )
    made = _with_times(table, columns, rows, _lengths(), None)
    table.problems.raise_if_any()
    return made


def _but(path: Path) -> str:
    return ": that is a folder" if os.path.isdir(path) else ""


def first_files(path: Path, more_folders: Sequence[Path], num_rows: int = 20) -> list[Path]:
    """The files that the first rows of a table name."""
    finder = _finder(path, None, more_folders)
    table = read_cells(path, finder.has_recording)
    place = find_columns(table.names).places["path"]
    return (
        [finder.find(row[place]) for _, row in table.rows[:num_rows]] if place is not None else []
    )


def _finder(path: Path, audio_folder: Path | None, more_folders: Sequence[Path]) -> Finder:
    roots = [path.parent, *(folder for folder in more_folders if folder != path.parent)]
    around = [root / name for root in roots for name in AUDIO_FOLDERS]
    return Finder([audio_folder] if audio_folder else around)


def _columns_of(table: Table, needs_text: bool, *, of_one: bool = False) -> Columns:
    try:
        columns = find_columns(table.names)
    except ValueError as error:
        raise ValueError(f"{table.path} {error}.") from None
    found = ", ".join(name.strip().lower() for name in table.names if name) or "nothing"
    if columns.places["path"] is None and not of_one:
        table.problems.raise_if_any()
        raise ValueError(
            f"{table.path} has no column of paths: its header must hold one of "
            f"{', '.join(PATH_COLUMNS[:8])}; it holds {found}."
        )
    if needs_text and columns.places["text"] is None:
        raise ValueError(
            f"{table.path} has no column of transcripts: its header must hold one of "
            f"{', '.join(TEXT_COLUMNS[:8])}; it holds {found}."
        )
    return columns


def _note_columns(account: Account, table: Table, columns: Columns) -> None:
    place = columns.places["text"]
    if place is None:
        account.add(
            "tables without a column of transcripts",
            [str(table.path)],
            f"name one text, sentence or transcript; it has {', '.join(filter(None, table.names))}",
        )
    if columns.unused:
        used = [] if place is None else [f"the transcripts are those of {table.names[place]}"]
        used += [f"{role} is {column.name}" for role, (_, column) in columns.times.items()]
        account.add(
            f"columns of {account.name(str(table.path))}",
            columns.unused,
            ", ".join(used) or "rename them to text, start_s, end_s or duration_s if they are that",
        )


def _rows(
    table: Table,
    columns: Columns,
    finder: Finder,
    split: Split | None,
    recording: Path | None = None,
) -> list[_Row]:
    """The rows whose cells can be understood, apart from times; the others become problems. All are
    of `recording`, where it is given."""
    places, problems = columns.places, table.problems
    by_id = places["path"] == places["id"]
    if _has_other_subsets(table, places["split"]):
        places = places | {"split": None}
    splits: dict[str, Split | None] = {"": split}
    rows = []
    path, text, speaker, own_id, given_split = (
        places[role] for role in ("path", "text", "speaker", "id", "split")
    )
    times = [(role, place) for role, (place, _) in columns.times.items()]
    for line, row in table.rows:
        name = row[path] if path is not None else recording.name if recording else ""
        if not name:
            problems.add(line, "the path is empty")
            continue
        given = row[given_split] if given_split is not None else ""
        if given not in splits:
            splits[given] = split_name(given)
        if splits[given] is None and given:
            problems.add(line, f"split {given!r} is none of train, dev, test")
            continue
        identifier = row[own_id] if own_id is not None and not by_id else ""
        rows.append(
            _Row(
                line,
                nfc(identifier) if identifier else slashes(name),
                recording or finder.find(name),
                nfc(row[speaker]) or None if speaker is not None else None,
                row[text] if text is not None else None,
                splits[given],
                {role: row[place] for role, place in times if row[place]},
            )
        )
    return rows


def _has_other_subsets(table: Table, place: int | None) -> bool:
    """Whether a column such as `subset`, which need not be the split, holds anything else."""
    if place is None or table.header[place] == "split":
        return False
    return not all(split_name(name) for name in {row[place] for _, row in table.rows} - {""})


def _note_rows_without_times(rows: Sequence[Recording], problems: Problems) -> None:
    """Several rows of a file that have not each a time of their own, beside the other problems."""
    by_file: dict[Path, dict[tuple[object, ...], Recording]] = {}
    for row in rows:
        by_file.setdefault(row.audio, {}).setdefault(content_of(row), row)
    for path, own in by_file.items():
        first, *others = own.values()
        if others and lack_times(list(own.values())):
            for row in others:
                problems.add(
                    row.line or 0,
                    f"another row for {path.name}, as in line {first.line}; each needs a start_s "
                    "and duration_s of its own",
                )


# ---- times --------------------------------------------------------------------------------------


def _lengths() -> LengthOf:
    """Seconds of a recording by its header, each looked at once."""
    known: dict[Path, float | None] = {}

    def length(path: Path) -> float | None:
        if path not in known:
            try:
                known[path] = probe(path).duration_s
            except (AudioError, OSError):  # `prepare` names it
                known[path] = None
        return known[path]

    return length


def _with_times(
    table: Table,
    columns: Columns,
    rows: Sequence[_Row],
    length: LengthOf,
    account: Account | None,
) -> list[Recording]:
    times = {role: column for role, (_, column) in columns.times.items()}
    made = []
    units = {role: column.unit_s for role, column in times.items()}
    whole_files = "start" not in times and "end" not in times
    if None in units.values():
        try:
            units = _units(table, times, rows, length)
        except ValueError:
            if not whole_files:
                raise
            for row in rows:  # it may count anything, and no text depends on it
                row.cells.clear()
            if account is not None:
                account.add(
                    f"columns of {account.name(str(table.path))}",
                    [column.name for column in times.values()],
                    "they are not the lengths of the recordings, in seconds or milliseconds",
                )
    for row in rows:
        start_s, duration_s = 0.0, None
        if row.cells:
            seconds = _seconds_of(row, times, units, table.problems)
            if seconds is None:
                continue
            start_s, duration_s = seconds
            if whole_files and duration_s is not None:
                duration_s = _part_of(duration_s, length(row.audio))
        part = (start_s, duration_s, row.speaker, row.text, row.split, row.line)
        made.append(Recording(row.id, row.audio, *part))
    return made


def _seconds_of(
    row: _Row,
    times: Mapping[TimeRole, TimeColumn],
    units: Mapping[TimeRole, float | None],
    problems: Problems,
) -> tuple[float, float | None] | None:
    """``(start_s, duration_s)``; None, and a problem, where the cells make no sense."""
    found: dict[TimeRole, float] = {}
    for role, cell in row.cells.items():
        unit_s = units[role] or 1.0
        seconds = parse_time(cell, unit_s)
        if seconds is None:
            unit = "seconds" if unit_s == 1 else "milliseconds"
            problems.add(row.line, f"{times[role].name} is {cell!r}, not a number of {unit}")
            return None
        found[role] = seconds
    start_s, end_s, duration_s = (found.get(role) for role in ("start", "end", "duration"))
    if end_s is None:
        return start_s or 0.0, duration_s
    if start_s is None:
        if duration_s is None:
            problems.add(row.line, f"it has an end ({row.cells['end']}) and no start")
            return None
        start_s = round(end_s - duration_s, 6)
    if not 0 <= start_s < end_s:
        problems.add(row.line, f"it ends at {end_s:g} s and starts at {start_s:g} s")
        return None
    if duration_s is not None and abs(end_s - start_s - duration_s) > 0.05 + 0.01 * duration_s:
        problems.add(
            row.line,
            f"start and end are {end_s - start_s:g} s apart, but its duration is {duration_s:g} s",
        )
        return None
    return start_s, round(end_s - start_s, 6)


def _part_of(duration_s: float, length_s: float | None) -> float | None:
    """A duration without a start: None, the whole, where it is that of the file."""
    if length_s is not None and abs(duration_s - length_s) <= WHOLE_S + WHOLE_SHARE * length_s:
        return None
    return duration_s


def _units(
    table: Table, times: Mapping[TimeRole, TimeColumn], rows: Sequence[_Row], length: LengthOf
) -> dict[TimeRole, float | None]:
    """The units of all columns of times, where the names of some leave them open: seconds if the
    times lie within their recordings, milliseconds if only those do.

    Raises ValueError where neither fits.
    """
    open_roles = [role for role, column in times.items() if column.unit_s is None]
    largest: dict[Path, float] = {}  # in the unit that is sought
    spans = []
    for row in rows:
        values = {role: _number(row.cells.get(role, "")) for role in open_roles}
        start, end, span = (values.get(role) for role in ("start", "end", "duration"))
        known = [value for value in values.values() if value is not None]
        if known:
            largest[row.audio] = max(largest.get(row.audio, 0.0), *known)
        if span is not None or (start is not None and end is not None):
            spans.append(span if span is not None else end - start)  # type: ignore[operator]
    tried = [
        (value, length_s, path)
        for path, value in sorted(largest.items(), key=lambda item: -item[1])[:_PROBED]
        if (length_s := length(path)) is not None
    ]
    for unit_s in (1.0, 0.001):
        fit = [v * unit_s <= s + WHOLE_S + WHOLE_SHARE * s for v, s, _ in tried]
        of_words = unit_s == 1.0 or not spans or median(spans) * unit_s >= MIN_SPAN_S
        if of_words and sum(fit) * 2 >= len(fit) and (unit_s == 1.0 or all(fit)):
            return {role: column.unit_s or unit_s for role, column in times.items()}
    value, length_s, path = tried[0]
    names = ", ".join(times[role].name for role in open_roles)
    raise ValueError(
        f"{table.path} has times ({names}) that are neither seconds nor milliseconds: "
        f"{path.name} has one of {value:g} and is {length_s:.3f} s long; give seconds, in columns "
        "named start_s, end_s or duration_s."
    )


def _number(cell: str) -> float | None:
    """The value of a cell that has no unit and is no time of a clock."""
    value = parse_time(cell, 1.0)
    return None if ":" in cell or cell.rstrip().endswith("s") else value
