"""Estimation of n-gram language models: interpolated modified Kneser-Ney, by sorted arrays.

(Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", section
3; three discounts for each order from the counts of counts, equation 26. Pruning as Heafield et al.
2013, "Scalable modified Kneser-Ney language model estimation": what is cut off goes to the lower
order, so that probabilities still sum to one.)

N_k different n-grams of k tokens; P places in the text, ends of sentences included.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import numpy as np

from speechssl.decoding.ngram import (
    BEGIN,
    END,
    LN10,
    NEVER,
    UNKNOWN_WORD,
    NgramTable,
    Unit,
    tokens,
)

MOST_ORDER = 16
FALLBACK = (0.0, 0.5, 1.0, 1.5)
"""Discounts where there is too little text to tell."""

_BEGIN, _END, _UNKNOWN = 0, 1, 2


@dataclass
class _Level:
    """The n-grams of one length k."""

    place: np.ndarray
    """(N_k,) int64, where each stands in the text for the first time."""
    count: np.ndarray
    """(N_k,) int64, how often it does."""
    prefix: np.ndarray
    """(N_k,) int64, which n-gram of k - 1 tokens it begins with."""
    suffix: np.ndarray
    """(N_k,) int64, and with which it ends."""
    adjusted: np.ndarray
    """(N_k,) int64: below the highest order, behind how many different tokens it came up, unless it
    begins a sentence."""


def estimate(
    texts: Iterable[str], *, order: int, unit: Unit, prune: Sequence[int] = ()
) -> NgramTable:
    """Count and smooth. Empty texts count for nothing.

    `prune` holds for 1-grams, 2-grams, ... how often one may come up at most to be left out; the
    last number is also that of the longer ones. 1-grams are never left out.

    Raises ValueError for an order outside [1, 16], an unknown unit, thresholds that decrease or
    prune 1-grams, a text with a mark of a sentence's ends as a word, or where there is no text.
    """
    if not 1 <= order <= MOST_ORDER:
        raise ValueError(f"order must be between 1 and {MOST_ORDER}, got {order}.")
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be one of {', '.join(get_args(Unit))}, got {unit!r}.")
    thresholds = _thresholds(prune, order)
    text, ends, vocabulary = _numbered(texts, order, unit)
    if not len(text):
        raise ValueError("There is no text to train a language model on.")
    levels = _count(text, ends, order, len(vocabulary))
    table = NgramTable(order, unit, vocabulary, [], [], [])
    kept = [level.count > least for level, least in zip(levels, thresholds, strict=True)]
    probs = np.empty(0)
    for number, level in enumerate(levels):
        num_before = len(kept[number - 1]) if number else 1
        own, freed = _discounted(level, kept[number], num_before)
        if number:
            _add_weights(table, kept[number - 1], freed)
        lower = probs[level.suffix] if number else 1 / (len(vocabulary) - 1)
        probs = own + freed[level.prefix] * lower
        grams = text[level.place[:, None] + np.arange(number + 1)].astype(np.int32)
        table.grams.append(grams[kept[number]])
        table.log_probs.append(np.log(probs[kept[number]]))
        if not number:
            _add_unseen(table, float(freed[0] * lower))
            kept[0] = np.ones(len(level.count) + (order > 1), np.bool_)  # the beginning too
    _add_weights(table, kept[-1], np.ones(len(kept[-1])))
    return table


def _thresholds(prune: Sequence[int], order: int) -> list[int]:
    """One for each order."""
    found = [*prune, *[prune[-1] if prune else 0] * order][:order]
    if any(not isinstance(n, int | np.integer) or n < 0 for n in found):
        raise ValueError(f"prune takes whole numbers from 0 on, got {list(prune)}.")
    if found[0] or sorted(found) != found:
        raise ValueError(
            f"prune must begin with 0 for the 1-grams, which are all kept, and not decrease, as a "
            f"longer n-gram needs its beginning; got {' '.join(map(str, prune))}."
        )
    return found


def _numbered(
    texts: Iterable[str], order: int, unit: Unit
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Numbers of the tokens of all texts, one behind the other (P,), each with its ends; the place
    where the text of each token ends (P,); and the tokens by number."""
    ids = {BEGIN: _BEGIN, END: _END, UNKNOWN_WORD: _UNKNOWN}
    found: list[np.ndarray] = []
    for number, text in enumerate(texts, start=1):
        words = tokens(text, unit)
        if not any(words):
            continue
        row = [ids.setdefault(word, len(ids)) for word in words]
        if _BEGIN in row or _END in row:
            raise ValueError(
                f"Text {number} has {BEGIN} or {END} as a word, which stand for the ends of every "
                "sentence in a language model: remove them from the text."
            )
        found.append(np.array([_BEGIN, *row, _END] if order > 1 else [*row, _END], np.int64))
    lengths = np.array([len(row) for row in found], np.int64)
    ends = np.repeat(np.cumsum(lengths) - 1, lengths)
    return np.concatenate(found) if found else np.empty(0, np.int64), ends, list(ids)


def _count(text: np.ndarray, ends: np.ndarray, order: int, num_tokens: int) -> list[_Level]:
    """The n-grams of each length from 1 on; a beginning alone is none."""
    places = np.flatnonzero(text != _BEGIN)
    numbers = np.full(len(text), -1, np.int64)  # of the n-gram that begins at each place
    levels: list[_Level] = []
    before = np.zeros(len(text), np.int64)
    keys = text[places]
    for size in range(1, order + 1):
        _, first, which, count = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        place = places[first]
        suffix = numbers[place + 1] if size > 1 else np.zeros(len(place), np.int64)
        levels.append(_Level(place, count, before[place], suffix, count))
        numbers = np.full(len(text), -1, np.int64)
        numbers[places] = which
        if size == 1 and order > 1:  # what begins a sentence is a context
            numbers[text == _BEGIN] = len(place)
        before = numbers
        places = np.flatnonzero(np.arange(len(text)) + size <= ends)
        keys = numbers[places] * num_tokens + text[places + size]
    for lower, upper in pairwise(levels):
        behind = np.bincount(upper.suffix, minlength=len(lower.count))
        lower.adjusted = np.where(text[lower.place] == _BEGIN, lower.count, behind)
    return levels


def _discounts(counts: np.ndarray) -> tuple[float, float, float, float]:
    """What is taken from counts of 0, 1, 2, and 3 or more."""
    of = np.bincount(np.minimum(counts, 5), minlength=6).tolist()
    if not all(of[n] for n in (1, 2, 3, 4)):
        return FALLBACK
    share = of[1] / (of[1] + 2 * of[2])
    found = [n - (n + 1) * share * of[n + 1] / of[n] for n in (1, 2, 3)]
    if not all(0 < each < n for n, each in enumerate(found, start=1)):
        return FALLBACK
    return 0.0, found[0], found[1], found[2]


def _discounted(level: _Level, kept: np.ndarray, num_before: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of each n-gram's probability that is its own (N_k,), and of each of the `num_before`
    contexts what is left for the lower order; where nothing follows one, all."""
    counts = level.adjusted
    discounts = np.array(_discounts(counts))[np.minimum(counts, 3)]
    taken = np.where(kept, discounts, counts)
    totals = np.bincount(level.prefix, weights=counts, minlength=num_before)
    freed = np.bincount(level.prefix, weights=taken, minlength=num_before)
    own = (counts - taken) / totals[level.prefix]
    return own, np.divide(freed, totals, out=np.ones(num_before), where=totals > 0)


def _add_unseen(table: NgramTable, prob: float) -> None:
    """The 1-grams that no text has: the beginning, which every text follows, and the unknown word
    with what is left of the probability."""
    more, log_probs = [], []
    if table.order > 1:
        more, log_probs = [_BEGIN], [NEVER * LN10]
    if _UNKNOWN not in table.grams[0]:
        more.append(_UNKNOWN)
        log_probs.append(math.log(prob))
    table.grams[0] = np.append(table.grams[0], np.array(more, np.int32)[:, None], axis=0)
    table.log_probs[0] = np.append(table.log_probs[0], log_probs)


def _add_weights(table: NgramTable, kept: np.ndarray, left: np.ndarray) -> None:
    """Those of the longest n-grams so far, from what each leaves for the lower order."""
    weights = np.zeros(len(table.grams[-1]))
    found = np.log(left)[kept]
    weights[: len(found)] = found
    table.weights.append(weights)
