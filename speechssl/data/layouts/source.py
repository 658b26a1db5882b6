"""Whatever a person gives: which layout it has, its recordings, and the account of the rest."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from speechssl.annotations import SUFFIXES as ANNOTATION_SUFFIXES
from speechssl.annotations import TierChoice
from speechssl.data.layouts.annotated import read_annotated, tell_unused_choice
from speechssl.data.layouts.columns import ID_COLUMNS, PATH_COLUMNS, TEXT_COLUMNS, column_name
from speechssl.data.layouts.dialect import CELL_SUFFIXES, TABLE_SUFFIXES, names_paths, read_names
from speechssl.data.layouts.fairseq import fairseq_manifests, is_fairseq, read_fairseq
from speechssl.data.layouts.folder import listing_of, read_folder
from speechssl.data.layouts.join import join_table, resolver
from speechssl.data.layouts.kaldi import kaldi_folders, read_kaldi
from speechssl.data.layouts.listing import Listing, is_manifest
from speechssl.data.layouts.media import has_annotations
from speechssl.data.layouts.recording import (
    AUDIO_SUFFIXES,
    Recording,
    nfc,
    splits_by_name,
    stem,
)
from speechssl.data.layouts.table import AUDIO_FOLDERS, first_files, read_table
from speechssl.data.layouts.unused import ADVICE, Account, Unused
from speechssl.data.layouts.webdataset import read_shards

LayoutName = Literal["folder", "tsv", "kaldi", "fairseq", "shards", "annotations"]
Layout = Literal["auto", "folder", "tsv", "kaldi", "fairseq", "shards", "annotations"]

READ_AS: dict[LayoutName, str] = {
    "folder": "all recordings of the folder, with the x.txt beside x.wav as transcript",
    "tsv": "the rows of a table; of a folder all recordings, with what its table gives for some",
    "kaldi": "wav.scp, text, utt2spk and segments",
    "fairseq": ".tsv manifests, with the .wrd or .ltr beside them as transcripts",
    "shards": "the members of tar files",
    "annotations": "the segments of .eaf, .TextGrid, subtitles, labels and tables of times, beside "
    "their recordings or naming them",
}
"""What each layout takes, for a person."""


@dataclass(frozen=True)
class Source:
    """What a source holds."""

    layout: LayoutName
    recordings: list[Recording]
    """In a fixed order; ids and speakers in NFC."""
    unused: list[Unused]
    """What it offers and what was not used, for a person to see."""
    tables: tuple[str, ...] = ()
    """The tables of a folder that were read, by their names in it."""

    def describe(self) -> str:
        """A line for a person: the layout, and what of it was read."""
        tables = f" ({', '.join(self.tables)})" if self.tables else ""
        return f"layout {self.layout}: {READ_AS[self.layout]}{tables}"


def read_source(
    source: str | Path, layout: Layout = "auto", tiers: TierChoice | None = None
) -> Source:
    """The recordings of `source`, and the account of what in it was not used; ``"auto"`` finds out
    the layout. `tiers`: which of files of annotations are the transcripts.

    Raises FileNotFoundError when there is no such source, and ValueError, naming files and lines,
    where something in it is wrong or it offers only what is not read.
    """
    source = Path(source)
    if layout != "auto" and layout not in READ_AS:
        raise ValueError(f"Layout {layout!r} is none of auto, {', '.join(READ_AS)}.")
    if not source.exists():
        raise FileNotFoundError(f"No such file or folder: {source}.")
    listing = Listing.of(source) if source.is_dir() else None
    name = _detect(source, listing) if layout == "auto" else layout
    account = Account(source)
    tiers = tiers or TierChoice()
    if name != "annotations":
        tell_unused_choice(tiers, name)
    if name == "annotations":
        return _read_annotated(source, listing, tiers, account)
    if name == "kaldi":
        recordings = read_kaldi(source, account)
    elif name == "fairseq":
        recordings = read_fairseq(source, account)
    elif name == "shards":
        recordings = read_shards(source, account)
    elif name == "tsv":
        recordings = _read_tables(source, listing, account)
    else:
        listing = listing or listing_of(source)
        recordings = read_folder(source, listing=listing, account=account)
    return _finish(source, name, recordings, listing, account)


def read_transcribed(folder: Path, table: Path) -> Source:
    """All recordings of a folder, with what a table gives for some of them.

    Raises ValueError where the table has no column of transcripts, names files that are not in the
    folder, or names one of them twice.
    """
    account, listing = Account(folder), Listing.of(folder)
    account.use(*(d for d in listing.documents if _is_same(d, table)))
    rows = read_table(table, audio_folder=folder, needs_text=True, account=account)
    joined, elsewhere = _join(listing, rows, account)
    if elsewhere:
        raise ValueError(
            f"{table} names {len(elsewhere)} recordings that are not in {folder}, the first "
            f"is {elsewhere[0].audio}."
        )
    return _finish(folder, "tsv", joined, listing, account)


def read_layout(source: str | Path, layout: Layout = "auto") -> Iterator[Recording]:
    """The recordings of :func:`read_source`."""
    return iter(read_source(source, layout).recordings)


def detect_layout(source: str | Path) -> LayoutName:
    """What `source`, a file or a folder, looks like; FileNotFoundError when there is none."""
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"No such file or folder: {source}.")
    return _detect(source, Listing.of(source) if source.is_dir() else None)


def _detect(source: Path, listing: Listing | None) -> LayoutName:
    if listing is None:
        return _detect_file(source)
    if kaldi_folders(source):
        return "kaldi"
    if fairseq_manifests(source):
        return "fairseq"
    tables = _tables_to_read(source, listing)
    if not any(map(_has_text, tables)) and has_annotations(listing):
        return "annotations"
    if tables:
        return "tsv"
    return "shards" if listing.shards() and not listing.audio else "folder"


def _detect_file(source: Path) -> LayoutName:
    suffix = source.suffix.lower()
    if source.name in ("wav.scp", "text", "segments", "utt2spk") and kaldi_folders(source.parent):
        return "kaldi"
    if suffix == ".tar":
        return "shards"
    if suffix in AUDIO_SUFFIXES:
        return "annotations" if has_annotations(Listing.of_one(source)) else "folder"
    if suffix in ANNOTATION_SUFFIXES:
        return "annotations"
    if is_manifest(source) or (suffix == ".jsonl" and not names_paths(read_names(source))):
        raise ValueError(f"{source} is a manifest already; nothing is to be prepared.")
    if suffix in ADVICE and suffix not in (*TABLE_SUFFIXES, ".txt"):
        raise ValueError(
            f"{source} is not read: {ADVICE[suffix]}. A source is a folder of recordings, a "
            "recording, a table (TSV, CSV, JSON lines), Kaldi or fairseq data, or a tar file."
        )
    return "fairseq" if is_fairseq(source) else "tsv"


def _read_annotated(
    source: Path, listing: Listing | None, tiers: TierChoice, account: Account
) -> Source:
    """A folder; a recording with what lies beside it; or one file of annotations."""
    only = None
    if listing is None and source.suffix.lower() in AUDIO_SUFFIXES:
        listing = Listing.of_one(source)
    elif listing is None:
        only = str(source)
        near = [source.parent / name for name in AUDIO_FOLDERS]
        audio = [str(p) for folder in near if folder.is_dir() for p in sorted(folder.iterdir())]
        audio = [path for path in audio if os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES]
        listing = Listing(source.parent, audio, [only])
    recordings = read_annotated(listing, tiers, account, only=only)
    return _finish(source, "annotations", recordings, listing, account)


def _has_text(table: Path) -> bool:
    """Whether a table may hold transcripts: by a column's name, or as it has no header."""
    names = set(map(column_name, read_names(table)))
    return bool(names & set(TEXT_COLUMNS)) or not names_paths(list(names))


def _is_same(document: str, table: Path) -> bool:
    return os.path.basename(document) == table.name and os.path.samefile(document, table)


def _finish(
    source: Path,
    layout: LayoutName,
    recordings: Sequence[Recording],
    listing: Listing | None,
    account: Account,
) -> Source:
    documents = listing.documents if listing else []
    tables = [str(table) for here in listing.tables.values() for table in here] if listing else []
    account.explain(account.rest(tables), "give a table itself as the source, if it is meant")
    unused = account.unused(documents)
    if not recordings and unused:
        lines = [f"There is no recording in {source}. Not used:", *(f"  {item}" for item in unused)]
        raise ValueError("\n".join(lines))
    return Source(layout, list(recordings), unused, tuple(account.tables))


# ---- tables of a folder -------------------------------------------------------------------------


def _read_tables(source: Path, listing: Listing | None, account: Account) -> list[Recording]:
    """One table; or the recordings of a folder, with what its table gives for some of them, or its
    tables when they are named after splits. Where a table of the folder has a column of ids, its
    rows go by them; all else goes by the name of its file in the folder."""
    if listing is None:
        return read_table(source, account=account)
    tables = _tables_to_read(source, listing)
    if not tables:
        raise ValueError(
            f"{source} holds no .tsv or .csv with a header that names a column of paths "
            f"({', '.join(PATH_COLUMNS[:8])})."
        )
    splits = splits_by_name([table.stem for table in tables])
    same_folder = len({table.parent for table in tables}) == 1
    if not any(splits):
        splits = splits_by_name([table.parent.name for table in tables])
    if len(tables) > 1 and same_folder and not all(splits):
        names = ", ".join([*(t.name for t in tables[:10]), *(["..."] if tables[10:] else [])])
        raise ValueError(f"{source} holds several tables ({names}); name the one that is meant.")
    rows = []
    for table, split in zip(tables, splits, strict=True):
        account.use(table)
        account.tables.append(account.name(str(table)))
        rows += read_table(table, split=split, more_folders=[source], account=account)
    own_ids = any({*map(column_name, read_names(t))} & set(ID_COLUMNS) for t in tables)
    joined, elsewhere = _join(listing, rows, account, own_ids=own_ids)
    return joined + elsewhere  # what is missing is for `prepare` to name


def _join(
    listing: Listing, rows: Sequence[Recording], account: Account, *, own_ids: bool = False
) -> tuple[list[Recording], list[Recording]]:
    """:func:`join_table` on the recordings of a folder, where a `.txt` is read only beside those
    whose text no row gives."""
    real = resolver()
    rows = [_placed(row, listing) for row in rows]
    forms = {nfc(real(row.audio)) for row in rows if row.text or not row.is_whole}
    recordings = read_folder(
        listing.folder,
        listing=listing,
        in_table=lambda path: bool(forms) and nfc(real(path)) in forms,
        account=account,
    )
    return join_table(recordings, rows, own_ids=own_ids)


def _placed(row: Recording, listing: Listing) -> Recording:
    """A row with the file that it means, where it gives the name alone of a recording that lies in
    a sub-folder and no other has that name."""
    name = nfc(stem(row.audio.name))
    found = listing.by_name.get(name, []) if row.audio.parent == listing.folder else []
    if len(found) != 1 or os.path.isfile(row.audio):
        return row
    return replace(row, audio=Path(found[0]))


def _tables_to_read(source: Path, listing: Listing) -> list[Path]:
    """The tables of a folder that describe its recordings: those that lie in itself, and
    where there are none, those of its sub-folders that are clear and name recordings."""
    tables = _with_text(listing.tables.get(str(source), []))
    tables = tables or listing.headless_tables(AUDIO_FOLDERS)
    if tables:
        return tables
    found: list[Path] = []
    for here in map(_with_text, listing.tables.values()):
        if len(here) == 1 or all(splits_by_name([table.stem for table in here])):
            found += [table for table in here if _names_recordings(table, source)]
    return sorted(found)


def _with_text(tables: list[Path]) -> list[Path]:
    """Those of several tables that have transcripts, where some have; of JSON and others these."""
    if len(tables) < 2 or all(splits_by_name([table.stem for table in tables])):
        return tables
    cells = [table for table in tables if table.suffix.lower() in CELL_SUFFIXES] or tables
    names = {table: set(map(column_name, read_names(table))) for table in cells}
    return [table for table in cells if names[table] & set(TEXT_COLUMNS)] or cells


def _names_recordings(table: Path, source: Path) -> bool:
    """Whether one of the first rows of a table names a file that is there."""
    try:
        files = first_files(table, [source])
    except ValueError:  # read_table gives the reason
        return True
    return any(map(os.path.isfile, files))
