"""The whole of it: read, drop doubles, make crops, choose, write manifests."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.open_speech.choose import Row, capped, held_out
from data_prep.open_speech.clip import Clip, Source, folder_of
from data_prep.open_speech.crops import Drop
from data_prep.open_speech.doubles import without_doubles
from data_prep.open_speech.jobs import Job, Making, groups_of, jobs_of, rows_of
from data_prep.open_speech.sources import LEFT_OUT
from data_prep.open_speech.summary import summarise
from data_prep.open_speech.transcripts import ipa, plain_ipa, romanised
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.files import writing
from speechssl.workers import share

Spell = Callable[[str, str], str | None]
"""``spell(text, language)``: a transcript in an alphabet, None where it cannot be."""


@dataclass(frozen=True)
class Settings:
    """What is made of the sources."""

    seed: int = 0
    romanise: Spell = romanised
    phonemise: Spell = ipa
    processes: int = 1


@dataclass
class Found:
    """What the sources hold."""

    sources: list[Source] = field(default_factory=list)
    clips: list[tuple[str, Clip]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Parts that no folder holds."""


def find(sources: Iterable[Source], places: Sequence[Path]) -> Found:
    """The clips of the sources whose parts lie in one of `places`.

    Raises FileNotFoundError where a part is not as it is published, or where no source is there.
    """
    found = Found()
    for source in sources:
        folders = []
        for part, name in zip(source.parts, source.folders, strict=True):
            place = next((root / name for root in places if (root / name).is_dir()), None)
            if place is None:
                found.missing.append(part)
            else:
                folders.append(place)
        if len(folders) == len(source.parts):
            found.sources.append(source)
            found.clips += [(source.name, clip) for clip in source.read(*folders)]
    if not found.sources:
        where = ", ".join(map(str, places))
        raise FileNotFoundError(
            f"No source is in {where}: expected is a folder for each, such as "
            f"{folder_of(found.missing[0])}."
        )
    return found


def build(found: Found, out: Path, settings: Settings, say: Callable[[str], None] = print) -> Any:
    """Make the crops and manifests of `found` in `out` -> what summary.json holds.

    The same clips and settings give the same files, whatever the number of processes. What an
    earlier, interrupted call has made is not made again. Raises ValueError where nothing can be
    used.
    """
    out.mkdir(parents=True, exist_ok=True)
    clips, doubles = without_doubles(found.clips)
    making = Making(out, settings.seed)
    jobs = [
        job
        for source in found.sources
        for job in jobs_of(source, (clip for name, clip in clips if name == source.name))
    ]
    paths = _make(jobs, making, settings.processes, say)
    _tidy(out, [source.name for source in found.sources], paths)
    rows: dict[str, list[Row]] = {source.name: [] for source in found.sources}
    dropped = list(doubles)
    for job, path in zip(jobs, paths, strict=True):
        for row in rows_of(path):
            if "id" in row:
                rows[job.source].append(row)
            else:
                dropped.append((job.source, Drop(row["dropped"], row["reason"])))
    splits: dict[str, list[Row]] = {"train": [], "dev": []}
    for source in found.sources:
        taken = capped(rows[source.name], source.cap_h, settings.seed, source.name)
        kept = {row["id"] for row in taken}
        reason = f"over the cap: {source.cap_h} h of the source are taken"
        dropped += [
            (source.name, Drop(r["id"], reason)) for r in rows[source.name] if r["id"] not in kept
        ]
        speakers = held_out(taken, source, settings.seed)
        for row in taken:
            split = "dev" if row["speaker"] in speakers else "train"
            splits[split].append(_spelled(row, source.name, settings))
    if not any(splits.values()):
        raise ValueError(f"No recording of {len(found.clips)} can be used.")
    _write_dropped(out / "dropped.jsonl", dropped)
    for split, members in splits.items():
        _write_split(out, split, members)
    summary = summarise(found, splits, dropped, LEFT_OUT)
    with writing(out / "summary.json") as file:
        file.write(json.dumps(summary, ensure_ascii=False, indent=1) + "\n")
    return summary


def _make(
    jobs: list[Job], making: Making, processes: int, say: Callable[[str], None]
) -> list[Path]:
    """The lists of the jobs, in their order."""
    to_do = [job for job in jobs if not making.is_made(job)]
    if to_do:
        say(f"{len(to_do)} of {len(jobs)} groups of clips to make")
    made = share(
        groups_of(to_do), making, making, processes=processes, at_once=processes > 1, say=say
    )
    last = ""
    for job, _ in zip(to_do, made, strict=True):
        if job.source != last:
            last = job.source
            say(f"  {last}")
    return [making.path(job) for job in jobs]


def _tidy(out: Path, sources: Iterable[str], lists: Iterable[Path]) -> None:
    """Remove what an earlier call has made of these sources and this one has not."""
    kept = set(lists)
    kept |= {out / row["audio"] for path in tuple(kept) for row in rows_of(path) if "id" in row}
    for source in sources:
        for folder in (out / "parts" / source, out / "audio" / source):
            for path in folder.glob("*"):
                if path not in kept:
                    path.unlink()


def _spelled(row: Row, source: str, settings: Settings) -> Row:
    """The crop with its source and its transcript in both alphabets, None where there is none."""
    row = dict(row, source=source, roman=None, ipa=None, orthography=None)
    if row["texts"] is None:
        return row
    language, given = row["language"], row["phones"]
    sounds = [plain_ipa(phones) for phones in given] if given else None
    romans = [settings.romanise(text, language) for text in sounds or row["texts"]]
    row["orthography"] = " ".join(row["texts"])
    row["roman"] = " ".join(map(str, romans)) if all(romans) else None
    spoken: list[str | None] = list(sounds or ())
    spoken = spoken or [settings.phonemise(text, language) for text in row["texts"]]
    row["ipa"] = " ".join(map(str, spoken)) if all(spoken) else None
    return row


def _write_split(out: Path, split: str, rows: list[Row]) -> None:
    """``SPLIT.jsonl``: all crops, romanised; ``SPLIT-ipa.jsonl``: those with phones, as phones."""
    for name, text, members in (
        (split, "roman", rows),
        (f"{split}-ipa", "ipa", [row for row in rows if row["ipa"]]),
    ):
        path = out / f"{name}.jsonl"
        if members:
            utterances = [_utterance(row, out, row[text]) for row in members]
            write_manifest(path, utterances, notes=map(_notes, members))
        else:
            path.unlink(missing_ok=True)


def _utterance(row: Row, out: Path, text: str | None) -> Utterance:
    speaker = f"{row['source']}/{row['speaker']}" if row["speaker"] is not None else None
    place = out / row["audio"]
    return Utterance(row["id"], place, 0.0, row["duration_s"], 16_000, speaker, text)


def _notes(row: Row) -> dict[str, Any]:
    notes = {"language": row["language"], "source": row["source"]}
    for name in ("orthography", "roman", "ipa"):
        if row[name]:
            notes[name] = row[name]
    if row["band_hz"] < 8000:
        notes["band_hz"] = row["band_hz"]
    return notes


def _write_dropped(path: Path, dropped: list[tuple[str, Drop]]) -> None:
    with writing(path) as file:
        for source, drop in dropped:
            row = {"source": source, "clip": drop.name, "reason": drop.reason}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
