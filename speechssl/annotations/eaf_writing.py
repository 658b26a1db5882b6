"""Writes ELAN's files: a new one, or a person's own with a tier more.

The latter is changed as text, so that all else stays as it is to the byte: comments, ids,
references, vocabularies and properties that nobody here needs to understand. Annotations get ids
that begin with another letter than ELAN's, as the file's lastUsedAnnotationId would be wrong else.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.parsers import expat

from speechssl.annotations.eaf import UNIT_S
from speechssl.annotations.parts import Annotations, Segment, Tier
from speechssl.annotations.xml_text import attribute, content, decode_xml

MIME_TYPES = {
    ".wav": "audio/x-wav",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".mp3": "audio/mpeg",
}
"""As ELAN names them, by suffix; of others it finds out itself."""

_CONSTRAINTS = {
    "Time_Subdivision": "Time subdivision of parent annotation's time interval, no time gaps "
    "allowed within this interval",
    "Symbolic_Subdivision": "Symbolic subdivision of a parent annotation. Annotations refering to "
    "the same parent are ordered",
    "Symbolic_Association": "1-1 association with a parent annotation",
    "Included_In": "Time alignable annotations within the parent annotation's time interval, gaps "
    "are allowed",
}
"""The four that every file of ELAN lists."""


def write_eaf(
    annotations: Annotations, media: Path | None = None, folder: Path | None = None
) -> str:
    """A new file (EAF 3.0) with the tiers, each with a tier of words below it where its segments
    have words.

    `media` is the recording, and `folder` where the file will lie, from which the recording is
    named too, so that both can be moved together.
    """
    slots: list[int] = []
    tiers: list[str] = []
    has_words = False
    for tier in annotations.tiers:
        segments = apart(tier.segments, 0.001)
        tiers.append(_tier_lines(tier, segments, "speech", slots, "a"))
        words = Tier(f"{tier.name}-words", (), speaker=tier.speaker, parent=tier.name)
        inside = [word for segment in segments for word in _inside(segment)]
        if inside:
            has_words = True
            tiers.append(_tier_lines(words, apart(inside, 0.001), "words", slots, "a"))
    num_annotations = len(slots) // 2
    order = "".join(
        f'        <TIME_SLOT TIME_SLOT_ID="ts{number}" TIME_VALUE="{value}"/>\n'
        for number, value in sorted(enumerate(slots, 1), key=lambda item: item[1])
    )
    types = [_type("speech", "")] + [_type("words", "Included_In")] * has_words
    constraints = "".join(
        f"    <CONSTRAINT DESCRIPTION={attribute(text)} STEREOTYPE={attribute(name)}/>\n"
        for name, text in _CONSTRAINTS.items()
    )
    languages = dict.fromkeys(tier.language for tier in annotations.tiers if tier.language)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<ANNOTATION_DOCUMENT AUTHOR="" DATE="{date}" FORMAT="3.0" VERSION="3.0" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">\n'
        '    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">\n'
        f"{_descriptor(media, folder)}"
        f'        <PROPERTY NAME="lastUsedAnnotationId">{num_annotations}</PROPERTY>\n'
        "    </HEADER>\n"
        f"    <TIME_ORDER>\n{order}    </TIME_ORDER>\n"
        + "".join(tiers)
        + "".join(types)
        + "".join(f"    <LANGUAGE LANG_ID={attribute(name)}/>\n" for name in languages)
        + f"{constraints}</ANNOTATION_DOCUMENT>\n"
    )


def _descriptor(media: Path | None, folder: Path | None) -> str:
    if media is None:
        return ""
    place = os.path.abspath(media)
    mime = MIME_TYPES.get(media.suffix.lower(), "unknown")
    relative = ""
    if folder is not None:
        try:
            inside = Path(os.path.relpath(place, folder)).as_posix()
            inside = inside if inside.startswith("../") else f"./{inside}"
            relative = f" RELATIVE_MEDIA_URL={attribute(inside)}"
        except ValueError:  # another drive of Windows
            relative = ""
    url = attribute("file:///" + Path(place).as_posix().lstrip("/"))
    return f'        <MEDIA_DESCRIPTOR MEDIA_URL={url} MIME_TYPE="{mime}"{relative}/>\n'


def _inside(segment: Segment) -> Iterator[Segment]:
    """The words of a segment, none beyond its ends."""
    for word in segment.words:
        start_s, end_s = max(word.start_s, segment.start_s), min(word.end_s, segment.end_s)
        if word.text and start_s < segment.end_s:
            yield Segment(start_s, max(end_s, start_s), word.text)


def apart(segments: Sequence[Segment], unit_s: float) -> list[Segment]:
    """Segments as a tier of ELAN can hold them: none begins before the one ahead of it ends, and
    each lasts a unit of time at least, for which it may be moved by some units."""
    made: list[Segment] = []
    here = 0
    for segment in sorted(segments, key=lambda s: (s.start_s, s.end_s)):
        start = max(round(segment.start_s / unit_s), here)
        end = max(round(segment.end_s / unit_s), start + 1)
        times = (round(start * unit_s, 6), round(end * unit_s, 6))
        made.append(Segment(*times, segment.text, segment.speaker, segment.words))
        here = end
    return made


def _type(name: str, constraint: str) -> str:
    """A LINGUISTIC_TYPE whose annotations have times."""
    below = f' CONSTRAINTS="{constraint}"' if constraint else ""
    return (
        f'    <LINGUISTIC_TYPE{below} GRAPHIC_REFERENCES="false" '
        f'LINGUISTIC_TYPE_ID={attribute(name)} TIME_ALIGNABLE="true"/>\n'
    )


def _tier_lines(
    tier: Tier, segments: Sequence[Segment], kind: str, slots: list[int], prefix: str
) -> str:
    """A tier; the times of its segments (ms) are appended to `slots`, which are numbered from 1."""
    begin, end = _tier_tags(tier, kind)
    lines = [begin]
    for segment in segments:
        slots += [round(segment.start_s * 1000), round(segment.end_s * 1000)]
        ids = (f"{prefix}{len(slots) // 2}", f"ts{len(slots) - 1}", f"ts{len(slots)}")
        lines.append(_annotation(*ids, segment.text))
    return "".join([*lines, end])


def _tier_tags(tier: Tier, kind: str) -> tuple[str, str]:
    given = {"LANG_REF": tier.language, "PARENT_REF": tier.parent, "PARTICIPANT": tier.speaker}
    further = "".join(f" {key}={attribute(value)}" for key, value in given.items() if value)
    begin = (
        f"    <TIER LINGUISTIC_TYPE_REF={attribute(kind)}{further} TIER_ID={attribute(tier.name)}>"
    )
    return f"{begin}\n", "    </TIER>\n"


def _annotation(key: str, start: str, end: str, text: str) -> str:
    return (
        "        <ANNOTATION>\n"
        f'            <ALIGNABLE_ANNOTATION ANNOTATION_ID="{key}" TIME_SLOT_REF1="{start}" '
        f'TIME_SLOT_REF2="{end}">\n'
        f"                <ANNOTATION_VALUE>{content(text)}</ANNOTATION_VALUE>\n"
        "            </ALIGNABLE_ANNOTATION>\n"
        "        </ANNOTATION>\n"
    )


# ---- a tier more ---------------------------------------------------------------------------------


@dataclass
class _Places:
    """Where in a file, as UTF-8, things are to be put, and which names are taken."""

    slots: list[tuple[int, int | None]] = field(default_factory=list)
    """(place, time) of each TIME_SLOT."""
    order_begin: int = -1
    order_end: int = -1
    """Of the tag that closes TIME_ORDER; `order_begin` where it is an empty element."""
    tiers_end: int = -1
    """Of the element behind the last tier, or of the tag that closes the document."""
    ids: set[str] = field(default_factory=set)
    tier_names: set[str] = field(default_factory=set)
    kinds: list[str] = field(default_factory=list)
    """Names of all linguistic types."""
    free_kinds: list[str] = field(default_factory=list)
    """Those whose annotations have times, depend on nothing and may hold any text."""
    unit_s: float = 0.001


def add_tier(data: bytes, tier: Tier, path: Path, origin_s: float = 0.0) -> tuple[bytes, str]:
    """``(the file with the tier, the tier's name in it)``: the name gets a number where the file
    has a tier of that name.

    Args:
        data: the file; everything in it stays as it is, in its encoding.
        tier: its segments are in seconds of the recording; words are left out.
        path: the file's name, for messages.
        origin_s: where in the recording the file's time is zero (TIME_ORIGIN); what lies before
            has no place in the file and is left out.

    Raises ValueError where the file is no EAF.
    """
    text, encoding = decode_xml(data, path)
    line_end = "\r\n" if "\r\n" in text else "\n"
    utf8, places = _opened(text.encode("utf-8"), path)
    name, number = tier.name, 2
    while name in places.tier_names:
        name, number = f"{tier.name}-{number}", number + 1
    moved = [
        Segment(max(s.start_s - origin_s, 0.0), s.end_s - origin_s, s.text)
        for s in tier.segments
        if s.end_s > origin_s
    ]
    kind = _free_kind(places)
    first = 1 + max((_number(i) for i in places.ids if i.startswith("ts")), default=0)
    letter = "h"
    while any(key.startswith(letter) for key in places.ids):
        letter += "h"
    begin, end = _tier_tags(replace(tier, name=name, parent="", language=""), kind or _NEW)
    times: list[int] = []
    rows = []
    for segment in apart(moved, places.unit_s):
        times += [round(segment.start_s / places.unit_s), round(segment.end_s / places.unit_s)]
        ids = (f"ts{first + len(times) - 2}", f"ts{first + len(times) - 1}")
        rows.append(_annotation(f"{letter}{len(times) // 2}", *ids, segment.text))
    new_type = _type(_NEW, "") if kind is None else ""
    added = "".join([begin, *rows, end, new_type]).lstrip(" ") + "    "
    edits = [(places.tiers_end, added), *_slot_edits(places, times, first)]
    made = _edited(utf8, [(place, new.replace("\n", line_end)) for place, new in edits])
    return made.decode("utf-8").encode(encoding, "xmlcharrefreplace"), name


def _opened(utf8: bytes, path: Path) -> tuple[bytes, _Places]:
    """A file with a TIME_ORDER that has a tag of its own at its end."""
    places = _find_places(utf8, path)
    if places.order_begin < 0:
        return utf8, places
    close = utf8.index(b">", places.order_begin)
    tags = b"<TIME_ORDER>\n    </TIME_ORDER>"
    utf8 = utf8[: places.order_begin] + tags + utf8[close + 1 :]
    return utf8, _find_places(utf8, path)


_NEW = "speechssl"
"""The linguistic type that is made where a file has none that a tier of text can take."""


def _free_kind(places: _Places) -> str | None:
    """A linguistic type for the tier; None: one must be made."""
    for wanted in ("default-lt", "default", _NEW):
        if wanted in places.free_kinds:
            return wanted
    return places.free_kinds[0] if places.free_kinds else None


def _number(key: str) -> int:
    digits = "".join(filter(str.isdigit, key))
    return int(digits) if digits else 0


def _slot_edits(places: _Places, times: Sequence[int], first: int) -> list[tuple[int, str]]:
    """The new time slots, each before the first one that is later."""
    edits: dict[int, list[str]] = {}
    known = [(place, time) for place, time in places.slots if time is not None]
    at = 0
    for number, time in enumerate(times, first):
        while at < len(known) and known[at][1] <= time:
            at += 1
        place = known[at][0] if at < len(known) else places.order_end
        slot = f'<TIME_SLOT TIME_SLOT_ID="ts{number}" TIME_VALUE="{time}"/>'
        edits.setdefault(place, []).append(slot)
    made = []
    for place, slots in edits.items():
        if place == places.order_end:  # the closing tag is indented less
            made.append((place, "    " + "\n        ".join(slots) + "\n    "))
        else:
            made.append((place, "".join(f"{slot}\n        " for slot in slots)))
    return made


def _edited(data: bytes, edits: Sequence[tuple[int, str]]) -> bytes:
    """`data` with texts put in before the given places."""
    parts, here = [], 0
    for place, text in sorted(edits):
        parts += [data[here:place], text.encode("utf-8")]
        here = place
    return b"".join([*parts, data[here:]])


def _find_places(utf8: bytes, path: Path) -> _Places:
    places = _Places()
    parser = expat.ParserCreate("utf-8")
    depth = 0
    behind_tiers = False

    def start(name: str, given: dict[str, str]) -> None:
        nonlocal depth, behind_tiers
        here = parser.CurrentByteIndex
        depth += 1
        if depth == 1 and name != "ANNOTATION_DOCUMENT":
            raise ValueError(f"{path} is no file of ELAN: its outermost element is {name}.")
        for key in ("TIME_SLOT_ID", "ANNOTATION_ID"):
            if key in given:
                places.ids.add(given[key])
        if name == "HEADER":
            places.unit_s = UNIT_S.get(given.get("TIME_UNITS", ""), 0.001)
        elif name == "TIME_ORDER":
            places.order_begin = here
        elif name == "TIME_SLOT":
            value = given.get("TIME_VALUE", "")
            places.slots.append((here, int(value) if value.isdigit() else None))
        elif name == "TIER":
            places.tier_names.add(given.get("TIER_ID", ""))
        elif name == "LINGUISTIC_TYPE":
            _note_kind(places, given)
        if depth == 2 and places.order_end >= 0 and name != "TIER" and not behind_tiers:
            behind_tiers = True
            places.tiers_end = here

    def end(name: str) -> None:
        nonlocal depth
        here = parser.CurrentByteIndex
        depth -= 1
        if name == "TIME_ORDER":
            places.order_end = here
            if here != places.order_begin:
                places.order_begin = -1
        if depth == 0 and places.tiers_end < 0:
            places.tiers_end = here

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(utf8, True)
    except expat.ExpatError as error:
        raise ValueError(f"{path} is no well-formed XML: {error}.") from None
    if places.order_end < 0:
        raise ValueError(f"{path} is no file of ELAN: it has no TIME_ORDER.")
    return places


def _note_kind(places: _Places, given: dict[str, str]) -> None:
    name = given.get("LINGUISTIC_TYPE_ID", "")
    bound = ("CONSTRAINTS", "CONTROLLED_VOCABULARY_REF", "LEXICON_REF")
    if given.get("TIME_ALIGNABLE") == "true" and not any(given.get(key) for key in bound):
        places.free_kinds.append(name)
