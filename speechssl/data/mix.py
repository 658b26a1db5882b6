"""How often each of several corpora is sampled, and in which order they take turns.

Shapes: C corpora, N batches.
"""

from collections.abc import Sequence

import numpy as np

_ROUNDING = 1e-6


def corpus_shares(
    seconds: np.ndarray,
    temperature: float,
    given: Sequence[float] = (),
    rehearsal: float | None = None,
) -> np.ndarray:
    """(C,) shares of the batches that are of each corpus, which add up to 1.

    Corpora without a share of their own divide what is left: corpus c with h_c seconds has h_c^T /
    sum(h^T) of it (arXiv:1911.02116, section 3.1).

    Args:
        seconds: (C,) of each corpus.
        temperature: T from 0 (all alike) to 1 (as the seconds are).
        given: shares of the first corpora, each above 0.
        rehearsal: share of the last corpus; the others divide the rest as if it were not there.

    Raises ValueError where these shares cannot be.
    """
    if not 0 <= temperature <= 1:
        raise ValueError(f"The temperature of a mix must be in [0, 1], got {temperature}.")
    if rehearsal is not None:
        if not 0 < rehearsal < 1:
            raise ValueError(f"The share of the rehearsal must be in (0, 1), got {rehearsal:g}.")
        own = corpus_shares(seconds[:-1], temperature, given)
        return np.append(own * (1 - rehearsal), rehearsal)
    rest = 1 - sum(given)
    listed = ", ".join(f"{share:g}" for share in given)
    if len(given) > len(seconds):
        raise ValueError(
            f"mix_shares has {len(given)} shares ({listed}) for {len(seconds)} manifests: give at "
            "most one for each."
        )
    if min(given, default=1.0) <= 0:
        raise ValueError(
            f"mix_shares must be above 0, got {listed}: leave a manifest of which nothing is to be "
            "learned out of --train."
        )
    if len(given) == len(seconds):
        if abs(rest) > _ROUNDING:
            raise ValueError(
                f"mix_shares has a share for each manifest, and they add up to {sum(given):g} "
                f"({listed}): they must add up to 1."
            )
        return np.array(given) / sum(given)
    if rest <= _ROUNDING:
        raise ValueError(
            f"mix_shares adds up to {sum(given):g} ({listed}) and leaves nothing for the other "
            f"{len(seconds) - len(given)} of {len(seconds)} manifests: give less than 1."
        )
    weights = seconds[len(given) :] ** temperature
    return np.concatenate([np.array(given), rest * weights / weights.sum()])


def evenly_in_turn(quotas: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(N,) numbers of corpora: corpus c `quotas[c]` times, at even distances, so that any stretch
    of batches holds about its share of each, give or take one; where each begins is random."""
    places = [
        (np.arange(quota) + start) / quota
        for quota, start in zip(quotas.tolist(), generator.random(len(quotas)), strict=True)
    ]
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.repeat(np.arange(len(quotas)), quotas)[order]
