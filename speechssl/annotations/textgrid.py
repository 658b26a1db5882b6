"""Praat's TextGrids: long and short form, in whichever encoding."""

import re
from pathlib import Path
from typing import Any

from speechssl.annotations.packages import praatio
from speechssl.annotations.parts import Annotations, Segment, Tier, Unplaced, one_line
from speechssl.text.encodings import decode

_EXPONENT = re.compile(r"^(\s*(?:\w+\s*=\s*)?)(-?\d+(?:\.\d+)?[eE][-+]?\d+)(\s*)$", re.MULTILINE)


def read_textgrid(path: Path) -> Annotations:
    """The tiers of intervals, in their order; an interval without a label has an empty text.

    Points have no duration: they are in `unplaced`. Raises ValueError where the file is no whole
    TextGrid, and ModuleNotFoundError without praatio.
    """
    text = decode(path.read_bytes(), path)
    text = _EXPONENT.sub(lambda m: f"{m[1]}{float(m[2]):.12f}{m[3]}", text)
    try:
        grid = praatio().parseTextgridStr(text, True)
        tiers = [_tier(tier) for tier in grid["tiers"]]
    except Exception as error:  # it raises its own, and what slicing lists raises
        raise ValueError(f"{path} is no TextGrid that can be read, or is cut off.") from error
    found = sum(len(tier["entries"]) + 2 for tier in grid["tiers"])
    labels = len(re.findall(r'"(?:[^"]|"")*"', text)) - 2  # of the two of the header
    if not text.lstrip().startswith("{") and found != labels:
        raise ValueError(
            f"{path} is no TextGrid that can be read, or is cut off: it has {labels} labels and "
            f"names, of which {found} are in its tiers."
        )
    return Annotations(
        tuple(tier for tier, _ in tiers if tier is not None),
        duration_s=float(grid["xmax"]),
        unplaced=tuple(point for _, points in tiers for point in points),
    )


def _tier(tier: dict[str, Any]) -> tuple[Tier | None, list[Unplaced]]:
    name = str(tier["name"])
    if tier["class"] != "IntervalTier":
        points = [(str(time), one_line(label)) for time, label in tier["entries"]]
        reason = "it is a point without a duration"
        return None, [Unplaced(name, f"point at {t} s", text, reason) for t, text in points if text]
    spans = [(float(start), float(end), one_line(text)) for start, end, text in tier["entries"]]
    good = [Segment(start, end, text) for start, end, text in spans if 0 <= start < end]
    bad = [
        Unplaced(name, f"interval at {start:g} s", text, f"it ends at {end:g} s")
        for start, end, text in spans
        if text and not 0 <= start < end
    ]
    return Tier(name, tuple(good)), bad
