"""Writes annotations in formats of one line a segment, and for FLEx.

ELAN's files are written by :mod:`speechssl.annotations.eaf_writing`.
"""

import re
import uuid
from collections.abc import Iterator, Sequence

from speechssl.annotations.parts import Annotations, Segment, one_line
from speechssl.annotations.xml_text import attribute, content

_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "speechssl")


def _one_field(text: str, empty: str) -> str:
    return re.sub(r"\s+", "_", text.strip()) or empty


def _texts(annotations: Annotations) -> list[Segment]:
    """All segments with a text, in the order of time."""
    found = [s for tier in annotations.tiers for s in tier.segments if s.text]
    return sorted(found, key=lambda s: (s.start_s, s.end_s))


def to_rttm(annotations: Annotations, recording: str) -> str:
    """RTTM of NIST: who speaks when; a speaker whom nobody names is ``unknown``. Spaces in names
    become underscores."""
    name = _one_field(recording, "recording")
    return "".join(
        f"SPEAKER {name} 1 {s.start_s:.3f} {s.end_s - s.start_s:.3f} <NA> <NA> "
        f"{_one_field(s.speaker, 'unknown')} <NA> <NA>\n"
        for s in _texts(annotations)
    )


def to_stm(annotations: Annotations, recording: str) -> str:
    """STM of NIST: a segment a line, with its speaker and text."""
    name = _one_field(recording, "recording")
    lines = []
    for s in _texts(annotations):
        text = one_line(s.text)
        label = "<o> " if text.startswith("<") else ""  # else the first word would be taken for one
        speaker = _one_field(s.speaker, "unknown")
        lines.append(f"{name} 1 {speaker} {s.start_s:.3f} {s.end_s:.3f} {label}{text}\n")
    return "".join(lines)


def to_labels(annotations: Annotations) -> str:
    """Audacity's labels: start, end and text, with tabs between."""
    return "".join(
        f"{s.start_s:.6f}\t{s.end_s:.6f}\t{one_line(s.text)}\n" for s in _texts(annotations)
    )


def to_flextext(
    annotations: Annotations, recording: str, media: str = "", language: str = "und"
) -> str:
    """A text of FLEx (.flextext, version 2): a phrase a segment, with its times, its speaker and
    its words, ready to be glossed.

    `language` is the writing system, by its code in FLEx; `media` the path of the recording. The
    guids are functions of all that, so that the same transcript gives the same file.
    """
    segments = _texts(annotations)

    def guid(*parts: object) -> str:
        return str(uuid.uuid5(_SPACE, "|".join(map(str, (recording, language, *parts)))))

    phrases = "".join(
        _phrase(s, n, language, guid(n, s), guid("media") if media else "")
        for n, s in enumerate(segments, 1)
    )
    files = (
        '    <media-files offset-type="">\n'
        f'      <media guid="{guid("media")}" location={attribute(media)}/>\n'
        "    </media-files>\n"
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<document version="2">\n'
        f'  <interlinear-text guid="{guid("text", *segments)}">\n'
        f'    <item type="title" lang={attribute(language)}>{content(recording)}</item>\n'
        f"    <paragraphs>\n{phrases}    </paragraphs>\n"
        "    <languages>\n"
        f'      <language lang={attribute(language)} vernacular="true"/>\n'
        f"    </languages>\n{files if media else ''}"
        "  </interlinear-text>\n"
        "</document>\n"
    )


def _phrase(segment: Segment, number: int, language: str, guid: str, media: str) -> str:
    """A paragraph of one phrase."""
    lang = attribute(language)
    further = f' media-file="{media}"' if media else ""
    further += f" speaker={attribute(segment.speaker)}" if segment.speaker else ""
    words = "".join(
        f'                <word><item type="{kind}" lang={lang}>{content(text)}</item></word>\n'
        for kind, text in _pieces(segment.text)
    )
    return (
        "      <paragraph>\n        <phrases>\n"
        f'          <phrase guid="{guid}" begin-time-offset="{round(segment.start_s * 1000)}" '
        f'end-time-offset="{round(segment.end_s * 1000)}"{further}>\n'
        f'            <item type="txt" lang={lang}>{content(segment.text)}</item>\n'
        f'            <item type="segnum" lang="en">{number}</item>\n'
        f"            <words>\n{words}            </words>\n"
        "          </phrase>\n        </phrases>\n      </paragraph>\n"
    )


_PUNCTUATION = "".join(sorted(set('!"#%&()*+,./:;<=>?@[\\]^_`{|}~«»“”„‚…¿¡–—‹›।。、！？「」')))


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """(``txt`` or ``punct``, text) of words and of the punctuation around them."""
    pieces: Sequence[str] = text.split()
    for token in pieces:
        bare = token.strip(_PUNCTUATION)
        if not bare:
            yield "punct", token
            continue
        before, after = token.split(bare, 1)
        for kind, piece in (("punct", before), ("txt", bare), ("punct", after)):
            if piece:
                yield kind, piece
