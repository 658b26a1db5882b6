"""A long recording with its text, cut into utterances for training.

Cuts lie in pauses between aligned words. What stands beside a stretch that does not fit (words that
were not said, speech that is not in the text) goes with it up to the next pause: there the times of
words are least certain.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from speechssl.decoding.align import Word
from speechssl.inference.align import AlignedText
from speechssl.inference.transcript import join_words, mean_confidence

MIN_PAUSE_S = 0.1
"""Words this far apart have a pause between them, in which a recording can be cut."""

MARGIN_S = 0.3
"""An utterance gets half of the pause at each end, and so much at most; MIN_PAUSE_S beside words
without times, which may be said in it."""

MIN_CONFIDENCE = 0.05
"""Utterances below are left out (measured in docs/log)."""

MIN_UTTERANCE_S = 1.0
"""A line that is shorter is joined to the one before where that fits."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch of the recording, and what of the text belongs to it."""

    start_s: float
    end_s: float
    text: str
    confidence: float
    """Geometric mean over its words; 0 where one of them has no time."""
    reason: str = ""
    """Why it is left out; empty for an utterance."""


def cut_aligned(
    aligned: AlignedText, *, max_s: float, min_confidence: float = MIN_CONFIDENCE
) -> list[Cut]:
    """The utterances of at most `max_s`, and what is left out with the reason, in their order.

    Utterances end where a line of the text does, if there is a pause; a line that is too long, or
    whose end has none, at its longest pauses. Each word of the text is in exactly one of the
    results.
    """
    cutter = _Cutter(aligned, max_s)
    cuts: list[Cut] = []
    done = 0  # words that are in a cut
    for start, end in cutter.runs():
        start, end = cutter.between_pauses(start, end)
        for first, last in cutter.utterances(start, end):
            cuts += cutter.left_out(done, first)
            cuts.append(cutter.utterance(first, last, min_confidence))
            done = last
    return cuts + cutter.left_out(done, len(aligned.words))


class _Cutter:
    """The words of a text by number; ``[start, end)`` are those of a stretch."""

    def __init__(self, aligned: AlignedText, max_s: float) -> None:
        self.aligned, self.max_s = aligned, max_s
        self.words = aligned.words
        self.duration_s = aligned.transcript.duration_s
        self.away = {each.before_word: each for each in aligned.away}
        self.ended_s = [0.0]  # when the last timed word before each word, and behind all, ends
        for word in self.words:
            self.ended_s.append(self.ended_s[-1] if word is None else word.end_s)
        num = len(self.words)
        self.following = [num] * (num + 1)  # the first timed word from each word on
        for number in range(num - 1, -1, -1):
            timed = self.words[number] is not None
            self.following[number] = number if timed else self.following[number + 1]

    def word(self, number: int) -> Word:
        """One that has times."""
        found = self.words[number]
        assert found is not None
        return found

    def runs(self) -> Iterator[tuple[int, int]]:
        """Words that follow each other both in the text and in the recording."""
        start = 0
        for number in range(len(self.words) + 1):
            ended = number == len(self.words) or self.words[number] is None
            if start < number and (ended or number in self.away):
                yield start, number
                start = number
            if ended:
                start = number + 1

    def before_s(self, number: int) -> float:
        """Where what lies before a word ends."""
        away = self.away.get(number)
        return max(self.ended_s[number], away.end_s if away else 0.0)

    def behind_s(self, number: int) -> float:
        """Where what lies behind a word begins."""
        following = self.following[number + 1]
        away = self.away.get(following)
        return min(self.begins_s(following), away.start_s if away else self.duration_s)

    def begins_s(self, following: int) -> float:
        """Where a timed word begins, or the recording ends."""
        return self.word(following).start_s if following < len(self.words) else self.duration_s

    def pause_before_s(self, number: int) -> float:
        return self.word(number).start_s - self.before_s(number)

    def pause_behind_s(self, number: int) -> float:
        return self.behind_s(number) - self.word(number).end_s

    def between_pauses(self, start: int, end: int) -> tuple[int, int]:
        """A run without the words beside its ends that no pause parts from what does not fit."""
        if start > 0 or start in self.away:
            while start < end and self.pause_before_s(start) < MIN_PAUSE_S:
                start += 1
        if end < len(self.words) or end in self.away:
            while start < end and self.pause_behind_s(end - 1) < MIN_PAUSE_S:
                end -= 1
        return start, end

    def span_s(self, start: int, end: int) -> tuple[float, float]:
        """Where an utterance of these words begins and ends."""
        missing_before = start > 0 and self.words[start - 1] is None
        missing_behind = end < len(self.words) and self.words[end] is None
        before = MIN_PAUSE_S if missing_before else MARGIN_S
        behind = MIN_PAUSE_S if missing_behind else MARGIN_S
        before = min(before, max(self.pause_before_s(start), 0.0) / 2)
        behind = min(behind, max(self.pause_behind_s(end - 1), 0.0) / 2)
        return self.word(start).start_s - before, self.word(end - 1).end_s + behind

    def fits(self, start: int, end: int) -> bool:
        first, last = self.span_s(start, end)
        return last - first <= self.max_s

    def utterances(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """A run, cut; a part that cannot be cut any more may be too long."""
        known = self.aligned.known.words
        parts: list[list[int]] = []
        for number in range(start, end):
            pause = number > start and self.pause_before_s(number) >= MIN_PAUSE_S
            if not parts or (pause and known[number].line != known[number - 1].line):
                parts.append([number, number + 1])
            parts[-1][1] = number + 1
        joined: list[list[int]] = []
        for part in parts:
            first, last = self.span_s(*part)
            short = last - first < MIN_UTTERANCE_S
            if joined and short and self.fits(joined[-1][0], part[1]):
                joined[-1][1] = part[1]
            else:
                joined.append(part)
        for part in joined:
            yield from self._cut(*part)

    def _cut(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """At the longest pauses, first those in the middle half, as long as a part is too long."""
        todo = [(start, end)]
        while todo:
            start, end = todo.pop()
            places = [k for k in range(start + 1, end) if self.pause_before_s(k) >= MIN_PAUSE_S]
            if self.fits(start, end) or not places:
                yield start, end
                continue
            first, last = self.span_s(start, end)
            quarter_s = (last - first) / 4
            central = [
                k for k in places if first + quarter_s <= self.word(k).start_s <= last - quarter_s
            ]
            place = max(central or places, key=lambda k: round(self.pause_before_s(k), 3))
            todo += [(place, end), (start, place)]

    def utterance(self, start: int, end: int, min_confidence: float) -> Cut:
        first, last = self.span_s(start, end)
        words = [self.word(k) for k in range(start, end)]
        confidence = mean_confidence([word.confidence for word in words])
        text, reason = join_words(words), ""
        where = f"from {first:.2f} to {last:.2f} s, {_short(text)}"
        if not self.fits(start, end):
            reason = f"no pause to cut at: {last - first:.1f} s, at most {self.max_s:g} s, {where}"
        elif confidence < min_confidence:
            reason = (
                f"low confidence of the alignment: {confidence:.3f}, at least {min_confidence:g} "
                f"is needed, {where}"
            )
        return Cut(first, last, text, confidence, reason)

    def left_out(self, start: int, end: int) -> list[Cut]:
        """What lies between two utterances: words without times, or beside such, and speech."""
        if start == end:
            away = self.away.get(start)
            if away is None or not away.is_speech:
                return []
            reason = f"speech without text: from {away.start_s:.2f} to {away.end_s:.2f} s"
            return [Cut(away.start_s, away.end_s, "", 0.0, reason)]
        first = self.ended_s[start]
        last = max(first, self.begins_s(self.following[end]))
        known = self.aligned.known.words[start:end]
        text = join_words([Word(w.text, 0.0, 0.0, 0.0, w.joined) for w in known])
        where = f"from {first:.2f} to {last:.2f} s, {_short(text)}"
        return [Cut(first, last, text, 0.0, f"text that does not fit the sound: {where}")]


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
