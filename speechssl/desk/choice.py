"""Which stretches are worth correcting first: uncertain ones that together cover what there is.

A set S of stretches is worth ``F(S) = sum over n-grams g of sqrt(pool(g) * mass(g, S))``.
mass(g, S) is how often g is in the hypotheses of S, each time as much as the model is unsure of it;
pool(g) is the same over the whole pool. The root makes F monotone submodular (feature-based
functions, Wei et al. 2014, doi:10.1109/ICASSP.2014.6854213): the second stretch of the same sounds
is worth less than the first, and the greedy choice by gain per second is near the best one within
the minutes. The factor pool(g) keeps an n-gram that the model made up once from being worth as much
as a common sound. Per second, not per symbol: a person's time goes with the sound, so that
stretches with much speech in little time come first (measured in docs/log).

Speakers are covered in the same way, by their seconds: each counts as much as the root of what the
pool has of him, all of them TIME_WEIGHT times as much as the n-grams. By n-grams a second alone who
speaks slowly would get hardly any of the minutes, and be recognised the worse for it (measured in
docs/log). Besides, a speaker, or a recording where nobody is named, gets a part of the minutes at
most, so that one whom the model knows least does not get them all.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

SIZES = (1, 2, 3)
"""Symbols of an n-gram."""
QUOTA = 2.0
"""Speakers get so many minutes at most that they could fill this many times the budget."""
TIME_WEIGHT = 2.0
"""What the seconds of all speakers are worth to the n-grams of the pool, where all of it is
chosen."""
FIRST_S = 60.0
"""Seconds that count as chosen of each speaker before anything is: else of the first ones the
shortest would be worth most."""

Feature = tuple[str, str | None]
"""``("n-gram", symbols)`` or ``("speaker", name)``; nobody named is one speaker more."""


@dataclass(frozen=True)
class Offer:
    """A stretch, as far as the choice depends on it."""

    duration_s: float
    group: str
    """The speaker; where nobody names one, the recording."""
    mass: Mapping[str, float]
    """Of each n-gram, above 0."""
    speaker: str | None = None
    """If he is named."""

    def features(self) -> Iterator[tuple[Feature, float]]:
        """What it adds to the mass of each feature: doubted n-grams, seconds of a speaker."""
        yield ("speaker", self.speaker), self.duration_s
        for gram, mass in self.mass.items():
            yield ("n-gram", gram), mass


def ngrams(symbols: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The n-grams of a hypothesis with their mass, of ``(symbol, confidence in [0, 1])``.

    An n-gram counts as much as the mean doubt (1 - confidence) of its symbols.
    """
    found: dict[str, float] = {}
    for size in SIZES:
        for first in range(len(symbols) - size + 1):
            part = symbols[first : first + size]
            doubt = sum(1 - confidence for _, confidence in part) / size
            if doubt > 0:
                gram = "".join(symbol for symbol, _ in part)
                found[gram] = found.get(gram, 0.0) + doubt
    return found


def choose(offers: Sequence[Offer], budget_s: float) -> list[tuple[int, float]]:
    """``(number of the offer, gain per second when it was chosen)``, the best first, of at most
    `budget_s` together and of each group at most its :func:`quota_s`.

    Lazy greedy (Minoux 1978): a gain only falls as more is chosen, so the best of the earlier
    gains that is still the best when computed anew is the best of all. Among equal ones the first
    offer is taken. Raises ValueError where the budget is not above 0.
    """
    if not budget_s > 0:
        raise ValueError(f"The minutes to choose must be above 0, got {budget_s / 60:g}.")
    weights = _weights(offers)
    most_s = quota_s(offers, budget_s)
    covered = {feature: FIRST_S for feature in weights if feature[0] == "speaker"}
    spent: dict[str, float] = {}
    total_s = 0.0
    heap = [(-_gain(offer, covered, weights), i) for i, offer in enumerate(offers)]
    heapq.heapify(heap)
    chosen: list[tuple[int, float]] = []
    while heap:
        _, i = heapq.heappop(heap)
        offer = offers[i]
        if not offer.mass or total_s + offer.duration_s > budget_s + 1e-6:
            continue
        if spent.get(offer.group, 0.0) + offer.duration_s > most_s + 1e-6:
            continue
        gain = _gain(offer, covered, weights)
        if heap and (-gain, i) > heap[0]:
            heapq.heappush(heap, (-gain, i))
            continue
        chosen.append((i, gain))
        total_s += offer.duration_s
        spent[offer.group] = spent.get(offer.group, 0.0) + offer.duration_s
        _add(offer, covered)
    return chosen


def _weights(offers: Iterable[Offer]) -> dict[Feature, float]:
    """w of each feature: F(S) is the sum of ``w * sqrt(mass)`` over what is covered."""
    pool: dict[Feature, float] = {}
    for offer in offers:
        _add(offer, pool)
    weights = {f: math.sqrt(mass) for f, mass in pool.items()}
    speakers = {f: pool[f] ** 0.25 for f in pool if f[0] == "speaker"}
    grams = math.fsum(mass for f, mass in pool.items() if f not in speakers)
    seconds = math.fsum(
        weight * (math.sqrt(FIRST_S + pool[f]) - math.sqrt(FIRST_S))
        for f, weight in speakers.items()
    )
    scale = TIME_WEIGHT * grams / max(seconds, 1e-9)
    return weights | {f: scale * weight for f, weight in speakers.items()}


def _add(offer: Offer, masses: dict[Feature, float]) -> None:
    for feature, mass in offer.features():
        masses[feature] = masses.get(feature, 0.0) + mass


def _gain(
    offer: Offer, covered: Mapping[Feature, float], weights: Mapping[Feature, float]
) -> float:
    """What an offer adds to F, per second."""
    added = math.fsum(
        weights[feature]
        * (math.sqrt(covered.get(feature, 0.0) + mass) - math.sqrt(covered.get(feature, 0.0)))
        for feature, mass in offer.features()
    )
    return added / max(offer.duration_s, 1e-3)


def quota_s(offers: Iterable[Offer], budget_s: float) -> float:
    """The seconds that a group gets at most: the least with which the groups can fill the budget
    QUOTA times, or give all that they have; a whole stretch at the least."""
    sizes: dict[str, float] = {}
    longest = 0.0
    for offer in offers:
        sizes[offer.group] = sizes.get(offer.group, 0.0) + offer.duration_s
        longest = max(longest, offer.duration_s)
    wanted = QUOTA * budget_s
    for place, size in enumerate(rising := sorted(sizes.values())):
        left = len(rising) - place
        if size * left >= wanted:
            return max(wanted / left, longest)
        wanted -= size
    return math.inf
