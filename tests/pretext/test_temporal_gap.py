"""How far apart two segments are: which pairs are drawn, and the loss of a guess."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.pretext.segments import embed, tally_mean
from speechssl.pretext.temporal_gap import (
    TemporalGapConfig,
    bernoulli_entropy,
    draw_pairs,
    fewest_frames,
    num_pairs,
)
from speechssl.rng import rng
from tests.pretext.speech import GivenInputs, model_and_task, run, waves


def by_row(seed: int):
    """The randomness of each utterance."""
    return lambda row: rng(seed, "p", row)


SMALL = TemporalGapConfig(segment_s=0.04, gap_s=0.02, hidden_dim=8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_pairs_lie_apart_and_within(data):
    length, gap = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    frames = torch.tensor(data.draw(st.lists(st.integers(1, 120), min_size=1, max_size=5)))
    pairs, target = draw_pairs(frames, length, gap, by_row(data.draw(st.integers(0, 99))))
    nums = num_pairs(frames, length, gap)
    assert [int((pairs.rows == row).sum()) for row in range(len(frames))] == nums.tolist()
    for total, num in zip(frames.tolist(), nums.tolist(), strict=True):
        assert num == (total // (2 * (length + gap)) if total >= 4 * (length + gap) else 0)
    totals = frames.numpy()[pairs.rows]
    assert (pairs.starts >= 0).all()
    assert (pairs.starts.max(1, initial=0) + length <= totals).all()
    distance = np.abs(pairs.starts[:, 0] - pairs.starts[:, 1])
    assert (distance >= length + gap).all()
    share = (distance - length - gap) / (totals - 2 * length - gap)
    np.testing.assert_allclose(target, share, rtol=1e-6)
    assert target.dtype == np.float32
    assert ((target >= 0) & (target <= 1)).all()


def test_gaps_are_uniform_and_the_order_is_drawn():
    frames = torch.tensor([4000])
    pairs, target = draw_pairs(frames, 3, 1, by_row(0))
    assert len(target) == 500
    counts, _ = np.histogram(target, bins=5, range=(0, 1))
    assert counts.min() > 75  # 100 each
    first = pairs.starts[:, 0] < pairs.starts[:, 1]
    assert 200 < first.sum() < 300


def test_every_pair_can_be_drawn():
    seen = set()
    for seed in range(300):
        pairs, _ = draw_pairs(torch.tensor([8]), 1, 1, by_row(seed))
        seen |= {tuple(pair) for pair in pairs.starts.tolist()}
    assert seen == {(a, b) for a in range(8) for b in range(8) if abs(a - b) >= 2}


@pytest.mark.parametrize("kind", ["conv", "filterbank"])
def test_loss_against_the_formula(kind):
    """Kullback-Leibler divergence of each guess from the true distance, by hand."""
    model, task = model_and_task(SMALL, kind)
    x = GivenInputs(model, *waves())
    pairs, target = draw_pairs(
        x.frames, task.length, task.gap, partial(x.rng_of, "temporal_gap pairs")
    )
    with torch.no_grad():
        vectors = embed(x, pairs)
        guesses = [
            1 / (1 + math.exp(-float(task.head(torch.cat([a, b])[None])))) for a, b in vectors
        ]
    total = error = 0.0
    for guess, y in zip(guesses, target.tolist(), strict=True):
        for true, said in ((y, guess), (1 - y, 1 - guess)):
            total += true * math.log(true / said) if true else 0.0
        error += abs(guess - y)
    result = task(x)
    assert task.counts(x) == {"temporal_gap_pairs": len(target)}
    assert len(target) >= 5
    assert result.terms["temporal_gap"].count == "temporal_gap_pairs"
    assert result.terms["temporal_gap"].total.item() == pytest.approx(total, rel=1e-3)
    found = task.summarize(result.tallies)
    assert found["temporal_gap/error"] == pytest.approx(error / len(target), rel=1e-4)


def test_chance_is_the_best_constant_guess():
    """By trying all of them, over two batches of a validation."""
    task = model_and_task(SMALL)[1]
    targets = [torch.rand(50, generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    tallies: dict[str, torch.Tensor] = {}
    for y in targets:
        for name, values in (("target", y), ("entropy", bernoulli_entropy(y))):
            key = f"temporal_gap/{name}"
            tallies[key] = tallies.get(key, 0) + tally_mean(values, len(y))
    every = torch.cat(targets).double()
    guesses = torch.linspace(0.01, 0.99, 981, dtype=torch.float64)[:, None]
    crosses = -(every * guesses.log() + (1 - every) * (1 - guesses).log()).mean(1)
    best = float(crosses.min() - bernoulli_entropy(every).mean())
    found = task.summarize(tallies)
    assert found == {"temporal_gap/chance": pytest.approx(best, abs=1e-5)}
    assert 0.1 < best < 0.25  # ln 2 - 1/2 where targets are uniform


def test_a_perfect_guess_costs_nothing(monkeypatch):
    model, task = model_and_task(SMALL)
    x = GivenInputs(model, *waves())
    _, target = draw_pairs(x.frames, task.length, task.gap, partial(x.rng_of, "temporal_gap pairs"))
    right = torch.logit(torch.from_numpy(target), eps=1e-7).requires_grad_()
    monkeypatch.setattr(task, "predict", lambda _: right)
    result = task(x)
    assert result.terms["temporal_gap"].total.item() == pytest.approx(0, abs=1e-4)
    assert task.summarize(result.tallies)["temporal_gap/error"] == pytest.approx(0, abs=1e-5)


def test_entropy_at_the_ends():
    assert bernoulli_entropy(torch.tensor([0.0, 1.0])).tolist() == [0, 0]
    assert bernoulli_entropy(torch.tensor(0.5)).item() == pytest.approx(math.log(2))


def test_short_utterances_give_nothing():
    model, task = model_and_task(SMALL)
    wave, lengths = waves([900, 3800, 300])
    x = GivenInputs(model, wave, lengths)
    assert x.frames.tolist() == [2, 11, 1]
    assert fewest_frames(task.length, task.gap) == 12
    assert task.counts(x) == {"temporal_gap_pairs": 0}
    result = task(x)
    total = result.terms["temporal_gap"].total
    assert total.item() == 0
    total.backward()
    assert all(p.grad is not None and not p.grad.any() for p in task.parameters())
    found = task.summarize(result.tallies)
    assert found["temporal_gap/too_short"] == 1
    assert found["temporal_gap/chance"] == 0


def test_the_same_micro_batch_has_the_same_pairs():
    model, task = model_and_task(SMALL)
    one, two = (run(model, task).terms["temporal_gap"].total for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gap_s": 0.01}, "temporal_gap.gap_s must be at least 0.02, got 0.01"),
        ({"segment_s": float("nan")}, "temporal_gap.segment_s must be a number below 1e15"),
        ({"hidden_dim": 1.5}, "temporal_gap.hidden_dim must be a whole number"),
        ({"weight": -1.0}, "temporal_gap.weight must not be negative"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        TemporalGapConfig(**fields)
