"""Tables as programs write them: delimiters, quotes, headers and encodings of many kinds.

Understood are tabs, commas, semicolons and bars; quotes of RFC 4180, in tables of tabs only where a
program put them; Excel's ``sep=;`` and rows of empty cells; R's row names, quoted header and NA;
JSON lines and arrays; and tables without a header whose first cell names a recording.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechssl.data.layouts.columns import (
    ID_COLUMNS,
    PATH_COLUMNS,
    TEXT_COLUMNS,
    column_name,
)
from speechssl.data.layouts.plain_text import Problems, are_transcripts
from speechssl.data.layouts.recording import AUDIO_SUFFIXES
from speechssl.text.encodings import decode, peek

CELL_SUFFIXES = (".tsv", ".csv", ".psv", ".tab")
JSON_SUFFIXES = (".jsonl", ".json")
TABLE_SUFFIXES = (*CELL_SUFFIXES, *JSON_SUFFIXES)

_DELIMITERS = "\t,;|"
_SEP_LINE = re.compile(r'"?sep=(.)"?[\t,;|]*', re.IGNORECASE)


@dataclass
class Table:
    """The cells of a table; `problems` are its broken rows, which `rows` leaves out."""

    path: Path
    names: list[str]
    """The header, as written; "" for a column without a name."""
    rows: list[tuple[int, list[str]]]
    """(line, cells without white space at their ends), as many cells as names."""
    problems: Problems

    @property
    def header(self) -> list[str]:
        """The names as they are compared."""
        return [column_name(name) for name in self.names]


def names_paths(names: Sequence[str]) -> bool:
    """Whether a header has a column that names recordings."""
    header = {column_name(name) for name in names}
    return bool(header & set(PATH_COLUMNS)) or bool(
        header & set(ID_COLUMNS) and header & set(TEXT_COLUMNS)
    )


def read_cells(path: Path, is_recording: Callable[[str], bool]) -> Table:
    """A table of any dialect. `is_recording` is whether a cell names a recording that is there,
    by which a table without a header is known. Raises ValueError where it is no text."""
    text = decode(path.read_bytes(), path)
    if path.suffix.lower() in JSON_SUFFIXES or text.lstrip()[:1] == "{":
        return _read_json(path, text)
    lines = text.split("\n")
    first, delimiter = _begin(lines, path.suffix.lower(), is_recording)
    problems = Problems(path)
    quoted, by_r = _quoting(lines, first, delimiter, path.suffix.lower())
    if by_r:
        lines = _as_others_write(lines, delimiter)
    if quoted:
        rows = list(_quoted_rows(lines, first, delimiter, problems))
    else:
        rows = [(n + 1, lines[n].split(delimiter)) for n in range(first, len(lines)) if lines[n]]
    cells = [(line, [cell.strip() for cell in row]) for line, row in rows]
    cells = [(line, row) for line, row in cells if any(row)]
    if not cells:
        return Table(path, [], [], problems)
    names = cells[0][1]
    if not names_paths(names) and (made := _headless(names, cells, delimiter, is_recording)):
        return Table(path, made, _whole_rows(made, cells, problems), problems)
    while len(names) > 1 and not names[-1]:  # Excel's empty columns
        names.pop()
    if _has_row_names(names, cells[1:], by_r):
        names = ["", *names]
    return Table(path, names, _whole_rows(names, cells[1:], problems), problems)


def read_names(path: Path) -> list[str]:
    """The cells of a table's first line, or the fields of its first JSON object; quick, and empty
    for what is no table."""
    text = peek(path)
    if path.suffix.lower() in JSON_SUFFIXES:
        return _json_names(text)
    lines = text.split("\n")
    first, delimiter = _begin(lines, path.suffix.lower())
    return [name.strip().strip('"') for name in lines[first].split(delimiter)]


def is_headless(path: Path, is_recording: Callable[[str], bool]) -> bool:
    """Whether a table has no header, its first cell names a recording, and transcripts follow."""
    lines = peek(path).split("\n")
    first, delimiter = _begin(lines, path.suffix.lower(), is_recording)
    cells = [(0, [cell.strip() for cell in line.split(delimiter)]) for line in lines[first:]]
    names = cells[0][1]
    if names_paths(names) or not _headless(names, cells, delimiter, is_recording):
        return False
    return are_transcripts(path, [row[-1] for _, row in cells if len(row) == len(names)])


def _begin(
    lines: Sequence[str], suffix: str, is_recording: Callable[[str], bool] | None = None
) -> tuple[int, str]:
    """``(place of the first line that is not empty, delimiter)``; the last line where all are."""
    first, wanted = 0, ""
    for first, line in enumerate(lines):  # noqa: B007
        if match := _SEP_LINE.fullmatch(line.strip(" ")):
            wanted = match.group(1)
        elif line.strip(' \t,;|"'):
            break
    if re.fullmatch(r'"[^"]*"( "[^"]*")+', lines[first]):
        wanted = wanted or " "  # R's write.table
    if wanted:
        return first, wanted
    preferred = "\t" if suffix in (".tsv", ".tab") else ""

    def rank(delimiter: str) -> tuple[bool, bool, bool, int]:
        names = [name.strip().strip('"') for name in lines[first].split(delimiter)]
        is_row = is_recording is not None and len(names) > 1 and is_recording(names[0])
        return names_paths(names), is_row, delimiter == preferred, len(names)

    return first, max(_DELIMITERS, key=rank)


# ---- quotes -------------------------------------------------------------------------------------


def _quoting(lines: Sequence[str], first: int, delimiter: str, suffix: str) -> tuple[bool, bool]:
    """``(whether cells are quoted, whether the header is, as R writes it)``."""
    if first >= len(lines) or not any('"' in line for line in lines):
        return False, False
    header = [cell.strip() for cell in lines[first].split(delimiter)]
    if all(re.fullmatch(r'"[^"]*"', cell) for cell in header):
        return True, True
    if delimiter in ",;" or (suffix == ".csv" and delimiter == "\t"):
        return True, False
    return delimiter == "\t" and _is_quoted_by_program("\n".join(lines[first:])), False


def _as_others_write(lines: Sequence[str], delimiter: str) -> list[str]:
    """Lines of R, without its NA for nothing and its backslash before a quote in a cell."""
    nothing = re.compile(rf"(?<![^{delimiter}])NA(?![^{delimiter}])")
    escaped = re.compile(rf'\\"(?!{re.escape(delimiter)}"|$)')
    return [
        escaped.sub('""', nothing.sub("", line)) if "NA" in line or "\\" in line else line
        for line in lines
    ]


def _is_quoted_by_program(text: str) -> bool:
    """Whether the quotes in a table of tabs are those of a program: each cell with a quote in it
    is quoted as a whole, and some have doubled quotes, several lines or the name of a recording, or
    are just those with a comma, as Excel has it. Else they are part of the transcript."""
    cell = r'(?:"(?:[^"\t]|"")*+"|[^"\t\n]*+)'
    if not re.fullmatch(rf"{cell}(?:[\t\n]{cell})*+", text):
        return False
    quoted = re.findall(r'(?:^|[\t\n])"((?:[^"\t]|"")*+)"', text)
    sounds = tuple(AUDIO_SUFFIXES)
    if any('""' in q or "\n" in q or q.lower().endswith(sounds) for q in quoted):
        return True
    bare = re.sub(r'"[^"\t]*"', "", text)
    return bool(quoted) and "," not in bare and all("," in inner for inner in quoted)


def _quoted_rows(
    lines: Sequence[str], first: int, delimiter: str, problems: Problems
) -> Iterator[tuple[int, list[str]]]:
    """``(line, cells)``; a row that is broken is noted, and the next line is tried."""
    at = first
    while at < len(lines) and not problems.full:
        rest = (f"{lines[n]}\n" for n in range(at, len(lines)))
        reader = csv.reader(rest, delimiter=delimiter, strict=True)
        begin = at
        try:
            for row in reader:
                end = at + reader.line_num
                if end - begin > 1 and _looks_like_rows(lines[begin + 1 : end], delimiter):
                    raise csv.Error("a stray quote")
                yield begin + 1, row
                begin = end
            return
        except csv.Error as error:
            record = lines[begin : at + reader.line_num]
            line = begin
            if len(record) > 1:
                line += _last_opened(record, delimiter)
                problems.add(line + 1, "a quote begins here and does not end")
            else:
                problems.add(line + 1, _STRAY_QUOTE if '"' in record[0] else str(error))
            at = line + 1


_STRAY_QUOTE = (
    "a cell begins with a quote that ends before the cell does: double each quote inside a quoted "
    "cell, or quote none"
)


def _looks_like_rows(lines: Sequence[str], delimiter: str) -> bool:
    """Whether lines inside a quoted cell are rows that a stray quote has swallowed."""
    heads = (line.split(delimiter, 1)[0].strip().lower() for line in lines if delimiter in line)
    return any(head.endswith(tuple(AUDIO_SUFFIXES)) for head in heads)


def _last_opened(record: Sequence[str], delimiter: str) -> int:
    """The line of a broken record in which the quote that spoils it begins."""
    text = "\n".join(record) + "\n"
    inside, opened = False, 0
    for place, sign in enumerate(text):
        if sign != '"':
            continue
        if inside:
            inside = False
            if text[place + 1] not in (delimiter, "\n", '"'):
                break  # something follows the end of a cell, so it was none
        elif place == 0 or text[place - 1] in (delimiter, "\n"):
            inside, opened = True, place
        elif text[place - 1] == '"':  # doubled
            inside = True
    return text.count("\n", 0, opened)


# ---- headers ------------------------------------------------------------------------------------


def _headless(
    names: Sequence[str],
    cells: Sequence[tuple[int, list[str]]],
    delimiter: str,
    is_recording: Callable[[str], bool],
) -> list[str] | None:
    """The header that a table lacks: ``path, text`` in two columns, and LJSpeech's ``id|text|text
    in words``; None where the first cell of the first line names no recording."""
    if not is_recording(names[0]):
        return None
    if len(names) == 2:
        return ["path", "text"]
    spaced = any(" " in row[1] for _, row in cells if len(row) > 1)
    if len(names) == 3 and delimiter == "|" and spaced:
        return ["path", "raw_text", "normalized_text"]
    return None


def _has_row_names(names: Sequence[str], rows: Sequence[tuple[int, list[str]]], r: bool) -> bool:
    """Whether each row has a cell more than the header, its first one a number or name of R's."""
    if not rows or any(len(row) != len(names) + 1 for _, row in rows):
        return False
    firsts = [row[0] for _, row in rows]
    return len(set(firsts)) == len(firsts) and (r or all(first.isdigit() for first in firsts))


def _whole_rows(
    names: Sequence[str], cells: Sequence[tuple[int, list[str]]], problems: Problems
) -> list[tuple[int, list[str]]]:
    """The rows with a cell for each of `names`; others are noted, a repeated header left out."""
    width, header = len(names), [name.lower() for name in names]
    path = next((header.index(name) for name in PATH_COLUMNS if name in header), 0)
    rows = []
    for line, row in cells:
        if len(row) > width and not any(row[width:]):
            row = row[:width]
        if len(row) != width:
            problems.add(line, f"{len(row)} columns, but the header has {width}")
        elif row[path].lower() != header[path] or [cell.lower() for cell in row] != header:
            rows.append((line, row))  # else two tables were joined
    return rows


# ---- JSON ---------------------------------------------------------------------------------------


def _read_json(path: Path, text: str) -> Table:
    """JSON lines, an array of objects, or an object of objects by their ids."""
    problems = Problems(path)
    objects: list[tuple[int, dict[str, Any]]] = []
    for line, value in _json_values(text, problems):
        if isinstance(value, list):
            objects += [(line, item) for item in value if isinstance(item, dict)]
        elif isinstance(value, dict) and _is_by_ids(value):
            objects += [(line, {"id": key, **item}) for key, item in value.items()]
        elif isinstance(value, dict):
            objects.append((line, value))
        else:
            problems.add(line, "not a JSON object in braces")
    names = list(dict.fromkeys(name for _, item in objects for name in item))
    table = Table(path, names, [], problems)
    for line, item in objects:
        table.rows.append((line, [_json_cell(item.get(name)) for name in names]))
    return table


def _json_values(text: str, problems: Problems) -> Iterator[tuple[int, Any]]:
    if text.lstrip()[:1] == "[" or (text[:1] == "{" and not text.split("\n", 1)[0].endswith("}")):
        try:
            yield 1, json.loads(text)
            return
        except json.JSONDecodeError as error:
            problems.add(error.lineno, f"not JSON ({error.msg})")
        except (ValueError, RecursionError):
            problems.add(1, "a number too long or brackets too deep to be read")
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            problems.add(number, f"not JSON ({error.msg} at column {error.colno})")
        except (ValueError, RecursionError):
            problems.add(number, "a number too long or brackets too deep to be read")


def _is_by_ids(value: dict[str, Any]) -> bool:
    """Whether an object holds an object for each id; a row may hold one as well (`audio`)."""
    objects = bool(value) and all(isinstance(item, dict) for item in value.values())
    return objects and not names_paths(list(value))


def _json_cell(value: Any) -> str:
    if isinstance(value, dict):  # {"path": ..., "bytes": ...}
        value = value.get("path")
    if isinstance(value, list):
        value = " ".join(item for item in value if isinstance(item, str))
    return "" if value is None else str(value).strip()


def _json_names(text: str) -> list[str]:
    """The fields of the first object in the beginning of a JSON file."""
    begin = text.find("{")
    try:
        value, _ = json.JSONDecoder().raw_decode(text[begin:]) if begin >= 0 else ({}, 0)
    except (ValueError, RecursionError):
        names = re.findall(r'"(\w+)"\s*:', text[:4096])
        return list(dict.fromkeys(names))
    if _is_by_ids(value):
        return ["id", *next(iter(value.values()))]
    return list(value)
