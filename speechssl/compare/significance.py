"""Error rates of several runs with intervals, paired differences, and what is significant.

One set of draws serves a whole comparison: in each resample all entries are scored on the same
speakers (or utterances, where fewer than five speakers are known) and the same seeds, so that
differences are paired (Bisani and Ney 2004, doi:10.1109/ICASSP.2004.1326009). Seeds are drawn too,
as a second level: an interval then holds how much the choice of labels matters.

Arrays: R resamples, U resampled units of the test set, G seeds, N utterances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechssl.rng import rng
from speechssl.scoring.bootstrap import NUM_RESAMPLES, interval, sum_by, units_of

LEVEL = 0.05
"""A difference with a smaller p is called significant."""


@dataclass(frozen=True)
class Estimate:
    """A rate as a fraction, with its 95 % interval and its resamples."""

    value: float
    low: float
    high: float
    draws: np.ndarray
    """(R,)."""


@dataclass(frozen=True)
class Paired:
    """What an entry changes against another one; below 0 is better."""

    difference: float
    """Rate minus the other's rate."""
    change: float | None
    """The same as a share of the other's rate, with a 95 % interval; None where that rate is 0."""
    change_low: float | None
    change_high: float | None
    p: float
    """Two-sided: how often the sign would be another one."""


class Draws:
    """How often each unit and each seed comes up in each resample."""

    def __init__(self, speakers: Sequence[str | None], num_seeds: int, seed: int = 0) -> None:
        """`speakers` of the N utterances of the test set."""
        self.units, self.resampled = units_of(speakers)  # (N,)
        num_units = int(self.units.max()) + 1
        generator = rng(seed, "bootstrap")
        self.of_units = np.empty((NUM_RESAMPLES, num_units), np.float32)  # (R, U)
        for row in self.of_units:
            chosen = generator.integers(num_units, size=num_units, dtype=np.int32)
            row[:] = np.bincount(chosen, minlength=num_units)
        drawn = generator.integers(num_seeds, size=(NUM_RESAMPLES, num_seeds))
        self.of_seeds = np.stack([(drawn == g).sum(1) for g in range(num_seeds)], 1)  # (R, G)

    def rate(self, counts: np.ndarray) -> Estimate:
        """(G, N, 2) lengths and errors of each seed and utterance -> the rate over all of them."""
        return self.mean_rate([counts])

    def mean_rate(self, several: Sequence[np.ndarray]) -> Estimate:
        """The mean of the rates of several (G, N, 2): of several label budgets."""
        points, draws = [], []
        for counts in several:
            points.append(counts[..., 1].sum() / counts[..., 0].sum())
            sums = np.zeros((NUM_RESAMPLES, 2))
            for number, own in enumerate(counts):
                of_seed = self.of_units @ sum_by(own, self.units).astype(np.float32)  # (R, 2)
                sums += self.of_seeds[:, number, None] * of_seed
            draws.append(sums[:, 1] / np.maximum(sums[:, 0], 1))
        mean = np.mean(draws, axis=0)  # (R,)
        return Estimate(float(np.mean(points)), *interval(mean), mean)


def paired(rate: Estimate, other: Estimate) -> Paired:
    """`rate` against `other`, of the same draws."""
    differences = rate.draws - other.draws
    change = low = high = None
    if other.value > 0:
        change = rate.value / other.value - 1
        if (other.draws > 0).all():
            low, high = interval(rate.draws / other.draws - 1)
    return Paired(rate.value - other.value, change, low, high, p_value(differences))


def p_value(differences: np.ndarray) -> float:
    """Two-sided p of (R,) resampled differences: twice the share on the rarer side of 0, zeros on
    both, and at least 2 / (R + 1) (Davison and Hinkley 1997, section 4.4)."""
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(2 * (min(below, above) + 1) / (len(differences) + 1), 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of several comparisons, adjusted so that the chance of one wrong claim among
    all of them stays what it says (Holm 1979, Scandinavian Journal of Statistics 6)."""
    order = np.argsort(p_values, kind="stable").tolist()
    adjusted, so_far = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        so_far = max(so_far, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = so_far
    return adjusted
