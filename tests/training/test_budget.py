"""A run ends with its minutes, whatever else the machine was doing."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from speechssl.rng import rng
from speechssl.training.budget import Budget, Clock
from speechssl.training.optim import OptimConfig, lr_at


class Simulated(Clock):
    def __init__(self) -> None:
        self.now = 0.0

    @property
    def elapsed_s(self) -> float:
        return self.now


def simulate(
    step_s: Callable[[float], float],
    *,
    minutes: float = 36.0,
    validation_s: float = 5.0,
    most: int = 100_000,
    num_validations: int = 12,
    update_s: float | None = None,
) -> tuple[float, list[float]]:
    """Run steps that take `step_s` of the time; ``(minutes at the end, share done at each step)``.

    The loop's order: step, plan, perhaps validate; at the end validate.
    """
    clock = Simulated()
    budget = Budget(minutes, most, num_validations, clock)
    step, max_steps = 0, budget.first_plan(update_s)
    shares = []
    while step < max_steps:
        clock.now += step_s(clock.now / 60)
        step += 1
        max_steps = budget.plan(step, max_steps)
        shares.append(step / max_steps)
        share = num_validations / max_steps
        if step >= max_steps or int(step * share) > int((step - 1) * share):
            clock.now += validation_s
            budget.validated()
    return clock.now / 60, shares


def slow_between(first: float, last: float, factor: float = 4.0) -> Callable[[float], float]:
    return lambda minute: 0.3 * (factor if first < minute < last else 1.0)


PHASES = {
    "even": slow_between(0, 0),
    "slow first": slow_between(0, 12),
    "slow in the middle": slow_between(14, 25),
    "slow late": slow_between(24, 30),
    "slow at the end": slow_between(33, 40),
    "very slow for a moment": slow_between(20, 24, 40.0),
    "quick late": slow_between(0, 30, 5.0),
    "noisy": lambda minute: 0.3 * float(rng(0, "noise", int(minute * 1000)).uniform(0.3, 1.7)),
}


@pytest.mark.parametrize("name", PHASES)
def test_it_ends_with_its_minutes(name):
    ended, shares = simulate(PHASES[name])
    assert 0.96 * 36 < ended <= 36.0
    assert shares[-1] == 1


def test_a_slow_phase_costs_its_own_time_only():
    """As many steps are done as fit, to a few percent: nothing is given up after the phase."""
    _, even = simulate(PHASES["even"])
    _, slow = simulate(PHASES["slow late"])
    lost = 6 * 60 / 0.3 * (1 - 1 / 4)
    assert len(slow) == pytest.approx(len(even) - lost, rel=0.03)


def test_the_share_that_is_done_never_falls_by_much():
    """The learning rate is a function of it."""
    for step_s in PHASES.values():
        _, shares = simulate(step_s)
        planned = shares[30:]
        falls = [a - b for a, b in pairwise(planned)]
        assert max(falls) < 1 / 3


@pytest.mark.parametrize("validation_s", [0.0, 30.0, 90.0])
def test_validations_are_within_the_minutes(validation_s):
    ended, _ = simulate(PHASES["even"], validation_s=validation_s)
    assert 0.93 * 36 < ended <= 36.0


def test_steps_are_the_limit_where_they_are_fewer():
    ended, shares = simulate(PHASES["even"], most=500)
    assert len(shares) == 500
    assert ended < 5


def test_a_few_long_steps():
    ended, shares = simulate(lambda _: 40.0, validation_s=20.0)
    assert 30 < ended <= 36.7
    assert len(shares) > 35


@pytest.mark.parametrize("measured", [0.4, 1.0, 1.1, 2.7])
@pytest.mark.parametrize("step_s", [150.0, 600.0, 1500.0])
def test_updates_so_long_that_few_fit_have_a_schedule(step_s, measured):
    """Also where the measure before the run was a bad one."""
    ended, shares = simulate(
        lambda _: step_s, minutes=60, validation_s=step_s / 10, update_s=measured * step_s
    )
    assert ended <= 60 + step_s / 60
    assert len(shares) >= 0.6 * 3600 / step_s
    if step_s == 150.0:
        config = OptimConfig(lr=1e-3)
        lrs = [lr_at(config, i, round((i + 1) / share)) for i, share in enumerate(shares)]
        assert max(lrs) == 1e-3
        assert lrs[-1] < 1e-4


def test_the_first_plan_is_of_what_was_measured():
    budget = Budget(60, 100_000, 12, Simulated())
    assert 20 <= budget.first_plan(150.0) <= 24
    assert budget.first_plan(1e9) == 1
    assert Budget(60, 7, 12, Simulated()).first_plan(150.0) == 7
    assert Budget(60, 100_000, 12, Simulated()).first_plan(None) == 100_000
    assert Budget(None, 100_000, 12, Simulated()).first_plan(150.0) == 100_000


def test_what_came_before_the_first_update_is_no_part_of_it():
    """Recordings were decoded for ten minutes; 700 s an update leave room for three."""
    clock = Simulated()
    clock.now = 600.0
    budget = Budget(60, 100_000, 12, clock)
    assert budget.first_plan(700.0) == 3
    clock.now += 700.0
    assert budget.plan(1, 3) == 3


@pytest.mark.parametrize("update_s", [0.1, 0.3, 0.9])
def test_what_was_measured_before_the_run_changes_no_long_one(update_s):
    _, with_it = simulate(PHASES["even"], update_s=update_s)
    ended, without = simulate(PHASES["even"])
    assert ended <= 36
    assert len(with_it) == pytest.approx(len(without), rel=0.02)


def test_without_minutes_the_steps_are_what_was_asked_for():
    budget = Budget(None, 100, 12, Simulated())
    assert [budget.plan(step, 70) for step in (1, 50, 70)] == [70, 70, 70]
