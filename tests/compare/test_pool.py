"""Processes: as many as asked for, in order, each with one thread, ended together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speechssl.compare.jobs import DONE, LOG, Job
from speechssl.compare.pool import Pool

WORKS = "echo $OMP_NUM_THREADS >> {log}; echo '{{}}' > {done}"


def jobs(*names, after=None) -> list[Job]:
    after = after or {}
    return [Job(name, "pretrain", name, {}, after.get(name, ())) for name in names]


def pool(out, scripts, num=2) -> Pool:
    """Each job is a line of shell."""

    def command(place: Path, job: Job) -> list[str]:
        folder = job.folder(place)
        script = scripts.get(job.name, WORKS)
        return ["sh", "-c", script.format(log=place / "order", done=folder / DONE, out=place)]

    return Pool(out, num, command)


def test_jobs_run_with_one_thread_each_and_are_not_done_twice(tmp_path, capsys):
    given = jobs("a", "b", "c")
    assert pool(tmp_path, {}).run(given) == {}
    assert (tmp_path / "order").read_text() == "1\n" * 3
    assert pool(tmp_path, {}).run(given) == {}
    assert (tmp_path / "order").read_text() == "1\n" * 3
    assert "3 of 3 jobs are done already." in capsys.readouterr().err


def test_a_job_waits_for_those_that_it_needs(tmp_path):
    def said(name):
        return f"echo {name} >> {{log}}; echo '{{{{}}}}' > {{done}}"

    scripts = {"a": f"sleep 0.3; {said('a')}", "b": said("b"), "c": said("c")}
    assert pool(tmp_path, scripts, 3).run(jobs("b", "a", "c", after={"b": ("a",)})) == {}
    assert (tmp_path / "order").read_text().split() == ["c", "a", "b"]


def test_never_more_at_once_than_asked_for(tmp_path):
    script = "echo + >> {log}; sleep 0.15; echo - >> {log}; echo '{{}}' > {done}"
    assert pool(tmp_path, dict.fromkeys("abcd", script), 2).run(jobs(*"abcd")) == {}
    at_once, most = 0, 0
    for sign in (tmp_path / "order").read_text().split():
        at_once += 1 if sign == "+" else -1
        most = max(most, at_once)
    assert most == 2


def test_a_job_that_fails_is_named_and_the_others_go_on(tmp_path, capsys):
    scripts = {"a": "echo a line; echo 'speechssl: The disk is full.'; exit 1", "d": "kill -9 $$"}
    given = jobs("a", "b", "c", "d", after={"b": ("a",)})
    failed = pool(tmp_path, scripts).run(given)
    assert failed == {
        "a": "The disk is full.",
        "b": "not begun, as a failed.",
        "d": "ended by signal 9.",
    }
    assert (tmp_path / "c" / DONE).exists()
    said = capsys.readouterr().err
    assert f"a failed: The disk is full. See {tmp_path / 'a' / LOG}." in said
    assert pool(tmp_path, {}).run(given) == {}  # the next time they may do better


def test_a_job_that_says_done_and_has_done_nothing_has_failed(tmp_path):
    assert pool(tmp_path, {"a": "echo nothing; exit 0"}).run(jobs("a")) == {"a": "nothing"}


def test_time_left_follows_how_long_the_jobs_take(tmp_path):
    made = pool(tmp_path, {}, 2)
    made.waiting = [Job(name, "pretrain", name, {}, minutes=10.0) for name in "abcd"]
    assert made.minutes_left() == pytest.approx(20.0)
    made.spent = [(10.0, 30.0)]
    assert made.minutes_left() == pytest.approx(60.0)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from speechssl.compare.jobs import Job
from speechssl.compare.pool import Pool
script = "trap 'echo saved > {out}/saved; exit 0' TERM; echo on > {out}/on; "
script += "while :; do sleep 0.05; done"
Pool(Path({out!r}), 1, lambda *_: ["bash", "-c", script]).run([Job("a", "pretrain", "a", {{}})])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_comparison_stops_its_jobs(number, tmp_path):
    code = CHILD.format(root=os.getcwd(), out=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "on").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert (tmp_path / "saved").exists()
    assert "Stopping 1 jobs, which save their states" in said
    raised = {signal.SIGINT: "InterruptedRunError", signal.SIGTERM: "PreemptedRunError"}
    assert f"{raised[number]}: Stopped, the states of the jobs are saved." in said
