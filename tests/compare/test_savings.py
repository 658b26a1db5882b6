"""Label minutes saved, by hand."""

import math

import numpy as np
import pytest

from speechssl.compare.savings import Saving, minutes_to_reach, saving

INF = math.inf


@pytest.mark.parametrize(
    ("minutes", "rates", "rate", "needed"),
    [
        ([10, 40], [0.6, 0.4], 0.5, 20),  # half way on the logarithm
        ([10, 40], [0.6, 0.4], 0.6, 10),
        ([10, 40], [0.6, 0.4], 0.4, 40),
        ([10, 40], [0.6, 0.4], 0.45, 10 * 4**0.75),
        ([10, 40], [0.6, 0.4], 0.39, INF),
        ([10, 40], [0.6, 0.4], 0.61, -INF),
        ([1, 10, 100], [0.9, 0.5, 0.3], 0.4, 10**1.5),
        ([1, 10, 100], [0.9, 0.5, 0.7], 0.6, 10**0.75),  # it rises again: the first time counts
        ([1, 10, 100], [0.5, 0.7, 0.3], 0.4, 10**1.5),  # flat at 0.5, then down to 0.3
        ([1, 10, 100], [0.5, 0.5, 0.5], 0.5, 1),
        ([1, 10], [0.0, 0.0], 0.0, 1),
        ([5], [0.5], 0.5, 5),
    ],
)
def test_the_minutes_that_a_model_from_scratch_needs(minutes, rates, rate, needed):
    assert minutes_to_reach(minutes, rates, rate) == pytest.approx(needed)


def test_what_is_saved_with_its_interval():
    draws = [np.array([0.6] * 100), np.array([0.4] * 100)]
    own = np.concatenate([np.full(50, 0.5), np.full(50, 0.6)])
    found = saving(10, 0.5, own, [40, 10], [0.4, 0.6], draws[::-1])  # in any order
    assert (found.value, found.low, found.high) == pytest.approx((10, 0, 10))
    assert (found.most, found.least) == (30, 0)
    assert found.text() == "10 [none, 10]"


def test_what_is_beyond_the_curve_is_shown_as_more_or_none():
    flat = [np.full(100, 0.6), np.full(100, 0.4)]
    better, worse = np.full(100, 0.1), np.full(100, 0.9)
    found = saving(10, 0.1, better, [10, 40], [0.6, 0.4], flat)
    assert found.text() == "more than 30"
    found = saving(10, 0.9, worse, [10, 40], [0.6, 0.4], flat)
    assert found.text() == "none"
    found = saving(40, 0.9, worse, [10, 40], [0.6, 0.4], flat)
    assert found.text() == "none"
    mixed = np.concatenate([np.full(90, 0.5), np.full(10, 0.1)])
    assert saving(10, 0.5, mixed, [10, 40], [0.6, 0.4], flat).text() == "10 [10, more than 30]"


def test_one_label_budget_has_no_curve():
    assert saving(10, 0.1, np.zeros(3), [10], [0.5], [np.zeros(3)]) is None


def test_zero_minutes_saved_are_no_infinity():
    assert Saving(0.04, -INF, INF, 50, 0).text() == "none [none, more than 50]"
    assert Saving(0.06, -3.0, 9.96, 50, 0).text() == "0.1 [none, 10]"
    assert Saving(-12.0, -20.0, -2.0, 50, -30).text() == "none"
