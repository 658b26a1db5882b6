"""DirectPred: a linear predictor set from the correlation of what it is applied to."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from speechssl import distributed
from speechssl.data.dataset import Batch
from speechssl.model.ema import EMA
from speechssl.pretext.direct_pred import (
    DirectPredConfig,
    SetPredictor,
    alignment,
    predictor_of,
)
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.projection import cosine_loss, mlp
from speechssl.pretext.task import MaskConfig, Resources
from tests.pretext.noise import train_on_noise
from tests.pretext.speech import a_model, waves

SMALL = DirectPredConfig(hidden_dim=12, target_dim=6)


def closed_form(correlation, eps):
    """Algorithm 1 of arXiv:2102.06810 in numpy."""
    values, vectors = np.linalg.eigh(np.asarray(correlation, dtype=np.float64))
    roots = np.sqrt(np.maximum(values, 0) / values.max()) + eps
    return vectors @ np.diag(roots) @ vectors.T


def random_correlation(dim=7, rank=7, seed=0):
    values = torch.randn(50, rank, generator=torch.Generator().manual_seed(seed)).double()
    values = values @ torch.randn(rank, dim, generator=torch.Generator().manual_seed(1)).double()
    return (values.T @ values / 50).float()


@pytest.mark.parametrize("rank", [7, 3, 1])
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_the_predictor_is_the_closed_form(rank, eps):
    correlation = random_correlation(rank=rank)
    found = predictor_of(correlation, "direct_pred", eps)
    # the root of a rounding error is 3e-4: it is one at the zeros of a matrix of low rank
    np.testing.assert_allclose(
        found, closed_form(correlation, eps), atol=2e-3 if rank < 7 else 1e-5
    )
    torch.testing.assert_close(found, found.T)
    np.testing.assert_allclose(
        predictor_of(1e4 * correlation, "direct_pred", eps), found, atol=2e-3 if rank < 7 else 1e-5
    )


def test_the_predictor_may_be_a_copy():
    correlation = random_correlation()
    expected = correlation / np.sqrt((correlation.numpy() ** 2).sum()) + 0.3 * torch.eye(7)
    torch.testing.assert_close(predictor_of(correlation, "direct_copy", 0.3), expected)


@pytest.mark.parametrize("rule", ["direct_pred", "direct_copy"])
def test_before_anything_was_seen_it_is_the_identity(rule):
    torch.testing.assert_close(predictor_of(torch.zeros(4, 4), rule, 0.1), torch.eye(4))


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("sizes", [(30,), (10, 20), (1, 0, 29)])
def test_the_correlation_is_a_moving_average_over_whole_updates(sizes, centre):
    """However the rows of an update are dealt out to micro-batches."""
    predictor = SetPredictor(replace(SMALL, centre=centre))
    seen = 2 + torch.randn(4, 30, 6)
    expected = None
    for step, rows in enumerate(seen):
        predictor.follow(step)
        if expected is not None:
            torch.testing.assert_close(
                predictor.correlation, torch.tensor(expected).float(), atol=1e-4, rtol=1e-4
            )
            np.testing.assert_allclose(predictor.weight, closed_form(expected, 0.1), atol=1e-3)
        for part in rows.split(sizes):
            predictor.observe(part)
        own = rows.double().numpy()
        own = own - own.mean(0) if centre else own
        now = own.T @ own / 30
        expected = now if expected is None else 0.3 * expected + 0.7 * now


def test_it_is_set_every_few_updates():
    predictor = SetPredictor(replace(SMALL, every=3))
    weights = []
    for step in range(7):
        predictor.follow(step)
        weights.append(predictor.weight.clone())
        predictor.observe(torch.randn(9, 6))
    same = [torch.equal(a, b) for a, b in pairwise(weights)]
    assert same == [True, True, False, True, True, False]


def test_processes_add_up(monkeypatch):
    """Two that see the same have the correlation of one."""
    rows = torch.randn(20, 6)
    alone, one_of_two = SetPredictor(SMALL), SetPredictor(SMALL)
    alone.observe(rows)
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda values: values.mul_(2))
    one_of_two.observe(rows)
    assert float(one_of_two.num) == 40
    for predictor in (alone, one_of_two):
        predictor.follow(1)
    torch.testing.assert_close(one_of_two.weight, alone.weight)


def test_an_update_that_saw_nothing_changes_nothing():
    predictor = SetPredictor(SMALL)
    predictor.observe(torch.randn(9, 6))
    predictor.follow(1)
    before = predictor.correlation.clone()
    predictor.follow(2)
    assert torch.equal(predictor.correlation, before)
    assert before.any()


def made(number, seed=0):
    """A task in training, and a maker of its micro-batches."""
    model = a_model("filterbank").train()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        task = SMALL.build(model, Resources()).train()
    average = EMA(model)

    def inputs(index):
        wave, lengths = waves()
        batch = Batch(index, ("",), ("",) * 4, wave, wave, lengths)
        return Inputs(
            model, batch, device=torch.device("cpu"), seed=0, mask=MaskConfig(), ema=average
        )

    return task, [inputs(index) for index in range(number)]


def test_nothing_of_the_predictor_is_learned_and_all_of_it_is_saved():
    task, _ = made(0)
    assert not list(task.predictors.parameters())
    names = {"correlation", "weight", "second_moment", "mean", "num"}
    assert {n for n in task.state_dict() if n.startswith("predictors")} == {
        f"predictors.frame.{name}" for name in names
    }


def test_each_micro_batch_is_seen_once():
    """Gradients of a task alone are computed on the first micro-batch of some updates too."""
    task, (first, second) = made(2)
    predictor = task.predictors["frame"]
    frames = 2 * int(first.frames.sum())  # both views
    task.before_update(4, 9, first.model)
    task(first)
    task(first)
    assert float(predictor.num) == frames
    task(second)
    assert float(predictor.num) == 2 * frames
    task.before_update(5, 9, first.model)
    assert float(predictor.num) == 0
    task(first)
    assert float(predictor.num) == frames


def test_validation_is_not_seen():
    task, (first,) = made(1)
    task.eval()
    task(first)
    assert float(task.predictors["frame"].num) == 0


def test_updates_that_are_only_measured_leave_no_trace():
    task, (first, second) = made(2)
    fresh, _ = made(0)
    task.before_update(9, 10, first.model)
    task(first)
    task.before_update(9, 10, first.model)
    task(second)
    task.before_update(0, 10, first.model)
    for name, value in task.predictors.state_dict().items():
        assert torch.equal(value, fresh.predictors.state_dict()[name]), name


def test_alignment_is_one_with_the_same_eigenvectors():
    rows = torch.randn(60, 6) @ torch.diag(torch.tensor([5.0, 4, 3, 2, 1, 0.5]))
    own = predictor_of(rows.T @ rows, "direct_pred", 0.1)
    assert alignment(rows, own) == pytest.approx(1, abs=1e-5)
    assert alignment(rows, -own) == pytest.approx(-1, abs=1e-5)
    turned = torch.linalg.qr(torch.randn(6, 6)).Q
    assert alignment(rows, turned @ own @ turned.T) < 0.95
    assert abs(alignment(torch.randn(500, 200), torch.randn(200, 200))) < 0.1


def test_the_alignment_is_diagnosed():
    task, (first, second) = made(2)
    task.before_update(0, 9, first.model)
    task(first)
    task.before_update(1, 9, first.model)
    task.eval()
    assert task.diagnose(second)["direct_pred/alignment"] > 0.97


def test_it_does_not_collapse_where_bootstrap_without_predictor_does(tmp_path):
    """See test_bootstrap.py for that; here the predictor is not learned either."""
    task = DirectPredConfig(hidden_dim=64, target_dim=32)
    verdict, valid = train_on_noise(task, tmp_path)
    assert verdict.name == "healthy"
    assert valid["valid/direct_pred/spread"] > 0.25
    assert valid["valid/direct_pred"] < 0.8 * valid["valid/direct_pred/chance"]
    assert valid["valid/direct_pred/alignment"] > 0.97


def test_a_learned_linear_predictor_comes_to_the_same_eigenvectors():
    """Why the predictor may be set (arXiv:2102.06810, section 3): trained by gradient, it aligns
    with the correlation of its input by itself. Two noisy views of the same vectors, as in BYOL."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        online = nn.Sequential(nn.Linear(24, 32), nn.LayerNorm(32), mlp(32, 32, 16))
        predictor = nn.Linear(16, 16, bias=False)
        target = EMA(online)
        optimizer = torch.optim.Adam([*online.parameters(), *predictor.parameters()], lr=3e-3)
        seen = []
        for _ in range(80):
            vectors = torch.randn(128, 24)
            first, second = (vectors + 0.5 * torch.randn_like(vectors) for _ in range(2))
            target.update(online, 0.9)
            projections = online(first)
            loss = cosine_loss(predictor(projections), target(second)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(alignment(projections.detach(), predictor.weight.detach()))
    assert abs(np.mean(seen[:3])) < 0.5
    assert np.mean(seen[-3:]) > 0.95


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"average_decay": 1.0}, r"average_decay must be in \[0, 1\)"),
        ({"eps": -0.1}, "direct_pred.eps must not be negative"),
        ({"every": 0}, "direct_pred.every must be at least 1"),
        ({"rule": "newton"}, "direct_pred.rule must be"),
    ],
)
def test_a_bad_setting_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(SMALL, **changes)
