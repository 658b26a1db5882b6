"""A transcript as txt, json, srt, vtt or tsv."""

import json
from collections.abc import Callable
from dataclasses import asdict

from speechssl.inference.transcribe import Segment, Transcript

_CUE_S = 6.0
"""A subtitle is at most about this long."""


def to_txt(transcript: Transcript) -> str:
    """The text on one line."""
    return transcript.text + "\n"


def to_json(transcript: Transcript) -> str:
    """Everything: segments and words with their times in seconds."""
    segments = []
    for segment in transcript.segments:
        words = [
            {"word": w.text, "start_s": w.start_s, "end_s": w.end_s, "confidence": w.confidence}
            for w in segment.words
        ]
        segments.append({**asdict(segment), "words": words})
    data = {
        "audio": transcript.audio,
        "duration_s": transcript.duration_s,
        "text": transcript.text,
        "confidence": transcript.confidence,
        "segments": segments,
    }
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def to_srt(transcript: Transcript) -> str:
    """SubRip: numbered cues, times with a comma."""
    blocks = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_cues(transcript), start=1)
    ]
    return "\n".join(blocks)


def to_vtt(transcript: Transcript) -> str:
    """WebVTT."""
    blocks = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n"
        for start, end, text in _cues(transcript)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def to_tsv(transcript: Transcript) -> str:
    """A line per segment: start and end in seconds, text."""
    lines = ["start_s\tend_s\ttext"]
    lines += [f"{s.start_s:.3f}\t{s.end_s:.3f}\t{s.text}" for s in transcript.segments]
    return "\n".join(lines) + "\n"


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
}


def _cues(transcript: Transcript) -> list[tuple[float, float, str]]:
    """``(start, end, text)`` of a few seconds each, never overlapping."""
    return [cue for segment in transcript.segments for cue in _segment_cues(segment)]


def _segment_cues(segment: Segment) -> list[tuple[float, float, str]]:
    cues: list[tuple[float, float, str]] = []
    for word in segment.words:
        if cues and word.end_s - cues[-1][0] <= _CUE_S:
            start, _, text = cues[-1]
            cues[-1] = (start, word.end_s, f"{text} {word.text}")
        else:
            cues.append((word.start_s, word.end_s, word.text))
    return cues


def _clock(seconds: float, point: str) -> str:
    """``01:02:03,004``."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
