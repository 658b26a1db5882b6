"""A transcript as txt, json, srt, vtt, tsv, ctm or textgrid; times are cut, not rounded, to
milliseconds."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechssl.inference.transcript import Segment, Transcript


def to_txt(transcript: Transcript) -> str:
    """The text on one line."""
    return transcript.text + "\n"


def to_json(transcript: Transcript) -> str:
    """Everything, as one object on one line."""
    return json.dumps(to_dict(transcript), ensure_ascii=False) + "\n"


def to_dict(transcript: Transcript) -> dict[str, Any]:
    """What :func:`to_json` writes."""
    return {
        "audio": transcript.audio,
        "duration_s": round(transcript.duration_s, 6),
        "text": transcript.text,
        "confidence": round(transcript.confidence, 4),
        "segments": [_segment(segment) for segment in transcript.segments],
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start_s": ms(segment.start_s) / 1000,
        "end_s": ms(segment.end_s) / 1000,
        "text": segment.text,
        "confidence": round(segment.confidence, 4),
        "words": [
            {
                "word": word.text,
                "start_s": ms(word.start_s) / 1000,
                "end_s": ms(word.end_s) / 1000,
                "confidence": round(word.confidence, 4),
            }
            for word in segment.words
        ],
    }


def to_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, times with a comma."""
    return "".join(
        f"{number}\n{_clock(s.start_s, ',')} --> {_clock(s.end_s, ',')}\n{s.text}\n\n"
        for number, s in enumerate(transcript.segments, 1)
    )


def to_vtt(transcript: Transcript) -> str:
    """WebVTT."""
    return "WEBVTT\n\n" + "".join(
        f"{_clock(s.start_s, '.')} --> {_clock(s.end_s, '.')}\n{_escape(s.text)}\n\n"
        for s in transcript.segments
    )


def to_tsv(transcript: Transcript) -> str:
    """A line per segment below a header: the recording, start and end in seconds, text."""
    name = re.sub(r"[\t\r\n]", " ", transcript.audio)
    lines = ["audio\tstart_s\tend_s\tconfidence\ttext\n"]
    for s in transcript.segments:
        times = f"{ms(s.start_s) / 1000:.3f}\t{ms(s.end_s) / 1000:.3f}"
        lines.append(f"{name}\t{times}\t{s.confidence:.4f}\t{s.text}\n")
    return "".join(lines)


def to_ctm(transcript: Transcript) -> str:
    """CTM of NIST: a word a line, as recording, channel, start, duration, word and confidence. The
    recording is its file name without suffix; spaces in it or in a word become underscores."""
    name = _one_field(Path(transcript.audio).stem)
    return "".join(
        f"{name} 1 {ms(w.start_s) / 1000:.3f} {(ms(w.end_s) - ms(w.start_s)) / 1000:.3f} "
        f"{_one_field(w.text)} {w.confidence:.4f}\n"
        for w in transcript.words
    )


def _one_field(text: str) -> str:
    return re.sub(r"\s+", "_", text) or "-"


Label = tuple[float, float, str]
"""Start and end in seconds, and a text."""


def to_textgrid(
    transcript: Transcript, further: Mapping[str, Sequence[Label]] | None = None
) -> str:
    """TextGrid of Praat: a tier of phrases and one of words, and those `further` ones."""
    tiers = {
        "phrases": [(s.start_s, s.end_s, s.text) for s in transcript.segments],
        "words": [(w.start_s, w.end_s, w.text) for w in transcript.words],
        **(further or {}),
    }
    end_ms = max([1, *(ms(t) for t in (transcript.duration_s, *_ends(tiers.values())))])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {end_ms / 1000}", "tiers? <exists>", f"size = {len(tiers)}"]
    lines.append("item []:")
    for number, (name, labels) in enumerate(tiers.items(), 1):
        intervals = _intervals(labels, end_ms)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0", f"        xmax = {end_ms / 1000}"]
        lines.append(f"        intervals: size = {len(intervals)}")
        for place, (start, end, text) in enumerate(intervals, 1):
            quoted = text.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {start / 1000}"]
            lines += [f"            xmax = {end / 1000}", f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


def _ends(tiers: Iterable[Sequence[Label]]) -> list[float]:
    return [end for labels in tiers for _, end, _ in labels]


def _intervals(labels: Sequence[Label], end_ms: int) -> list[tuple[int, int, str]]:
    """Intervals in milliseconds that fill a tier without a gap; a label without a duration joins
    the one before it, or lasts a millisecond."""
    made: list[tuple[int, int, str]] = []
    here = 0
    for start_s, end_s, text in labels:
        start, end = max(ms(start_s), here), min(ms(end_s), end_ms)
        if end <= start and made and made[-1][2]:
            made[-1] = (*made[-1][:2], f"{made[-1][2]} {text}")
            continue
        start = min(start, end_ms - 1)
        end = max(end, start + 1)
        if start > here:
            made.append((here, start, ""))
        made.append((start, end, text))
        here = end
    if here < end_ms:
        made.append((here, end_ms, ""))
    return made


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "ctm": to_ctm,
    "textgrid": to_textgrid,
}


def ms(seconds: float) -> int:
    """Whole milliseconds, downwards (a thousandth of one is rounding noise)."""
    return math.floor(seconds * 1000 + 1e-3)


def _clock(seconds: float, point: str) -> str:
    """``01:02:03,004``."""
    minutes, rest = divmod(ms(seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
