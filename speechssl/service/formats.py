"""A transcript in the forms of the OpenAI API: json, text, srt, verbose_json, vtt, and events."""

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from speechssl.decoding.align import Word
from speechssl.inference.cue_times import ms
from speechssl.inference.transcript import Segment, Transcript
from speechssl.inference.writers import to_srt, to_vtt
from speechssl.text import Tokenizer

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
FORMATS: tuple[str, ...] = get_args(ResponseFormat)
MEDIA_TYPES = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}
_FLOOR = 1e-30
"""Of a probability, before its logarithm."""


@dataclass(frozen=True)
class ResponseConfig:
    """How a transcript is answered."""

    form: ResponseFormat = "json"
    granularities: tuple[str, ...] = ("segment",)
    """Of verbose_json: ``segment``, ``word`` or both."""
    logprobs: bool = False
    """Of json: the log-probability of each token."""
    language: str = "unknown"
    """What verbose_json states."""
    notes: tuple[str, ...] = ()
    """What was given and is not used: sentences."""


def body_of(transcript: Transcript, config: ResponseConfig, tokenizer: Tokenizer) -> str:
    """The body of the answer, of type ``MEDIA_TYPES[config.form]``."""
    if config.form == "text":
        return transcript.text + "\n"
    if config.form == "srt":
        return to_srt(transcript)
    if config.form == "vtt":
        return to_vtt(transcript)
    made = _verbose(transcript, config, tokenizer) if config.form == "verbose_json" else {}
    made = made or {"text": transcript.text}
    if config.form == "json" and config.logprobs:
        made["logprobs"] = logprobs_of(transcript.words)
    made["usage"] = {"type": "duration", "seconds": math.ceil(transcript.duration_s)}
    if notes := (*config.notes, *transcript.notes):
        made["notes"] = list(notes)
    return json.dumps(made, ensure_ascii=False)


def _verbose(
    transcript: Transcript, config: ResponseConfig, tokenizer: Tokenizer
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "task": "transcribe",
        "language": config.language,
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text,
    }
    if "segment" in config.granularities:
        made["segments"] = [
            _segment(number, segment, tokenizer)
            for number, segment in enumerate(transcript.segments)
        ]
    if "word" in config.granularities:
        made["words"] = [
            {"word": w.text, "start": ms(w.start_s) / 1000, "end": ms(w.end_s) / 1000}
            for w in transcript.words
        ]
    return made


def _segment(number: int, segment: Segment, tokenizer: Tokenizer) -> dict[str, Any]:
    """With what Whisper states of one: `seek` in hundredths of a second; `no_speech_prob` is the
    probability that none of its words is right, by their confidences."""
    text = segment.text
    content = text.encode()
    return {
        "id": number,
        "seek": ms(segment.start_s) // 10,
        "start": ms(segment.start_s) / 1000,
        "end": ms(segment.end_s) / 1000,
        "text": text,
        "tokens": list(map(int, tokenizer.encode(text))),
        "temperature": 0.0,
        "avg_logprob": _mean([math.log(max(p, _FLOOR)) for p in _probabilities(segment.words)]),
        "compression_ratio": round(len(content) / max(len(zlib.compress(content)), 1), 4),
        "no_speech_prob": round(math.prod(1 - word.confidence for word in segment.words), 6),
    }


def _probabilities(words: Sequence[Word]) -> list[float]:
    """Of the tokens of words, or of the words where their tokens are not known."""
    return [part.confidence for word in words for part in (word.parts or (word,))]


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / max(len(values), 1), 6)


def logprobs_of(words: Sequence[Word], *, goes_on: bool = False) -> list[dict[str, Any]]:
    """The tokens of words with their log-probabilities (nats); joined they are the text. `goes_on`:
    text stands before."""
    made = []
    for number, word in enumerate(words):
        space = " " if (number or goes_on) and not word.joined else ""
        for place, part in enumerate(word.parts or (word,)):
            token = (space if place == 0 else "") + part.text
            made.append(
                {
                    "token": token,
                    "bytes": list(token.encode()),
                    "logprob": round(math.log(max(part.confidence, _FLOOR)), 6),
                }
            )
    return made


def event(data: dict[str, Any] | str) -> str:
    """A server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n"


def notes_header(notes: Sequence[str]) -> dict[str, str]:
    """``Speechssl-Notes``, a JSON list in ASCII, for the forms that have no place for notes."""
    return {"Speechssl-Notes": json.dumps(list(notes))[:4000]} if notes else {}
