"""Which utterances make which batch: a pure function of (lengths, seed, epoch, batches an update).

Batches hold utterances of similar length. Those of one update, over all processes, have about equal
seconds, so that no process waits for another; how they are shared out among processes changes which
process gets a batch, never which update. The number of batches is the same in every epoch, so batch
k belongs to epoch ``k // num_batches`` and is reached at once.
"""

import copy
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from speechssl.data.mix import corpus_shares, evenly_in_turn
from speechssl.rng import rng, torch_seed

_BATCHES_PER_BUCKET = 8
_HALVINGS = 20
"""To find the shortest longest part, to a millionth."""


@dataclass(frozen=True)
class PlannedBatch:
    """One batch of a plan."""

    members: np.ndarray
    """(n,) int64, its utterances."""
    pass_number: int
    """Which pass over the data it belongs to; each holds every utterance at most once."""
    number: int
    """The batch's number among those of all processes, the same however many they are."""
    rows: tuple[int, ...] | None = None
    """Places in `members` of the utterances that this process takes of them; None: all."""


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
        accumulate: int = 1,
        shuffle: bool = True,
    ) -> None:
        """Plan batches.

        Args:
            lengths_s: (N,) seconds of each utterance, after cropping.
            batch_s: most seconds in a batch, padding included; a longer utterance is a batch alone.
            seed: of the shuffling.
            rank, world: this process, and how many there are.
            accumulate: batches that a process takes for an update.
            shuffle: False gives the sorted order, each utterance exactly once (validation, in one
                process).
        """
        if len(lengths_s) == 0:
            raise ValueError("There is no utterance to make batches of.")
        if batch_s <= 0:
            raise ValueError(f"batch_s must be above 0 seconds, got {batch_s}.")
        self.lengths_s = np.asarray(lengths_s, dtype=np.float64)
        self.seed, self.rank, self.world, self.shuffle = seed, rank, world, shuffle
        self._order = np.argsort(self.lengths_s, kind="stable")
        self._buckets = _cut_buckets(self.lengths_s[self._order], batch_s)
        self._total = sum(-(-(end - start) // size) for start, end, size in self._buckets)
        self._share_out(accumulate)

    def accumulating(self, accumulate: int) -> Self:
        """The same plan with another number of batches for an update."""
        other = copy.copy(self)
        other._share_out(accumulate)
        return other

    def _share_out(self, accumulate: int) -> None:
        self.accumulate = accumulate
        self._together = self.world * accumulate
        self._num_updates = -(-self._total // self._together)
        self.num_batches = self._num_updates * accumulate
        """Batches of this process in an epoch. Where the updates do not divide the batches of a
        pass over the data, those of the next pass fill the epoch up."""
        self._passes = -(-self._num_updates * self._together // self._total)

    def at(self, index: int) -> PlannedBatch:
        """This process's batch `index`, counted over all epochs."""
        number = _number(index, self.accumulate, self.rank, self.world)
        epoch, position = divmod(number, self._num_updates * self._together)
        pass_number, members = self._epoch(epoch)[position]
        return PlannedBatch(members, pass_number, number)

    def batch(self, index: int) -> np.ndarray:
        """The utterances (n,) int64 of this process's batch `index`, counted over all epochs."""
        return self.at(index).members

    def imbalance(self, update: int) -> float:
        """By which share the process with most to do has more seconds, padding included, than the
        mean of all processes, in an update: the others wait that long."""
        if self.world == 1:
            return 0.0
        first = update % self._num_updates * self._together
        batches = self._epoch(update // self._num_updates)[first : first + self._together]
        seconds = _seconds(self.lengths_s, [members for _, members in batches])
        return _imbalance(seconds, self.accumulate, self.world)

    def replacements(self, item: int, generator: np.random.Generator) -> Iterator[int]:
        """The other utterances, in the order in which they may replace one that cannot be
        read: of its length in random order, then shorter ones, then longer ones."""
        sorted_lengths = self.lengths_s[self._order]
        place = int(np.searchsorted(sorted_lengths, self.lengths_s[item]))
        start, end = next((start, end) for start, end, _ in self._buckets if place < end)
        alike = generator.permutation(self._order[start:end])
        for part in (alike, self._order[:start][::-1], self._order[end:]):
            yield from (int(other) for other in part if other != item)

    @functools.lru_cache(maxsize=2)  # noqa: B019  (a plan lives as long as its run)
    def _epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """(pass, utterances) of every batch, those of an update side by side."""
        if not self.shuffle:
            return [(epoch, members) for members in self._pass(None)]
        generator = rng(self.seed, "plan", epoch)
        batches: list[tuple[int, np.ndarray]] = []
        for pass_number in range(epoch * self._passes, (epoch + 1) * self._passes):
            read = self._pass(generator)
            order = generator.permutation(len(read))
            batches += [(pass_number, read[i]) for i in order.tolist()]
        batches = batches[: self._num_updates * self._together]
        if self._together == 1:
            return batches
        seconds = _seconds(self.lengths_s, [members for _, members in batches])
        return [batches[i] for i in _alike_together(seconds, self._together, generator).tolist()]

    def _pass(self, generator: np.random.Generator | None) -> list[np.ndarray]:
        """Every utterance once, bucket by bucket."""
        batches: list[np.ndarray] = []
        for start, end, size in self._buckets:
            members = self._order[start:end]
            if generator is not None:
                members = generator.permutation(members)
            batches += [members[i : i + size] for i in range(0, len(members), size)]
        return batches


class MixedPlan:
    """Batches of several corpora, each of them a random share of the steps by its hours.

    A batch is of one corpus; corpus c with h_c hours has the share h_c^T / sum(h^T) of the batches
    (arXiv:1911.02116, section 3.1): temperature T 1 is as the hours are, 0 all corpora alike. An
    epoch has as many batches as all corpora together, filled up to whole updates; a corpus that is
    used up begins anew. Where shares are given, corpora take turns at even distances, so that each
    update of several batches has about these shares of them.
    """

    def __init__(
        self,
        lengths_s: np.ndarray,
        sizes: Sequence[int],
        *,
        temperature: float,
        batch_s: float,
        seed: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        shares: Sequence[float] = (),
        rehearsal: float | None = None,
    ) -> None:
        """As :class:`BatchPlan`; `sizes`: utterances of each corpus, one after the other; `shares`
        and `rehearsal`: as in :func:`corpus_shares`."""
        if sum(sizes) != len(lengths_s) or min(sizes) < 1:
            raise ValueError(
                f"No corpus of a mix may be empty; they have {list(sizes)} utterances."
            )
        self.lengths_s = np.asarray(lengths_s, dtype=np.float64)
        self.seed, self.rank, self.world = seed, rank, world
        self._starts = np.cumsum([0, *sizes[:-1]])
        parts = np.split(self.lengths_s, self._starts[1:])
        self._plans = [
            BatchPlan(part, batch_s=batch_s, seed=torch_seed(seed, "corpus", c))
            for c, part in enumerate(parts)
        ]
        self._total = sum(plan.num_batches for plan in self._plans)
        seconds = np.array([part.sum() for part in parts])
        self.shares = corpus_shares(seconds, temperature, shares, rehearsal)
        """(C,) of the batches."""
        self._in_turn = bool(len(shares)) or rehearsal is not None
        self._share_out(accumulate)

    def accumulating(self, accumulate: int) -> Self:
        """The same plan with another number of batches for an update."""
        other = copy.copy(self)
        other._share_out(accumulate)
        return other

    def _share_out(self, accumulate: int) -> None:
        self.accumulate = accumulate
        self._together = self.world * accumulate
        quotas = np.maximum(np.round(self.shares * self._total).astype(np.int64), 1)
        quotas[quotas.argmax()] += -int(quotas.sum()) % self._together
        self._quotas = quotas  # of each corpus in an epoch
        self.num_batches = int(quotas.sum()) // self.world
        """Batches of this process in an epoch."""

    def at(self, index: int) -> PlannedBatch:
        """This process's batch `index`, counted over all epochs."""
        number = _number(index, self.accumulate, self.rank, self.world)
        corpus, own = self._place(number)
        planned = self._plans[corpus].at(own)
        return PlannedBatch(planned.members + self._starts[corpus], planned.pass_number, number)

    def batch(self, index: int) -> np.ndarray:
        """The utterances (n,) int64 of this process's batch `index`, counted over all epochs."""
        return self.at(index).members

    def imbalance(self, update: int) -> float:
        """As of :class:`BatchPlan`."""
        if self.world == 1:
            return 0.0
        first = update * self._together
        places = [self._place(number) for number in range(first, first + self._together)]
        return _imbalance(self._lengths(places), self.accumulate, self.world)

    def _lengths(self, places: list[tuple[int, int]]) -> np.ndarray:
        """(N,) seconds of batches, by corpus and number, padding included."""
        members = [self._plans[c].batch(own) + self._starts[c] for c, own in places]
        return _seconds(self.lengths_s, members)

    def replacements(self, item: int, generator: np.random.Generator) -> Iterator[int]:
        """As of :class:`BatchPlan`, of the same corpus."""
        corpus = int(np.searchsorted(self._starts, item, side="right")) - 1
        start = int(self._starts[corpus])
        for other in self._plans[corpus].replacements(item - start, generator):
            yield other + start

    def _place(self, number: int) -> tuple[int, int]:
        """The corpus of a batch of all processes, and which of the corpus's batches it is."""
        epoch, place = divmod(number, int(self._quotas.sum()))
        corpora, before = self._epoch(epoch)
        corpus = int(corpora[place])
        return corpus, epoch * int(self._quotas[corpus]) + int(before[place])

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(batches,) corpus of each, and how many of that corpus come before it in the epoch; those
        of an update side by side."""
        generator = rng(self.seed, "mix", epoch)
        if self._in_turn:
            corpora = evenly_in_turn(self._quotas, generator)
        else:
            corpora = generator.permutation(np.repeat(np.arange(len(self._quotas)), self._quotas))
        before = np.empty(len(corpora), np.int64)
        for corpus, quota in enumerate(self._quotas.tolist()):
            before[corpora == corpus] = np.arange(quota)
        if self._together == 1 or self._in_turn:
            return corpora, before
        own = epoch * self._quotas[corpora] + before
        seconds = self._lengths(list(zip(corpora.tolist(), own.tolist(), strict=True)))
        order = _alike_together(seconds, self._together, generator)
        return corpora[order], before[order]


class SharedPlan:
    """What one of several processes takes of the micro-batches of a plan for a single one.

    An update stays what it is in one process. Where the number of its micro-batches is a multiple
    of that of the processes, each takes whole ones; else each micro-batch is cut into parts, some
    of its utterances for each process.
    """

    def __init__(self, whole: BatchPlan | MixedPlan, rank: int, world: int) -> None:
        """`whole`: of a single process, with all micro-batches of an update; `rank` of `world`
        processes takes its share."""
        groups = math.gcd(whole.accumulate, world)  # each of them takes micro-batches of its own
        self._whole, self._groups, self._parts = whole, groups, world // groups
        self._group, self._part = rank % groups, rank // groups
        self.lengths_s, self.replacements = whole.lengths_s, whole.replacements
        self.accumulate = whole.accumulate // groups
        """Micro-batches, or parts of them, that this process takes for an update."""
        self.num_batches = whole.num_batches // groups
        """The same for an epoch."""

    @property
    def cuts(self) -> bool:
        """Whether micro-batches are cut into parts."""
        return self._parts > 1

    def at(self, index: int) -> PlannedBatch:
        """This process's batch `index`, counted over all epochs."""
        planned = self._whole.at(_number(index, self.accumulate, self._group, self._groups))
        if not self.cuts:
            return planned
        return replace(planned, rows=self._cut(planned.members)[self._part])

    def _cut(self, members: np.ndarray) -> list[tuple[int, ...]]:
        """The rows of each part."""
        return cut_evenly(self.lengths_s[members], self._parts)

    def imbalance(self, update: int) -> float:
        """As of :class:`BatchPlan`."""
        seconds = np.zeros((self._groups, self._parts))
        for group in range(self._groups):
            for turn in range(self.accumulate):
                index = update * self.accumulate + turn
                members = self._whole.batch(_number(index, self.accumulate, group, self._groups))
                for part, rows in enumerate(self._cut(members)):
                    own = self.lengths_s[members[list(rows)]]
                    seconds[group, part] += own.max(initial=0.0) * len(own)
        return float(seconds.max() / seconds.mean() - 1)


def cut_evenly(lengths_s: np.ndarray, parts: int) -> list[tuple[int, ...]]:
    """The rows of each part of a micro-batch whose utterances have these lengths: those with more
    utterances have shorter ones, so that the longest part, padding included, is as short as can be.

    The first part is never empty; others are where there are fewer utterances than parts.
    """
    order = np.argsort(lengths_s, kind="stable").tolist()
    lengths = lengths_s[order].tolist()

    def filled(limit: float) -> list[int]:
        """Where each part ends if it takes, from the shortest on, what stays within `limit`."""
        ends, first = [], 0
        for place, length in enumerate(lengths):
            if place > first and (place - first + 1) * length > limit:
                ends.append(place)
                first = place
        return [*ends, len(lengths)]

    low, high = 0.0, max(lengths) * len(lengths)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = len(filled(middle)) <= parts and lengths[-1] <= middle
        low, high = (low, middle) if fits else (middle, high)
    ends = filled(high)
    ends += [len(lengths)] * (parts - len(ends))
    return [
        tuple(sorted(order[start:end])) for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


Plan = BatchPlan | MixedPlan | SharedPlan


def _number(index: int, accumulate: int, rank: int, world: int) -> int:
    """The number among those of all processes of a process's batch `index`: there and back through
    an update's batches, which are sorted, so that the processes' sums differ least."""
    update, turn = divmod(index, accumulate)
    place = rank if turn % 2 == 0 else world - 1 - rank
    return update * world * accumulate + turn * world + place


def _seconds(lengths_s: np.ndarray, batches: list[np.ndarray]) -> np.ndarray:
    """(N,) of each batch, padding included."""
    sizes = np.array([len(members) for members in batches])
    longest = np.maximum.reduceat(lengths_s[np.concatenate(batches)], np.cumsum(sizes) - sizes)
    return np.asarray(longest * sizes)


def _alike_together(
    seconds: np.ndarray, together: int, generator: np.random.Generator
) -> np.ndarray:
    """An order of N batches in which each `together` of them, an update's, have about the same
    seconds; N is a multiple."""
    updates = np.argsort(seconds, kind="stable").reshape(-1, together)
    return np.asarray(generator.permutation(updates).ravel())


def _imbalance(seconds: np.ndarray, accumulate: int, world: int) -> float:
    """By which share the process with most to do exceeds the mean, of an update's batches."""
    turns = seconds.reshape(accumulate, world)
    turns[1::2] = turns[1::2, ::-1].copy()
    sums = turns.sum(0)
    return float(sums.max() / sums.mean() - 1)


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
