"""Whose chunk is next."""

import threading

import numpy as np
import pytest
import torch

from speechssl.service.turns import StoppedError, Ticket, Turns, _Place, next_batch

SECOND = 100  # samples


def place(ticket, seconds, number):
    return _Place(ticket, np.zeros(int(seconds * SECOND), np.float32), number)


def ticket(attained):
    made = Ticket()
    made.attained = attained
    return made


def chosen(places, number=1, batch_s=30.0):
    return [p.number for p in next_batch(places, number, int(batch_s * SECOND))]


def test_a_new_clip_goes_before_an_hour():
    hour, clip = ticket(3000 * SECOND), ticket(2940 * SECOND)
    places = [place(hour, 30, n) for n in range(4)] + [place(clip, 3, 9)]
    assert chosen(places)[0] == 9


def test_every_fourth_place_is_the_oldest():
    hour, clip = ticket(3000 * SECOND), ticket(0)
    places = [place(hour, 30, 0), *(place(clip, 3, n) for n in range(1, 5))]
    assert chosen(places, number=4)[0] == 0
    assert chosen(places, number=5)[0] == 1


@pytest.mark.parametrize(
    ("seconds", "batch_s", "expected"),
    [
        ([3] * 12, 30, 10),  # as many as fit
        ([30, 30], 30, 1),
        ([40], 30, 1),  # a longer one is a batch alone
        ([3, 28, 3, 3], 30, 3),  # no short ones padded to a long one
        ([10, 8, 9], 30, 3),
        ([3, 3], 0, 1),  # a model for which each chunk is a batch
    ],
)
def test_batches_are_full_and_little_padded(seconds, batch_s, expected):
    places = [place(ticket(0), s, n) for n, s in enumerate(seconds)]
    assert len(chosen(places, batch_s=batch_s)) == expected


def rows(waves):
    return [torch.full((len(w), 1), float(len(w))) for w in waves]


@pytest.fixture
def held():
    """Turns of one thread that waits until it is let go, and what it computed in order."""
    gate, seen = threading.Event(), []

    def forward(waves):
        assert gate.wait(20)
        seen.append([len(wave) for wave in waves])
        return rows(waves)

    turns = Turns(forward, threads=1, batch_samples=30 * SECOND, head_start=60 * SECOND)
    yield turns, gate, seen
    gate.set()
    turns.close()


def in_thread(work):
    found = []

    def run():
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def wait_for(turns, number):
    while turns.waiting != number:
        threading.Event().wait(0.002)


def test_results_are_those_of_ones_own_waves(held):
    turns, gate, _ = held
    sizes = [[300, 200], [100], [250, 100, 300]]
    started = [
        in_thread(lambda s=s: turns.compute(Ticket(), [np.zeros(n, np.float32) for n in s]))
        for s in sizes
    ]
    gate.set()
    for (thread, found), expected in zip(started, sizes, strict=True):
        thread.join()
        assert [len(row) for row in found[0]] == expected
        assert [float(row[0, 0]) for row in found[0]] == expected


def test_a_clip_waits_for_the_batch_at_work_only(held):
    turns, gate, seen = held
    hour = np.zeros(30 * SECOND, np.float32)
    first, _ = in_thread(lambda: turns.compute(Ticket(), [hour] * 6))
    wait_for(turns, 5)  # one is at work
    second, _ = in_thread(lambda: turns.compute(Ticket(), [hour[:300]]))
    wait_for(turns, 6)
    gate.set()
    first.join()
    second.join()
    assert seen.index([300]) == 1


def test_a_stopped_request_leaves_the_queue_at_once(held):
    turns, gate, seen = held
    ticket = Ticket()
    wave = np.zeros(30 * SECOND, np.float32)
    thread, found = in_thread(lambda: turns.compute(ticket, [wave] * 5))
    wait_for(turns, 4)
    ticket.stop()
    turns.drop_stopped()
    assert turns.waiting == 0
    gate.set()
    thread.join()
    assert isinstance(found[0], StoppedError)
    assert len(seen) == 1  # the chunk that was computed already
    with pytest.raises(StoppedError):
        turns.compute(ticket, [wave])


def test_an_error_of_the_model_is_that_of_its_requests_and_no_end():
    answers = [RuntimeError("no memory"), None]

    def forward(waves):
        if (error := answers.pop(0)) is not None:
            raise error
        return rows(waves)

    turns = Turns(forward, threads=1, batch_samples=1, head_start=0)
    with pytest.raises(RuntimeError, match="no memory"):
        turns.compute(Ticket(), [np.zeros(5, np.float32)])
    assert len(turns.compute(Ticket(), [np.zeros(5, np.float32)])) == 1
    turns.close()


def test_nothing_is_computed_after_the_end():
    turns = Turns(rows, threads=2, batch_samples=1, head_start=0)
    turns.close()
    with pytest.raises(StoppedError):
        turns.compute(Ticket(), [np.zeros(5, np.float32)])


def test_two_long_recordings_share_the_time(held):
    """One that comes later catches up a minute at most, and then they take turns."""
    turns, gate, seen = held
    old = np.zeros(30 * SECOND, np.float32)
    new = np.zeros(29 * SECOND, np.float32)
    first, _ = in_thread(lambda: turns.compute(Ticket(), [old] * 8))
    wait_for(turns, 7)
    second, _ = in_thread(lambda: turns.compute(Ticket(), [new] * 8))
    wait_for(turns, 15)
    gate.set()
    first.join()
    second.join()
    order = ["old" if sizes == [3000] else "new" for sizes in seen]
    assert order[:4] == ["old", "new", "new", "old"]  # the fourth is the oldest
    assert 3 <= order[4:12].count("old") <= 6
