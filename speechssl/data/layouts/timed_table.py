"""A table of times and texts that has the name of its recording, as ELAN, Praat and SayMore export
it: a column of starts, one of ends or durations, one of texts, perhaps of tiers and speakers."""

from pathlib import Path

from speechssl.annotations import Annotations, Segment, Tier, Unplaced
from speechssl.data.layouts.columns import TIER_COLUMNS
from speechssl.data.layouts.dialect import read_cells
from speechssl.data.layouts.join import with_ends
from speechssl.data.layouts.table import read_parts


def read_timed_table(path: Path, recording: Path) -> Annotations:
    """The rows of a table as segments of `recording`; a tier for each name in a column of tiers.

    Raises ValueError that names the file and all lines that are wrong.
    """
    table = read_cells(path, lambda _: False)
    place = next((table.header.index(n) for n in TIER_COLUMNS if n in table.header), None)
    tier_of = {line: row[place] if place is not None else "" for line, row in table.rows}
    parts = read_parts(table, recording)
    by_tier: dict[str, list[Segment]] = {}
    unplaced = []
    for part in with_ends(parts):
        name = tier_of.get(part.line or 0, "")
        if part.duration_s is None:
            unplaced.append(Unplaced(name, f"line {part.line}", part.text or "", "it has no end"))
            continue
        end_s = round(part.start_s + part.duration_s, 6)
        segment = Segment(part.start_s, end_s, part.text or "", part.speaker or "")
        by_tier.setdefault(name, []).append(segment)
    tiers = [
        Tier(name, tuple(sorted(found, key=lambda s: s.start_s))) for name, found in by_tier.items()
    ]
    return Annotations(tuple(tiers), unplaced=tuple(unplaced))
