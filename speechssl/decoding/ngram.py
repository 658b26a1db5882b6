"""N-gram language models in their back-off form: how probable a token is after others.

The interpolation with lower orders is already in every probability, as an ARPA file holds it. A
model counts words, or characters with :data:`speechssl.text.WORD_MARK` for the space. Few
transcripts hold most of the character sequences of a language and few of its words, so that
characters serve where there is little text.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from speechssl.text import SPACE, WORD_MARK, normalize

Unit = Literal["char", "word"]
Ngram = tuple[str, ...]

BEGIN, END, UNKNOWN_WORD = "<s>", "</s>", "<unk>"
NEVER = -99.0
"""What an ARPA file has for log10 of zero."""
LN10 = math.log(10)


@dataclass(frozen=True)
class NgramLM:
    """Probabilities of what follows what."""

    order: int
    unit: Unit
    entries: dict[Ngram, tuple[float, float]]
    """N-gram -> natural logarithms of its probability given what comes before its last token, and
    of the weight of lower orders where what follows it is not listed."""
    has_space: bool = True
    """False for characters of another tool without a token for the space: it says nothing of where
    words end."""
    notes: tuple[str, ...] = ()
    """What a person should know of a file of another tool: sentences."""

    @property
    def start(self) -> Ngram:
        """What a sentence's first token follows."""
        return (BEGIN,) if self.order > 1 else ()

    def log_prob(self, before: Ngram, token: str) -> float:
        """Natural logarithm of the probability that `token` follows `before`."""
        if (token,) not in self.entries:
            token = UNKNOWN_WORD
        backed_off = 0.0
        while True:
            found = self.entries.get((*before, token))
            if found is not None:
                return backed_off + found[0]
            if not before:
                return backed_off + NEVER * LN10
            context = self.entries.get(before)
            backed_off += context[1] if context is not None else 0.0
            before = before[1:]

    def after(self, before: Ngram, token: str) -> Ngram:
        """What the next token follows: `before` and `token`, the last `order` - 1 of them."""
        if (token,) not in self.entries:
            token = UNKNOWN_WORD
        return (*before, token)[-(self.order - 1) :] if self.order > 1 else ()

    def sizes(self) -> list[int]:
        """How many n-grams there are of each length from 1 on."""
        found = Counter(map(len, self.entries))
        return [found[size] for size in range(1, self.order + 1)]

    def rows(self, size: int) -> Iterator[tuple[Ngram, float, float]]:
        """The n-grams of so many tokens, each with its log-probability and weight."""
        for gram, (log_prob, weight) in self.entries.items():
            if len(gram) == size:
                yield gram, log_prob, weight

    def letters(self) -> set[str]:
        """Those of all its words."""
        words = (gram[0] for gram in self.entries if len(gram) == 1)
        return {c for word in words if word not in (BEGIN, END, UNKNOWN_WORD) for c in word}

    def perplexity(self, texts: Iterable[str]) -> float:
        """exp of the mean of -log p over the tokens of `texts` and their ends."""
        total, num = 0.0, 0
        for text in texts:
            before = self.start
            for token in (*tokens(text, self.unit), END):
                total -= self.log_prob(before, token)
                before = self.after(before, token)
                num += 1
        return math.exp(total / max(num, 1))


@dataclass(frozen=True)
class NgramTable:
    """An n-gram model in arrays, for each length k from 1 on those of its N_k n-grams."""

    order: int
    unit: Unit
    vocabulary: list[str]
    grams: list[np.ndarray]
    """(N_k, k) int32, places in the vocabulary."""
    log_probs: list[np.ndarray]
    """(N_k,) float64, natural logarithms."""
    weights: list[np.ndarray]
    """(N_k,) float64 of lower orders behind each, natural logarithms."""

    def sizes(self) -> list[int]:
        """How many n-grams there are of each length from 1 on."""
        return list(map(len, self.grams))

    def rows(self, size: int) -> Iterator[tuple[Ngram, float, float]]:
        """The n-grams of so many tokens, each with its log-probability and weight."""
        names = self.vocabulary
        numbers = self.log_probs[size - 1].tolist(), self.weights[size - 1].tolist()
        for gram, log_prob, weight in zip(self.grams[size - 1].tolist(), *numbers, strict=True):
            yield tuple([names[i] for i in gram]), log_prob, weight

    def to_lm(self) -> NgramLM:
        entries = {
            gram: (log_prob, weight)
            for size in range(1, len(self.grams) + 1)
            for gram, log_prob, weight in self.rows(size)
        }
        return NgramLM(self.order, self.unit, entries)


def tokens(text: str, unit: Unit) -> list[str]:
    """Words, or characters with the mark for the space; NFC and single spaces first."""
    text = normalize(text, "none")
    return text.split(SPACE) if unit == "word" else list(text.replace(SPACE, WORD_MARK))
