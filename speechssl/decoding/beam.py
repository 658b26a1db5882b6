"""CTC prefix beam search, with an n-gram language model (Hannun et al. 2014, arXiv:1408.2873,
algorithm 1).

Greedy decoding takes the best path; here the paths that spell the same text are summed, and a
language model says which texts are probable. It scores a prefix at each new character, or at the
end of each word, as the model counts.

Shapes: B batch, T frames, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from unicodedata import normalize

import numpy as np
from torch import Tensor

from speechssl.decoding.align import align, mean_confidence
from speechssl.decoding.greedy import Hypothesis, check_rows
from speechssl.decoding.ngram import END, Ngram, NgramLM
from speechssl.text import BLANK_ID, WORD_MARK, Tokenizer, lower_case

_MOST = 10_000
_LEAST_LOG_PROB = -7.0
"""Symbols that are less probable than this in a frame (natural logarithm) do not begin there."""


@dataclass(frozen=True)
class BeamConfig:
    """How to search."""

    width: int = 16
    """Prefixes that are followed at a time."""
    lm_weight: float = 0.5
    """Factor on the log-probabilities of the language model."""
    bonus: float = 1.0
    """Added for each of the language model's tokens in a text, or it would prefer short ones."""

    def __post_init__(self) -> None:
        if not 1 <= self.width <= _MOST:
            raise ValueError(f"beam must be between 1 and {_MOST}, got {self.width}.")
        if not (math.isfinite(self.lm_weight) and self.lm_weight >= 0):
            raise ValueError(f"lm_weight must not be negative, got {self.lm_weight}.")
        if not math.isfinite(self.bonus):
            raise ValueError(f"bonus must be a number, got {self.bonus}.")


class BeamDecoder:
    """Decodes for one tokenizer, perhaps with a language model."""

    def __init__(
        self, tokenizer: Tokenizer, config: BeamConfig = BeamConfig(), lm: NgramLM | None = None
    ) -> None:
        """Raises ValueError for a language model that does not fit the tokenizer: of another
        alphabet, case or Unicode form, or of words where the tokenizer has no space."""
        self.config = config
        self.uses_lm = lm is not None
        self.notes: list[str] = []
        """What a person should know of how the language model is used: sentences."""
        self._texts = tokenizer.spellings
        self._scorer: _Scorer = _NoScorer()
        if lm is None:
            return
        _check_letters(lm, self._texts)
        has_space = any(WORD_MARK in text for text in self._texts)
        self.notes += lm.notes
        if lm.unit == "char":
            self._scorer = _CharScorer(lm, config)
            if has_space and not lm.has_space:
                self.notes.append(
                    "The language model has no token for the space: where words end is decided by "
                    "the sound alone."
                )
        elif has_space:
            self._scorer = _WordScorer(lm, config)
        else:
            raise ValueError(
                "The language model counts words, and the model emits no spaces, so that no word "
                "would ever end: make one of characters (speechssl lm --unit char)."
            )

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[Hypothesis]:
        """(B, T, V) float log-probabilities on any device, (B,) int frames -> B hypotheses.

        Each holds the frames of the best path that spells its text. Raises ValueError as
        :func:`.greedy.greedy_decode` does.
        """
        counts = check_rows(log_probs, lengths)
        rows = log_probs.detach().float().cpu().numpy()
        return [self._decode(rows[b, :n]) for b, n in enumerate(counts)]

    def _decode(self, rows: np.ndarray) -> Hypothesis:
        """(T, V) float32."""
        if np.isnan(rows).any():
            raise ValueError(
                "log_probs holds NaN: the model's output is broken, so no text is best."
            )
        ids = self.search(rows)
        tokens = align(rows, ids).tokens if ids else ()
        num_blank = len(rows) - sum(token.end_frame - token.start_frame for token in tokens)
        silence = float(np.exp(rows[:, BLANK_ID].mean())) if len(rows) else 0.0
        return Hypothesis(
            tokens, len(rows), num_blank, mean_confidence(tokens) if tokens else silence
        )

    def search(self, rows: np.ndarray) -> list[int]:
        """(T, V) log-probabilities -> the ids of the best text, without blanks."""
        beam: dict[_Prefix, tuple[float, float]] = {_root(self._scorer): (0.0, -math.inf)}
        for row in rows:
            begun = np.flatnonzero(row > _LEAST_LOG_PROB)
            symbols = [(int(i), float(row[i])) for i in begun if i != BLANK_ID]
            blank = float(row[BLANK_ID])
            grown: dict[_Prefix, list[float]] = {}
            for prefix, (by_blank, by_symbol) in beam.items():
                total = _log_add(by_blank, by_symbol)
                stays = grown.setdefault(prefix, [-math.inf, -math.inf])
                stays[0] = _log_add(stays[0], total + blank)
                if prefix.symbol != BLANK_ID:
                    stays[1] = _log_add(stays[1], by_symbol + float(row[prefix.symbol]))
                for symbol, log_prob in symbols:
                    # The same symbol twice needs a blank between.
                    so_far = by_blank if symbol == prefix.symbol else total
                    if so_far > -math.inf:
                        longer = grown.setdefault(
                            self._child(prefix, symbol), [-math.inf, -math.inf]
                        )
                        longer[1] = _log_add(longer[1], so_far + log_prob)
            best = sorted(grown, key=lambda p: -(_log_add(*grown[p]) + p.score))
            beam = {p: (grown[p][0], grown[p][1]) for p in best[: self.config.width]}
        ends = self._scorer.end
        found = max(beam, key=lambda p: _log_add(*beam[p]) + p.score + ends(p.state))
        return found.ids()

    def _child(self, prefix: "_Prefix", symbol: int) -> "_Prefix":
        """The prefix and one more symbol: always the same object, which is scored once."""
        child = prefix.children.get(symbol)
        if child is None:
            state, score = self._scorer.extend(prefix.state, self._texts[symbol])
            child = _Prefix(symbol, prefix, state, prefix.score + score)
            prefix.children[symbol] = child
        return child


def _check_letters(lm: NgramLM, texts: Sequence[str]) -> None:
    """ValueError where the language model knows the letters of `texts` not at all, only in the
    other case, or only taken apart."""
    emitted = {c for text in texts for c in text if c.isalpha()}
    letters = lm.letters()
    known = emitted & letters
    in_any_case = set(map(lower_case, emitted)) & set(map(lower_case, letters))
    some = " ".join(sorted(emitted - known)[:5])
    if emitted and (not known or 2 * len(known) < len(in_any_case)):
        case = "in another case" if in_any_case else "of another alphabet"
        raise ValueError(
            f"The language model is {case}: it knows {len(known)} of the {len(emitted)} letters "
            f"that the model emits ({some} are unknown to it)."
        )
    apart = [c for c in sorted(emitted - known) if letters.issuperset(normalize("NFD", c))]
    if lm.unit == "char" and apart:
        raise ValueError(
            f"The language model counts letters and their marks apart (Unicode NFD): it does not "
            f"know {' '.join(apart[:5])} as one character; make it of text in NFC."
        )


class _Prefix:
    """A text that has been begun, as a node of the tree of all of them."""

    __slots__ = ("children", "parent", "score", "state", "symbol")

    def __init__(
        self, symbol: int, parent: "_Prefix | None", state: "_State", score: float
    ) -> None:
        self.symbol, self.parent = symbol, parent
        self.state, self.score = state, score
        self.children: dict[int, _Prefix] = {}

    def ids(self) -> list[int]:
        """Of its symbols, the first one first."""
        found = []
        node: _Prefix | None = self
        while node is not None and node.parent is not None:
            found.append(node.symbol)
            node = node.parent
        return found[::-1]


def _root(scorer: "_Scorer") -> _Prefix:
    return _Prefix(BLANK_ID, None, scorer.start, 0.0)


def _log_add(a: float, b: float) -> float:
    high, low = (a, b) if a > b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


_State = tuple[Ngram, str]
"""What a language model's next token follows, and the letters of a word that has not ended."""


class _Scorer(Protocol):
    """What a language model adds to the log-probability of a prefix."""

    start: _State

    def extend(self, state: _State, text: str) -> tuple[_State, float]:
        """The state and the addend of a prefix that goes on with `text`."""

    def end(self, state: _State) -> float:
        """The addend of a text that ends here."""


class _NoScorer:
    start: _State = ((), "")

    def extend(self, state: _State, text: str) -> tuple[_State, float]:  # noqa: ARG002
        return state, 0.0

    def end(self, state: _State) -> float:  # noqa: ARG002
        return 0.0


class _LmScorer:
    def __init__(self, lm: NgramLM, config: BeamConfig) -> None:
        self._lm, self._weight, self._bonus = lm, config.lm_weight, config.bonus
        self.start: _State = (lm.start, "")

    def _token(self, before: Ngram, token: str) -> tuple[Ngram, float]:
        score = self._weight * self._lm.log_prob(before, token) + self._bonus
        return self._lm.after(before, token), score


class _CharScorer(_LmScorer):
    def __init__(self, lm: NgramLM, config: BeamConfig) -> None:
        super().__init__(lm, config)
        self._has_space = lm.has_space

    def extend(self, state: _State, text: str) -> tuple[_State, float]:
        before, last = state
        total = 0.0
        for char in text:
            if char == WORD_MARK and (last in ("", WORD_MARK) or not self._has_space):
                continue  # before the first word, behind another space, or unknown: free
            before, score = self._token(before, char)
            total, last = total + score, char
        return (before, last), total

    def end(self, state: _State) -> float:
        return self._weight * self._lm.log_prob(state[0], END)


class _WordScorer(_LmScorer):
    def extend(self, state: _State, text: str) -> tuple[_State, float]:
        before, word = state
        first, *others = text.split(WORD_MARK)
        word += first
        total = 0.0
        for other in others:
            if word:
                before, score = self._token(before, word)
                total += score
            word = other
        return (before, word), total

    def end(self, state: _State) -> float:
        before, word = state
        total = 0.0
        if word:
            before, total = self._token(before, word)
        return total + self._weight * self._lm.log_prob(before, END)
