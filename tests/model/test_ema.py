"""The moving average of a module: its numbers, its schedule, its state."""

import copy

import pytest
import torch
from torch import nn

from speechssl.model.ema import EMA, cosine_decay, linear_decay


class Counted(nn.Module):
    """A weight, a buffer of floats, a buffer of whole numbers, and dropout."""

    def __init__(self):
        super().__init__()
        self.linear, self.dropout = nn.Linear(3, 2), nn.Dropout(0.5)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        return self.dropout(self.linear(x))


def moved(module):
    with torch.no_grad():
        for value in (*module.parameters(), module.mean):
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(3)))
        module.count += 1
    return module


def test_it_starts_as_the_module_and_shares_nothing_with_it():
    module = Counted()
    ema = EMA(module)
    before = copy.deepcopy(ema.average.state_dict())
    assert all(torch.equal(before[n], v) for n, v in module.state_dict().items())
    moved(module)
    assert all(torch.equal(before[n], v) for n, v in ema.average.state_dict().items())


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999, 1.0])
def test_an_update_is_the_weighted_mean(decay):
    module = Counted()
    ema = EMA(module)
    old = copy.deepcopy(ema.average)
    ema.update(moved(module), decay)
    for name, value in ema.average.named_parameters():
        expected = decay * old.get_parameter(name) + (1 - decay) * module.get_parameter(name)
        torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ema.average.mean, (1 - decay) * module.mean)
    assert int(ema.average.count) == 1


def test_many_updates_are_the_closed_form():
    """decay ** k of the start is left."""
    module = nn.Linear(1, 1)
    ema = EMA(module)
    start = float(ema.average.weight)
    with torch.no_grad():
        module.weight.fill_(2.0)
    for _ in range(50):
        ema.update(module, 0.9)
    assert float(ema.average.weight) == pytest.approx(2 + (start - 2) * 0.9**50, rel=1e-5)


def test_it_never_learns_and_stays_in_evaluation():
    module = Counted()
    ema = EMA(module).train()
    assert not ema.average.training
    assert not any(p.requires_grad for p in ema.parameters())
    x = torch.randn(4, 3, requires_grad=True)
    assert not ema(x).requires_grad
    assert torch.equal(ema(x), ema(x))  # no dropout
    assert module.training


def test_small_steps_of_a_half_precision_module_are_not_lost():
    module = nn.Linear(1, 1).bfloat16()
    with torch.no_grad():
        module.weight.fill_(1.0)
    ema = EMA(module)
    with torch.no_grad():
        module.weight.fill_(2.0)
    for _ in range(100):
        ema.update(module, 0.9999)
    assert float(ema.average.weight) == pytest.approx(1 + 1 - 0.9999**100, rel=1e-3)


def test_its_state_goes_on():
    """A run that was stopped has the same average, update by update."""
    module = Counted()
    ema = EMA(module)
    ema.update(moved(module), 0.7)
    again = EMA(Counted())
    again.load_state_dict(ema.state_dict())
    moved(module)
    for one in (ema, again):
        one.update(module, 0.7)
    for name, value in ema.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    module = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="must be in"):
        EMA(module).update(module, decay)


def test_a_module_with_other_weights_is_refused():
    with pytest.raises(ValueError, match="other weights than the average: bias"):
        EMA(nn.Linear(2, 2)).update(nn.Linear(2, 2, bias=False), 0.9)


def test_the_schedules_are_those_of_the_papers():
    at = {"start": 0.999, "end": 0.9999, "num_updates": 30_000}
    assert linear_decay(0, **at) == 0.999
    assert linear_decay(15_000, **at) == pytest.approx(0.99945)
    assert linear_decay(30_000, **at) == linear_decay(10**6, **at) == pytest.approx(0.9999)
    byol = {"start": 0.996, "max_updates": 1000}
    assert cosine_decay(0, **byol) == pytest.approx(0.996)
    assert cosine_decay(500, **byol) == pytest.approx(0.998)
    assert cosine_decay(1000, **byol) == 1.0
    assert linear_decay(0, start=0.5, end=0.9, num_updates=0) == 0.5
