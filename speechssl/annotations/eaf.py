"""ELAN's files (.eaf): tiers with their types, participants and times.

An annotation has a place in time through its time slots, or through the annotation that it refers
to (EAF 3.0, The Language Archive). Several that refer to one annotation (the words of a sentence)
are one segment. Slots without a time lie evenly between those around them, as ELAN shows them.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from speechssl.annotations.packages import pympi
from speechssl.annotations.parts import Annotations, Media, Segment, Tier, Unplaced, one_line

_SCHEMA = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"

UNIT_S = {"milliseconds": 0.001, "PAL-frames": 0.04, "NTSC-frames": 1001 / 30000}
"""Seconds of a unit of time, by the TIME_UNITS of the header."""


@dataclass(frozen=True)
class _Note:
    """An annotation; `start` and `end` are slots, or `parent` the annotation that it refers to."""

    id: str
    tier: str
    text: str
    start: str = ""
    end: str = ""
    parent: str = ""
    previous: str = ""


class _Lost(Exception):
    """Why an annotation has no place in time."""


def read_eaf(path: Path) -> Annotations:
    """The tiers of an .eaf, in their order.

    Raises ValueError where the file is no XML or no EAF, and ModuleNotFoundError without pympi.
    What has no place in time (broken references) is in `unplaced`.
    """
    eaf = _parsed(path)
    unit_s = UNIT_S.get(eaf.header.get("TIME_UNITS", "milliseconds"))
    if unit_s is None:
        raise ValueError(
            f"{path} counts time in {eaf.header['TIME_UNITS']!r}, which is none of "
            f"{', '.join(UNIT_S)}."
        )
    notes = {name: _notes(name, *parts[:2]) for name, parts in eaf.tiers.items()}
    placing = _Placing([note for tier in notes.values() for note in tier], eaf.timeslots, unit_s)
    tiers, unplaced = [], []
    for name, parts in eaf.tiers.items():
        segments, lost = placing.segments(notes[name])
        given: Mapping[str, str] = parts[2]
        unplaced += lost
        tiers.append(
            Tier(
                name,
                tuple(segments),
                kind=given.get("LINGUISTIC_TYPE_REF", ""),
                speaker=given.get("PARTICIPANT", "").strip(),
                language=given.get("LANG_REF", "") or given.get("DEFAULT_LOCALE", ""),
                parent=given.get("PARENT_REF", ""),
            )
        )
    media = tuple(_media(descriptor) for descriptor in eaf.media_descriptors)
    return Annotations(tuple(tiers), media, unplaced=tuple(unplaced))


def _parsed(path: Path) -> Any:
    elan = pympi()
    eaf = elan.Eaf()
    for collection in (eaf.tiers, eaf.linguistic_types, eaf.properties, eaf.constraints):
        collection.clear()
    eaf.adocument[_SCHEMA] = ""  # which it deletes, and files of other programs lack
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            elan.parse_eaf(str(path), eaf, suppress_version_warning=True)
    except OSError:
        raise
    except Exception as error:  # it raises bare ones too
        raise ValueError(f"{path} is no file of ELAN that can be read: {_why(error)}.") from error
    if not eaf.tiers:
        raise ValueError(f"{path} is no file of ELAN that can be read: it holds no tier.")
    return eaf


def _why(error: Exception) -> str:
    cause = error.__context__ or error
    if isinstance(cause, KeyError):
        return f"an element lacks its attribute {cause.args[0]}"
    if isinstance(cause, IndexError):
        return "an annotation lacks its ANNOTATION_VALUE"
    if isinstance(cause, ValueError) and "int()" in str(cause):
        return f"an id or a time lacks its number ({str(cause).rsplit(': ', 1)[-1]})"
    return f"not well-formed XML ({cause})"


def _notes(tier: str, aligned: Mapping[str, Any], referring: Mapping[str, Any]) -> list[_Note]:
    """What pympi holds of a tier."""
    found = [
        _Note(key, tier, one_line(text), start=start, end=end)
        for key, (start, end, text, _) in aligned.items()
    ]
    found += [
        _Note(key, tier, one_line(text), parent=parent, previous=previous or "")
        for key, (parent, text, previous, _) in referring.items()
    ]
    return found


class _Placing:
    """Finds the place of annotations in time."""

    def __init__(
        self, notes: Sequence[_Note], slots: Mapping[str, int | None], unit_s: float
    ) -> None:
        self._notes = {note.id: note for note in notes}
        self._place = {slot: place for place, slot in enumerate(slots)}
        self._unit_s = unit_s
        self._given = slots
        self._ranks: dict[str, dict[str, int]] = {}

    def segments(self, notes: Sequence[_Note]) -> tuple[list[Segment], list[Unplaced]]:
        """Those of a tier in the order of time, and what has no place."""
        lost: list[Unplaced] = []
        times = self._times(notes)
        by_root: dict[str, list[tuple[tuple[int, ...], _Note]]] = {}
        for note in notes:
            try:
                root, order = self._root(note)
                by_root.setdefault(root.id, []).append((order, note))
            except _Lost as error:
                lost.append(Unplaced(note.tier, note.id, note.text, str(error)))
        made = []
        for key, members in by_root.items():
            root = self._notes[key]
            try:
                start_s, end_s = self._span(root, times)
            except _Lost as error:
                lost += [Unplaced(n.tier, n.id, n.text, str(error)) for _, n in members]
                continue
            texts = [n.text for _, n in sorted(members, key=lambda item: item[0])]
            made.append(Segment(start_s, end_s, " ".join(filter(None, texts))))
        return sorted(made, key=lambda s: (s.start_s, s.end_s)), lost

    def _root(self, note: _Note) -> tuple[_Note, tuple[int, ...]]:
        """The annotation with time slots that one refers to in the end, and its order below it."""
        order: list[int] = []
        seen = {note.id}
        while note.parent:
            order.append(self._rank(note))
            above = self._notes.get(note.parent)
            if above is None:
                raise _Lost(f"it refers to {note.parent}, which is not there")
            if above.id in seen:
                raise _Lost(f"it refers to {note.parent}, which refers to it")
            seen.add(above.id)
            note = above
        return note, tuple(reversed(order))

    def _rank(self, note: _Note) -> int:
        """Where an annotation stands in its tier: behind its PREVIOUS_ANNOTATION."""
        if note.tier not in self._ranks:
            members = [n for n in self._notes.values() if n.tier == note.tier]
            after: dict[str, list[_Note]] = {}
            ids = {member.id for member in members}
            for member in members:
                previous = member.previous if member.previous in ids else ""
                after.setdefault(previous, []).append(member)
            order: list[str] = []
            stack = after.get("", [])[::-1]
            while stack:
                here = stack.pop()
                order.append(here.id)
                stack += after.get(here.id, [])[::-1]
            order += [member.id for member in members if member.id not in set(order)]
            self._ranks[note.tier] = {key: rank for rank, key in enumerate(order)}
        return self._ranks[note.tier][note.id]

    def _times(self, notes: Sequence[_Note]) -> dict[str, float]:
        """Units of each slot of the tiers that `notes` and what they refer to lie in; those without
        a time evenly between the slots of their tier around them."""
        tiers: set[str] = set()
        for note in notes:
            try:
                tiers.add(self._root(note)[0].tier)
            except _Lost:
                continue
        times: dict[str, float] = {}
        for tier in tiers:
            used = {
                slot
                for note in self._notes.values()
                if note.tier == tier and not note.parent
                for slot in (note.start, note.end)
                if slot in self._place
            }
            chain = sorted(used, key=self._place.__getitem__)
            times |= _evenly(chain, self._given)
        return times

    def _span(self, root: _Note, times: Mapping[str, float]) -> tuple[float, float]:
        for slot in (root.start, root.end):
            if slot not in self._place:
                raise _Lost(f"its time slot {slot} is not there")
            if slot not in times:
                raise _Lost(f"its time slot {slot} has no time, nor those around it")
        start, end = times[root.start], times[root.end]
        if not 0 <= start < end:
            raise _Lost(
                f"it ends at {end * self._unit_s:g} s and starts at {start * self._unit_s:g} s"
            )
        return round(start * self._unit_s, 6), round(end * self._unit_s, 6)


def _evenly(chain: Sequence[str], given: Mapping[str, int | None]) -> dict[str, float]:
    """The time of each slot of a chain; none of those before the first or behind the last that has
    one."""
    times: dict[str, float] = {}
    known: tuple[int, int] | None = None
    for place, slot in enumerate(chain):
        value = given[slot]
        if value is None:
            continue
        times[slot] = float(value)
        if known is not None:
            step = (value - known[1]) / (place - known[0])
            for between in range(known[0] + 1, place):
                times[chain[between]] = known[1] + step * (between - known[0])
        known = (place, value)
    return times


def _media(given: Mapping[str, str]) -> Media:
    """A MEDIA_DESCRIPTOR: relative before absolute, for folders are moved as a whole."""
    urls = [given.get("RELATIVE_MEDIA_URL", ""), given.get("MEDIA_URL", "")]
    places = [place for url in urls if (place := path_of(url))]
    try:
        origin_s = int(given.get("TIME_ORIGIN", "0") or 0) / 1000
    except ValueError:
        origin_s = 0.0
    return Media(tuple(dict.fromkeys(places)), origin_s)


def path_of(url: str) -> str:
    """The path of a ``file:`` address of this or another system, without its escapes; other paths
    as they are."""
    url = url.strip()
    if not url.lower().startswith("file:"):
        return url
    path = unquote(url[5:])
    if match := re.match(r"/{0,4}([A-Za-z]:[\\/].*)", path):
        return match.group(1)
    if path.startswith("///"):  # no host
        return "/" + path.lstrip("/")
    return path
