"""A transcript as txt, json, srt, vtt, tsv, ctm, textgrid, eaf, rttm, stm, flextext or labels of
Audacity; times are cut, not rounded, to milliseconds."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechssl.annotations import Annotations, Tier, writing
from speechssl.annotations import Segment as Piece
from speechssl.annotations.eaf_writing import write_eaf
from speechssl.decoding.align import Word
from speechssl.inference.cue_times import ms
from speechssl.inference.subtitles import Cue, to_cues
from speechssl.inference.transcript import Alternatives, Segment, Transcript


def to_txt(transcript: Transcript) -> str:
    """The text on one line."""
    return transcript.text + "\n"


def to_json(transcript: Transcript) -> str:
    """Everything, as one object on one line. Of a calibrated model ``calibrated`` is true, and each
    word has CTC's own confidence too."""
    return json.dumps(to_dict(transcript), ensure_ascii=False) + "\n"


def to_dict(transcript: Transcript) -> dict[str, Any]:
    """What :func:`to_json` writes."""
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
    return data


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start_s": ms(segment.start_s) / 1000,
        "end_s": ms(segment.end_s) / 1000,
        "text": segment.text,
        "confidence": round(segment.confidence, 4),
        "words": [_word(word) for word in segment.words],
    }


def _alternatives(stretch: Alternatives) -> dict[str, Any]:
    return {
        "start_s": ms(stretch.start_s) / 1000,
        "end_s": ms(stretch.end_s) / 1000,
        "texts": [{"text": t.text, "score": round(t.score, 4)} for t in stretch.texts],
    }


def _word(word: Word) -> dict[str, Any]:
    data = {
        "word": word.text,
        "start_s": ms(word.start_s) / 1000,
        "end_s": ms(word.end_s) / 1000,
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


def annotations_of(
    transcript: Transcript, further: Mapping[str, Sequence[Label]] | None = None
) -> Annotations:
    """A tier ``phrases`` with the words of each, and those `further` ones."""
    phrases = [
        Piece(
            *_times(segment.start_s, segment.end_s),
            segment.text,
            transcript.speaker,
            tuple(Piece(*_times(w.start_s, w.end_s), w.text) for w in segment.words),
        )
        for segment in transcript.segments
    ]
    tiers = [Tier("phrases", tuple(phrases), speaker=transcript.speaker)]
    for name, labels in (further or {}).items():
        pieces = tuple(Piece(*_times(start, end), text) for start, end, text in labels)
        tiers.append(Tier(name, pieces))
    return Annotations(tuple(tiers), duration_s=transcript.duration_s)


def _times(start_s: float, end_s: float) -> tuple[float, float]:
    return ms(start_s) / 1000, ms(end_s) / 1000


def to_eaf(transcript: Transcript) -> str:
    """A new file of ELAN: a tier of phrases, and one of words below it."""
    return write_eaf(annotations_of(transcript), media_of(transcript))


def media_of(transcript: Transcript) -> Path | None:
    """The recording as a file; None for standard input."""
    return None if transcript.audio in ("-", "wave") else Path(transcript.audio)


def to_flextext(transcript: Transcript, language: str = "und") -> str:
    """A text of FLEx in the writing system `language`."""
    media = str(media_of(transcript) or "")
    name = Path(transcript.audio).stem
    return writing.to_flextext(annotations_of(transcript), name, media, language)


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "json": to_json,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "ctm": to_ctm,
    "textgrid": to_textgrid,
    "eaf": to_eaf,
    "rttm": lambda t: writing.to_rttm(annotations_of(t), Path(t.audio).stem),
    "stm": lambda t: writing.to_stm(annotations_of(t), Path(t.audio).stem),
    "audacity": lambda t: writing.to_labels(annotations_of(t)),
    "flextext": to_flextext,
}
CUE_WRITERS: dict[str, Callable[[Sequence[Cue]], str]] = {"srt": srt_of, "vtt": vtt_of}
"""Of those that are subtitles: from the cues that :func:`to_cues` makes by other rules."""


def _clock(time_ms: int, point: str) -> str:
    """``01:02:03,004``."""
    minutes, rest = divmod(time_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
