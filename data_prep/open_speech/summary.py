"""What came of the sources, in numbers and as a table."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_prep.open_speech.choose import Row
from data_prep.open_speech.crops import Drop
from data_prep.open_speech.sources import ATTRIBUTION

if TYPE_CHECKING:
    from data_prep.open_speech.build import Found


def summarise(
    found: "Found",
    splits: Mapping[str, Sequence[Row]],
    dropped: Sequence[tuple[str, Drop]],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """Counts by source, language, split and licence; hours are those of the crops."""
    rows = [row for members in splits.values() for row in members]
    by_source, by_language = defaultdict(list), defaultdict(list)
    for row in rows:
        by_source[row["source"]].append(row)
        by_language[row["language"]].append(row)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for name, drop in dropped:
        reasons[name][drop.reason.partition(":")[0]] += 1
    clips = Counter(name for name, _ in found.clips)
    sources = {}
    for source in found.sources:
        own = by_source[source.name]
        sources[source.name] = {
            "parts": source.parts,
            "licence": source.licence,
            "licence_file": source.licence_file,
            "terms": source.terms,
            "attribution": ATTRIBUTION.get(source.name, ""),
            "languages": sorted({row["language"] for row in own}),
            "clips": clips[source.name],
            **counts(own),
            "dropped": dict(sorted(reasons[source.name].items())),
        }
    terms: dict[str, float] = defaultdict(float)
    for facts in sources.values():
        terms[str(facts["terms"])] += facts["hours"]
    return {
        "total": counts(rows),
        "splits": {split: counts(members) for split, members in splits.items()},
        "sources": sources,
        "languages": {code: counts(by_language[code]) for code in sorted(by_language)},
        "hours_by_terms": {name: round(hours, 3) for name, hours in sorted(terms.items())},
        "missing": found.missing,
        "left_out": dict(left_out),
    }


def counts(rows: Sequence[Row]) -> dict[str, Any]:
    """Hours, of speech too, crops, speakers, and how much has which transcript."""
    return {
        "hours": _hours(rows),
        "active_hours": round(sum(row["active_s"] for row in rows) / 3600, 3),
        "crops": len(rows),
        "speakers": len({(r["source"], r["speaker"]) for r in rows if r["speaker"] is not None}),
        "crops_of_unknown_speakers": sum(row["speaker"] is None for row in rows),
        "crops_with_text": sum(bool(row["roman"]) for row in rows),
        "hours_with_text": _hours(row for row in rows if row["roman"]),
        "hours_with_ipa": _hours(row for row in rows if row["ipa"]),
        "hours_band_limited": _hours(row for row in rows if row["band_hz"] < 8000),
    }


def _hours(rows: Iterable[Row]) -> float:
    return round(sum(row["duration_s"] for row in rows) / 3600, 3)


_COLUMNS = (
    "source",
    "from",
    "languages",
    "licence",
    "asks for",
    "hours",
    "speech",
    "speakers",
    "with text",
    "with phones",
    "band-limited",
)
_MOST_NAMED = 6
_ASKS = {"free": "nothing", "notice": "names", "alike": "the same terms", "": ""}


def table(summary: Mapping[str, Any]) -> str:
    """Markdown: a row a source, and one for all. Hours, with how much of them is speech, and how
    much has which transcript or was recorded or sent with less than 8 kHz."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    every = {**summary["total"], "languages": list(summary["languages"])}
    for name, facts in [*summary["sources"].items(), ("all", every)]:
        codes = facts["languages"]
        languages = " ".join(codes) if len(codes) <= _MOST_NAMED else f"{len(codes)} languages"
        cells = [
            name,
            ", ".join(part.partition(":")[2] for part in facts.get("parts", ())),
            languages,
            facts.get("licence", ""),
            _ASKS[facts.get("terms", "")],
            f"{facts['hours']:.2f}",
            f"{facts['active_hours']:.2f}",
            str(facts["speakers"] or "unknown"),
            f"{facts['hours_with_text']:.2f}",
            f"{facts['hours_with_ipa']:.2f}",
            f"{facts['hours_band_limited']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
