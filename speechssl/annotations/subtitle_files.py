"""Subtitles (SubRip, WebVTT, SubStation, TTML): one tier of cues."""

import re
from html import unescape
from pathlib import Path

from speechssl.annotations.packages import pysubs2
from speechssl.annotations.parts import Annotations, Segment, Tier, Unplaced, one_line
from speechssl.text.encodings import decode

SUFFIXES = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa", ".ttml": "ttml"}

_VOICE = re.compile(r"<v(?:\.[\w.]+)?\s+([^>]+)>")
_ARROW = re.compile(r"^.*\d\s*-->\s*[\d:].*$", re.MULTILINE)


def read_subtitles(path: Path) -> Annotations:
    """The cues in the order of their starts; a cue's lines are one text without tags, and the name
    of a voice (WebVTT) or an actor (SubStation) its speaker.

    Raises ValueError where the file holds no cue that can be read though it has text, and
    ModuleNotFoundError without pysubs2.
    """
    text = decode(path.read_bytes(), path)
    form = SUFFIXES[path.suffix.lower()]
    try:
        cues = pysubs2().SSAFile.from_string(_voices_kept(text), format_=form)
    except Exception as error:  # many of its own
        raise ValueError(f"{path} holds no subtitles of the form {form.upper()}.") from error
    segments, unplaced = [], []
    for cue in cues:
        if cue.is_comment:
            continue
        speaker, said = _split_voice(cue.plaintext)
        said = one_line(unescape(said) if form == "vtt" else said)
        start_s, end_s = cue.start / 1000, cue.end / 1000
        if 0 <= start_s < end_s:
            segments.append(Segment(start_s, end_s, said, speaker or cue.name))
        elif said:
            reason = f"it ends at {end_s:g} s"
            unplaced.append(Unplaced("", f"cue at {start_s:g} s", said, reason))
    num_timed = len(_ARROW.findall(text)) if form in ("srt", "vtt") else len(cues)
    if text.strip() and text.strip() != "WEBVTT" and (not len(cues) or num_timed > len(cues)):
        raise ValueError(
            f"{path} holds no subtitles of the form {form.upper()}, or lines of times that are not "
            f"of that form: {len(cues)} of {num_timed} cues can be read."
        )
    segments.sort(key=lambda s: (s.start_s, s.end_s))
    return Annotations((Tier(path.stem, tuple(segments)),), unplaced=tuple(unplaced))


_OPEN, _CLOSE = "\u2060[", "]\u2060"
"""Around the name of a voice, which pysubs2 would take away with its tag."""


def _voices_kept(text: str) -> str:
    return _VOICE.sub(lambda match: f"{_OPEN}{match[1].strip()}{_CLOSE}", text)


def _split_voice(text: str) -> tuple[str, str]:
    """The first voice of a cue, and the text of all."""
    pattern = re.escape(_OPEN) + "(.*?)" + re.escape(_CLOSE)
    voices = re.findall(pattern, text)
    return (voices[0] if voices else ""), re.sub(pattern, " ", text)
