"""The best way of a known text through hours of log-probabilities, in bounded memory.

The lattice is that of CTC (:mod:`speechssl.decoding.align`) with a *gap* before each word and
behind the last one. In a gap the model may emit anything: speech without text. From gap to gap
words are skipped: text without speech. So the text and the recording need not be the same, and what
one of them lacks does not drag the rest. (The star token of torchaudio's tutorial "CTC forced
alignment API" and of arXiv:2305.13516, section 3.2, is such a gap at no cost; CTC segmentation,
arXiv:2007.09127, lets go of speech at both ends only.)

Costs of gaps are those of an edit distance between the text and what the model emits, in nats:
`extra` for each symbol that it emits in a gap (pauses are free), `skip` for each token of skipped
text, `enter` for each way from the text into a gap. A stretch of n symbols and n tokens is torn out
where reading it costs more than ``enter + n * (extra + skip)``.

Costs are whole numbers of 1 / ``emissions.UNIT`` nats above the cost of the best symbol of
each frame. Sums are thus exact, and so is the path: it is that of the full table, with the ties of
:mod:`speechssl.decoding.lattice_loops`. Memory is not that of the full table (T x Z): the first
pass keeps, for some frames, where the best way to each state was at the kept frame before; of the
parts between them a table is made of the states between both ends alone, or they are parted again.

Shapes: T frames, V vocabulary, C columns, N tokens, W words, Z = 2N + 1 + W + 1 states: blank i
(before token i), N + 1 + i for token i, 2N + 1 + k for gap k (before word k).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from speechssl.decoding.align import TokenSpan
from speechssl.decoding.emissions import DEFAULT_COSTS, FILLER, UNIT, Emissions, GapCosts

MOST_CELLS = 1 << 24
"""Bytes of a table of ways."""

MOST_KEPT = 1 << 26
"""Bytes of the states that the first pass keeps, at most."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames between two words that are away from the text: ``[start_frame, end_frame)`` from the
    first to the last symbol that the model emits by itself, or all where it emits none."""

    word: int
    """Number of the word behind it; W behind the last one."""
    start_frame: int
    end_frame: int
    num_symbols: int
    """How many it emits; 0: a pause."""


@dataclass(frozen=True, slots=True)
class WordPath:
    """The best way of a text."""

    words: tuple[tuple[TokenSpan, ...] | None, ...]
    """The tokens of each word; None where it is skipped."""
    gaps: tuple[Gap, ...]
    num_symbols: int
    """That the model emits by itself in the whole recording."""
    cost: float
    """Nats above the best symbol of each frame."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """The states of a text and the ways between them; see the head of the module."""

    column: np.ndarray
    """(N,) uint32 column of each token."""
    leap: np.ndarray
    """(N,) int32 cost of the way past the blank before it: 0, or FAR between equal ones."""
    after: np.ndarray
    """(K,) int32 token before which each gap lies, N for the last one; K is W + 1, or 0."""
    before: np.ndarray
    """(K,) int32 token behind which it lies, -1 for the first one."""
    skip: np.ndarray
    """(K,) int32 cost of the word before it."""
    enter: int

    @classmethod
    def of(
        cls,
        words: Sequence[Sequence[int]],
        separator: Sequence[int],
        columns: dict[int, int],
        costs: GapCosts | None,
        joined: Sequence[bool] = (),
    ) -> "Lattice":
        """Of the ids of words, with the ids of `separator` before each that is not `joined`;
        without gaps where `costs` is None. Raises ValueError for a word without ids or an id
        without a column."""
        from speechssl.decoding.lattice_loops import FAR

        ids: list[int] = []
        after, before = [0], [-1]
        for number, word in enumerate(words):
            ids += [*_before(number, separator, joined), *word]
            after[number] = len(ids) - len(word)
            after.append(len(ids))
            before.append(len(ids) - 1)
        if not all(map(len, words)) or not set(ids) <= columns.keys():
            raise ValueError("Each word needs an id at least, above the blank and with a column.")
        column = np.array([columns[i] for i in ids], np.uint32)
        leap = np.zeros(len(ids), np.int32)
        leap[1:][column[1:] == column[:-1]] = FAR
        lengths = np.array([0, *map(len, words)])
        skip = np.rint(lengths * (costs.skip * UNIT if costs else 0)).astype(np.int32)
        num_gaps = len(after) if costs else 0
        return cls(
            column,
            leap,
            np.array(after[:num_gaps], np.int32),
            np.array(before[:num_gaps], np.int32),
            skip[:num_gaps],
            round(costs.enter * UNIT) if costs else 0,
        )

    @property
    def num_tokens(self) -> int:
        return len(self.column)

    def ends(self) -> list[int]:
        """The states in which a path may end, the first of equal ones first."""
        n, k = self.num_tokens, len(self.after)
        return [n, *([2 * n] if n else []), *([2 * n + k] if k else [])]

    def part(self, start: int, end: int | None) -> "_Part":
        """What lies between two states; end None: all that lies behind `start`."""
        n = self.num_tokens
        if start > 2 * n:
            gap_from = start - 2 * n - 1
            token_from = int(self.after[gap_from])
        else:
            token_from = start if start <= n else start - n - 1
            gap_from = int(np.searchsorted(self.after, token_from))
        if end is None:
            token_to, gap_to = n, len(self.after)
        elif end > 2 * n:
            gap_to = end - 2 * n
            token_to = int(self.after[gap_to - 1])
        elif end <= n:
            token_to = end
            gap_to = int(np.searchsorted(self.after, token_to))
        else:
            token_to = end - n
            gap_to = int(np.searchsorted(self.after, token_to))
        return _Part(self, token_from, token_to, gap_from, max(gap_to, gap_from))


@dataclass(frozen=True, eq=False)
class _Part:
    """Tokens ``[token_from, token_to)`` of a lattice, their blanks, gaps ``[gap_from, gap_to)``."""

    lattice: Lattice
    token_from: int
    token_to: int
    gap_from: int
    gap_to: int

    @property
    def num_states(self) -> int:
        return 2 * (self.token_to - self.token_from) + 1 + self.gap_to - self.gap_from

    def arguments(self) -> tuple[Any, ...]:
        """What the loops need beside costs and states."""
        whole = self.lattice
        tokens, gaps = (
            slice(self.token_from, self.token_to),
            slice(self.gap_from, self.gap_to),
        )
        shift = np.int32(self.token_from)
        after, before = whole.after[gaps] - shift, whole.before[gaps] - shift
        skip, enter = whole.skip[gaps], np.int32(whole.enter)
        return whole.column[tokens], whole.leap[tokens], after, before, skip, enter

    def names(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The number of each state in the lattice, as the loops hold them."""
        n, one = self.lattice.num_tokens, np.int32(1)
        blank = np.arange(self.token_from, self.token_to + 1, dtype=np.int32)  # (N + 1,)
        gap = np.arange(self.gap_from, self.gap_to, dtype=np.int32) + np.int32(2 * n + 1)  # (K,)
        return blank, blank + np.int32(n) * one, gap  # token i - 1 is beside blank i

    def start(self, state: int) -> tuple[np.ndarray, ...]:
        """Costs before the first frame: nothing but `state` can be reached."""
        from speechssl.decoding.lattice_loops import FAR

        made = []
        for place, names in enumerate(self.names()):
            values = np.where(names == state, np.int32(0), np.int32(FAR))
            if place == 1:
                values[0] = FAR  # the token before the part
            made.append(values.astype(np.int32))
        return tuple(made)

    def place(self, state: int) -> tuple[int, int]:
        """Which of the three arrays of the loops holds a state, and where."""
        n = self.lattice.num_tokens
        if state <= n:
            return 0, state - self.token_from
        if state <= 2 * n:
            return 1, state - n - self.token_from
        return 2, state - 2 * n - 1 - self.gap_from

    def cheapest(self, values: tuple[np.ndarray, ...], states: Sequence[int]) -> tuple[int, int]:
        """The first of the states that cost least, and that cost."""

        def cost(state: int) -> int:
            kind, place = self.place(state)
            return int(values[kind][place])

        best = min(states, key=cost)
        return best, cost(best)


def best_path(emission: np.ndarray, lattice: Lattice) -> tuple[np.ndarray, int]:
    """(T, C) int16 costs -> (T,) int32 the state of each frame, and the cost of that path.

    Raises ValueError where no path fits into the frames (a lattice without gaps), and where a
    recording is so long that costs no longer fit into 32 bits (about a day).
    """
    from speechssl.decoding.lattice_loops import FAR

    path = np.empty(len(emission), np.int32)
    if not len(emission):
        return path, 0
    if len(lattice.after):
        worst = lattice.enter + int(lattice.skip.sum()) + int(emission[:, FILLER].sum())
        if worst >= FAR:
            raise ValueError(
                "The recording and the text are too long to be aligned at once: cut them into "
                "parts of some hours."
            )
    _, cost = _solve(emission, lattice, path, 0, len(emission), 0, None)
    if cost >= FAR:
        raise ValueError(
            f"The text is too long for the audio: its {lattice.num_tokens} tokens need more than "
            f"{len(emission)} frames."
        )
    return path, cost


def _solve(
    emission: np.ndarray,
    lattice: Lattice,
    path: np.ndarray,
    first: int,
    last: int,
    start: int,
    end: int | None,
) -> tuple[int, int]:
    """Fill ``path[first:last]`` with the cheapest way from `start`, before the first of these
    frames, to `end` in the last one; returns that state, and the cost.

    `end` None: to where the cheapest path of the text ends.
    """
    from speechssl.decoding import lattice_loops as loops

    part = lattice.part(start, end)
    ends = lattice.ends() if end is None else [end]
    num_frames = last - first
    arguments, state = part.arguments(), part.start(start)
    if num_frames * part.num_states <= MOST_CELLS or num_frames == 1:
        state, ways = loops.table(emission[first:last], *arguments, state)
        end, cost = part.cheapest(state, ends)
        _trace(path[first:last], part, ways, end)
        return end, cost
    num_kept = min(max(MOST_KEPT // (4 * part.num_states), 2), num_frames)
    edges = np.linspace(first, last, num_kept + 1).astype(int)
    kept: list[tuple[np.ndarray, ...]] = []
    for begin, stop in pairwise(edges):
        state, origin = loops.forward(emission[begin:stop], *arguments, state, part.names())
        kept.append(origin)
    end, cost = part.cheapest(state, ends)
    if cost < loops.FAR:
        here = end
        for begin, stop, origin in zip(edges[-2::-1], edges[:0:-1], kept[::-1], strict=True):
            kind, place = part.place(here)
            came = int(origin[kind][place])
            _solve(emission, lattice, path, begin, stop, came, here)
            here = came
    return end, cost


def _trace(path: np.ndarray, part: _Part, ways: tuple[np.ndarray, ...], end: int) -> None:
    """Fill `path` from its end, by a table of ways."""
    from speechssl.decoding.lattice_loops import BLANK, GAP, LEAP, SKIP, STAY

    lattice, n = part.lattice, part.lattice.num_tokens
    blank_way, token_way, gap_way = ways
    here = end
    for frame in range(len(path) - 1, -1, -1):
        path[frame] = here
        if here <= n:
            if blank_way[frame, here - part.token_from] == BLANK:
                here += n
        elif here <= 2 * n:
            token = here - n - 1
            way = token_way[frame, token - part.token_from]
            if way == BLANK:
                here = token
            elif way == LEAP:
                here -= 1
            elif way == GAP:
                here = 2 * n + 1 + int(np.searchsorted(lattice.after, token))
        else:
            gap = here - 2 * n - 1
            while (way := gap_way[frame, gap - part.gap_from]) == SKIP:
                gap -= 1
            token, is_blank = divmod(int(way) - 1, 2)
            token += int(lattice.before[gap])
            source = token + 1 if is_blank else n + 1 + token
            here = 2 * n + 1 + gap if way == STAY else source


def align_words(
    emissions: Emissions,
    words: Sequence[Sequence[int]],
    separator: Sequence[int] = (),
    costs: GapCosts | None = DEFAULT_COSTS,
    joined: Sequence[bool] = (),
) -> WordPath:
    """The cheapest way of `words`, each of at least one id, with `separator` (the space, where it
    is a symbol) before each but those that are `joined` to the word before. Memory grows with T and
    N, and not with their product.

    `costs` None: without gaps, so that all words are there and nothing else. Errors are those of
    :meth:`Lattice.of` and :func:`best_path`.
    """
    lattice = Lattice.of(words, separator, emissions.columns, costs, joined)
    emission = emissions.costs()
    path, cost = best_path(emission, lattice)
    spans, away = _runs(path, lattice.num_tokens)
    begun = np.flatnonzero(emissions.starts())  # frames in which a symbol begins
    gaps = tuple(_gap(word, start, end, begun) for word, start, end in away)
    best = emissions.best()
    found: list[tuple[TokenSpan, ...] | None] = []
    token = 0
    for number, word in enumerate(words):
        token += len(_before(number, separator, joined))
        if token not in spans:
            found.append(None)
        else:
            column = lattice.column[token : token + len(word)].tolist()
            found.append(
                tuple(
                    _span(emission, best, i, spans[token + k], column[k])
                    for k, i in enumerate(word)
                )
            )
        token += len(word)
    return WordPath(tuple(found), gaps, len(begun), cost / UNIT)


def _before(number: int, separator: Sequence[int], joined: Sequence[bool]) -> Sequence[int]:
    """The ids between a word and the one before it."""
    return () if number == 0 or (joined and joined[number]) else separator


def _runs(path: np.ndarray, num_tokens: int) -> tuple[dict[int, tuple[int, int]], list[list[int]]]:
    """The frames ``(start, end)`` of each token on a path; and ``[word behind it, start, end]`` of
    each stay in gaps, of one or several that follow each other."""
    edges = np.flatnonzero(np.diff(path, prepend=-1, append=-1))  # where runs of a state begin
    spans: dict[int, tuple[int, int]] = {}
    away: list[list[int]] = []
    for start, end in pairwise(edges.tolist()):
        state = int(path[start])
        gap = state - 2 * num_tokens - 1
        if gap >= 0 and away and away[-1][2] == start:
            away[-1][0], away[-1][2] = gap, end
        elif gap >= 0:
            away.append([gap, start, end])
        elif state > num_tokens:
            spans[state - num_tokens - 1] = start, end
    return spans, away


def _gap(word: int, start: int, end: int, begun: np.ndarray) -> Gap:
    """`begun` (M,): the frames in which symbols begin."""
    inside = begun[slice(*np.searchsorted(begun, (start, end)))].tolist()
    if inside:
        start, end = inside[0], inside[-1] + 1
    return Gap(word, start, end, len(inside))


def _span(
    emission: np.ndarray, best: np.ndarray, token: int, frames: tuple[int, int], column: int
) -> TokenSpan:
    start, end = frames
    log_probs = best[start:end] - emission[start:end, column] / UNIT
    return TokenSpan(token, start, end, float(np.exp(min(log_probs.mean(dtype=np.float64), 0.0))))
