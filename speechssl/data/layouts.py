"""How speech lies on people's disks: bare folders, tables, Kaldi data folders, fairseq manifests.

Each reader turns its layout into :class:`Recording` records and looks at no sound, but for the
length of a recording of which a table names parts. What is wrong with the source as a whole (a
broken line, a missing column, a command in wav.scp) is a ValueError that names the file and the
line; a single recording that is missing or damaged is for `prepare` to name and drop.
"""

import csv
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal, TextIO

from speechssl import shards
from speechssl.audio import FOREIGN_SUFFIXES, SUFFIXES, AudioError, list_audio, probe

Layout = Literal["auto", "folder", "tsv", "kaldi", "fairseq", "shards"]
Split = Literal["train", "dev", "test"]

READ_AS = {
    "folder": "all recordings of the folder, with the x.txt beside x.wav as transcript",
    "tsv": "the rows of a table; of a folder all recordings, with what its table says of some",
    "kaldi": "wav.scp, text, utt2spk and segments",
    "fairseq": ".tsv manifests, with the .wrd or .ltr beside them as transcripts",
    "shards": "the members of tar files",
}
"""What each layout takes, for a person."""

PATH_COLUMNS = ("path", "audio", "file", "filename", "wav", "audio_path", "file_name", "wav_path")
TEXT_COLUMNS = ("text", "sentence", "transcript", "transcription")
SPEAKER_COLUMNS = ("speaker", "client_id", "spk", "speaker_id")
ID_COLUMNS = ("id", "utt_id", "utterance_id")

AUDIO_FOLDERS = ("", "clips", "audio", "wav", "wavs")
"""Where the recordings of a table are looked for, from the folder of the table."""

MIN_REST_S = 0.5
"""What the rows of a table leave of a recording is taken from this length on."""

SPLIT_NAMES: dict[Split, set[str]] = {
    "train": {"train", "training", "trn"},
    "dev": {"dev", "valid", "validation", "val", "development"},
    "test": {"test", "tst", "testing", "eval"},
}


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording, or a part of one, as its source describes it; nothing is checked yet."""

    id: str
    audio: Path
    start_s: float = 0.0
    duration_s: float | None = None
    """None: to the end of the file."""
    speaker: str | None = None
    text: str | None = None
    """None: the source gives no transcript; an empty one is given, which is an error in it."""
    split: Split | None = None
    """The split that the source publishes, None when it publishes none."""


def detect_layout(source: str | Path) -> Literal["folder", "tsv", "kaldi", "fairseq", "shards"]:
    """What `source`, a file or a folder, looks like; FileNotFoundError when there is none."""
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"No such file or folder: {source}.")
    if source.is_file():
        if source.name == "wav.scp":
            return "kaldi"
        if source.suffix == ".jsonl":
            raise ValueError(f"{source} is a manifest already; nothing is to be prepared.")
        if source.suffix == ".tar":
            return "shards"
        return "fairseq" if _is_fairseq(source) else "tsv"
    if _kaldi_folders(source):
        return "kaldi"
    tables = _tables(source)
    if any(_is_fairseq(table) for table in tables):
        return "fairseq"
    if any(_has_path_column(table) for table in tables):
        return "tsv"
    return "shards" if _shards(source) and not list_audio(source) else "folder"


def read_layout(source: str | Path, layout: Layout = "auto") -> Iterator[Recording]:
    """The recordings of `source` in a fixed order; ``"auto"`` finds out the layout."""
    source = Path(source)
    found = detect_layout(source) if layout == "auto" else layout
    if not source.exists():
        raise FileNotFoundError(f"No such file or folder: {source}.")
    readers: dict[str, Callable[[Path], Iterator[Recording]]] = {
        "folder": read_folder,
        "tsv": read_tables,
        "kaldi": read_kaldi,
        "fairseq": read_fairseq,
        "shards": read_shards,
    }
    if found not in readers:
        raise ValueError(f"Layout {found!r} is none of auto, {', '.join(readers)}.")
    return readers[found](source)


def split_name(name: str) -> Split | None:
    """train, dev or test for the many names of a split (``valid``, ``dev-clean``), else None."""
    first = re.split(r"[^a-z]", name.lower())[0]
    return next((split for split, names in SPLIT_NAMES.items() if first in names), None)


def _splits_by_name(names: list[str]) -> list[Split | None]:
    """The splits that `names` mean, when all mean one and not all the same; else None for each."""
    splits = [split_name(name) for name in names]
    return splits if all(splits) and len(set(splits)) > 1 else [None] * len(names)


# ---- tar shards ---------------------------------------------------------------------------------


def read_shards(source: Path) -> Iterator[Recording]:
    """A tar file, or all below a folder, in WebDataset's layout: ``key.wav`` (or another sound)
    with ``key.txt``, or ``key.json`` with the fields text and speaker, beside it.

    A key ends at the last dot; what lies beside the sound may also have WebDataset's own key, which
    ends at the first dot of the last part. Sound that may not be opened is listed too, as in a
    folder. Shards named such as train-0000 and test-0000 are the split.
    """
    found = _shards(source)
    for shard, split in zip(found, _splits_by_name([s.stem for s in found]), strict=True):
        names = dict.fromkeys(name for name, _, _ in shards.members(shard))
        for name in names:
            folder, slash, last = name.rpartition("/")
            stem, suffix = os.path.splitext(last)
            if last.startswith(".") or suffix.lower() not in SUFFIXES | FOREIGN_SUFFIXES:
                continue
            key = f"{folder}{slash}{stem}"
            told: dict[str, Any] = {}
            first = f"{folder}{slash}{last.partition('.')[0]}"
            for beside in dict.fromkeys(f"{k}.{e}" for k in (first, key) for e in ("txt", "json")):
                if beside in names:
                    told |= _told(shards.read_member(shard / beside) or b"", shard / beside)
            speaker, text = told.get("speaker"), told.get("text")
            yield Recording(
                f"{shard.stem}/{key}",
                shard / name,
                speaker=None if speaker is None else str(speaker),
                text=None if text is None else str(text),
                split=split,
            )


def _shards(source: Path) -> list[Path]:
    return [source] if source.is_file() else sorted(source.rglob("*.tar"))


def _told(data: bytes, path: Path) -> dict[str, Any]:
    """What a member beside the sound says of it."""
    try:
        if path.suffix == ".txt":
            return {"text": data.decode("utf-8-sig").strip()}
        fields = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must hold a JSON object.")
    return fields


# ---- a bare folder ------------------------------------------------------------------------------


def read_folder(folder: Path, *, told: Collection[Path] = ()) -> Iterator[Recording]:
    """Every recording below `folder`; `x.txt` beside `x.wav` is its transcript, which is not read
    for the resolved paths in `told`.

    When all recordings lie in folders named such as train, dev and test, those are the split.
    Below that, when all of them lie in two or more sub-folders, the first sub-folder is taken as
    the speaker (or the session: what a split must not tear apart); else speakers are unknown.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder.")
    paths = list_audio(folder)
    parts = [path.relative_to(folder).parts for path in paths]
    splits = _splits_by_name([part[0] if len(part) > 1 else "" for part in parts])
    if any(splits):
        parts = [part[1:] for part in parts]
    by_speaker = all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) > 1
    ids = _file_ids(paths, folder)
    for path, identifier, part, split in zip(paths, ids, parts, splits, strict=True):
        transcript = path.with_suffix(".txt")
        has_text = transcript.is_file() and not (told and path.resolve() in told)
        yield Recording(
            identifier,
            path,
            speaker=part[0] if by_speaker else None,
            text=read_text(transcript) if has_text else None,
            split=split,
        )


def _file_ids(paths: list[Path], folder: Path) -> list[str]:
    """Relative paths without suffix, with it where two files differ in nothing else."""
    names = [path.relative_to(folder).as_posix() for path in paths]
    stems = [name[: len(name) - len(path.suffix)] for name, path in zip(names, paths, strict=True)]
    seen: dict[str, int] = {}
    for stem in stems:
        seen[stem] = seen.get(stem, 0) + 1
    return [stem if seen[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]


def read_text(path: Path) -> str:
    """A whole UTF-8 file, white space at the ends removed; ValueError when it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})."
        ) from None


# ---- tables -------------------------------------------------------------------------------------


def read_tables(source: Path) -> Iterator[Recording]:
    """One table; or the recordings of a folder, with what its table says of some of them, or its
    tables when they are named after splits. Where a table of the folder has a column of ids, its
    rows go by them; all else goes by the name of its file in the folder."""
    if source.is_file():
        yield from read_table(source)
        return
    tables = [table for table in _tables(source) if _has_path_column(table)]
    if not tables:
        raise ValueError(
            f"{source} holds no .tsv or .csv with a header that names a column of paths "
            f"({', '.join(PATH_COLUMNS)})."
        )
    splits = _splits_by_name([table.stem for table in tables])
    if len(tables) > 1 and not all(splits):
        names = ", ".join(table.name for table in tables)
        raise ValueError(f"{source} holds several tables ({names}); name the one that is meant.")
    rows = [
        row
        for table, split in zip(tables, splits, strict=True)
        for row in read_table(table, split=split)
    ]
    own_ids = any(_columns(table) & set(ID_COLUMNS) for table in tables)
    joined, elsewhere = join_folder(source, rows, own_ids=own_ids)
    yield from joined
    yield from elsewhere  # what is missing is for `prepare` to name


def read_table(
    path: Path, *, split: Split | None = None, audio_folder: Path | None = None
) -> Iterator[Recording]:
    """A .tsv (tabs, no quoting) or .csv (comma, semicolon or tab, quoted) with a header.

    Columns: a path is needed; text, speaker, id, split, start_s and duration_s are taken when
    there. A relative path starts at `audio_folder`, by default the folder of the table or one of
    :data:`AUDIO_FOLDERS` in it. `split` holds for rows that name none.
    """
    folders = [audio_folder] if audio_folder else [path.parent / name for name in AUDIO_FOLDERS]
    for line, row in _rows(path):
        columns = {
            role: next((row[name] for name in names if name in row), None)
            for role, names in (
                ("path", PATH_COLUMNS),
                ("text", TEXT_COLUMNS),
                ("speaker", SPEAKER_COLUMNS),
                ("id", ID_COLUMNS),
                ("split", ("split",)),
            )
        }
        name = columns["path"]
        if not name:
            raise ValueError(f"{path}, line {line}: the path is empty.")
        row_split = split_name(columns["split"]) if columns["split"] else split
        if columns["split"] and row_split is None:
            raise ValueError(
                f"{path}, line {line}: split {columns['split']!r} is none of train, dev, test."
            )
        start_s = _seconds(path, line, row, "start_s")
        yield Recording(
            columns["id"] or _stem(name),
            _resolve(name, folders),
            start_s or 0.0,
            _seconds(path, line, row, "duration_s"),
            columns["speaker"] or None,
            columns["text"],
            row_split,
        )


def join_folder(
    folder: Path, rows: Iterable[Recording], *, own_ids: bool = False
) -> tuple[list[Recording], list[Recording]]:
    """:func:`join_table` on the recordings of a folder, where a `.txt` is read only beside those
    of whose text the rows say nothing."""
    rows = list(rows)
    told = {row.audio.resolve() for row in rows if row.text is not None or not _is_whole(row)}
    return join_table(read_folder(folder, told=told), rows, own_ids=own_ids)


def join_table(
    recordings: Iterable[Recording], rows: Iterable[Recording], *, own_ids: bool = False
) -> tuple[list[Recording], list[Recording]]:
    """``(recordings with what the rows of a table say of them, rows of other files)``.

    A recording that no row names stays as it is. What a row leaves open (speaker, split, text of
    the whole) stays as well. Several rows of a file are parts of it, a Recording each; what lies
    before, between and after them is there too, without a transcript, from :data:`MIN_REST_S` on.

    A recording keeps its id, however the table writes its path, and a part of `x` that starts at
    2 s is `x@2.000`, so that an id does not change with other rows. `own_ids`: the rows' ids stand.

    Rows that say the same of a file are one. Where several have only a start_s, each ends where the
    next one begins.

    Raises ValueError where a file has several rows and not each a time of its own.
    """
    by_path: dict[Path, dict[tuple[object, ...], Recording]] = {}
    for row in rows:
        said = (row.start_s, row.duration_s, row.speaker, row.text, row.split)
        by_path.setdefault(row.audio.resolve(), {}).setdefault(said, row)
    parts_of = {path: _timed(path, list(said.values())) for path, said in by_path.items()}
    joined = []
    for recording in recordings:
        parts = parts_of.pop(recording.audio.resolve(), [])
        told = [_joined(recording, row, own_ids) for row in parts]
        told += _rests(recording, told)
        joined += sorted(told, key=lambda part: part.start_s) or [recording]
    return joined, [row for parts in parts_of.values() for row in parts]


def _timed(path: Path, rows: list[Recording]) -> list[Recording]:
    """The rows of one file, each with its time."""
    times = {(row.start_s, row.duration_s) for row in rows}
    starts_only = all(row.duration_s is None for row in rows)
    if len(times) < len(rows) or (len(rows) > 1 and (0.0, None) in times and not starts_only):
        raise ValueError(
            f"The table has {len(rows)} rows for {path}; each needs a start_s and duration_s "
            "of its own, or only one of them may stay."
        )
    if starts_only:
        rows = sorted(rows, key=lambda row: row.start_s)
        ends = [round(after.start_s - row.start_s, 6) for row, after in pairwise(rows)]
        rows = [replace(r, duration_s=d) for r, d in zip(rows, [*ends, None], strict=True)]
    return rows


def _joined(recording: Recording, row: Recording, own_id: bool) -> Recording:
    whole = _is_whole(row)
    identifier = recording.id if whole else _part_id(recording, row.start_s)
    return replace(
        row,
        id=row.id if own_id else identifier,
        audio=recording.audio,
        speaker=row.speaker or recording.speaker,
        text=recording.text if whole and row.text is None else row.text,
        split=row.split or recording.split,
    )


def _rests(recording: Recording, parts: list[Recording]) -> list[Recording]:
    """What `parts`, which may overlap, leave of a recording; the last rest goes to its end. Speaker
    and split are those that all parts have, else the folder's speaker and no split.

    Nothing where the header cannot be read: no part can be then, and `prepare` says so.
    """
    if not parts or any(_is_whole(part) for part in parts):
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


def _is_whole(row: Recording) -> bool:
    return (row.start_s, row.duration_s) == (0.0, None)


def _part_id(recording: Recording, start_s: float) -> str:
    return f"{recording.id}@{start_s:.3f}"


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """``(line number, {column in lower case: value})`` for each row of a table."""
    with _lines(path) as lines:
        header_line = next(lines, "")
        if path.suffix.lower() == ".csv":
            delimiter = max(",;\t", key=header_line.count)
            reader = csv.reader(chain([header_line], lines), delimiter=delimiter, strict=True)
        else:
            reader = csv.reader(chain([header_line], lines), delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            header = [name.strip().lower() for name in next(reader, [])]
            if not set(header) & set(PATH_COLUMNS):
                raise ValueError(
                    f"{path} has no column of paths: its header must hold one of "
                    f"{', '.join(PATH_COLUMNS)}; it holds {', '.join(header) or 'nothing'}."
                )
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: {len(row)} columns, but the header has "
                        f"{len(header)}."
                    )
                values = (value.strip() for value in row)
                yield reader.line_num, dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}.") from None


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a UTF-8 file; other encodings are refused with a sentence."""

    def read(file: TextIO) -> Iterator[str]:
        number = 0
        try:
            for number, line in enumerate(file, 1):  # noqa: B007
                yield line
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, after line {number}: not UTF-8 text ({error.reason})."
            ) from None

    with path.open(encoding="utf-8-sig", newline="") as file:
        yield read(file)


def _seconds(path: Path, line: int, row: dict[str, str], column: str) -> float | None:
    value = row.get(column)
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise ValueError(f"{path}, line {line}: {column} is {value!r}, not a number of seconds.")
    return seconds


def _stem(name: str) -> str:
    return name[: len(name) - len(Path(name).suffix)]


def _resolve(name: str, folders: list[Path]) -> Path:
    """The first of the folders in which the file is; the first folder when it is in none."""
    places = [folder / name for folder in folders]
    # os.path, as Path.is_file fails on a name that is longer than a file's can be
    return next((place for place in places if os.path.isfile(place)), places[0])


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".tsv", ".csv"))


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(1 << 20).decode("utf-8-sig", errors="replace").rstrip("\r\n")


def _has_path_column(path: Path) -> bool:
    return bool(_columns(path) & set(PATH_COLUMNS))


def _columns(path: Path) -> set[str]:
    """The names in a table's header, in lower case."""
    return {name.strip().strip('"').lower() for name in re.split(r"[\t,;]", _first_line(path))}


# ---- fairseq ------------------------------------------------------------------------------------


def _is_fairseq(path: Path) -> bool:
    """The first line of a fairseq manifest is a folder, alone; the next ``path TAB samples``."""
    first = _first_line(path)
    return path.suffix == ".tsv" and "\t" not in first and ("/" in first or "\\" in first)


def read_fairseq(source: Path) -> Iterator[Recording]:
    """A fairseq manifest (or all of a folder), with the .wrd or else the .ltr beside it as text."""
    paths = (
        [source] if source.is_file() else [path for path in _tables(source) if _is_fairseq(path)]
    )
    if not paths:
        raise ValueError(f"{source} holds no fairseq manifest (.tsv whose first line is a folder).")
    for path, split in zip(paths, _splits_by_name([path.stem for path in paths]), strict=True):
        yield from _read_fairseq_file(path, split)


def _read_fairseq_file(path: Path, split: Split | None) -> Iterator[Recording]:
    texts = _fairseq_texts(path)
    with _lines(path) as lines:
        root = Path(next(lines, "").strip())
        root = root if root.is_absolute() else path.parent / root
        count = 0
        for line, row in enumerate(lines, 2):
            name, _, num_samples = row.rstrip("\r\n").partition("\t")
            if not name or not num_samples.strip().isdigit():
                raise ValueError(f"{path}, line {line}: not `path TAB number of samples`.")
            if texts is not None and count >= len(texts):
                raise ValueError(f"{path}, line {line}: there are only {len(texts)} transcripts.")
            text = None if texts is None else texts[count]
            yield Recording(_stem(name), root / name, text=text, split=split)
            count += 1
    if texts is not None and len(texts) != count:
        raise ValueError(
            f"{path} names {count} recordings, but there are {len(texts)} transcripts."
        )


def _fairseq_texts(path: Path) -> list[str] | None:
    words, letters = path.with_suffix(".wrd"), path.with_suffix(".ltr")
    if words.is_file():
        with _lines(words) as lines:
            return [line.strip() for line in lines]
    if letters.is_file():  # "H E | S A I D |"
        with _lines(letters) as lines:
            return ["".join(line.split()).replace("|", " ").strip() for line in lines]
    return None


# ---- Kaldi --------------------------------------------------------------------------------------


def _kaldi_folders(source: Path) -> list[Path]:
    """`source` itself or its sub-folders that hold a wav.scp."""
    if (source / "wav.scp").is_file():
        return [source]
    return sorted(path.parent for path in source.glob("*/wav.scp"))


def read_kaldi(source: Path) -> Iterator[Recording]:
    """A Kaldi data folder (wav.scp, text, utt2spk, segments), or several named after splits.

    wav.scp must hold plain paths: from the data folder, else from the working folder. A command (a
    line that ends in a pipe) or a place in an archive is refused; nothing is ever run.
    """
    folders = _kaldi_folders(source.parent if source.is_file() else source)
    if not folders:
        raise ValueError(f"{source} is not a Kaldi data folder: it holds no wav.scp.")
    splits = _splits_by_name([folder.name for folder in folders])
    for folder, split in zip(folders, splits, strict=True):
        yield from _read_kaldi_folder(folder, split)


def _read_kaldi_folder(folder: Path, split: Split | None) -> Iterator[Recording]:
    waves = {
        key: _scp_path(folder, key, value) for key, value in read_pairs(folder / "wav.scp").items()
    }
    texts, speakers = read_pairs(folder / "text"), read_pairs(folder / "utt2spk")
    has_text = (folder / "text").is_file()
    segments = read_pairs(folder / "segments")
    parts: dict[str, tuple[Path, float, float | None]]
    if segments:
        parts = {key: _segment(folder, key, value, waves) for key, value in segments.items()}
    else:
        parts = {key: (path, 0.0, None) for key, path in waves.items()}
    for key, (path, start_s, duration_s) in parts.items():
        text = texts.get(key) if has_text else None
        yield Recording(key, path, start_s, duration_s, speakers.get(key) or None, text, split)


def read_pairs(path: Path) -> dict[str, str]:
    """A Kaldi file of ``key value`` lines; an empty dictionary when it is not there."""
    pairs: dict[str, str] = {}
    if not path.is_file():
        return pairs
    with _lines(path) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.split(maxsplit=1)
            if not fields:
                continue
            if fields[0] in pairs:
                raise ValueError(f"{path}, line {number}: {fields[0]} is there twice.")
            pairs[fields[0]] = fields[1].strip() if len(fields) > 1 else ""
    return pairs


def _scp_path(folder: Path, key: str, value: str) -> Path:
    if value.endswith("|") or value.startswith("|"):
        raise ValueError(
            f"{folder / 'wav.scp'}: {key} is a command (`{value}`), and commands are not run; "
            "write its output to files (for example with `wav-copy`) and list their paths."
        )
    if not value or re.search(r"\.ark:\d+$", value):
        raise ValueError(f"{folder / 'wav.scp'}: {key} names no file of its own ({value!r}).")
    return _resolve(value, [folder, Path.cwd()])


def _segment(
    folder: Path, key: str, value: str, waves: dict[str, Path]
) -> tuple[Path, float, float | None]:
    where = f"{folder / 'segments'}: {key}"
    fields = value.split()
    try:
        recording, start_s, end_s = fields[0], float(fields[1]), float(fields[2])
    except (IndexError, ValueError):
        raise ValueError(f"{where}: `{value}` is not `recording start end`.") from None
    if recording not in waves:
        raise ValueError(f"{where}: recording {recording} is not in wav.scp.")
    if end_s == -1 and 0 <= start_s < 1e9:  # Kaldi's word for the end of the recording
        return waves[recording], start_s, None
    if not 0 <= start_s < end_s < 1e9:
        raise ValueError(f"{where}: it ends at {end_s} s and starts at {start_s} s.")
    return waves[recording], start_s, round(end_s - start_s, 6)
