"""Jigsaw puzzles of segments: the score of an order, and that edges do not give it away."""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from speechssl.pretext import jigsaw
from speechssl.pretext.jigsaw import (
    JigsawConfig,
    OrderHead,
    all_orders,
    draw_answers,
    pair_places,
)
from speechssl.pretext.segments import WindowShape, cut_waves, embed
from speechssl.rng import rng
from tests.pretext.speech import GivenInputs, model_and_task, run, waves

SMALL = JigsawConfig(pieces=3, segment_s=0.04, gap_s=(0.02, 0.06), fade_s=0.005, hidden_dim=8)
KINDS = ("conv", "filterbank")


@torch.no_grad()
def score(head: OrderHead, pieces: torch.Tensor, order: Sequence[int]) -> float:
    """By the formula, a pair at a time: (K, D) -> the score of one order."""
    total = 0.0
    for i, j in itertools.combinations(range(len(order)), 2):
        hidden = head.first(pieces[order[i]]) + head.second(pieces[order[j]])
        total += float(head.out(torch.nn.functional.gelu(hidden))[j - i - 1])
    return total


@pytest.mark.parametrize("num", [2, 3, 4, 5])
def test_scores_of_orders_by_the_formula(num):
    orders = all_orders(num)
    assert orders.tolist() == [list(order) for order in itertools.permutations(range(num))]
    torch.manual_seed(0)
    head = OrderHead(6, 5, orders)
    pieces = torch.randn(2, num, 6)
    scores = head(pieces)
    assert scores.shape == (2, math.factorial(num))
    for window in range(2):
        for number in range(0, len(orders), 7):
            expected = score(head, pieces[window], orders[number])
            assert scores[window, number].item() == pytest.approx(expected, abs=1e-5)


def test_each_order_has_its_pairs():
    places = pair_places(all_orders(4)).reshape(24, 4, 4, 3)
    assert (places.sum((1, 2, 3)) == 6).all()
    number = all_orders(4).tolist().index([2, 0, 3, 1])
    assert places[number, 2, 0, 0] == places[number, 2, 3, 1] == places[number, 2, 1, 2] == 1
    assert not places[number, 0, 2].any()


@pytest.mark.parametrize("kind", KINDS)
def test_loss_against_the_formula(kind):
    """Each piece by itself through the model, every order by the formula."""
    model, task = model_and_task(SMALL, kind)
    wave, lengths = waves()
    x = GivenInputs(model, wave, lengths)
    drawn = task.shape.draw(x.frames, partial(x.rng_of, "jigsaw windows"))
    total, right = 0.0, 0
    with torch.no_grad():
        for vectors in embed(x, drawn, fade=task.fade):  # in their true order
            scores = torch.tensor([score(task.head, vectors, o) for o in task.orders.tolist()])
            total -= float(scores.log_softmax(0)[0])
            right += int(scores.argmax()) == 0
    result = task(x)
    assert task.counts(x) == {"jigsaw_windows": len(drawn)}
    assert result.terms["jigsaw"].total.item() == pytest.approx(total, rel=1e-4)
    assert result.terms["jigsaw"].count == "jigsaw_windows"
    found = task.summarize(result.tallies)
    assert found["jigsaw/accuracy"] == pytest.approx(right / len(drawn))


def test_the_loss_does_not_depend_on_how_pieces_were_shuffled(monkeypatch):
    model, task = model_and_task(SMALL)
    losses = []
    for answer in range(6):
        x = GivenInputs(model, *waves())
        monkeypatch.setattr(
            jigsaw, "draw_answers", lambda *_, answer=answer: np.array([answer] * 4)
        )
        losses.append(task(x).terms["jigsaw"].total.item())
    assert losses == pytest.approx([losses[0]] * 6, rel=1e-5)
    assert losses[0] > 0


def test_every_order_is_drawn():
    rows = np.repeat([0, 2], [300, 200])
    drawn = draw_answers(rows, 6, lambda row: rng(0, "o", row))
    assert drawn.dtype == np.int64
    for own in (drawn[:300], drawn[300:]):
        assert np.bincount(own, minlength=6).min() > len(own) / 12
    alone = draw_answers(np.full(200, 2), 6, lambda row: rng(0, "o", row))
    assert (alone == drawn[300:]).all()  # whatever the utterance lies beside
    assert len(draw_answers(np.zeros(0, np.int64), 6, lambda row: rng(0, "o", row))) == 0


@pytest.mark.parametrize("pieces", [2, 3, 4, 5, 6])
def test_a_head_that_knows_nothing_is_at_chance(pieces):
    config = JigsawConfig(pieces=pieces, segment_s=0.02, gap_s=(0.02, 0.02), fade_s=0)
    model, task = model_and_task(config)
    for parameter in task.head.out.parameters():
        parameter.data.zero_()
    x = GivenInputs(model, *waves())
    result = task(x)
    num = task.counts(x)["jigsaw_windows"]
    assert num > 0
    expected = num * math.log(math.factorial(pieces))
    assert result.terms["jigsaw"].total.item() == pytest.approx(expected, rel=1e-5)
    assert float(result.metrics["jigsaw/chance"]) == pytest.approx(expected / num)
    assert result.tallies["jigsaw/accuracy"][1] == num


# --- the order cannot be read from edges ----------------------------------------------------------


def noise(seconds: float) -> torch.Tensor:
    """(1, S) stationary noise whose neighbouring samples are alike (correlation 0.99), and whose
    level wanders from one 10 ms to the next (correlation 0.9)."""
    generator = np.random.default_rng(0)
    num = int(100 * seconds)
    level = lfilter([math.sqrt(1 - 0.9**2)], [1, -0.9], generator.standard_normal(num))
    level = np.exp(np.interp(np.arange(num * 160) / 160, np.arange(num) + 0.5, level))
    carrier = lfilter([math.sqrt(1 - 0.99**2)], [1, -0.99], generator.standard_normal(num * 160))
    return torch.from_numpy(0.1 * level * carrier)[None].float()


def by_edges(pieces: np.ndarray, ends: np.ndarray, beginnings: np.ndarray) -> float:
    """Share of windows whose order is found by letting each piece end as the next one begins."""
    orders = all_orders(pieces.shape[1])
    steps = np.abs(ends[:, :, None] - beginnings[:, None, :])  # (W, K, K)
    costs = steps[:, orders[:, :-1], orders[:, 1:]].sum(2)  # (W, O)
    return float((costs.argmin(1) == 0).mean())


def edge_oracles(gaps: tuple[int, int], fade: int) -> dict[str, float]:
    """How often the order of 4 pieces of noise is found from the last and first samples, and from
    the level of the last and first 10 ms."""
    shape, hop = WindowShape(4, 8, gaps), 640
    wave = noise(150)
    drawn = shape.draw(torch.tensor([wave.shape[1] // hop]), lambda row: rng(0, "w", row))
    pieces = cut_waves(wave, drawn, hop, 8 * hop, fade).unflatten(0, (-1, 4)).double().numpy()
    first, last = pieces[:, :, :160], pieces[:, :, -160:]
    level = [np.log(np.square(edge).mean(2) + 1e-12) for edge in (last, first)]
    return {
        "windows": len(drawn),
        "samples": by_edges(pieces, pieces[:, :, -1], pieces[:, :, 0]),
        "level": by_edges(pieces, *level),
    }


def test_without_gaps_edges_give_the_order_away():
    """What the gaps are there for."""
    found = edge_oracles((0, 0), 0)
    assert found["windows"] > 100
    assert found["samples"] > 0.4
    assert found["level"] > 0.15  # by chance 0.042
    assert edge_oracles((0, 0), 160)["level"] > 0.15  # a fade alone does not hide the level


def test_with_gaps_edges_tell_nothing():
    """Those of the defaults at the frame rate of `tiny`; chance is 1/24, and 3 standard deviations
    of a share of so many windows lie within 0.06 of it."""
    config = JigsawConfig()
    gaps = tuple(math.ceil(gap / 0.04) for gap in config.gap_s)
    assert gaps == (2, 6)
    far = edge_oracles((10, 20), 160)
    near = edge_oracles(gaps, 160)
    for found in (near, far):
        assert found["samples"] == pytest.approx(1 / 24, abs=0.06)
    assert far["level"] == pytest.approx(1 / 24, abs=0.06)


def test_pieces_are_faded_in_the_task():
    model, task = model_and_task(SMALL)
    x = GivenInputs(model, torch.ones(1, 9000), torch.tensor([9000]))
    seen = []
    real = x.encode_waves
    x.encode_waves = lambda wave, lengths: seen.append(wave) or real(wave, lengths)
    task(x)
    assert task.fade == 80
    assert seen[0].shape[1] == 720
    assert float(seen[0][:, [0, -1]].abs().max()) < 1e-3
    assert float(seen[0][:, 80:-80].min()) == 1


# --- lengths, precision, settings -----------------------------------------------------------------


def test_short_utterances_give_nothing():
    model, task = model_and_task(SMALL)
    wave, lengths = waves([900, 2500, 300])
    x = GivenInputs(model, wave, lengths)
    assert x.frames.tolist() == [2, 7, 1]
    assert task.shape.span == 12
    assert task.counts(x) == {"jigsaw_windows": 0}
    result = task(x)
    total = result.terms["jigsaw"].total
    assert total.item() == 0
    total.backward()
    assert all(not p.grad.any() for p in task.parameters())
    assert task.summarize(result.tallies) == {"jigsaw/accuracy": 0, "jigsaw/too_short": 1}


def test_only_long_utterances_count():
    model, task = model_and_task(SMALL)
    x = GivenInputs(model, *waves())  # 28, 12, 21 and 7 frames
    assert task.counts(x) == {"jigsaw_windows": 2 + 1 + 1}
    assert task.summarize(task(x).tallies)["jigsaw/too_short"] == 0.25


def test_the_same_micro_batch_has_the_same_puzzles():
    model, task = model_and_task(SMALL)
    one, two = (run(model, task).terms["jigsaw"].total for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pieces": 1}, "jigsaw.pieces must be in \\[2, 6\\], got 1"),
        ({"pieces": 7}, "jigsaw.pieces must be in \\[2, 6\\], got 7"),
        ({"gap_s": (0.0, 0.2)}, "jigsaw.gap_s must be two numbers in \\[0.02, 60\\]"),
        ({"gap_s": (0.3, 0.2)}, "the smaller one first, got \\(0.3, 0.2\\)"),
        ({"segment_s": 0.0}, "jigsaw.segment_s must be above 0"),
        ({"fade_s": 0.2}, "fade_s must be at most half of jigsaw.segment_s \\(0.32\\), got 0.2"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        JigsawConfig(**fields)
