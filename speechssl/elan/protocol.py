"""What ELAN and a local recogniser say to each other (AVATecH interface, as ELAN implements it).

ELAN starts the program in the folder of its CMDI file and writes parameters as XML to its standard
input; the program writes lines ``PROGRESS: 0.25 what it does`` and, as the last one, ``RESULT:
DONE.`` or ``RESULT: FAILED.`` to its standard output, to which ELAN joins standard error. Tiers are
files of XML, or of CSV where their name ends in ``.csv``.
"""

import locale
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import TextIO

from speechssl.annotations import Segment
from speechssl.annotations.parts import one_line
from speechssl.annotations.xml_text import attribute, content

DONE, FAILED = "RESULT: DONE.", "RESULT: FAILED."

_PARAMETER = re.compile(
    r"<param\s+name\s*=\s*[\"'](.*?)[\"'][^>]*?(?:/>|>(.*?)</param>)", re.DOTALL
)
_SPAN = re.compile(
    r"<span\s+start\s*=\s*[\"']([\d.]+)[\"']\s+end\s*=\s*[\"']([\d.]+)[\"'][^>]*?(?:/>|>(.*?)</span>)",
    re.DOTALL,
)
_VALUE = re.compile(r"<v>(.*?)</v>", re.DOTALL)


def read_parameters(data: bytes) -> dict[str, str]:
    """The parameters by name, without those that are empty.

    ELAN says that they are UTF-8 and writes them in the system's encoding. Raises ValueError where
    there are none.
    """
    text = _decoded(data)
    found = {unescape(name): unescape(value).strip() for name, value in _PARAMETER.findall(text)}
    if not found:
        raise ValueError(
            "There are no parameters on standard input: this program is started by ELAN, from its "
            "tab Recognizers."
        )
    return {name: value for name, value in found.items() if value}


def _decoded(data: bytes) -> str:
    for encoding in ("utf-8", locale.getpreferredencoding(False)):
        try:
            return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("latin-1")


def file_of(value: str) -> Path:
    """A path as ELAN writes it: without ``file:``, perhaps with the slashes behind that."""
    value = value.removeprefix("file:")
    if re.match(r"/+[A-Za-z]:", value):  # of Windows
        value = value.lstrip("/")
    elif value.startswith("///"):
        value = "/" + value.lstrip("/")
    return Path(value)


def read_tier(path: Path) -> list[Segment]:
    """The segments of a tier that ELAN has written, in seconds, in their order.

    ELAN does not escape ``&`` and ``<`` in texts, so that this may be no XML. Raises
    FileNotFoundError, and ValueError where no segment is in the file.
    """
    text = _decoded(path.read_bytes())
    if path.suffix.lower() in (".csv", ".txt"):
        rows = [row.split(";") for row in text.splitlines()[1:] if row.count(";") >= 2]
        spans = [(row[0].strip(' "'), row[1].strip(' "'), row[2].strip(' "')) for row in rows]
    else:
        spans = [(a, b, "".join(_VALUE.findall(inner)[:1])) for a, b, inner in _SPAN.findall(text)]
    found = [Segment(_seconds(a), _seconds(b), one_line(unescape(said))) for a, b, said in spans]
    found = [segment for segment in found if segment.start_s < segment.end_s]
    if not found:
        raise ValueError(
            f"The input tier ({path}) has no segment: choose a tier with segments, or none."
        )
    return sorted(found, key=lambda segment: segment.start_s)


def _seconds(value: str) -> float:
    """A time of ELAN's: seconds where it has a point, else milliseconds."""
    return float(value) if "." in value else int(value) / 1000


def tier_text(segments: Sequence[Segment], name: str, *, csv: bool) -> str:
    """A tier for ELAN: times in milliseconds, which it reads exactly (seconds it rounds)."""
    column = re.sub(r"\s+", "_", name.strip()) or "speechssl"
    times = [(round(s.start_s * 1000), round(s.end_s * 1000)) for s in segments]
    texts = [one_line(segment.text) for segment in segments]
    rows = list(zip(times, texts, strict=True))
    if csv:  # ELAN splits at each semicolon, and takes quotes for part of the text
        lines = [f'"#starttime";"#endtime";"{column}"']
        lines += [f"{start};{end};{text.replace(';', ',')}" for (start, end), text in rows]
        return "\n".join(lines) + "\n"
    spans = "".join(
        f'    <span start="{start}" end="{end}"><v>{content(text)}</v></span>\n'
        for (start, end), text in rows
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<TIER xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:noNamespaceSchemaLocation="file:avatech-tier.xsd" columns={attribute(column)}>\n'
        f"{spans}</TIER>\n"
    )


class Reporter:
    """Writes what ELAN shows: its progress bar never goes back."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, 0.0

    def progress(self, share: float, doing: str = "") -> None:
        """`share` of the work, from 0 to 1."""
        self._last = max(self._last, min(share, 1.0))
        self._say(f"PROGRESS: {self._last:.2f} {doing}".rstrip())

    def info(self, sentence: str) -> None:
        self._say(f"INFO: {one_line(sentence)}")

    def end(self, *, done: bool) -> None:
        """The last line."""
        self._say(DONE if done else FAILED)

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
