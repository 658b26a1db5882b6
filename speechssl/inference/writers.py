"""A transcript as txt, json, srt, vtt or tsv; times are cut, not rounded, to milliseconds."""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from speechssl.decoding.align import Word
from speechssl.inference.subtitles import Cue, to_cues
from speechssl.inference.transcript import Alternatives, Segment, Transcript


def to_txt(transcript: Transcript) -> str:
    """The text on one line."""
    return transcript.text + "\n"


def to_json(transcript: Transcript) -> str:
    """Everything, as one object on one line. Of a calibrated model ``calibrated`` is true, and each
    word has CTC's own confidence too."""
    data: dict[str, Any] = {
        "audio": transcript.audio,
        "duration_s": round(transcript.duration_s, 6),
        "text": transcript.text,
        "confidence": round(transcript.confidence, 4),
        "segments": [_segment(segment) for segment in transcript.segments],
    }
    if transcript.alternatives:
        data["alternatives"] = [_alternatives(each) for each in transcript.alternatives]
    if transcript.speaker:
        data["speaker"] = transcript.speaker
    if transcript.calibrated:
        data["calibrated"] = True
    return json.dumps(data, ensure_ascii=False) + "\n"


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start_s": _ms(segment.start_s) / 1000,
        "end_s": _ms(segment.end_s) / 1000,
        "text": segment.text,
        "confidence": round(segment.confidence, 4),
        "words": [_word(word) for word in segment.words],
    }


def _alternatives(stretch: Alternatives) -> dict[str, Any]:
    return {
        "start_s": _ms(stretch.start_s) / 1000,
        "end_s": _ms(stretch.end_s) / 1000,
        "texts": [{"text": t.text, "score": round(t.score, 4)} for t in stretch.texts],
    }


def _word(word: Word) -> dict[str, Any]:
    data = {
        "word": word.text,
        "start_s": _ms(word.start_s) / 1000,
        "end_s": _ms(word.end_s) / 1000,
        "confidence": round(word.confidence, 4),
    }
    if word.raw_confidence is not None:
        data["raw_confidence"] = round(word.raw_confidence, 4)
    if word.posterior is not None:
        data["posterior"] = round(word.posterior, 4)
    return data


def to_srt(transcript: Transcript) -> str:
    """SubRip, with the usual subtitles."""
    return srt_of(to_cues(transcript))


def to_vtt(transcript: Transcript) -> str:
    """WebVTT, with the usual subtitles."""
    return vtt_of(to_cues(transcript))


def srt_of(cues: Sequence[Cue]) -> str:
    """SubRip: numbered cues, times with a comma."""
    return "".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        + "\n".join(cue.lines)
        + "\n\n"
        for number, cue in enumerate(cues, 1)
    )


def vtt_of(cues: Sequence[Cue]) -> str:
    """WebVTT; ``&``, ``<`` and ``>`` are escaped."""
    return "WEBVTT\n\n" + "".join(
        f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        + _escape("\n".join(cue.lines))
        + "\n\n"
        for cue in cues
    )


def to_tsv(transcript: Transcript) -> str:
    """A line per segment below a header: the recording, start and end in seconds, text."""
    name = re.sub(r"[\t\r\n]", " ", transcript.audio)
    lines = ["audio\tstart_s\tend_s\tconfidence\ttext\n"]
    for s in transcript.segments:
        times = f"{_ms(s.start_s) / 1000:.3f}\t{_ms(s.end_s) / 1000:.3f}"
        lines.append(f"{name}\t{times}\t{s.confidence:.4f}\t{s.text}\n")
    return "".join(lines)


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
}
CUE_WRITERS: dict[str, Callable[[Sequence[Cue]], str]] = {"srt": srt_of, "vtt": vtt_of}
"""Of those that are subtitles: from the cues that :func:`to_cues` makes by other rules."""


def _ms(seconds: float) -> int:
    """Whole milliseconds, downwards (a thousandth of one is rounding noise)."""
    return math.floor(seconds * 1000 + 1e-3)


def _clock(time_ms: int, point: str) -> str:
    """``01:02:03,004``."""
    minutes, ms = divmod(time_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{ms // 1000:02}{point}{ms % 1000:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
