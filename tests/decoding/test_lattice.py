"""A known text in hours of log-probabilities: the path of the full table, gaps, bounded memory."""

import tracemalloc

import numpy as np
import pytest

from speechssl.decoding import lattice as lattice_module
from speechssl.decoding import lattice_loops as loops
from speechssl.decoding.align import align
from speechssl.decoding.emissions import FILLER, UNIT, Emissions, GapCosts
from speechssl.decoding.lattice import Lattice, align_words, best_path

COSTS = GapCosts(extra=1.5, skip=1.5, enter=4.0)


def random_log_probs(num_frames: int, vocab_size: int, seed: int, scale: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(num_frames, vocab_size)) * scale
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def peaky(symbols: list[int], vocab_size: int = 8, peak: float = 0.9) -> np.ndarray:
    """(T, V): `symbols` names the best symbol of each frame."""
    probs = np.full((len(symbols), vocab_size), (1 - peak) / (vocab_size - 1))
    probs[np.arange(len(symbols)), symbols] = peak
    return np.log(probs).astype(np.float32)


def emissions_of(log_probs: np.ndarray, words: list[list[int]], separator=()) -> Emissions:
    made = Emissions([i for word in words for i in word] + list(separator), COSTS.extra)
    made.add(log_probs)
    return made


def full_table(emission: np.ndarray, lattice: Lattice) -> tuple[list[int], int]:
    """The oracle: every state at every frame, in plain Python, with the stated ties."""
    n, num_gaps = lattice.num_tokens, len(lattice.after)
    far = loops.FAR
    ways_to: list[list[tuple[int, int]]] = [[] for _ in range(2 * n + 1 + num_gaps)]
    for i in range(n + 1):
        ways_to[i] = [(i, 0), *([(n + i, 0)] if i else [])]
    for i in range(n):
        ways = [(n + 1 + i, 0), (i, 0)]
        if i:
            ways.append((n + i, int(lattice.leap[i])))
        ways_to[n + 1 + i] = ways + [
            (2 * n + 1 + k, 0) for k in range(num_gaps) if lattice.after[k] == i
        ]
    for k in range(num_gaps):
        ways_to[2 * n + 1 + k] = [(2 * n + 1 + k, 0)]
        for j in range(lattice.before[k], lattice.after[k]):
            ways_to[2 * n + 1 + k] += [(n + 1 + j, lattice.enter)] * (j >= 0)
            ways_to[2 * n + 1 + k] += [(j + 1, lattice.enter)]
    column = [0] * (n + 1) + lattice.column.tolist() + [FILLER] * num_gaps
    now = [far] * len(ways_to)
    now[0] = 0
    back: list[list[int]] = []
    for row in emission.astype(int):
        new, came = [far] * len(now), [0] * len(now)
        for z, ways in enumerate(ways_to):
            for source, extra in ways:
                if now[source] + extra < new[z]:
                    new[z], came[z] = now[source] + extra, source
        for k in range(1, num_gaps):  # from gap to gap, within the frame
            z = 2 * n + 1 + k
            if new[z - 1] + lattice.skip[k] < new[z]:
                new[z], came[z] = new[z - 1] + int(lattice.skip[k]), came[z - 1]
        now = [min(cost, far) + int(row[column[z]]) for z, cost in enumerate(new)]
        back.append(came)
    z = min(lattice.ends(), key=lambda state: now[state])
    cost, path = now[z], []
    for came in reversed(back):
        path.append(z)
        z = came[z]
    return path[::-1], cost


def random_case(seed: int, gaps: bool = True) -> tuple[np.ndarray, Lattice]:
    r = np.random.default_rng(seed)
    separator = [2] * int(r.integers(2))
    words = [r.integers(1, 6, r.integers(1, 5)).tolist() for _ in range(r.integers(1, 7))]
    num_tokens = sum(map(len, words))
    num_frames = int(r.integers(1, 40)) if gaps else 3 * num_tokens + 20
    log_probs = random_log_probs(num_frames, 6, seed, scale=float(r.choice([0.5, 2.0, 6.0])))
    if seed % 3 == 0:  # coarse values: many ties
        log_probs = np.round(log_probs)
    made = emissions_of(log_probs, words, separator)
    return made.costs(), Lattice.of(words, separator, made.columns, COSTS if gaps else None)


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_the_path_is_that_of_the_full_table(seed: int, gaps: bool, monkeypatch) -> None:
    emission, lattice = random_case(seed, gaps)
    expected, cost = full_table(emission, lattice)
    for most_cells, most_kept in ((1 << 24, 1 << 26), (60, 200), (1, 1)):
        monkeypatch.setattr(lattice_module, "MOST_CELLS", most_cells)
        monkeypatch.setattr(lattice_module, "MOST_KEPT", most_kept)
        path, found = best_path(emission, lattice)
        assert found == cost
        assert path.tolist() == expected
