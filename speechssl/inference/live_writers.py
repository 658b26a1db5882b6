"""Live text in the formats of transcripts, as it becomes final; as JSON lines partial text too."""

import json
from collections.abc import Sequence
from dataclasses import replace

from speechssl.decoding.align import Word
from speechssl.inference.cue_times import ms
from speechssl.inference.live import LiveEvent
from speechssl.inference.subtitles import Cue, SubtitleConfig, to_cues
from speechssl.inference.transcript import Transcript, to_segments, words_confidence
from speechssl.inference.writers import CUE_WRITERS, WRITERS, to_dict

LIVE_FORMATS = ("txt", "jsonl", "srt", "vtt", "tsv", "ctm")
"""Those that can be written piece by piece."""
_HEADERS = {"vtt": "WEBVTT\n\n", "tsv": WRITERS["tsv"](Transcript("", 0.0, (), 1.0))}


class LiveWriter:
    """Events of one stream to text, in one of :data:`LIVE_FORMATS`."""

    def __init__(self, form: str, subtitles: SubtitleConfig, *, name: str = "-") -> None:
        """`subtitles` are of srt and vtt; `name` is that of the recording in tsv and ctm."""
        if form not in LIVE_FORMATS:
            raise ValueError(f"A live format must be one of {', '.join(LIVE_FORMATS)}, got {form}.")
        self._form, self._subtitles, self._name = form, subtitles, name
        self._ended_ms = 0  # when nothing is shown any more
        self.num_cues = self.num_rushed = 0
        """Subtitles so far, and those that are shown for less time than they need."""

    @property
    def holds_partials(self) -> bool:
        """Whether partial text is written too."""
        return self._form == "jsonl"

    @property
    def header(self) -> str:
        """What comes first; perhaps nothing."""
        return _HEADERS.get(self._form, "")

    def text(self, event: LiveEvent) -> str:
        """What is written for an event; nothing for a partial one but in jsonl."""
        if self._form == "jsonl":
            return json.dumps(to_object(event), ensure_ascii=False) + "\n"
        if event.kind == "partial":
            return ""
        if self._form in CUE_WRITERS:
            return self._cues(event)
        return WRITERS[self._form](_transcript(event, self._name)).removeprefix(self.header)

    def _cues(self, event: LiveEvent) -> str:
        """Subtitles of a final text: behind those before it, and none after it, where the next ones
        may begin."""
        gap_ms = int(1000 * self._subtitles.gap_frames / self._subtitles.fps) + 1
        origin_ms = self._ended_ms + gap_ms if self._ended_ms else 0
        later = [_moved(word, -origin_ms / 1000) for word in event.words]
        until_s = max(event.until_s - (origin_ms + gap_ms) / 1000, 0.0)
        made = to_cues(Transcript("", until_s, to_segments(later), 1.0), self._subtitles)
        written = ""
        for cue in made:
            cue = replace(cue, start_ms=cue.start_ms + origin_ms, end_ms=cue.end_ms + origin_ms)
            self.num_cues += 1
            self.num_rushed += cue.is_rushed
            self._ended_ms = cue.end_ms
            written += self._cue(cue)
        return written

    def _cue(self, cue: Cue) -> str:
        text = CUE_WRITERS[self._form]([cue]).removeprefix(self.header)
        if self._form == "srt":
            text = f"{self.num_cues}\n" + text.split("\n", 1)[1]
        return text


def to_object(event: LiveEvent) -> dict[str, object]:
    """An event for JSON, with words as in the JSON of a transcript."""
    found: dict[str, object] = {
        "kind": event.kind,
        "text": event.text,
        "start_s": ms(event.start_s) / 1000,
        "end_s": ms(event.end_s) / 1000,
        "until_s": ms(event.until_s) / 1000,
    }
    if event.words:
        found["confidence"] = round(words_confidence(event.words), 4)
    segments = to_dict(_transcript(event, ""))["segments"]
    found["words"] = [word for segment in segments for word in segment["words"]]
    return found


def _transcript(event: LiveEvent, name: str) -> Transcript:
    return Transcript(name, event.until_s, to_segments(event.words), 1.0)


def _moved(word: Word, by_s: float) -> Word:
    """Not to before 0."""
    parts: Sequence[Word] = [_moved(part, by_s) for part in word.parts]
    start_s, end_s = max(word.start_s + by_s, 0.0), max(word.end_s + by_s, 0.0)
    return replace(word, start_s=start_s, end_s=end_s, parts=tuple(parts))
