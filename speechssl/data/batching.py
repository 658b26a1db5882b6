"""Which utterances make which batch: a pure function of (lengths, seed, epoch, world).

Batches hold utterances of similar length and about equal seconds. The number of batches is the
same in every epoch, so micro-batch k belongs to epoch ``k // len(plan)`` and is reached at once.
"""

import functools

import numpy as np

from speechssl.rng import rng

_BATCHES_PER_BUCKET = 8


class BatchPlan:
    """The batches of every epoch for one process of `world`."""

    def __init__(
        self,
        lengths_s: np.ndarray,
        *,
        batch_s: float,
        seed: int,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
    ) -> None:
        """Plan batches.

        Args:
            lengths_s: (N,) seconds of each utterance, after cropping.
            batch_s: most seconds in a batch, padding included; a longer utterance is a batch alone.
            seed: of the shuffling.
            rank, world: batch j of an epoch goes to process ``j % world``.
            shuffle: False gives the sorted order, each utterance exactly once (validation).
        """
        if len(lengths_s) == 0:
            raise ValueError("There is no utterance to make batches of.")
        if batch_s <= 0:
            raise ValueError(f"batch_s must be above 0 seconds, got {batch_s}.")
        self.lengths_s = np.asarray(lengths_s, dtype=np.float64)
        self.seed, self.rank, self.world, self.shuffle = seed, rank, world, shuffle
        self._order = np.argsort(self.lengths_s, kind="stable")
        self._buckets = _cut_buckets(self.lengths_s[self._order], batch_s)
        total = sum(-(-(end - start) // size) for start, end, size in self._buckets)
        self.num_batches = -(-total // world)
        """Batches of this process in an epoch; the last ones repeat the first where `world` does
        not divide their number."""

    def batch(self, index: int) -> np.ndarray:
        """The utterances (n,) int64 of this process's batch `index`, counted over all epochs."""
        epoch, position = divmod(index, self.num_batches)
        batches = self._epoch(epoch)
        return batches[(position * self.world + self.rank) % len(batches)]

    @functools.lru_cache(maxsize=2)  # noqa: B019  (a plan lives as long as its run)
    def _epoch(self, epoch: int) -> list[np.ndarray]:
        generator = rng(self.seed, "plan", epoch)
        batches: list[np.ndarray] = []
        for start, end, size in self._buckets:
            members = self._order[start:end]
            if self.shuffle:
                members = generator.permutation(members)
            batches += [members[i : i + size] for i in range(0, len(members), size)]
        if self.shuffle:
            batches = [batches[i] for i in generator.permutation(len(batches))]
        return batches


def _cut_buckets(lengths: np.ndarray, batch_s: float) -> list[tuple[int, int, int]]:
    """Cut sorted lengths into ``(start, end, utterances per batch)``, from the longest down.

    Every batch of a bucket fits in `batch_s`, whichever of the bucket's utterances it holds.
    """
    buckets = []
    end = len(lengths)
    while end > 0:
        size = max(int(batch_s / max(lengths[end - 1], 1e-3)), 1)
        start = max(end - size * _BATCHES_PER_BUCKET, 0)
        buckets.append((start, end, size))
        end = start
    return buckets[::-1]
