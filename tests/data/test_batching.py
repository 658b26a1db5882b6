import time

import numpy as np
import pytest

from speechssl.data.batching import BatchPlan

LENGTHS = np.random.default_rng(0).uniform(0.5, 12, 500)


def plan(**changes) -> BatchPlan:
    return BatchPlan(LENGTHS, **{"batch_s": 30.0, "seed": 1, **changes})


def test_an_epoch_holds_every_utterance_once():
    p = plan()
    for epoch in range(3):
        first = epoch * p.num_batches
        seen = np.concatenate([p.batch(k) for k in range(first, first + p.num_batches)])
        assert sorted(seen.tolist()) == list(range(500))


def test_no_batch_is_longer_than_asked_padding_included():
    p = plan()
    for k in range(p.num_batches):
        members = p.batch(k)
        assert LENGTHS[members].max() * len(members) <= 30.0


def test_padding_is_small():
    p = plan()
    valid = sum(LENGTHS[p.batch(k)].sum() for k in range(p.num_batches))
    padded = sum(LENGTHS[p.batch(k)].max() * len(p.batch(k)) for k in range(p.num_batches))
    assert valid / padded > 0.9


def test_a_batch_depends_on_its_number_alone():
    forward, backward = plan(), plan()
    last = 2 * forward.num_batches
    there = [forward.batch(k).tolist() for k in range(last)]
    back = [backward.batch(k).tolist() for k in reversed(range(last))][::-1]
    assert there == back


def test_epochs_and_seeds_differ():
    p = plan()
    assert p.batch(0).tolist() != p.batch(p.num_batches).tolist()
    assert p.batch(0).tolist() != plan(seed=2).batch(0).tolist()


def test_processes_share_an_epoch():
    parts = [plan(rank=r, world=3) for r in range(3)]
    assert len({p.num_batches for p in parts}) == 1
    seen = [i for p in parts for k in range(p.num_batches) for i in p.batch(k).tolist()]
    assert set(seen) == set(range(500))
    assert len(seen) - 500 <= 3 * 60  # only the last round repeats


def test_validation_order_is_sorted_and_whole():
    p = plan(shuffle=False)
    order = np.concatenate([p.batch(k) for k in range(p.num_batches)])
    assert np.all(np.diff(LENGTHS[order]) >= 0)
    assert len(order) == 500


def test_an_utterance_longer_than_a_batch_is_alone():
    p = BatchPlan(np.array([50.0, 1.0, 1.0]), batch_s=10.0, seed=0)
    batches = [p.batch(k).tolist() for k in range(p.num_batches)]
    assert [0] in batches


def test_nothing_to_plan_is_a_sentence():
    with pytest.raises(ValueError, match="no utterance"):
        BatchPlan(np.zeros(0), batch_s=10.0, seed=0)
    with pytest.raises(ValueError, match="above 0 seconds"):
        BatchPlan(np.ones(3), batch_s=0.0, seed=0)


def test_step_a_million_of_a_million_utterances_is_reached_at_once():
    lengths = np.random.default_rng(0).uniform(1, 15, 1_000_000)
    began = time.monotonic()
    p = BatchPlan(lengths, batch_s=87.5, seed=0)
    members = p.batch(1_000_000)
    assert time.monotonic() - began < 5  # walking there would take minutes
    epoch = 1_000_000 // p.num_batches
    assert epoch > 5
    assert lengths[members].max() * len(members) <= 87.5
