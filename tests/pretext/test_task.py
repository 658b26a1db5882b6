"""Named sums and their counts."""

import pytest
import torch

from speechssl.pretext.task import LossTerm, TaskLoss, combine


def test_each_term_is_weighted_and_divided_by_its_count():
    terms = {
        "a": LossTerm(torch.tensor(12.0), "masked", 0.5),
        "b": LossTerm(torch.tensor(6.0), "unmasked", 2.0),
        "c": LossTerm(torch.tensor(3.0), "masked", 0.0),
    }
    assert float(combine(terms, {"masked": 4, "unmasked": 3})) == 12 * 0.5 / 4 + 6 * 2 / 3


def test_a_split_batch_adds_up():
    counts = {"masked": 10.0}
    whole = combine({"a": LossTerm(torch.tensor(7.0), "masked", 1.5)}, counts)
    parts = [combine({"a": LossTerm(torch.tensor(x), "masked", 1.5)}, counts) for x in (3.0, 4.0)]
    assert float(whole) == pytest.approx(float(sum(parts)))


def test_a_count_of_zero_does_not_divide_by_zero():
    total = torch.zeros((), requires_grad=True)
    loss = combine({"a": LossTerm(total, "unmasked", 1.0)}, {"unmasked": 0})
    loss.backward()
    assert loss.item() == 0
    assert total.grad.isfinite()


def test_gradients_reach_every_term():
    one, two = (torch.tensor(x, requires_grad=True) for x in (1.0, 2.0))
    combine(
        {"a": LossTerm(one, "masked", 3.0), "b": LossTerm(two, "masked", 5.0)}, {"masked": 2}
    ).backward()
    assert (one.grad.item(), two.grad.item()) == (1.5, 2.5)


def test_metrics_are_empty_unless_given():
    first, second = TaskLoss({}), TaskLoss({})
    assert first.metrics == {}
    assert first.metrics is not second.metrics
