"""Intervals, paired differences and Holm's method against oracles."""

import numpy as np
import pytest

from speechssl.compare.significance import Draws, Estimate, holm, p_value, paired
from speechssl.rng import rng
from speechssl.scoring.wer import compare, score

R = 2000


def results(num: int = 40):
    """Two systems on the same utterances, the second one better."""
    generator = rng(0, "texts")
    said = ["".join("abcd"[k] for k in generator.integers(0, 4, 8)) for _ in range(num)]
    outputs = [
        ["".join(c if generator.random() > wrong else "x" for c in text) for text in said]
        for wrong in (0.4, 0.25)
    ]
    ids = [f"u{i}" for i in range(num)]
    speakers = [f"s{i % 7}" for i in range(num)]
    return [score(said, texts, ids=ids, speakers=speakers) for texts in outputs]


def counts(result) -> np.ndarray:
    """(1, N, 2): one seed."""
    return np.array([[(u.characters.length, u.characters.errors) for u in result.utterances]])


def test_one_seed_gives_the_intervals_of_evaluate_and_of_its_paired_comparison():
    a, b = results()
    draws = Draws([u.speaker for u in a.utterances], 1)
    assert (draws.resampled, draws.of_units.shape) == ("speaker", (R, 7))
    rates = [draws.rate(counts(each)) for each in (a, b)]
    for rate, whole in zip(rates, (a, b), strict=True):
        assert (rate.value, rate.low, rate.high) == pytest.approx(
            (whole.cer, whole.cer_low, whole.cer_high), rel=1e-5
        )
    found, oracle = paired(rates[1], rates[0]), compare(a, b).cer
    assert found.difference == pytest.approx(oracle.difference)
    assert found.change == pytest.approx(-oracle.reduction)
    assert found.change_low == pytest.approx(-oracle.reduction_high, rel=1e-5)
    assert found.change_high == pytest.approx(-oracle.reduction_low, rel=1e-5)


def test_seeds_are_drawn_too_against_a_plain_loop():
    generator = rng(0, "counts")
    lengths = generator.integers(5, 9, 6)
    errors = generator.integers(0, 5, (3, 6))
    several = np.stack([np.stack([lengths, own], 1) for own in errors])  # (G, N, 2)
    draws = Draws([None] * 6, 3)
    rate = draws.rate(several)
    assert rate.value == pytest.approx(errors.sum() / (3 * lengths.sum()))
    for r in range(20):
        total = wrong = 0
        for g in range(3):
            for u in range(6):
                times = draws.of_seeds[r, g] * draws.of_units[r, u]
                total, wrong = total + times * lengths[u], wrong + times * errors[g, u]
        assert rate.draws[r] == pytest.approx(wrong / total, rel=1e-5)
    assert (draws.of_seeds.sum(1) == 3).all()
    assert (draws.of_units.sum(1) == 6).all()


def test_the_mean_over_label_budgets_is_of_rates():
    one, two = np.array([[[10, 1], [10, 3]]]), np.array([[[100, 50], [100, 50]]])
    draws = Draws([None, None], 1)
    mean = draws.mean_rate([one, two])
    assert mean.value == pytest.approx((0.2 + 0.5) / 2)
    assert mean.draws == pytest.approx((draws.rate(one).draws + draws.rate(two).draws) / 2)


def estimate(draws) -> Estimate:
    draws = np.asarray(draws, float)
    return Estimate(float(draws.mean()), float(draws.min()), float(draws.max()), draws)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([-0.1] * R, 2 / (R + 1)),  # always better
        ([0.1] * R, 2 / (R + 1)),  # always worse: two-sided
        ([0.0] * R, 1.0),  # the same
        ([-0.1] * 1950 + [0.1] * 50, 2 * 51 / (R + 1)),
        ([-0.1] * 1000 + [0.1] * 1000, 1.0),
    ],
)
def test_p_is_twice_the_share_on_the_rarer_side(differences, p):
    assert p_value(np.array(differences)) == pytest.approx(p)


def test_p_is_uniform_where_there_is_no_difference():
    found = []
    for trial in range(40):
        generator = rng(trial, "null")
        wrong = generator.integers(0, 4, (2, 40))
        several = [np.stack([np.full(40, 10), own], 1)[None] for own in wrong]
        draws = Draws([None] * 40, 1, seed=trial)
        found.append(paired(*(draws.rate(each) for each in several)).p)
    assert np.mean(np.array(found) < 0.05) <= 0.2
    assert 0.35 < np.mean(found) < 0.65


def test_a_baseline_without_errors_has_no_share():
    none, some = estimate([0.0] * R), estimate([0.1] * R)
    found = paired(some, none)
    assert (found.difference, found.change, found.change_low) == (pytest.approx(0.1), None, None)
    rarely = estimate([0.0] + [0.2] * (R - 1))
    found = paired(some, rarely)
    assert found.change is not None
    assert found.change_low is None


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # Wikipedia's example
        ([0.5, 0.9, 0.6], [1.0, 1.0, 1.0]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.001, 0.03, 0.02], [0.003, 0.04, 0.04]),
    ],
)
def test_holm(given, adjusted):
    assert holm(given) == pytest.approx(adjusted)
