import itertools
import time

import numpy as np
import pytest

from speechssl.data.batching import BatchPlan, MixedPlan, SharedPlan, cut_evenly

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
    planned = [p.at(k) for p in parts for k in range(p.num_batches)]
    assert sorted(b.number for b in planned) == list(range(len(planned)))
    for number in {b.pass_number for b in planned}:
        seen = [i for b in planned if b.pass_number == number for i in b.members.tolist()]
        assert len(set(seen)) == len(seen)
    assert len(planned) - plan().num_batches < 3  # only the last update is filled up


@pytest.mark.parametrize(("world", "accumulate"), [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_an_update_is_the_same_however_it_is_shared_out(world, accumulate):
    """For three epochs: the same batches under the same numbers, in one process or six."""

    def update(step, world, accumulate):
        parts = [plan(rank=r, world=world, accumulate=accumulate) for r in range(world)]
        turns = range(step * accumulate, (step + 1) * accumulate)
        found = [p.at(k) for p in parts for k in turns]
        return sorted((b.number, b.pass_number, b.members.tolist()) for b in found)

    steps = 3 * plan(world=6).num_batches
    for step in range(0, steps, 7):
        assert update(step, world, accumulate) == update(step, 6, 1)


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (8, 1), (4, 4)])
def test_no_process_waits_long(world, accumulate):
    lengths = np.random.default_rng(0).gamma(4, 2.5, 8000).clip(1, 15.6)
    shares = []
    for rank in range(world):
        p = BatchPlan(lengths, batch_s=30.0, seed=0, rank=rank, world=world, accumulate=accumulate)
        batches = [p.batch(k) for k in range(50 * accumulate)]
        seconds = np.array([lengths[b].max() * len(b) for b in batches])
        shares.append(seconds.reshape(50, accumulate).sum(1))
        told = [p.imbalance(step) for step in range(50)]
    found = np.max(shares, axis=0) / np.mean(shares, axis=0) - 1
    assert told == pytest.approx(found.tolist())
    assert found.mean() < 0.01  # batches taken as they come: 0.13 to 0.3
    assert BatchPlan(lengths, batch_s=30.0, seed=0).imbalance(3) == 0


def test_more_batches_in_an_update_than_there_are_take_several_readings():
    p = plan(accumulate=200)
    assert p.num_batches == 200
    planned = [p.at(k) for k in range(200)]
    assert len({b.pass_number for b in planned}) == -(-200 // plan().num_batches)
    assert {b.pass_number for b in planned}.isdisjoint(p.at(k).pass_number for k in range(200, 400))


def test_another_number_for_an_update_is_another_plan():
    p = plan(accumulate=2)
    again = plan(accumulate=4).accumulating(2)
    assert [p.batch(k).tolist() for k in range(40)] == [again.batch(k).tolist() for k in range(40)]


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


@pytest.mark.parametrize("world", [1, 64])
def test_step_a_million_of_a_million_utterances_is_reached_at_once(world):
    lengths = np.random.default_rng(0).uniform(1, 15, 1_000_000)
    began = time.monotonic()
    p = BatchPlan(lengths, batch_s=87.5, seed=0, world=world)
    members = p.batch(1_000_000)
    assert time.monotonic() - began < 10  # walking there would take minutes
    assert 1_000_000 // p.num_batches > 5
    assert lengths[members].max() * len(members) <= 87.5


def mixed(temperature: float, **more) -> MixedPlan:
    lengths = np.concatenate([np.full(400, 2.0), np.full(40, 2.0), np.full(10, 2.0)])
    return MixedPlan(lengths, [400, 40, 10], temperature=temperature, batch_s=10, seed=3, **more)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_a_mix_samples_each_corpus_by_its_hours_to_the_temperature(temperature):
    plan = mixed(temperature)
    hours = np.array([400, 40, 10.0]) ** temperature
    assert plan.shares == pytest.approx(hours / hours.sum())
    batches = [plan.batch(i) for i in range(4 * plan.num_batches)]
    corpora = [np.unique(np.searchsorted([400, 440], b, side="right")) for b in batches]
    assert all(len(c) == 1 for c in corpora)
    heard = np.bincount(np.concatenate(corpora), minlength=3) / len(batches)
    assert heard == pytest.approx(plan.shares, abs=0.02)
    counts = np.bincount(np.concatenate(batches), minlength=450)
    for part in np.split(counts, [400, 440]):
        assert part.max() - part.min() <= 1  # before any is heard again, all are


def test_a_mix_is_a_function_of_the_number_and_shared_by_processes():
    plan = mixed(0.5)
    alone = [plan.batch(i) for i in range(2 * plan.num_batches)]
    again = mixed(0.5)
    assert all(np.array_equal(again.batch(i), alone[i]) for i in (33, 2, 60))
    both = [mixed(0.5, rank=rank, world=2) for rank in (0, 1)]
    shared = [p.at(i).number for i in range(both[0].num_batches) for p in both]
    assert sorted(shared) == list(range(len(shared)))
    small = [i for i, b in enumerate(alone) if b[0] >= 440]
    assert [plan.at(i).pass_number for i in small] == [n // 2 for n in range(len(small))]
    others = list(plan.replacements(445, np.random.default_rng(0)))
    assert sorted(others) == [i for i in range(440, 450) if i != 445]


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (8, 1), (4, 4)])
def test_no_process_waits_long_for_a_mix(world, accumulate):
    lengths = np.random.default_rng(0).gamma(4, 2.5, 8000).clip(1, 15.6)

    def plan(**place) -> MixedPlan:
        return MixedPlan(lengths, [6000, 2000], temperature=0.5, batch_s=30, seed=0, **place)

    plans = [plan(rank=r, world=world, accumulate=accumulate) for r in range(world)]
    told = [plans[0].imbalance(step) for step in range(50)]
    seconds = [[lengths[b].max() * len(b) for b in map(p.batch, range(9))] for p in plans]
    found = np.array(seconds)[:, :accumulate].sum(1)
    assert told[0] == pytest.approx(found.max() / found.mean() - 1)
    assert np.mean(told) < 0.01  # batches taken as they come: 0.1 to 0.2
    one = plan(accumulate=world * accumulate)
    assert plans[0].num_batches * world == one.num_batches
    for step in range(0, 40, 3):
        turns = range(step * accumulate, (step + 1) * accumulate)
        shared = sorted((b.number, *b.members) for p in plans for b in map(p.at, turns))
        each = range(step * world * accumulate, (step + 1) * world * accumulate)
        assert shared == sorted((b.number, *b.members) for b in map(one.at, each))


def test_a_mix_that_cannot_be():
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 2"):
        mixed(2)
    with pytest.raises(ValueError, match=r"No corpus of a mix may be empty.*\[3, 0\]"):
        MixedPlan(np.ones(3), [3, 0], temperature=1, batch_s=1, seed=0)


# --- processes that share the micro-batches of one ------------------------------------------------


def plan_of_two_corpora(**changes) -> MixedPlan:
    given = {"temperature": 0.5, "batch_s": 30.0, "seed": 1, **changes}
    return MixedPlan(LENGTHS, [100, 400], **given)


@pytest.mark.parametrize("world", [2, 3, 4, 8])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 4])
@pytest.mark.parametrize("make", [plan, plan_of_two_corpora])
def test_processes_share_the_updates_of_one(make, accumulate, world):
    """Whatever their number, an update is the same utterances in the same micro-batches."""
    whole = make(accumulate=accumulate)
    shared = [SharedPlan(whole, rank, world) for rank in range(world)]
    for update in (0, 3, 2 * whole.num_batches // accumulate):
        wanted = {}
        for turn in range(accumulate):
            planned = whole.at(update * accumulate + turn)
            wanted[planned.number] = planned.members.tolist()
        found = {number: {} for number in wanted}
        for own in shared:
            for turn in range(own.accumulate):
                planned = own.at(update * own.accumulate + turn)
                assert planned.members.tolist() == wanted[planned.number]
                rows = range(len(planned.members)) if planned.rows is None else planned.rows
                taken = {row: planned.members[row] for row in rows}
                assert not taken.keys() & found[planned.number].keys()
                found[planned.number] |= taken
        assert {n: [rows[i] for i in sorted(rows)] for n, rows in found.items()} == wanted


def test_whole_micro_batches_are_shared_out_where_they_can_be():
    for accumulate, world, each, cuts in ((4, 2, 2, False), (2, 2, 1, False), (6, 4, 3, True)):
        own = SharedPlan(plan(accumulate=accumulate), 1, world)
        assert (own.accumulate, own.cuts) == (each, cuts)


def best_cut(lengths, parts):
    """The shortest longest part of all ways to deal out utterances."""
    best = float("inf")
    for dealt in itertools.product(range(parts), repeat=len(lengths)):
        own = [
            [n for n, part in zip(lengths, dealt, strict=True) if part == k] for k in range(parts)
        ]
        best = min(best, max(len(one) * max(one, default=0) for one in own))
    return best


@pytest.mark.parametrize("num", [1, 2, 5, 7])
@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_parts_take_about_as_long_as_each_other(seed, parts, num):
    lengths = np.random.default_rng(seed).uniform(3, 5, num)
    cut = cut_evenly(lengths, parts)
    assert sorted(sum(cut, ())) == list(range(num))
    assert len(cut) == parts
    assert cut[0]
    longest = max(len(rows) * max(lengths[list(rows)], default=0) for rows in cut)
    assert longest == pytest.approx(best_cut(lengths, parts), rel=1e-5)


def test_of_equal_utterances_parts_differ_by_one_at_most():
    for num, sizes in ((9, [5, 4]), (8, [4, 4]), (2, [1, 1]), (1, [1, 0])):
        assert [len(rows) for rows in cut_evenly(np.full(num, 3.0), 2)] == sizes


def test_the_imbalance_of_parts_is_that_of_their_padded_seconds():
    lengths = np.full(7, 2.0)
    whole = BatchPlan(lengths, batch_s=6.0, seed=0)  # 3, 3 and 1 utterances
    found = {round(SharedPlan(whole, 0, 2).imbalance(update), 6) for update in range(3)}
    assert found == {round(4 / 3 - 1, 6), 1.0}
    assert SharedPlan(plan(), 0, 1).imbalance(0) == 0
