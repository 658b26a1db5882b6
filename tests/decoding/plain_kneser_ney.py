"""Interpolated modified Kneser-Ney in plain dicts, as lmplz (KenLM) has it.

Chen and Goodman 1999, section 3 and equation 26. N-grams that are pruned count for the discounts
and for the adjusted counts of lower orders, and all that they hold is left to the lower order
(Heafield et al. 2013; `adjust_counts.cc` and `initial_probabilities.cc`).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from speechssl.decoding.ngram import BEGIN, END, NEVER, UNKNOWN_WORD, Ngram, NgramLM, Unit, tokens


def train_lm(texts: Iterable[str], *, order: int, unit: Unit, prune: Sequence[int] = ()) -> NgramLM:
    raw, counts = _count(texts, order, unit)
    thresholds = [*prune, *[prune[-1] if prune else 0] * order][:order]
    probs: list[dict[Ngram, float]] = []  # of each order
    weights: dict[Ngram, float] = {}  # of lower orders behind a context
    vocabulary = {token for (token,) in counts[0]} | {END, UNKNOWN_WORD}
    uniform = 1 / len(vocabulary)
    for number, grams in enumerate(counts):
        discounts = _discounts(grams)
        totals: dict[Ngram, int] = defaultdict(int)
        freed: dict[Ngram, float] = defaultdict(float)
        for gram, count in grams.items():
            totals[gram[:-1]] += count
            cut = raw[number][gram] <= thresholds[number]
            freed[gram[:-1]] += count if cut else discounts[min(count, 3)]
        level = {}
        for gram, count in grams.items():
            before = gram[:-1]
            if raw[number][gram] <= thresholds[number]:
                continue
            lower = probs[-1][gram[1:]] if number else uniform
            own = count - discounts[min(count, 3)] + freed[before] * lower
            level[gram] = own / totals[before]
        if not number:
            for token in vocabulary - {token for (token,) in grams}:
                level[(token,)] = freed[()] * uniform / totals[()]
        weights |= {before: freed[before] / totals[before] for before in totals if before}
        probs.append(level)
    if order > 1:
        probs[0][(BEGIN,)] = 10.0**NEVER  # no text has it, every text follows it
    entries = {
        gram: (math.log(prob), math.log(weights[gram]) if weights.get(gram) else 0.0)
        for level in probs
        for gram, prob in level.items()
    }
    return NgramLM(order, unit, entries)


def _count(
    texts: Iterable[str], order: int, unit: Unit
) -> tuple[list[Counter[Ngram]], list[Counter[Ngram]]]:
    """For each order from 1 on how often each n-gram came up, and the same adjusted: below the
    highest order, behind how many different tokens it did (Kneser-Ney), unless it begins a
    sentence."""
    raw: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for text in texts:
        words = tokens(text, unit)
        if not any(words):
            continue
        sentence = (BEGIN, *words, END) if order > 1 else (*words, END)
        for size in range(1, order + 1):
            for start in range(len(sentence) - size + 1):
                raw[size - 1][sentence[start : start + size]] += 1
    raw[0].pop((BEGIN,), None)
    counts = [raw[-1]]
    for size in range(order - 1, 0, -1):
        lower: Counter[Ngram] = Counter(gram[1:] for gram in raw[size])
        lower.update({g: n for g, n in raw[size - 1].items() if g[0] == BEGIN})
        counts.insert(0, lower)
    return raw, counts


def _discounts(grams: Counter[Ngram]) -> tuple[float, float, float, float]:
    """What is taken from counts of 0, 1, 2, and 3 or more."""
    of = Counter(min(count, 5) for count in grams.values())
    if not all(of[n] for n in (1, 2, 3, 4)):  # too little text to tell
        return 0.0, 0.5, 1.0, 1.5
    share = of[1] / (of[1] + 2 * of[2])
    found = [n - (n + 1) * share * of[n + 1] / of[n] for n in (1, 2, 3)]
    if not all(0 < each < n for n, each in enumerate(found, start=1)):
        return 0.0, 0.5, 1.0, 1.5
    return 0.0, *found  # type: ignore[return-value]
