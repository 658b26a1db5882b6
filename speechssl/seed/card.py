"""The model card and the NOTICE of a seed, from what a person states of its sources and scores."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechssl.config.json import from_json


@dataclass(frozen=True)
class Source:
    """A corpus that a seed learned from."""

    name: str
    url: str
    license: str
    """As its publisher names it, e.g. CC-BY-4.0."""
    hours: float
    languages: tuple[str, ...]
    """ISO 639 codes."""
    transcripts: bool = False
    """Whether its transcripts were learned from."""
    attribution: str = ""
    """What its licence asks to be stated; '' where it asks for nothing."""


@dataclass(frozen=True)
class Score:
    """A measured number."""

    what: str
    """Data, labels, decoding and measure, e.g. ``Mboshi, 10 minutes, greedy, CER``."""
    value: str
    """With its interval."""


@dataclass(frozen=True)
class SeedCard:
    """What only a person knows of a seed."""

    license: str
    """Of the weights, an SPDX name that every source allows."""
    sources: tuple[Source, ...]
    writes: str = ""
    """What its CTC head emits, e.g. ``letters of a romanisation (uroman)``; '' where it has none
    or where that is the orthography of its languages."""
    scores: tuple[Score, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def hours(self) -> float:
        return sum(source.hours for source in self.sources)

    @property
    def languages(self) -> list[str]:
        """In alphabetical order."""
        return sorted({code for source in self.sources for code in source.languages})

    def about(self) -> dict[str, Any]:
        """For meta.json."""
        return {
            "license": self.license,
            "hours": round(self.hours, 2),
            "languages": self.languages,
            "writes": self.writes,
        }


def read_card(path: Path) -> SeedCard:
    """The card that a JSON file states; ValueError naming the file and what is missing in it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("it holds no JSON object")
        parts = {"sources": Source, "scores": Score}
        read: dict[str, Any] = {
            name: tuple(from_json(kind, each, name) for each in data.pop(name, ()))
            for name, kind in parts.items()
        }
        if not read["sources"]:
            raise ValueError("it names no sources")
        bare = from_json(SeedCard, {**data, "sources": []})
        return SeedCard(**{**vars(bare), **read})
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no card {path}.") from None
    except (ValueError, TypeError) as error:  # TypeError: a field without default is missing
        raise ValueError(f"{path} is no card of a seed: {str(error).rstrip('.')}.") from error


def model_card(card: SeedCard, facts: Mapping[str, str]) -> str:
    """The README.md of a seed, with the front matter that model hubs read; `facts`: of its form and
    training, by name."""
    parts = [
        "\n".join(_front_matter(card)),
        "# The seed of speechssl",
        "A start for few transcripts of any language: `speechssl finetune --init seed`. Its "
        "tensors are bfloat16 and are read as float32.",
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        f"## Languages\n\n{', '.join(card.languages)}",
        "## Sources\n\n" + "\n".join(_table_of_sources(card)),
        "## Scores\n\n" + _scores(card),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(card)),
        f"## Licence\n\nThe weights: {card.license}. What the licences of the sources ask to be "
        "stated is in NOTICE.",
    ]
    return "\n\n".join(parts) + "\n"


def notice(card: SeedCard) -> str:
    """The sources, and what their licences ask to be stated."""
    lines = [f"The weights of this model are licensed under {card.license}. They learned from:"]
    for source in card.sources:
        lines += ["", f"{source.name} ({source.license}), {source.url}"]
        lines += [source.attribution] if source.attribution else []
    return "\n".join(lines) + "\n"


def _front_matter(card: SeedCard) -> Iterator[str]:
    yield from ("---", "library_name: speechssl", f"license: {card.license.lower()}", "language:")
    yield from (f"- {code}" for code in card.languages)
    yield from ("tags:", "- speech", "- speechssl", "---")


def _table_of_sources(card: SeedCard) -> Iterator[str]:
    yield "| source | languages | hours | transcripts | licence |"
    yield "|---|---|---|---|---|"
    for s in card.sources:
        used = "used" if s.transcripts else "none used"
        yield (
            f"| [{s.name}]({s.url}) | {', '.join(s.languages)} | {s.hours:.1f} | {used} | "
            f"{s.license} |"
        )
    yield f"| all | {len(card.languages)} | {card.hours:.1f} | | {card.license} (the weights) |"


def _scores(card: SeedCard) -> str:
    rows = [f"| {score.what} | {score.value} |" for score in card.scores]
    return "\n".join(["| what | value |", "|---|---|", *rows]) if rows else "Not stated."


def _limits(card: SeedCard) -> Iterator[str]:
    yield from card.limits
    if card.writes:
        yield f"Its own head emits {card.writes}, whatever the language: fine-tune it for a script."
    yield "Other languages, rooms or microphones than those of the sources cost accuracy."
