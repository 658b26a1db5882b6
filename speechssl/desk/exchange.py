"""A desk's segments for other tools, and what became of them there: a table (one for all
recordings), ELAN or subtitles (a file for each recording).

A table and ELAN say which segments were checked: a mark in the column or on the tier `checked`.
Subtitles cannot. Segments that were split, joined or moved there get the words of the hypothesis
that lie in them, so that what the model gave is kept beside what was made of it.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from speechssl.annotations import Annotations, Segment, Tier, read
from speechssl.annotations.eaf_writing import write_eaf
from speechssl.desk import corrections
from speechssl.desk.corrections import (
    SUFFIX,
    CorrectedSegment,
    Corrections,
    SpokenWord,
    same_text,
    stamp,
)
from speechssl.desk.queue import QueueItem
from speechssl.files import writing
from speechssl.inference.cue_times import ms
from speechssl.inference.subtitles import Cue
from speechssl.inference.writers import srt_of
from speechssl.spelling import is_blank, name_key
from speechssl.text.encodings import decode

Format = Literal["csv", "eaf", "srt"]
Rule = Literal["marked", "changed", "all"]
"""Which segments of a file were checked: those that it marks, those whose text is another now, or
all that it holds."""

TABLE = "corrections.csv"
COLUMNS = ("corrections", "segment", "audio", "start_s", "end_s", "speaker", "hypothesis", "text")
CHECKED = "checked"
TEXT_TIER = "transcript"
SAME_S = 0.02
"""Ends of a segment that are this near are the same: formats round times to milliseconds or to
frames of a video."""
NO_MARKS = ("", "0", "no", "false")


@dataclass(frozen=True)
class Taken:
    """What was taken over from files."""

    num_checked: int = 0
    num_changed: int = 0
    """Of them, those whose text is not the hypothesis."""
    num_open: int = 0
    """Segments of the files that nobody marked."""

    def __add__(self, other: "Taken") -> "Taken":
        return Taken(
            self.num_checked + other.num_checked,
            self.num_changed + other.num_changed,
            self.num_open + other.num_open,
        )


# --- out ------------------------------------------------------------------------------------------


def write_formats(desk: Path, items: Sequence[QueueItem], formats: Sequence[str]) -> list[Path]:
    """Write the segments of a queue for other tools; the files.

    Raises FileExistsError, before anything is written, where a file is there, in which somebody may
    have worked.
    """
    names = list(dict.fromkeys(item.corrections for item in items))
    wanted = {form: [_target(desk, name, form) for name in names] for form in formats}
    targets = list(dict.fromkeys(path for paths in wanted.values() for path in paths))
    if there := [path for path in targets if path.exists()]:
        raise FileExistsError(
            f"{len(there)} files for correction are there, the first {there[0]}: take what was "
            f"corrected in them (speechssl correct {desk} --take FILE), and move them away. Queue "
            "and corrections are written."
        )
    made = {name: corrections.read(desk / name) for name in names}
    chosen = {(item.corrections, item.segment) for item in items}
    for name, each in made.items():
        made[name] = replace(
            each, segments=tuple(s for s in each.segments if (name, s.id) in chosen)
        )
    if "csv" in formats:
        order = [(item.corrections, item.segment) for item in items]
        with writing(desk / TABLE) as file:
            file.write(to_table(made, order))
    for name, each in made.items():
        if "eaf" in formats:
            with writing(_target(desk, name, "eaf")) as file:
                file.write(to_eaf(each, desk))
        if "srt" in formats:
            with writing(_target(desk, name, "srt")) as file:
                file.write(to_srt(each))
    return targets


def _target(desk: Path, name: str, form: str) -> Path:
    return desk / (TABLE if form == "csv" else f"{name.removesuffix(SUFFIX)}.{form}")


def to_table(made: dict[str, Corrections], order: Sequence[tuple[str, str]]) -> str:
    """A CSV with a mark of UTF-8 at its beginning, without which spreadsheets take it for another
    encoding; the segments, by file name and id, in the order given."""
    found = {(name, s.id): (c, s) for name, c in made.items() for s in c.segments}
    text = io.StringIO("\ufeff", newline="")
    text.seek(0, io.SEEK_END)
    table = csv.writer(text, lineterminator="\n")
    table.writerow((*COLUMNS, CHECKED))
    for name, key in order:
        of, s = found[name, key]
        times = (f"{s.start_s:.3f}", f"{s.end_s:.3f}")
        mark = "x" if s.checked else ""
        table.writerow((name, s.id, of.audio.name, *times, s.speaker, s.hypothesis, s.text, mark))
    return text.getvalue()


def to_eaf(made: Corrections, folder: Path) -> str:
    """A file of ELAN in `folder` with two tiers: the texts, and an empty annotation beside each for
    the mark that it was checked."""
    texts = tuple(Segment(s.start_s, s.end_s, s.text, s.speaker) for s in made.segments)
    marks = tuple(Segment(s.start_s, s.end_s, "x" if s.checked else "") for s in made.segments)
    tiers = (Tier(TEXT_TIER, texts), Tier(CHECKED, marks))
    return write_eaf(Annotations(tiers), made.audio, folder)


def to_srt(made: Corrections) -> str:
    """Subtitles with a cue for each segment."""
    cues = [Cue(ms(s.start_s), ms(s.end_s), (s.text,), 0) for s in made.segments if s.text]
    return srt_of(cues)


# --- in -------------------------------------------------------------------------------------------


def take(desk: Path, path: Path, editor: str, rule: Rule = "marked") -> Taken:
    """Take over what was corrected in a file that :func:`write_formats` wrote.

    Args:
        desk: the folder with the corrections.
        path: the table, or a file of ELAN or of subtitles that has its recording's name.
        editor: who corrected it.
        rule: which segments were checked. The others get the text too, and are no labels.

    A segment that was checked and has that text already is left as it is. Raises FileNotFoundError,
    ValueError where the file is of nothing in the desk or cannot be read, ChangedMeanwhile.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} to take corrections from.")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _take_table(desk, path, editor, rule)
    target = _of_recording(desk, path)
    found = read(path)
    if path.suffix.lower() != ".eaf" and rule == "marked":
        raise ValueError(
            f"{path} cannot say which segments were checked: give --checked all or changed."
        )
    texts = _tier(found, path)
    marks = next((t.segments for t in found.tiers if t.name == CHECKED), ())
    before = corrections.read(target)
    after, taken = _with_texts(before, texts, marks, editor, rule)
    if not taken.num_checked + taken.num_open:
        raise ValueError(f"{path} holds no segment.")
    if after.segments != before.segments:
        corrections.write(target, after, before.digest)
    return taken


def _of_recording(desk: Path, path: Path) -> Path:
    wanted = name_key(path.stem)
    for target in corrections.find(desk):
        if name_key(target.name.removesuffix(SUFFIX)) == wanted:
            return target
    raise ValueError(
        f"{path} is of no recording in {desk}: its name must be that of the corrections, "
        f"NAME{path.suffix} for NAME{SUFFIX}."
    )


def _tier(found: Annotations, path: Path) -> tuple[Segment, ...]:
    """The tier with the texts: that of its name, else the only one beside the marks."""
    tiers = [tier for tier in found.tiers if tier.name == TEXT_TIER]
    tiers = tiers or [tier for tier in found.tiers if tier.name != CHECKED]
    if len(tiers) != 1:
        names = ", ".join(tier.name for tier in found.tiers) or "none"
        raise ValueError(
            f"{path} has no tier {TEXT_TIER!r} (its tiers: {names}): give the one with the "
            "corrected texts that name."
        )
    return tiers[0].segments


def _take_table(desk: Path, path: Path, editor: str, rule: Rule) -> Taken:
    rows = read_table(path)
    taken = Taken()
    for name in dict.fromkeys(row["corrections"] for _, row in rows):
        target = desk / name
        if Path(name).is_absolute() or ".." in Path(name).parts or not target.is_file():
            raise ValueError(f"{path} names corrections {name!r}, which are not in {desk}.")
        before = corrections.read(target)
        by_id = {segment.id: segment for segment in before.segments}
        for line, row in rows:
            if row["corrections"] != name:
                continue
            segment = by_id.get(row["segment"])
            if segment is None:
                raise ValueError(
                    f"{path}, line {line}: there is no segment {row['segment']!r} in {target} "
                    "(any more)."
                )
            mark = row.get(CHECKED, "").strip().casefold() not in NO_MARKS
            made, one = _edited(segment, row["text"], mark, editor, rule)
            by_id[segment.id] = made
            taken += one
        after = replace(before, segments=tuple(by_id.values()))
        if after.segments != before.segments:
            corrections.write(target, after, before.digest)
    return taken


def read_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, cells by column) of a table that :func:`to_table` made, with commas, semicolons or
    tabs as a spreadsheet writes it back; ValueError where a column is missing."""
    text = decode(path.read_bytes(), path)
    for delimiter in ",;\t":
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        names = [(name or "").strip() for name in reader.fieldnames or ()]
        if {"corrections", "segment", "text"} <= set(names):
            reader.fieldnames = names
            try:
                found = [(reader.line_num, row) for row in reader]
            except csv.Error as error:
                raise ValueError(f"{path} is no table that can be read: {error}.") from error
            return [
                (line, {key: cell or "" for key, cell in row.items() if isinstance(key, str)})
                for line, row in found
                if any(row.values())
            ]
    raise ValueError(
        f"{path} has not the columns corrections, segment and text in its first line: take the "
        "table that `speechssl next --format csv` wrote."
    )


def _edited(
    segment: CorrectedSegment, text: str, mark: bool, editor: str, rule: Rule
) -> tuple[CorrectedSegment, Taken]:
    """A segment with a text that somebody gave it."""
    text = " ".join(text.split())
    is_checked = {"marked": mark, "changed": not same_text(text, segment.hypothesis), "all": True}[
        rule
    ] or (segment.checked and same_text(text, segment.text))
    changed = not same_text(text, segment.hypothesis)
    counted = Taken(int(is_checked), int(is_checked and changed), int(not is_checked))
    if same_text(text, segment.text) and is_checked == segment.checked:
        return segment, counted
    made = replace(segment, text=text, checked=is_checked, editor=editor, time=stamp())
    return made, counted


def _with_texts(
    before: Corrections,
    texts: Sequence[Segment],
    marks: Sequence[Segment],
    editor: str,
    rule: Rule,
) -> tuple[Corrections, Taken]:
    """The corrections with the segments of a file in place of those that lie where they do."""
    left = list(before.segments)
    made: list[CorrectedSegment] = []
    taken = Taken()
    ids = {name_key(segment.id) for segment in left}
    for given in texts:
        if given.end_s <= given.start_s:
            continue
        mark = any(not is_blank(m.text) and _share(m, given) > 0.5 for m in marks)
        same = next((s for s in before.segments if _same_times(s, given)), None)
        if same is None:
            same = resegmented(before.segments, given.start_s, given.end_s)
            number = 1
            while name_key(name := f"{same.id}-{number}") in ids:
                number += 1
            ids.add(name_key(name))
            same = replace(same, id=name)
        edited, one = _edited(same, given.text, mark, editor, rule)
        made.append(edited)
        taken += one
        left = [s for s in left if _share(s, given) <= 0.5 and s.id != edited.id]
    made = sorted([*made, *left], key=lambda s: (s.start_s, s.end_s, s.id))
    return replace(before, segments=tuple(made)), taken


def _same_times(a: CorrectedSegment, b: Segment) -> bool:
    return abs(a.start_s - b.start_s) <= SAME_S and abs(a.end_s - b.end_s) <= SAME_S


def _share(a: CorrectedSegment | Segment, b: Segment) -> float:
    """Of the first one's time, the share that lies in the second."""
    common = min(a.end_s, b.end_s) - max(a.start_s, b.start_s)
    return max(common, 0.0) / max(a.end_s - a.start_s, 1e-6)


def resegmented(
    segments: Sequence[CorrectedSegment], start_s: float, end_s: float
) -> CorrectedSegment:
    """A new segment over a stretch, as one gets it by splitting, joining or moving others: with the
    words of their hypotheses whose middle lies in it, unchecked. Its id must be made unique."""

    def lies_in(part: CorrectedSegment | SpokenWord) -> bool:
        return start_s <= (part.start_s + part.end_s) / 2 < end_s

    words = tuple(word for segment in segments for word in segment.words if lies_in(word))
    texts = [
        " ".join(word.text for word in s.words if lies_in(word))
        if s.words
        else s.hypothesis * lies_in(s)
        for s in segments
    ]
    hypothesis = " ".join(filter(None, texts))
    first = next((s for s in segments if min(s.end_s, end_s) > max(s.start_s, start_s)), None)
    confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
    return CorrectedSegment(
        f"s{round(1000 * start_s):08d}",
        start_s,
        end_s,
        hypothesis,
        hypothesis,
        round(confidence, 4),
        words,
        first.speaker if first else "",
        model_digest=first.model_digest if first else "",
    )
