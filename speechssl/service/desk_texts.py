"""From a model's transcript to segments that a person corrects, and from those to files."""

import json
from collections.abc import Callable
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

from speechssl.decoding.align import Word
from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, Corrections, SpokenWord
from speechssl.inference.transcript import Segment, Transcript, words_confidence
from speechssl.inference.writers import WRITERS


def from_transcript(
    transcript: Transcript, audio: Path, audio_sha256: str, model_digest: str
) -> Corrections:
    """The phrases of a transcript as segments that nobody has checked."""
    made = []
    for number, segment in enumerate(transcript.segments, 1):
        words = tuple(
            SpokenWord(w.text, round(w.start_s, 3), round(w.end_s, 3), round(w.confidence, 4))
            for w in segment.words
        )
        start_s = round(segment.start_s, 3)
        made.append(
            CorrectedSegment(
                f"s{number:05}",
                start_s,
                max(round(segment.end_s, 3), round(start_s + 0.001, 3)),
                segment.text,
                segment.text,
                round(segment.confidence, 4),
                words,
                transcript.speaker,
                model_digest=model_digest,
            )
        )
    return Corrections(audio, audio_sha256, tuple(made))


def timed_words(segment: CorrectedSegment) -> tuple[SpokenWord, ...]:
    """The words of a segment's text with times: those of the hypothesis where a word is in both,
    and a share of the time in between, by their letters, for what a person wrote, which has the
    confidence 1. The page does the same (page/words.js)."""
    texts = segment.text.split()
    given = segment.words
    if texts == [word.text for word in given]:
        return given
    made: list[SpokenWord] = []
    blocks = SequenceMatcher(None, [w.text for w in given], texts, autojunk=False)
    for kind, i, j, k, m in blocks.get_opcodes():
        if kind == "equal":
            made += given[i:j]
        elif k < m:
            before = given[i - 1].end_s if i else segment.start_s
            after = given[j].start_s if j < len(given) else segment.end_s
            if i < j:  # in the place of words that were there
                before, after = max(before, given[i].start_s), min(after, given[j - 1].end_s)
            made += _shared(texts[k:m], before, max(before, after))
    return tuple(made)


def _shared(texts: list[str], start_s: float, end_s: float) -> list[SpokenWord]:
    total = sum(map(len, texts))
    made, here = [], 0
    for text in texts:
        begin = start_s + (end_s - start_s) * here / total
        here += len(text)
        until = start_s + (end_s - start_s) * here / total
        made.append(SpokenWord(text, round(begin, 3), round(until, 3), 1.0))
    return made


def to_transcript(made: Corrections, duration_s: float) -> Transcript:
    """What was corrected as a transcript; segments without a text are left out."""
    segments = []
    for segment in made.segments:
        words = tuple(
            Word(word.text, word.start_s, word.end_s, word.confidence, raw_confidence=None)
            for word in timed_words(segment)
        )
        if words:
            segments.append(Segment(words))
    words = tuple(word for segment in segments for word in segment.words)
    confidence = words_confidence(words) if words else 0.0
    return Transcript(made.audio.name, duration_s, tuple(segments), confidence)


Writer = Callable[[Corrections, float], str]


def _written(name: str) -> Writer:
    return lambda made, duration_s: WRITERS[name](to_transcript(made, duration_s))


def _own(made: Corrections, _duration_s: float) -> str:
    made = replace(made, audio=Path(made.audio.name))
    data = corrections.to_json(replace(made, audio=made.audio.absolute()), Path.cwd())
    return json.dumps(data, ensure_ascii=False, indent=1) + "\n"


_KINDS = {
    "json": (".json", "application/json"),
    "srt": (".srt", "application/x-subrip"),
    "vtt": (".vtt", "text/vtt"),
    "tsv": (".tsv", "text/tab-separated-values"),
    "textgrid": (".TextGrid", "text/plain"),
    "eaf": (".eaf", "application/xml"),
    "flextext": (".flextext", "application/xml"),
    "audacity": (".labels.txt", "text/plain"),
}
FORMATS: dict[str, tuple[str, str, Writer]] = {
    name: (*_KINDS.get(name, (f".{name}", "text/plain")), _written(name)) for name in WRITERS
} | {"corrections": (corrections.SUFFIX, "application/json", _own)}
"""Suffix, media type and writer of each format that the page offers: those of transcripts, and what
is corrected itself."""
