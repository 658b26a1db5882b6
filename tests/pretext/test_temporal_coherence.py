"""Neighbouring segments against distant ones: who is compared with whom, and the loss."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from speechssl.pretext.segments import embed
from speechssl.pretext.temporal_coherence import (
    TemporalCoherenceConfig,
    neighbour_logits,
    neighbours,
)
from speechssl.rng import rng
from tests.pretext.speech import GivenInputs, model_and_task, run, waves

SMALL = TemporalCoherenceConfig(segment_s=0.04, gap_s=0.02, distant=2, target_dim=6)
NAME = "temporal_coherence"


@pytest.mark.parametrize("distant", [2, 3, 4])
def test_who_is_compared_with_whom(distant):
    """By looking at every pair of segments."""
    nums = [5, 0, 1, 7, distant, distant + 1]
    pairs, negatives = neighbours(nums, distant)
    rows = [(row, i) for row, num in enumerate(nums) for i in range(num)]
    expected = []
    for a, (row, i) in enumerate(rows):
        far = [n for n, (other, j) in enumerate(rows) if other == row and abs(i - j) >= distant]
        near = [p for p, (other, j) in enumerate(rows) if other == row and abs(i - j) == 1]
        expected += [(a, p, far) for p in near if far]
    found = [
        (a, p, [n for n in own if n >= 0])
        for (a, p), own in zip(pairs.tolist(), negatives.tolist(), strict=True)
    ]
    assert found == expected
    assert len(found) > 5


def test_nothing_to_compare():
    for nums in ([], [0, 3], [1, 2]):
        pairs, negatives = neighbours(nums, 3)
        assert pairs.shape == (0, 2)
        assert negatives.shape == (0, 1)


@pytest.mark.parametrize("kind", ["conv", "filterbank"])
def test_loss_against_the_formula(kind):
    """A pair at a time, by cosine similarities of single embeddings."""
    model, task = model_and_task(SMALL, kind)
    x = GivenInputs(model, *waves())
    drawn = task.draw(x.frames, partial(x.rng_of, f"{NAME} segments"))
    with torch.no_grad():
        vectors = task.project(embed(x, drawn)[:, 0])

    def similarity(a: int, b: int) -> float:
        return float(torch.cosine_similarity(vectors[a], vectors[b], dim=0)) / 0.1

    total = chance = right = 0.0
    pairs, negatives = neighbours(task.num_segments(x.frames), 2)
    for (a, p), own in zip(pairs.tolist(), negatives.tolist(), strict=True):
        near = math.exp(similarity(a, p))
        far = [math.exp(similarity(a, n)) for n in own if n >= 0]
        total -= math.log(near / (near + sum(far)))
        chance += math.log(1 + len(far))
        right += near > max(far)
    result = task(x)
    assert task.counts(x) == {f"{NAME}_pairs": len(pairs)}
    assert len(pairs) >= 20
    assert result.terms[NAME].count == f"{NAME}_pairs"
    assert result.terms[NAME].total.item() == pytest.approx(total, rel=1e-4)
    found = task.summarize(result.tallies)
    assert found[f"{NAME}/chance"] == pytest.approx(chance / len(pairs), rel=1e-5)
    assert found[f"{NAME}/accuracy"] == pytest.approx(right / len(pairs))
    units = torch.nn.functional.normalize(vectors, dim=1)
    spread = 1 - float(units.mean(0).square().sum())
    assert found[f"{NAME}/spread"] == pytest.approx(spread, abs=1e-5)


def test_segments_of_an_utterance_are_apart_and_within():
    task = model_and_task(SMALL)[1]
    frames = torch.tensor([40, 3, 7, 8, 25])
    drawn = task.draw(frames, lambda row: rng(0, "s", row))
    assert np.bincount(drawn.rows, minlength=5).tolist() == [13, 0, 0, 3, 8]
    assert task.num_segments(frames) == [13, 0, 0, 3, 8]
    assert task.fewest_frames == 8
    for row, total in enumerate(frames.tolist()):
        own = drawn.starts[drawn.rows == row, 0]
        assert (np.diff(own) >= 3).all()
        assert len(own) == 0 or own[-1] + 2 <= total


def test_embeddings_that_are_all_the_same_are_at_chance_and_called_collapsed():
    model, task = model_and_task(SMALL)
    task.project.weight.data.zero_()
    x = GivenInputs(model, *waves())
    result = task(x)
    found = task.summarize(result.tallies)
    loss = result.terms[NAME].total.item() / task.counts(x)[f"{NAME}_pairs"]
    assert loss == pytest.approx(found[f"{NAME}/chance"], rel=1e-4)
    assert found[f"{NAME}/accuracy"] == 0
    (signal,) = [s for s in SMALL.signals if s.collapsed_below is not None]
    assert found[signal.metric] < signal.collapsed_below
    fresh = model_and_task(SMALL)[1]
    fresh.project.weight.data.normal_()
    assert fresh.summarize(run(model, fresh).tallies)[signal.metric] > signal.collapsed_below


def test_missing_negatives_do_not_count():
    z = torch.nn.functional.normalize(torch.randn(4, 3), dim=1)
    logits = neighbour_logits(z, torch.tensor([[0, 1]]), torch.tensor([[3, -1, 2]]))
    assert logits[0, 2] == -torch.inf
    torch.testing.assert_close(logits[0, [0, 1, 3]], z[0] @ z[[1, 3, 2]].T)


def test_an_utterance_is_compared_with_itself_only():
    """Its loss is the same in whatever batch it lies."""
    model, task = model_and_task(SMALL)
    wave, lengths = waves()
    x = GivenInputs(model, wave, lengths)
    both = task(x)
    alone = []
    for row, length in enumerate(lengths.tolist()):
        own = GivenInputs(model, wave[row : row + 1, :length], lengths[row : row + 1])
        alone.append(task(own).terms[NAME].total.item())
    assert both.terms[NAME].total.item() == pytest.approx(sum(alone), rel=1e-4)


def test_short_utterances_give_nothing():
    model, task = model_and_task(SMALL)
    wave, lengths = waves([900, 2500, 300])
    x = GivenInputs(model, wave, lengths)
    assert x.frames.tolist() == [2, 7, 1]
    assert task.counts(x) == {f"{NAME}_pairs": 0}
    result = task(x)
    total = result.terms[NAME].total
    assert total.item() == 0
    total.backward()
    assert all(p.grad is not None and not p.grad.any() for p in task.parameters())
    found = task.summarize(result.tallies)
    assert found[f"{NAME}/too_short"] == 1
    assert found[f"{NAME}/accuracy"] == found[f"{NAME}/chance"] == 0


def test_the_same_micro_batch_has_the_same_segments():
    model, task = model_and_task(SMALL)
    one, two = (run(model, task).terms[NAME].total for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"distant": 1}, "temporal_coherence.distant must be at least 2, got 1"),
        ({"temperature": 0.0}, "temporal_coherence.temperature must be above 0, got 0.0"),
        ({"gap_s": 0.0}, "temporal_coherence.gap_s must be at least 0.02, got 0.0"),
        ({"target_dim": 0}, "temporal_coherence.target_dim must be at least 1, got 0"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        TemporalCoherenceConfig(**fields)
