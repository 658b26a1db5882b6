"""The search of :mod:`.beam` as compiled loops (numba); all run without the interpreter's lock.

T frames, V symbols, N nodes: texts that have been in the beam, as a tree.
"""

from typing import NamedTuple

import numpy as np

from speechssl.decoding.beam_scores import STATE, Array, Guide, compiled, extend, finish, log_add

LEAST_LOG_PROB = -7.0
"""Symbols that are less probable than this in a frame (natural logarithm) do not begin there."""


class Nodes(NamedTuple):
    """Texts that have been in the beam."""

    symbol: Array
    parent: Array
    child: Array
    """The newest of its children; -1 without one."""
    sibling: Array
    """The child of its parent that was the newest before it."""
    frame: Array
    """When it came into the beam for the first time."""
    score: Array
    """What language models and phrases add to its log-probability."""
    lent: Array
    """The part of that from phrases."""
    state: Array


class Slots(NamedTuple):
    """Texts after one more frame, of which the best come into the beam."""

    node: Array
    """-1 for one that is not there yet: then of `beam` and `symbol`."""
    beam: Array
    symbol: Array
    by_blank: Array
    by_symbol: Array
    score: Array
    lent: Array
    state: Array


@compiled
def new_nodes(num: int) -> Nodes:
    return Nodes(
        np.full(num, -1, np.int32),
        np.full(num, -1, np.int32),
        np.full(num, -1, np.int32),
        np.full(num, -1, np.int32),
        np.zeros(num, np.int32),
        np.zeros(num),
        np.zeros(num),
        np.zeros((num, STATE), np.int32),
    )


@compiled
def put(into: Array, values: Array) -> None:
    """Copy `values` to the beginning of `into`. (A slice on the left takes seconds to compile.)"""
    for i in range(len(values)):
        into[i] = values[i]


@compiled
def put_rows(into: Array, values: Array) -> None:
    """The same for rows."""
    for i in range(len(values)):
        put(into[i], values[i])


@compiled
def more_nodes(old: Nodes, num: int) -> Nodes:
    new = new_nodes(num)
    put(new.symbol, old.symbol)
    put(new.parent, old.parent)
    put(new.child, old.child)
    put(new.sibling, old.sibling)
    put(new.frame, old.frame)
    put(new.score, old.score)
    put(new.lent, old.lent)
    put_rows(new.state, old.state)
    return new


@compiled
def new_slots(num: int) -> Slots:
    return Slots(
        np.empty(num, np.int32),
        np.empty(num, np.int32),
        np.empty(num, np.int32),
        np.empty(num),
        np.empty(num),
        np.empty(num),
        np.empty(num),
        np.empty((num, STATE), np.int32),
    )


@compiled
def more_slots(old: Slots, num: int) -> Slots:
    new = new_slots(num)
    put(new.node, old.node)
    put(new.beam, old.beam)
    put(new.symbol, old.symbol)
    put(new.by_blank, old.by_blank)
    put(new.by_symbol, old.by_symbol)
    put(new.score, old.score)
    put(new.lent, old.lent)
    put_rows(new.state, old.state)
    return new


@compiled
def sift(heap: Array, value: float) -> None:
    """Put `value` in the place of the least of a heap, where it is greater."""
    if not value > heap[0]:
        return
    place, num = 0, len(heap)
    while True:
        down = 2 * place + 1
        if down >= num:
            break
        if down + 1 < num and heap[down + 1] < heap[down]:
            down += 1
        if heap[down] >= value:
            break
        heap[place] = heap[down]
        place = down
    heap[place] = value


@compiled
def slot_of(slots: Slots, num: int, slot: Array, position: int, node: int, score: float) -> int:
    """The slot of a text in the beam, begun where it has none; the number of slots after it."""
    if slot[position] < 0:
        slot[position] = num
        slots.node[num] = node
        slots.by_blank[num] = slots.by_symbol[num] = -np.inf
        slots.score[num] = score
        num += 1
    return num


@compiled
def survey(
    row: Array, nodes: Nodes, beam: Array, by: Array, place: Array, width: int
) -> tuple[Array, Array, Array]:
    """Of the texts in the beam, those that are one symbol longer than each: the last one of them,
    and the one before each, by their places; and a heap of the `width` best scores that the texts
    have at least after one more frame."""
    size = len(beam)
    below, beside = np.full(size, -1, np.int64), np.full(size, -1, np.int64)
    heap = np.full(width, -np.inf)
    for b in range(size):
        node = beam[b]
        above = nodes.parent[node]
        if above >= 0 and place[above] >= 0:
            beside[b] = below[place[above]]
            below[place[above]] = b
        stays = log_add(by[b, 0], by[b, 1]) + row[0]
        if nodes.symbol[node] > 0:
            stays = log_add(stays, by[b, 1] + row[nodes.symbol[node]])
        sift(heap, stays + nodes.score[node])
    return below, beside, heap


@compiled
def grow(
    g: Guide,
    row: Array,
    symbols: Array,
    most: Array,
    nodes: Nodes,
    beam: Array,
    by: Array,
    place: Array,
    slots: Slots,
    width: int,
) -> tuple[Slots, int, float]:
    """The texts of the `beam` after one more frame, those left out that cannot be among the best
    `width`; how many slots, and what the best `width` have at least.

    A text that is new here comes from one other only, so that its score is final. `most` is what a
    symbol can add at best; `place` (N,) is each node's place in the beam or -1. The order of the
    slots is that in which the texts come up, which decides between equal scores.
    """
    size = len(beam)
    slot = np.full(size, -1, np.int64)
    below, beside, heap = survey(row, nodes, beam, by, place, width)
    num = 0
    for b in range(size):
        node = beam[b]
        total = log_add(by[b, 0], by[b, 1])
        num = slot_of(slots, num, slot, b, node, nodes.score[node])
        own = slot[b]
        slots.by_blank[own] = log_add(slots.by_blank[own], total + row[0])
        if nodes.symbol[node] > 0:
            again = by[b, 1] + row[nodes.symbol[node]]
            slots.by_symbol[own] = log_add(slots.by_symbol[own], again)
        if num + len(symbols) + size > len(slots.node):
            slots = more_slots(slots, 2 * len(slots.node) + len(symbols) + size)
        for symbol in symbols:
            # The same symbol twice needs a blank between.
            so_far = by[b, 0] if symbol == nodes.symbol[node] else total
            if not so_far > -np.inf:
                continue
            value = so_far + row[symbol]
            child = below[b]
            while child >= 0 and nodes.symbol[beam[child]] != symbol:
                child = beside[child]
            if child >= 0:
                num = slot_of(slots, num, slot, child, beam[child], nodes.score[beam[child]])
                into = slot[child]
                slots.by_symbol[into] = log_add(slots.by_symbol[into], value)
                continue
            if value + nodes.score[node] + most[symbol] < heap[0]:
                continue
            added, lent = extend(g, nodes.state[node], symbol, slots.state[num])
            score = nodes.score[node] + added
            if value + score < heap[0] or not value + score > -np.inf:
                continue
            sift(heap, value + score)
            slots.node[num], slots.beam[num], slots.symbol[num] = -1, b, symbol
            slots.by_blank[num], slots.by_symbol[num] = -np.inf, value
            slots.score[num], slots.lent[num] = score, nodes.lent[node] + lent
            num += 1
    return slots, num, heap[0]


@compiled
def best_slots(slots: Slots, num: int, least: float, width: int) -> tuple[Array, Array]:
    """The slots of the best `width` texts, the best first, and their scores; among equal ones the
    earlier slot first."""
    kept = np.empty(num, np.int64)
    totals = np.empty(num)
    k = 0
    for i in range(num):
        total = log_add(slots.by_blank[i], slots.by_symbol[i]) + slots.score[i]
        if total >= least:
            kept[k], totals[k] = i, total
            k += 1
    order = np.argsort(-totals[:k], kind="mergesort")[:width]
    return kept[order], totals[order]


@compiled
def settle(
    nodes: Nodes, num: int, slots: Slots, i: int, parent: int, frame: int
) -> tuple[int, int]:
    """The node of a slot that has none: one that has been there before, or a new one; and the
    number of nodes."""
    symbol = slots.symbol[i]
    node = nodes.child[parent]
    while node >= 0 and nodes.symbol[node] != symbol:
        node = nodes.sibling[node]
    if node >= 0:
        return node, num
    nodes.symbol[num], nodes.parent[num], nodes.frame[num] = symbol, parent, frame
    nodes.sibling[num], nodes.child[parent] = nodes.child[parent], num
    nodes.score[num], nodes.lent[num] = slots.score[i], slots.lent[i]
    put(nodes.state[num], slots.state[i])
    return num, num + 1


@compiled
def search(
    rows: Array, width: int, g: Guide, most: Array, start: Array, keep: int
) -> tuple[Nodes, Array, Array, Array, Array, Array]:
    """CTC prefix beam search over (T, V) float32.

    Returns the nodes, and of the texts in the last beam, the best first: their nodes, their scores,
    and the log-probability of all their paths. At last, of the best `keep` in the beam after each
    frame: nodes (T, keep) int32, -1 where there are fewer, and scores without what phrases add.
    """
    num_frames = len(rows)
    nodes = new_nodes(4 * width + 1024)
    nodes.symbol[0] = 0
    put(nodes.state[0], start)
    num_nodes = 1
    place = np.full(len(nodes.symbol), -1, np.int32)
    slots = new_slots(4 * width + 4 * rows.shape[1] + 64)
    beam, by = np.zeros(1, np.int32), np.array([[0.0, -np.inf]])
    seen = np.full((num_frames, keep), -1, np.int32)
    seen_scores = np.full((num_frames, keep), -np.inf)
    for t in range(num_frames):
        row = rows[t].astype(np.float64)
        symbols = np.flatnonzero(row > LEAST_LOG_PROB)
        symbols = symbols[symbols != 0]
        for b in range(len(beam)):
            place[beam[b]] = b
        slots, num, least = grow(g, row, symbols, most, nodes, beam, by, place, slots, width)
        for b in range(len(beam)):
            place[beam[b]] = -1
        chosen, totals = best_slots(slots, num, least, width)
        if num_nodes + width > len(nodes.symbol):
            nodes = more_nodes(nodes, 2 * len(nodes.symbol) + width)
            place = np.full(len(nodes.symbol), -1, np.int32)
        after, after_by = np.empty(len(chosen), np.int32), np.empty((len(chosen), 2))
        for b in range(len(chosen)):
            i = chosen[b]
            after[b] = slots.node[i]
            if after[b] < 0:
                after[b], num_nodes = settle(nodes, num_nodes, slots, i, beam[slots.beam[i]], t)
            after_by[b, 0], after_by[b, 1] = slots.by_blank[i], slots.by_symbol[i]
            if b < keep:
                seen[t, b], seen_scores[t, b] = after[b], totals[b] - nodes.lent[after[b]]
        beam, by = after, after_by
    return rank(g, nodes, beam, by, seen, seen_scores)


@compiled
def rank(
    g: Guide, nodes: Nodes, beam: Array, by: Array, seen: Array, seen_scores: Array
) -> tuple[Nodes, Array, Array, Array, Array, Array]:
    """The last beam with what ends of texts add, in order; see :func:`search`."""
    sounds, totals, lent = np.empty(len(beam)), np.empty(len(beam)), np.empty(len(beam))
    for b in range(len(beam)):
        end, end_lent = finish(g, nodes.state[beam[b]])
        sounds[b] = log_add(by[b, 0], by[b, 1])
        totals[b] = sounds[b] + nodes.score[beam[b]] + end
        lent[b] = nodes.lent[beam[b]] + end_lent
    order = np.argsort(-totals, kind="mergesort")
    if len(seen):
        for k in range(min(len(order), seen.shape[1])):
            b = order[k]
            seen[-1, k], seen_scores[-1, k] = beam[b], totals[b] - lent[b]
    return nodes, beam[order], totals[order], sounds[order], seen, seen_scores
