"""A known text in hours of log-probabilities: the path of the full table, gaps, bounded memory."""

import numpy as np
import pytest

from speechssl.decoding import lattice as lattice_module
from speechssl.decoding import lattice_loops as loops
from speechssl.decoding.align import align, mean_confidence
from speechssl.decoding.emissions import FILLER, UNIT, Emissions, GapCosts
from speechssl.decoding.lattice import Lattice, WordPath, align_words, best_path

COSTS = GapCosts(extra=1.5, skip=1.5, enter=4.0)


def random_log_probs(num_frames: int, vocab_size: int, seed: int, scale: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(num_frames, vocab_size)) * scale
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def peaky(symbols: list[int], vocab_size: int = 8, peak: float = 0.9) -> np.ndarray:
    """(T, V): `symbols` names the best symbol of each frame."""
    probs = np.full((len(symbols), vocab_size), (1 - peak) / (vocab_size - 1))
    probs[np.arange(len(symbols)), symbols] = peak
    return np.log(probs).astype(np.float32)


def emissions_of(
    log_probs: np.ndarray, words: list[list[int]], separator=(), extra: float = COSTS.extra
) -> Emissions:
    made = Emissions([i for word in words for i in word] + list(separator), extra)
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
@pytest.mark.parametrize("seed", range(25))
def test_the_path_is_that_of_the_full_table(seed: int, gaps: bool, monkeypatch) -> None:
    emission, lattice = random_case(seed, gaps)
    expected, cost = full_table(emission, lattice)
    for most_cells, most_kept in ((1 << 24, 1 << 26), (60, 200), (1, 1)):
        monkeypatch.setattr(lattice_module, "MOST_CELLS", most_cells)
        monkeypatch.setattr(lattice_module, "MOST_KEPT", most_kept)
        path, found = best_path(emission, lattice)
        assert found == cost
        assert path.tolist() == expected


def test_without_gaps_it_is_the_forced_alignment() -> None:
    for seed in range(15):
        words = [[2, 3], [3, 3, 4], [1], [5, 2]]
        flat = [2, 3, 0, 3, 3, 4, 0, 1, 0, 5, 2]
        ids = [6 if i == 0 else i for i in flat]  # 6 is the separator
        log_probs = random_log_probs(40, 8, seed)
        found = align_words(emissions_of(log_probs, words, [6]), words, [6], None)
        expected = align(log_probs, ids)
        tokens = [t for i, t in zip(ids, expected.tokens, strict=True) if i != 6]
        spans = [(t.id, t.start_frame, t.end_frame) for word in found.words for t in word]
        assert spans == [(t.id, t.start_frame, t.end_frame) for t in tokens]
        best = float(log_probs.max(1).astype(np.float64).sum())
        assert best - found.cost == pytest.approx(expected.log_prob, abs=40 / UNIT)
        confidences = [t.confidence for word in found.words for t in word]
        assert confidences == pytest.approx([t.confidence for t in tokens], rel=2 / UNIT)


# --- gaps: 7 is the space, words are of 2 to 6

SENTENCE = [[2, 3, 4], [5, 6], [3, 2, 5, 4], [6, 4, 2]]
OTHER = [[4, 6, 3, 5, 2], [2, 4, 6, 5], [3, 6, 2, 4, 5]]


def spoken(words: list[list[int]]) -> list[int]:
    """A frame for each symbol, a blank before each, and the space between words."""
    return [f for n, word in enumerate(words) for i in ([7] * (n > 0) + word) for f in (0, i)]


def aligned(sound: list[list[int]], text: list[list[int]], costs: GapCosts = COSTS) -> WordPath:
    made = emissions_of(peaky(spoken(sound)), text, [7], costs.extra)
    return align_words(made, text, [7], costs)


def starts(path: WordPath) -> list[int | None]:
    return [None if word is None else word[0].start_frame for word in path.words]


ALONE = [1, 9, 15, 25]
"""Where the words of SENTENCE begin."""


def test_what_is_said_is_aligned_without_a_gap() -> None:
    path = aligned(SENTENCE, SENTENCE)
    assert starts(path) == ALONE
    assert path.gaps == ()
    assert path.cost == 0
    assert path.num_symbols == len(spoken(SENTENCE)) // 2
    assert all(mean_confidence(word) == pytest.approx(0.9, rel=1e-3) for word in path.words)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_text_that_is_not_said_is_skipped_and_drags_nothing(place: int) -> None:
    text = [*SENTENCE[:place], *OTHER, *SENTENCE[place:]]
    found = starts(aligned(SENTENCE, text))
    assert found[place : place + 3] == [None] * 3
    assert found[:place] + found[place + 3 :] == ALONE


@pytest.mark.parametrize("place", [0, 2, 4])
def test_speech_without_text_is_a_gap_and_drags_nothing(place: int) -> None:
    sound = [*SENTENCE[:place], *OTHER, *SENTENCE[place:]]
    path = aligned(sound, SENTENCE)
    length = len(spoken([[], *OTHER]))
    assert starts(path) == [s + length * (n >= place) for n, s in enumerate(ALONE)]
    (gap,) = path.gaps
    assert gap.word == place
    assert gap.num_symbols >= sum(map(len, OTHER))
    begin = ALONE[place] if place < 4 else len(spoken(SENTENCE))
    assert abs(gap.start_frame - begin) <= 2
    assert abs(gap.end_frame - begin - length) <= 3


def test_other_words_than_the_text_has() -> None:
    text = [*SENTENCE[:2], *[[5, 5, 5, 5, 5]] * 3, *SENTENCE[2:]]
    path = aligned([*SENTENCE[:2], *OTHER, *SENTENCE[2:]], text)
    found = starts(path)
    assert found[:2] == ALONE[:2]
    assert found[2:5] == [None] * 3
    assert found[5:] == [s + len(spoken([[], *OTHER])) for s in ALONE[2:]]


def test_nothing_fits() -> None:
    text = [[2, 2, 3, 2, 2, 3, 2, 2]] * 6
    path = aligned([[5, 6, 4, 6, 5, 4]] * 6, text)
    assert starts(path) == [None] * 6
    (gap,) = path.gaps
    assert gap.num_symbols == path.num_symbols


def test_a_text_ten_times_as_long_as_the_sound() -> None:
    r = np.random.default_rng(0)
    text = [r.integers(2, 7, 5).tolist() for _ in range(40)]
    path = aligned(text[17:21], text)
    found = starts(path)
    assert [n for n, start in enumerate(found) if start is not None] == [17, 18, 19, 20]


def test_more_words_than_frames() -> None:
    path = aligned([[2]], [[3], [4], [5], [6]] * 5)
    assert starts(path) == [None] * 20
    with pytest.raises(ValueError, match="too long for the audio: its 39 tokens need more than 2"):
        align_words(emissions_of(peaky([2, 0]), [[3]] * 20, [7]), [[3]] * 20, [7], None)


def test_no_frames() -> None:
    made = Emissions([2])
    path = align_words(made, [[2]])
    assert (path.words, path.gaps, path.cost) == ((None,), (), 0)


def test_pauses_cost_nothing_and_are_no_gaps() -> None:
    sound = spoken(SENTENCE[:2]) + [0] * 198 + [7] + spoken(SENTENCE[2:])
    path = align_words(emissions_of(peaky(sound), SENTENCE, [7]), SENTENCE, [7], COSTS)
    assert starts(path) == [1, 9, 212, 222]
    assert path.gaps == ()


def test_costs_decide_what_is_torn_out() -> None:
    sound = [SENTENCE[0], [4, 6], *SENTENCE[2:]]  # the second word is said wrongly
    cheap = GapCosts(extra=0.1, skip=0.1, enter=0.5)
    assert starts(aligned(sound, SENTENCE, cheap))[1] is None
    assert starts(aligned(sound, SENTENCE, GapCosts(1.5, 2.5, 15.0))) == ALONE


def test_unknown_characters_are_wildcards() -> None:
    text = [[2, 3, 4], [1, 1], *SENTENCE[2:]]
    path = aligned(SENTENCE, text)
    assert starts(path) == ALONE
    assert path.cost == pytest.approx(2 / UNIT)
    assert path.words[1][0].confidence == pytest.approx(0.9, rel=0.01)


def test_a_separator_is_of_no_word() -> None:
    with_space = aligned(SENTENCE, SENTENCE)
    symbols = [f for word in SENTENCE for i in word for f in (i, 0)]
    without = align_words(emissions_of(peaky(symbols), SENTENCE), SENTENCE, (), COSTS)
    assert without.gaps == with_space.gaps == ()
    assert [len(word) for word in without.words] == [len(word) for word in with_space.words]


def test_joined_words_have_no_separator() -> None:
    text, joined = [[2, 3, 4], [5, 6], [3, 2, 5]], [False, True, False]
    sound = spoken([[2, 3, 4, 5, 6], [3, 2, 5]])
    path = align_words(emissions_of(peaky(sound), text, [7]), text, [7], COSTS, joined)
    assert starts(path) == [1, 7, 13]
    assert path.cost == 0


# --- what is collected of a recording


def test_windows_are_the_whole() -> None:
    log_probs = random_log_probs(50, 8, 0)
    whole, parts = Emissions([3, 5, 1]), Emissions([5, 3])
    whole.add(log_probs)
    for part in (log_probs[:7], log_probs[7:7], log_probs[7:]):
        parts.add(part)
    assert np.array_equal(whole.costs(), parts.costs())
    assert np.array_equal(whole.best(), parts.best())
    assert np.array_equal(whole.starts(), parts.starts())
    assert whole.columns == parts.columns == {1: 2, 3: 3, 5: 4}
    assert whole.costs().dtype == np.int16


def test_a_frame_costs_what_its_symbol_is_worse_than_the_best() -> None:
    log_probs = np.log(np.array([[0.5, 0.1, 0.25, 0.15], [0.1, 0.2, 0.3, 0.4]], np.float32))
    made = Emissions([2, 3], extra=1.0)
    made.add(log_probs)
    blank, filler, wildcard, two, three = (made.costs() / UNIT).T
    assert blank == pytest.approx([0, np.log(4)], abs=1e-3)
    assert filler == pytest.approx([0, 1.0], abs=3e-3)  # a pause is free, a symbol costs
    assert wildcard == pytest.approx([np.log(2), 0], abs=3e-3)
    assert two == pytest.approx([np.log(2), np.log(4 / 3)], abs=1e-3)
    assert three == pytest.approx([np.log(10 / 3), 0], abs=1e-3)


def test_impossible_symbols_cost_the_ceiling() -> None:
    made = Emissions([2])
    made.add(np.array([[0.0, -np.inf, -np.inf]], np.float32))
    made.add_silence(2)
    assert (made.costs()[:, 3] == 60 * UNIT).all()
    assert (made.costs()[:, 0] == 0).all()
    assert made.num_frames == 3


@pytest.mark.parametrize(
    ("log_probs", "message"),
    [
        (np.full((2, 8), np.nan, np.float32), "NaN: the model's output is broken"),
        (np.zeros((2, 3), np.float32), "The id 6 cannot be aligned: the vocabulary has 3 symbols"),
    ],
)
def test_log_probs_that_cannot_be(log_probs, message) -> None:
    with pytest.raises(ValueError, match=message):
        Emissions([2, 6]).add(log_probs)


@pytest.mark.parametrize("words", [[[2], []], [[2, 0]], [[2], [9]]])
def test_words_that_cannot_be(words) -> None:
    with pytest.raises(ValueError, match="Each word needs an id at least"):
        Lattice.of(words, (), {1: 2, 2: 3}, COSTS)


def test_days_are_refused() -> None:
    lattice = Lattice.of([[2]], (), {2: 3}, COSTS)
    emission = np.full((20_000, 4), 30_000, np.int16)
    with pytest.raises(ValueError, match="too long to be aligned at once: cut them into parts"):
        best_path(emission, lattice)


# --- memory


def test_tables_and_kept_states_stay_small(monkeypatch) -> None:
    cells, kept = [], []

    def table(emission, column, *more):
        cells.append(len(emission) * (2 * len(column) + 1 + len(more[1])))
        return loops_table(emission, column, *more)

    def forward(emission, column, *more):
        kept.append(4 * (2 * len(column) + 1 + len(more[1])))
        return loops_forward(emission, column, *more)

    loops_table, loops_forward = loops.table, loops.forward
    monkeypatch.setattr(loops, "table", table)
    monkeypatch.setattr(loops, "forward", forward)
    monkeypatch.setattr(lattice_module, "MOST_CELLS", 1 << 16)
    monkeypatch.setattr(lattice_module, "MOST_KEPT", 1 << 17)
    r = np.random.default_rng(0)
    text = [r.integers(2, 7, 5).tolist() for _ in range(500)]
    sound = [*text[:100], *text[150:400], *OTHER * 20, *text[400:]]
    path = aligned(sound, text)
    states = 2 * 2999 + 1 + 501
    assert max(cells) <= 1 << 16 < 2 * len(spoken(sound)) * states // 100
    first_pass = [size for size in kept if size == 4 * states]
    assert sum(first_pass) <= 1 << 17
    found = starts(path)
    assert [n for n, start in enumerate(found) if start is None] == list(range(100, 150))
    (gap,) = [gap for gap in path.gaps if gap.num_symbols > 10]
    assert gap.word == 400
