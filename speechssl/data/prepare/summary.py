"""What prepare found, for summary.json and for a person."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from speechssl.data.layouts import Recording, Unused
from speechssl.data.manifest import Utterance
from speechssl.data.prepare.config import PrepareConfig
from speechssl.data.prepare.drop import Dropped, categories
from speechssl.data.prepare.inspection import QUIET_PEAK, Inspection
from speechssl.data.prepare.split import SPLITS, sentences_of
from speechssl.data.prepare.transcripts import is_letter
from speechssl.data.prepare.utterances import Kept
from speechssl.spelling import count_invisible, invisible_characters

MAX_NAMED = 3
"""Recordings that a note of the summary names; ``summary.json`` holds all of them."""


@dataclass(frozen=True)
class SplitSummary:
    """What one manifest holds."""

    utterances: int
    hours: float
    speakers: int
    labeled_utterances: int
    labeled_hours: float


@dataclass(frozen=True)
class PrepareSummary:
    """What `prepare` found; ``summary.json`` holds the same."""

    split_by: str
    """source, speaker, text or recording: what was kept together."""
    splits: dict[str, SplitSummary]
    utterances: int
    hours: float
    speakers: int
    characters: dict[str, int]
    """Every character of the transcripts, most frequent first."""
    sample_rates: dict[str, int]
    """Utterances by the rate of their file, in Hz."""
    sliced_recordings: int
    """Recordings cut into parts because they were too long."""
    dropped: dict[str, int]
    warnings: dict[str, int]
    """How many of each, the zeros left out. Utterances: `low_rate` (file below 16 kHz),
    `narrow_band` (nothing above 4 kHz). Recordings: `blank_transcripts`, `cancelled_channels`
    (in their mean), `beyond_full_scale`, `incomplete` (sound is missing that the header states),
    `quiet` (:data:`QUIET_PEAK`).
    Transcripts: `no_letters` (punctuation alone), `placeholders` (``NA`` and the like),
    `invisible_characters`. And `shared_speakers` and `shared_sentences` (in more than one
    split)."""
    named: dict[str, list[str]]
    """Ids of the recordings of a warning, where it is about recordings or transcripts."""
    missing: list[str]
    """A sentence for each of the `incomplete` recordings."""
    invisible_characters: dict[str, int]
    """Characters of the transcripts that nobody sees: name -> how often, most frequent first."""
    config: PrepareConfig
    unused: Sequence[Unused] = ()
    """What the source offers and what was not used: transcripts above all."""

    def describe(self) -> str:
        """A few lines for a person."""
        lines = [
            f"{self.hours:.2f} h in {self.utterances} utterances, {self.speakers or 'unknown'} "
            f"speakers, {len(self.characters)} characters; split by {self.split_by}"
        ]
        for name, split in self.splits.items():
            lines.append(
                f"  {name:5} {split.utterances:7} utterances {split.hours:8.2f} h, transcribed "
                f"{split.labeled_utterances} ({split.labeled_hours:.2f} h), "
                f"{split.speakers or 'unknown'} speakers"
            )
        if self.sliced_recordings:
            lines.append(f"  cut at quiet moments: {self.sliced_recordings} long recordings")
        for category, count in self.dropped.items():
            lines.append(f"  dropped {count}: {category}")
        for name, count in self.warnings.items():
            lines += self._note(name, count)
        lines += [f"  not used: {item}" for item in self.unused]
        return "\n".join(lines)

    def _note(self, name: str, count: int) -> list[str]:
        """A warning with the first recordings that it is about."""
        ids = self.named.get(name, [])
        first = ", ".join(ids[:MAX_NAMED]) + ", ..." * (len(ids) > MAX_NAMED)
        lines = [f"  note: {_WARNINGS[name].format(count)}" + (f" ({first})" if ids else "")]
        if name == "incomplete":
            lines += [f"    {sentence}" for sentence in self.missing[:MAX_NAMED]]
        if name == "invisible_characters":
            found = self.invisible_characters.items()
            lines.append("    " + ", ".join(f"{number} x {c}" for c, number in found))
        return lines


_PLACEHOLDERS = {"NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None"}
"""What R, pandas, databases and Python write where there is no text."""

_WARNINGS = {
    "low_rate": "{} utterances come from files below 16 kHz",
    "narrow_band": "{} utterances hold nothing above 4 kHz though their files could",
    "shared_speakers": "{} speakers are in more than one split",
    "shared_sentences": "{} sentences are in more than one split",
    "blank_transcripts": "{} transcripts are blank, which says nothing of what was said: their "
    "recordings are taken as unlabeled",
    "no_letters": "{} transcripts hold neither a letter nor a digit",
    "placeholders": "{} transcripts are a word that programs write for an empty cell (NA, NaN, "
    "null): leave the cell empty if nothing is known of what was said",
    "invisible_characters": "{} transcripts hold characters that nobody sees",
    "cancelled_channels": "{} recordings have channels that cancel each other when they are mixed: "
    "the loudest channel is taken",
    "beyond_full_scale": "{} recordings have samples beyond full scale: they are divided by their "
    "peak",
    "incomplete": "{} recordings lack sound that their headers state: what is there is taken",
    "overlapping": "{} utterances overlap another one of their recording: both voices are in them",
    "quiet": "{} recordings are quiet, with a peak below -40 dBFS: a model that does not normalise "
    "its input gets next to nothing of them",
}


def summarize(
    usable: list[tuple[Recording, Inspection]],
    kept: list[Kept],
    dropped: list[Dropped],
    split_by: str,
    named: dict[str, list[str]],
    unused: Sequence[Unused],
    config: PrepareConfig,
) -> PrepareSummary:
    """Count what became of the `usable` recordings, the utterances `kept` of them, and what was
    `dropped`; `named` are ids by warning."""
    characters = Counter("".join(item.utterance.text or "" for item in kept))
    rates = Counter(item.utterance.sample_rate for item in kept)
    per_split = {split: [k.utterance for k in kept if k.split == split] for split in SPLITS}
    speakers = {split: {u.speaker for u in us} - {None} for split, us in per_split.items()}
    sentences = {split: sentences_of(kept, split) for split in SPLITS}
    warnings = {
        "low_rate": sum(item.utterance.sample_rate < 16000 for item in kept),
        "narrow_band": sum(item.narrow_band for item in kept),
        "shared_speakers": _count_shared(list(speakers.values())),
        "shared_sentences": _count_shared(list(sentences.values())),
        **{name: len(ids) for name, ids in named.items()},
    }
    return PrepareSummary(
        split_by=split_by,
        splits={split: _summarize_split(us) for split, us in per_split.items() if us},
        utterances=len(kept),
        hours=_hours(item.utterance for item in kept),
        speakers=len(set().union(*speakers.values())),
        characters=dict(sorted(characters.items(), key=lambda item: (-item[1], item[0]))),
        sample_rates={str(rate): rates[rate] for rate in sorted(rates)},
        sliced_recordings=sum(len(seen.cuts) > 0 for _, seen in usable),
        dropped=categories(dropped),
        warnings={name: count for name, count in warnings.items() if count},
        named={name: ids for name, ids in named.items() if ids},
        missing=[seen.missing for _, seen in usable if seen.missing],
        invisible_characters=count_invisible(r.text for r, _ in usable if r.text),
        config=config,
        unused=unused,
    )


def named_by_warning(usable: list[tuple[Recording, Inspection]]) -> dict[str, list[str]]:
    """Ids of the recordings that are used and whose sound or transcript is not as it should be, by
    warning."""
    texts = [(record.id, record.text) for record, _ in usable if record.text]
    return {
        "no_letters": [i for i, text in texts if not any(map(is_letter, text))],
        "placeholders": [i for i, text in texts if text.strip() in _PLACEHOLDERS],
        "invisible_characters": [i for i, text in texts if invisible_characters(text)],
        "cancelled_channels": [record.id for record, seen in usable if seen.cancels],
        "beyond_full_scale": [record.id for record, seen in usable if seen.beyond_full_scale],
        "overlapping": _overlapping(usable),
        "incomplete": [record.id for record, seen in usable if seen.missing],
        "quiet": [record.id for record, seen in usable if seen.peak < QUIET_PEAK],
    }


MIN_OVERLAP_S = 0.1
"""Utterances that share less than this overlap by the rounding of their times."""


def _overlapping(usable: list[tuple[Recording, Inspection]]) -> list[str]:
    """Ids of the utterances with a transcript that begin before another one of their recording has
    ended, and of those others."""
    by_file: dict[str, list[tuple[float, float, int]]] = {}
    for place, (record, seen) in enumerate(usable):
        if record.text:
            span = (record.start_s, record.start_s + seen.duration_s, place)
            by_file.setdefault(str(record.audio), []).append(span)
    found: set[int] = set()
    for spans in by_file.values():
        longest = (0.0, -1)
        for start_s, end_s, place in sorted(spans):
            if longest[0] - start_s > MIN_OVERLAP_S:
                found |= {place, longest[1]}
            longest = max(longest, (end_s, place))
    return [usable[place][0].id for place in sorted(found)]


def _count_shared(sets: list[set[Any]]) -> int:
    return sum(count > 1 for count in Counter(x for s in sets for x in s).values())


def _summarize_split(utterances: list[Utterance]) -> SplitSummary:
    labeled = [utterance for utterance in utterances if utterance.text]
    return SplitSummary(
        len(utterances),
        _hours(utterances),
        len({utterance.speaker for utterance in utterances} - {None}),
        len(labeled),
        _hours(labeled),
    )


def _hours(utterances: Iterable[Utterance]) -> float:
    return round(sum(utterance.duration_s for utterance in utterances) / 3600, 4)
