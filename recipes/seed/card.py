"""The card of a seed, from what it learned from: sources, hours, licences and whom they name.

    python recipes/seed/card.py DATA --license CC-BY-4.0 --out card.json

DATA is the folder that data_prep/seed.py wrote, and train.jsonl in it what the seed was trained on.
`python -m speechssl.seed.pack RUN --card card.json` reads the card.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from speechssl.files import writing
from speechssl.seed.card import Score, SeedCard, Source

EMITS = "letters of a romanisation (uroman), and phones (espeak-ng) from a second head"
LIMITS = (
    "An accent, an age or a channel that no source has is unknown to it; most is read speech.",
)


def make_card(data: Path, license: str, scores: Sequence[Score] = ()) -> SeedCard:
    """Of the crops in DATA/train.jsonl, by what DATA/summary.json says of their sources.

    Raises ValueError naming a source that is unknown, that asks for its own terms, or that must be
    attributed and is not."""
    hours: dict[str, float] = defaultdict(float)
    languages: dict[str, set[str]] = defaultdict(set)
    has_text: dict[str, bool] = defaultdict(bool)
    with (data / "train.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            name = row["source"]
            hours[name] += row["duration_s"] / 3600
            languages[name].add(row["language"])
            has_text[name] |= bool(row.get("text"))
    known = json.loads((data / "summary.json").read_text(encoding="utf-8"))["sources"]
    for name in sorted(hours):
        if name not in known:
            raise ValueError(f"{data}/summary.json says nothing of the source {name}.")
        if known[name]["terms"] == "alike":
            raise ValueError(
                f"{name} asks for its own terms, which no single licence of the weights meets: "
                "make the data with --terms free notice."
            )
        if known[name]["terms"] == "notice" and not known[name].get("attribution"):
            raise ValueError(
                f"{data}/summary.json does not say whom to name for {name}, whose licence asks "
                "for it."
            )
    sources = tuple(
        Source(
            name=name,
            url=_url(known[name]["parts"][0]),
            license=known[name]["licence"],
            hours=round(hours[name], 2),
            languages=tuple(sorted(languages[name])),
            transcripts=has_text[name],
            attribution=known[name].get("attribution", ""),
        )
        for name in sorted(hours, key=lambda name: -hours[name])
    )
    return SeedCard(license, sources, EMITS, tuple(scores), LIMITS)


def _url(part: str) -> str:
    kind, _, name = part.partition(":")
    if kind == "github":
        return f"https://github.com/{name}"
    if kind == "debian":
        return f"https://packages.debian.org/{name}"
    return "https://github.com/getalp/ALFFA_PUBLIC"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 2 where what was given is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--license", required=True, help="of the weights, an SPDX name")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--score", nargs=2, action="append", default=[], metavar=("WHAT", "VALUE"),
        help="a measured number, with its interval; may be given again",
    )  # fmt: skip
    args = parser.parse_args(argv)
    try:
        card = make_card(args.data, args.license, [Score(*score) for score in args.score])
        with writing(args.out) as file:
            file.write(json.dumps(asdict(card), ensure_ascii=False, indent=1) + "\n")
    except (OSError, ValueError) as error:
        print(f"card: {error}", file=sys.stderr)
        return 2
    print(f"{len(card.sources)} sources, {card.hours:.1f} h, {len(card.languages)} languages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
