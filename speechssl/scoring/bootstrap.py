"""Bootstrap intervals of error rates, over speakers or utterances.

Arrays: N utterances, U resampled units (utterances or speakers), R resamples, C columns of counts.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from speechssl.rng import rng

NUM_RESAMPLES = 2000
MIN_SPEAKERS = 5  # fewer clusters make a bootstrap over speakers meaningless


def units_of(
    speakers: Sequence[str | None],
) -> tuple[np.ndarray, Literal["utterance", "speaker"]]:
    """(N,) int number of the unit that each utterance is resampled with, and what a unit is."""
    if None not in speakers and len(set(speakers)) >= MIN_SPEAKERS:
        order = {speaker: i for i, speaker in enumerate(dict.fromkeys(speakers))}
        return np.array([order[s] for s in speakers]), "speaker"
    return np.arange(len(speakers)), "utterance"


def sum_by(counts: np.ndarray, units: np.ndarray) -> np.ndarray:
    """(N, C) counts of utterances -> (U, C) counts of units."""
    sums = np.zeros((int(units.max()) + 1, counts.shape[1]))
    np.add.at(sums, units, counts)
    return sums


def resample(counts: np.ndarray, seed: int) -> np.ndarray:
    """(U, C) counts -> (R, C) sums over R draws of U units with replacement.

    Sums of whole numbers, so exact in any order.
    """
    num_units = len(counts)
    generator = rng(seed, "bootstrap")
    sums = np.empty((NUM_RESAMPLES, counts.shape[1]))
    for r in range(NUM_RESAMPLES):
        draws = generator.integers(num_units, size=num_units, dtype=np.int32)
        sums[r] = np.bincount(draws, minlength=num_units) @ counts
    return sums


def rates_of(sums: np.ndarray) -> np.ndarray:
    """(R, 2) lengths and errors -> (<=R,) rates, without resamples that drew no reference."""
    sums = sums[sums[:, 0] > 0]
    return np.asarray(sums[:, 1] / sums[:, 0])


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval (Efron and Tibshirani 1993, chapter 13)."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
