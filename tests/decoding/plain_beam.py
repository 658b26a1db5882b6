"""The beam search in plain Python: what the compiled one must find, to the last candidate.

Scores of a text are summed over models in the order characters, words, phrases.
"""

import math

import numpy as np

from speechssl.decoding.beam import BeamConfig, Candidate
from speechssl.decoding.ngram import END, Ngram, NgramLM
from speechssl.text import BLANK_ID, WORD_MARK, Tokenizer

LEAST_LOG_PROB = -7.0


class PlainBeam:
    """Decodes (T, V) log-probabilities for one tokenizer."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: BeamConfig,
        lm: NgramLM | None = None,
        *,
        word_lm: NgramLM | None = None,
        phrases: dict[str, float] | None = None,
    ) -> None:
        """`phrases` as they are spelled, with the mark for spaces."""
        self._texts = tokenizer.spellings
        self._width = config.width
        own = config.lm_weight, config.bonus
        scorers = []
        if lm is not None and lm.unit == "char":
            scorers.append(CharScorer(lm, *own))
        if lm is not None and lm.unit == "word":
            word_lm, second = lm, own
        else:
            second = config.word_weight, config.word_bonus
        if word_lm is not None:
            known = None
            if config.known_words:
                known = {g[0] for g in word_lm.entries if len(g) == 1 and g[0][0] != "<"}
                known |= {word for phrase in phrases or {} for word in phrase.split(WORD_MARK)}
            scorers.append(WordScorer(word_lm, *second, known))
        if phrases:
            scorers.append(PhraseScorer(phrases, any(WORD_MARK in text for text in self._texts)))
        self._scorer = SumScorer(scorers)

    def n_best(self, rows: np.ndarray) -> list[Candidate]:
        """All texts that the search ends with, the best first."""
        beam: dict[Prefix, tuple[float, float]] = {root(self._scorer): (0.0, -math.inf)}
        for row in rows:
            begun = np.flatnonzero(row > LEAST_LOG_PROB)
            symbols = [(int(i), float(row[i])) for i in begun if i != BLANK_ID]
            blank = float(row[BLANK_ID])
            grown: dict[Prefix, list[float]] = {}
            for prefix, (by_blank, by_symbol) in beam.items():
                total = log_add(by_blank, by_symbol)
                stays = grown.setdefault(prefix, [-math.inf, -math.inf])
                stays[0] = log_add(stays[0], total + blank)
                if prefix.symbol != BLANK_ID:
                    stays[1] = log_add(stays[1], by_symbol + float(row[prefix.symbol]))
                for symbol, log_prob in symbols:
                    # The same symbol twice needs a blank between.
                    so_far = by_blank if symbol == prefix.symbol else total
                    if so_far > -math.inf:
                        child = self._child(prefix, symbol)
                        if child.score == -math.inf:
                            continue
                        longer = grown.setdefault(child, [-math.inf, -math.inf])
                        longer[1] = log_add(longer[1], so_far + log_prob)
            best = sorted(grown, key=lambda p: -(log_add(*grown[p]) + p.score))
            beam = {p: (grown[p][0], grown[p][1]) for p in best[: self._width]}
        found = [
            Candidate(
                tuple(p.ids()), log_add(*by) + p.score + self._scorer.end(p.state), log_add(*by)
            )
            for p, by in beam.items()
        ]
        return sorted(found, key=lambda c: -c.score)

    def _child(self, prefix: "Prefix", symbol: int) -> "Prefix":
        """The prefix and one more symbol: always the same object, which is scored once."""
        child = prefix.children.get(symbol)
        if child is None:
            state, score = self._scorer.extend(prefix.state, self._texts[symbol])
            child = Prefix(symbol, prefix, state, prefix.score + score)
            prefix.children[symbol] = child
        return child


class Prefix:
    """A text that has been begun, as a node of the tree of all of them."""

    __slots__ = ("children", "parent", "score", "state", "symbol")

    def __init__(self, symbol: int, parent: "Prefix | None", state: tuple, score: float) -> None:
        self.symbol, self.parent = symbol, parent
        self.state, self.score = state, score
        self.children: dict[int, Prefix] = {}

    def ids(self) -> list[int]:
        """Of its symbols, the first one first."""
        found = []
        node: Prefix | None = self
        while node is not None and node.parent is not None:
            found.append(node.symbol)
            node = node.parent
        return found[::-1]


def root(scorer: "SumScorer") -> Prefix:
    return Prefix(BLANK_ID, None, scorer.start, 0.0)


def log_add(a: float, b: float) -> float:
    high, low = (a, b) if a > b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


class SumScorer:
    """What several models add to a text; `state` is that of each."""

    def __init__(self, scorers: list) -> None:
        self._scorers = scorers
        self.start = tuple(scorer.start for scorer in scorers)

    def extend(self, state: tuple, text: str) -> tuple[tuple, float]:
        found = [s.extend(own, text) for s, own in zip(self._scorers, state, strict=True)]
        return tuple(own for own, _ in found), sum(score for _, score in found)

    def end(self, state: tuple) -> float:
        return sum(s.end(own) for s, own in zip(self._scorers, state, strict=True))


class LmScorer:
    """The state is what the next token follows, and the letters of a word that has not ended."""

    def __init__(self, lm: NgramLM, weight: float, bonus: float) -> None:
        self._lm, self._weight, self._bonus = lm, weight, bonus
        self.start = (lm.start, "")

    def _token(self, before: Ngram, token: str) -> tuple[Ngram, float]:
        score = self._weight * self._lm.log_prob(before, token) + self._bonus
        return self._lm.after(before, token), score


class CharScorer(LmScorer):
    def extend(self, state: tuple, text: str) -> tuple[tuple, float]:
        before, last = state
        total = 0.0
        for char in text:
            if char == WORD_MARK and (last in ("", WORD_MARK) or not self._lm.has_space):
                continue  # before the first word, behind another space, or unknown: free
            before, score = self._token(before, char)
            total, last = total + score, char
        return (before, last), total

    def end(self, state: tuple) -> float:
        return self._weight * self._lm.log_prob(state[0], END)


class WordScorer(LmScorer):
    def __init__(self, lm: NgramLM, weight: float, bonus: float, known: set[str] | None) -> None:
        super().__init__(lm, weight, bonus)
        self._known = known

    def extend(self, state: tuple, text: str) -> tuple[tuple, float]:
        before, word = state
        first, *others = text.split(WORD_MARK)
        word += first
        total = 0.0
        for other in others:
            if not self._allowed(word, whole=True):
                return (before, word), -math.inf
            if word:
                before, score = self._token(before, word)
                total += score
            word = other
        if not self._allowed(word, whole=False):
            return (before, word), -math.inf
        return (before, word), total

    def _allowed(self, word: str, *, whole: bool) -> bool:
        if self._known is None or not word:
            return True
        return word in self._known if whole else any(k.startswith(word) for k in self._known)

    def end(self, state: tuple) -> float:
        before, word = state
        total = 0.0
        if word:
            before, total = self._token(before, word)
        if not self._allowed(word, whole=True):
            return -math.inf
        return total + self._weight * self._lm.log_prob(before, END)


class PhraseScorer:
    """Looks at the whole text each time. The state is that text."""

    start = ""

    def __init__(self, phrases: dict[str, float], at_words: bool) -> None:
        self._at_words = at_words
        end = WORD_MARK if at_words else ""
        self._phrases = {phrase + end: weight for phrase, weight in phrases.items()}

    def worth(self, text: str, *, whole: bool) -> float:
        """Of the phrases in it, and what is lent for one that has begun at its end."""
        if self._at_words:
            words = [word for word in text.split(WORD_MARK) if word]
            text = WORD_MARK.join([*words, ""] if text.endswith(WORD_MARK) or whole else words)
        total = lent = 0.0
        for start in range(len(text)):
            if self._at_words and start and text[start - 1] != WORD_MARK:
                continue
            rest = text[start:]
            for phrase, weight in self._phrases.items():
                total += weight * rest.startswith(phrase)
                if phrase.startswith(rest) and phrase != rest:
                    lent = max(lent, weight * len(rest) / len(phrase))
        return total + (0.0 if whole else lent)

    def extend(self, state: str, text: str) -> tuple[str, float]:
        return state + text, self.worth(state + text, whole=False) - self.worth(state, whole=False)

    def end(self, state: str) -> float:
        return self.worth(state, whole=True) - self.worth(state, whole=False)
