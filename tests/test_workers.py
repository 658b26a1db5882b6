"""Groups shared with worker processes: order, bounded memory, errors, and ends of all kinds.

The work here needs no torch, so that a worker starts quickly.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from speechssl.audio import AudioError
from speechssl.workers import Group, share, sharing

pytestmark = pytest.mark.distributed


class TwoPartsError(Exception):
    """Cannot be made anew from its text alone, as pickling does."""

    def __init__(self, what: str, how: str) -> None:
        super().__init__(f"{what} {how}")


@dataclass(frozen=True)
class Act:
    """Does what an item says, in the worker or in this process."""

    parent: int = os.getpid()
    note: Path | None = None
    """Each process that works leaves a file of its number here."""

    def start(self) -> Callable[[tuple[str, ...]], list[str]]:
        if self.note and (self.note / "refuse").exists():
            raise ValueError("the model has changed")
        return self

    def __call__(self, items: tuple[str, ...]) -> list[str]:
        is_worker = os.getpid() != self.parent
        if self.note:
            (self.note / f"{'worker' if is_worker else 'parent'}-{os.getpid()}").touch()
        for item in items:
            if item == "wait" or (item == "wait in parent" and not is_worker):
                time.sleep(0.3)
            if item == "until a worker is there" and not is_worker:
                assert self.note
                until = time.monotonic() + 30
                while not list(self.note.glob("worker-*")) and time.monotonic() < until:
                    time.sleep(0.02)
            if item == "die in worker" and is_worker:
                os.kill(os.getpid(), signal.SIGKILL)
            if item == "exit in worker" and is_worker:
                os._exit(7)
            if item == "too large in worker" and is_worker:
                raise MemoryError
            if item == "hang" or (item == "hang in worker" and is_worker):
                time.sleep(60)
            if item == "unreadable":
                raise AudioError("b.wav cannot be read: it is no sound.")
            if item == "two parts":
                raise TwoPartsError("no", "pickle")
        return [item.upper() for item in items]


def groups(*items: str) -> Iterator[Group[str]]:
    for number, item in enumerate(items):
        yield Group((item,), 1.0, f"{number}.wav")


def shared(
    given: Iterator[Group[str]], job: Act, processes: int = 2
) -> tuple[list[str], list[str]]:
    """Results and sentences."""
    said: list[str] = []
    found = share(given, job, job, processes=processes, at_once=True, say=said.append)
    return [text for part in found for text in part], said


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_results_are_in_the_order_of_the_groups(processes, tmp_path):
    items = ["until a worker is there", *("wait in parent" if i % 3 else str(i) for i in range(12))]
    if processes == 1:
        items = items[1:]
    found, said = shared(groups(*items), Act(note=tmp_path), processes)
    assert found == [item.upper() for item in items]
    assert said == []
    assert len(list(tmp_path.glob("worker-*"))) <= processes - 1
    assert bool(list(tmp_path.glob("worker-*"))) == (processes > 1)


@pytest.mark.parametrize("items", [(), ("a",)])
def test_no_worker_is_started_for_a_single_group(items, monkeypatch):
    monkeypatch.setattr(sharing, "Worker", None)  # would be called
    assert shared(groups(*items), Act(), 4) == ([item.upper() for item in items], [])


def test_auto_starts_none_for_short_work(monkeypatch):
    monkeypatch.setattr(sharing, "Worker", None)
    act, said = Act(), []
    found = share(groups(*"abcdef"), act, act, processes=4, at_once=False, say=said.append)
    assert list(found) == [["A"], ["B"], ["C"], ["D"], ["E"], ["F"]]
    assert said == []


@pytest.mark.parametrize("settle_s", [0.0, 60.0])  # by the time passed, by the rate seen
def test_auto_starts_workers_when_the_work_lasts_and_says_so(settle_s, monkeypatch, tmp_path):
    monkeypatch.setattr(sharing, "SETTLE_S", settle_s)
    monkeypatch.setattr(sharing, "WORTH_S", 1.0)
    act, said = Act(note=tmp_path), []
    items = ["wait", "wait", "wait", "until a worker is there", *["wait in parent"] * 8]
    found = share(groups(*items), act, act, processes=2, at_once=False, say=said.append)
    assert [part[0] for part in found] == [item.upper() for item in items]
    assert list(tmp_path.glob("worker-*"))
    assert said == ["Worker processes share the recordings (--processes 1: one process)."]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("item", "kind", "text"),
    [
        ("unreadable", AudioError, "b.wav cannot be read: it is no sound."),
        ("two parts", Exception, "no pickle"),
    ],
)
def test_an_error_comes_in_its_place_and_is_the_same(item, kind, text, processes, tmp_path):
    act = Act(note=tmp_path)
    items = ["a", "b", item, "c"]
    found = share(groups(*items), act, act, processes=processes, at_once=True, say=print)
    assert [next(found), next(found)] == [["A"], ["B"]]
    with pytest.raises(kind, match=text):
        next(found)
    assert not list(found)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("die in worker", "it was killed, perhaps for want of memory"),
        ("exit in worker", "exit code 7"),
        ("too large in worker", "memory was short"),
    ],
)
def test_what_a_lost_worker_was_at_is_done_here(item, reason, tmp_path):
    items = ["until a worker is there", *[item] * 3, "a", "b"]
    found, said = shared(groups(*items), Act(note=tmp_path))
    assert found == [each.upper() for each in items]
    assert said == [
        f"A worker process ended at work on 1.wav ({reason}); another process does that and the "
        "rest."
    ]


def test_a_worker_that_cannot_begin_is_done_without(tmp_path):
    (tmp_path / "refuse").touch()
    found, said = shared(groups(*["wait"] * 8), Act(note=tmp_path))
    assert found == ["WAIT"] * 8
    assert said == [
        "A worker process could not begin (the model has changed); the work goes on without it."
    ]


def test_groups_are_not_made_far_ahead_of_what_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(sharing, "_AHEAD", 3)
    made = 0

    def many() -> Iterator[Group[str]]:
        nonlocal made
        yield Group(("until a worker is there",), 1.0, "first")
        for number in range(50):
            made = number
            yield Group((str(number),), 1.0, str(number))

    act = Act(note=tmp_path)
    found = share(many(), act, act, processes=2, at_once=True, say=print)
    assert next(found) == ["UNTIL A WORKER IS THERE"]
    time.sleep(0.5)  # the worker goes on, until it is three groups ahead
    assert made <= 6
    assert [part[0] for part in found] == [str(number) for number in range(50)]


def alive(place: Path) -> list[int]:
    """The workers that have left their number and are there."""
    numbers = [int(path.name.split("-")[1]) for path in place.glob("worker-*")]
    return [number for number in numbers if is_alive(number)]


def is_alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_leaving_the_iterator_ends_the_workers(tmp_path):
    act = Act(note=tmp_path)
    items = ["until a worker is there", *["hang in worker"] * 3]
    found = share(groups(*items), act, act, processes=2, at_once=True, say=print)
    next(found)
    found.close()
    assert list(tmp_path.glob("worker-*"))
    assert not alive(tmp_path)


SCRIPT = """
import signal
import sys
from pathlib import Path
from tests.test_workers import Act, groups
from speechssl.workers import share

if __name__ == "__main__":
    # Behind `&` a shell has it ignored, also of the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    act = Act(note=Path(sys.argv[1]))
    items = ["until a worker is there", *["hang"] * 4]
    try:
        for part in share(groups(*items), act, act, processes=3, at_once=True, say=print):
            print(part, flush=True)
    except KeyboardInterrupt:
        print("Interrupted.", flush=True)
        sys.exit(130)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_worker_outlives_this_process(number, tmp_path):
    """Killed; Ctrl-C, which goes to the whole group, as from a terminal; or told to end."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[1])
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": root},
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout
    assert "UNTIL" in parent.stdout.readline()
    until = time.monotonic() + 30
    while len(list(tmp_path.glob("worker-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(alive(tmp_path)) == 2
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)
    else:
        parent.send_signal(number)
    began = time.monotonic()
    out, err = parent.communicate(timeout=30)  # both pipes are closed when the last process ends
    assert not alive(tmp_path)
    assert time.monotonic() - began < 20
    if number == signal.SIGINT:
        assert (out, err, parent.returncode) == ("Interrupted.\n", "", 130)
    else:
        assert (err, parent.returncode) == ("", -number)
