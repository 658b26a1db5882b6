"""How many label minutes pretraining saves: how many more a model from scratch would need.

The curve of the models from scratch, error rate against label minutes, is interpolated on the
logarithm of the minutes. Where it rises again (noise) the lowest rate so far is taken. An entry
that is better than its last point saves "more than" what is measured.

Arrays: K label budgets, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Saving:
    """Label minutes saved; infinite where the curve does not reach."""

    value: float
    low: float
    high: float
    most: float
    """What can be measured: from the entry's minutes to the last point of the curve."""
    least: float
    """The same to its first point: 0 or less."""

    def text(self) -> str:
        """For a person: ``23 [12, more than 50]``; ``none`` where it is 0 or less."""
        value, low, high = map(self._said, (self.value, self.low, self.high))
        return value if value == low == high else f"{value} [{low}, {high}]"

    def _said(self, value: float) -> str:
        if value == math.inf:
            return f"more than {number(self.most)}"
        return number(value) if number(max(value, 0.0)) != "0" else "none"


def number(minutes: float) -> str:
    """To a tenth below ten minutes, else to a whole minute."""
    text = f"{minutes:.1f}" if abs(minutes) < 9.95 else f"{minutes:.0f}"
    return text.removesuffix(".0")


def minutes_to_reach(minutes: Sequence[float], rates: Sequence[float], rate: float) -> float:
    """The fewest label minutes with which a curve is at `rate` or below.

    Args:
        minutes: (K,) ascending, above 0.
        rates: (K,) the curve.
        rate: what is to be reached.

    Returns infinity where its last point does not reach it, minus infinity where its first point is
    below it already: fewer minutes would do.
    """
    lowest = np.minimum.accumulate(np.asarray(rates, float))
    if rate > lowest[0]:
        return -math.inf
    reached = np.flatnonzero(lowest <= rate)
    if not len(reached):
        return math.inf
    after = int(reached[0])
    if after == 0:
        return float(minutes[0])
    above, below = lowest[after - 1], lowest[after]
    share = (above - rate) / (above - below)
    first, second = math.log(minutes[after - 1]), math.log(minutes[after])
    return math.exp(first + share * (second - first))


def saving(
    labels: float,
    rate: float,
    draws: np.ndarray,
    minutes: Sequence[float],
    curve: Sequence[float],
    curve_draws: Sequence[np.ndarray],
) -> Saving | None:
    """What an entry saves at `labels` minutes; None where the curve has but one point.

    Args:
        labels: the entry's label minutes.
        rate, draws: its error rate and (R,) resamples of it.
        minutes, curve: (K,) those of the models from scratch.
        curve_draws: K arrays of (R,), paired with `draws`.
    """
    if len(minutes) < 2:
        return None
    order = np.argsort(minutes).tolist()
    at = [float(minutes[i]) for i in order]
    value = minutes_to_reach(at, [curve[i] for i in order], rate)
    columns = np.stack([curve_draws[i] for i in order], axis=1)  # (R, K)
    found = [minutes_to_reach(at, row, own) for row, own in zip(columns, draws, strict=True)]
    # Of infinite values there is no mean: the percentiles are values that were drawn.
    low, high = np.percentile(found, [2.5, 97.5], method="nearest")
    return Saving(
        value - labels, float(low) - labels, float(high) - labels, at[-1] - labels, at[0] - labels
    )
