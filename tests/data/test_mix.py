"""Shares of several corpora, given or by their hours, and their turns."""

import numpy as np
import pytest

from speechssl.data.batching import MixedPlan, SharedPlan
from speechssl.data.mix import corpus_shares, evenly_in_turn

HOURS = np.array([4.0, 10.0, 1.0, 9.0])


@pytest.mark.parametrize(
    ("temperature", "given", "rehearsal", "wanted"),
    [
        (1.0, (), None, [4 / 24, 10 / 24, 1 / 24, 9 / 24]),
        (0.0, (), None, [0.25] * 4),
        (0.5, (), None, np.sqrt(HOURS) / np.sqrt(HOURS).sum()),
        (1.0, (0.5,), None, [0.5, 0.25, 0.025, 0.225]),
        (0.0, (0.5,), None, [0.5, 1 / 6, 1 / 6, 1 / 6]),
        (0.5, (0.5, 0.2), None, [0.5, 0.2, 0.3 / 4, 0.9 / 4]),
        (0.5, (0.1, 0.2, 0.3, 0.4), None, [0.1, 0.2, 0.3, 0.4]),
        (1.0, (), 0.5, [4 / 30, 10 / 30, 1 / 30, 0.5]),
        (0.0, (0.4,), 0.25, [0.3, 0.225, 0.225, 0.25]),
        (1.0, (0.5, 0.25, 0.25), 0.2, [0.4, 0.2, 0.2, 0.2]),
    ],
)
def test_shares(temperature, given, rehearsal, wanted):
    found = corpus_shares(HOURS, temperature, given, rehearsal)
    assert found == pytest.approx(np.array(wanted))
    assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("temperature", "given", "rehearsal", "said"),
    [
        (1.5, (), None, r"in \[0, 1\], got 1.5"),
        (1.0, (0.2,) * 5, None, "5 shares .* for 4 manifests"),
        (1.0, (0.5, 0.0), None, "must be above 0, got 0.5, 0: leave a manifest"),
        (1.0, (0.5, 0.5), None, "adds up to 1 .* leaves nothing for the other 2 of 4"),
        (1.0, (0.8, 0.5), None, "adds up to 1.3"),
        (1.0, (0.5, 0.3, 0.1, 0.2), None, "they add up to 1.1"),
        (1.0, (), 1.0, "rehearsal must be in"),
        (1.0, (), 0.0, "rehearsal must be in"),
        (1.0, (0.3,) * 4, 0.5, "4 shares .* for 3 manifests"),
    ],
)
def test_shares_that_cannot_be(temperature, given, rehearsal, said):
    with pytest.raises(ValueError, match=said):
        corpus_shares(HOURS, temperature, given, rehearsal)


@pytest.mark.parametrize("quotas", [[8, 4, 2, 2], [7, 7], [5, 1, 1], [30, 13, 2], [1]])
def test_any_stretch_has_about_the_shares(quotas):
    quotas = np.array(quotas)
    order = evenly_in_turn(quotas, np.random.default_rng(0))
    assert np.bincount(order, minlength=len(quotas)).tolist() == quotas.tolist()
    for corpus, share in enumerate(quotas / quotas.sum()):
        before = np.cumsum(order == corpus)
        for length in range(1, len(order)):
            inside = before[length:] - before[:-length]
            assert abs(inside - share * length).max() < len(quotas)


def plan(accumulate=1, **more):
    lengths = np.full(160, 2.0)
    sizes = [100, 40, 20]
    return MixedPlan(
        lengths, sizes, temperature=0.5, batch_s=4, seed=1, accumulate=accumulate, **more
    )


@pytest.mark.parametrize("accumulate", [2, 4])
def test_every_update_is_half_own_speech(accumulate):
    own = plan(accumulate, shares=(0.5,))
    for update in range(3 * own.num_batches // accumulate):
        members = [own.batch(update * accumulate + turn) for turn in range(accumulate)]
        num = sum(int(batch[0] < 100) for batch in members)
        assert abs(num - accumulate / 2) <= 1
    all_of_it = np.concatenate([own.batch(i) for i in range(4 * own.num_batches)])
    assert np.mean(all_of_it < 100) == pytest.approx(0.5, abs=0.02)
    counts = np.bincount(all_of_it, minlength=160)
    assert all(np.ptp(part) <= 1 for part in np.split(counts, [100, 140]))


def test_a_mix_of_shares_is_a_function_of_the_number():
    one, other = plan(2, shares=(0.5, 0.3)), plan(2, shares=(0.5, 0.3))
    batches = [one.batch(i).tolist() for i in range(60)]
    assert [other.batch(i).tolist() for i in reversed(range(60))] == batches[::-1]
    assert [one.accumulating(2).batch(i).tolist() for i in range(60)] == batches


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_a_mix_of_shares(world):
    whole = plan(2, rehearsal=0.5)
    shared = [SharedPlan(whole, rank, world) for rank in range(world)]
    for update in (0, 7, 31):
        wanted = sorted(i for turn in (0, 1) for i in whole.batch(2 * update + turn).tolist())
        found = []
        for own in shared:
            for turn in range(own.accumulate):
                planned = own.at(update * own.accumulate + turn)
                rows = range(len(planned.members)) if planned.rows is None else planned.rows
                found += [int(planned.members[row]) for row in rows]
        assert sorted(found) == wanted


def test_without_shares_nothing_changes():
    """The order of a mix by temperature alone is what it was."""
    first = [[111, 123], [158, 159], [74, 82], [138, 139], [45, 43], [143, 142]]
    assert [plan().batch(i).tolist() for i in range(6)] == first
