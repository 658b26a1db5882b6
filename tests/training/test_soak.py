"""benchmarks/soak.py: what it says of memory, files and processes."""

import os
import sys

import pytest

from benchmarks.soak import WARM_UP_S, Life, Memory, files, resident, slope, table


def life(height: float, mib_per_h: float, until_s: int) -> Life:
    """A process that takes much in its first minute, then grows by a line."""
    ages = range(until_s)
    held = [height + mib_per_h * age / 3600 - 500 * (age < WARM_UP_S) for age in ages]
    memory = [Memory(float(age), h, 0.0, 0.0, 0.0) for age, h in zip(ages, held, strict=True)]
    return Life(False, float(until_s), 1, 0, memory, frozenset())


def test_growth_is_within_processes_and_after_their_first_minute():
    lives = [life(300, 12, 200), life(900, 12, 400), life(100, 12, 65)]
    assert slope(lives, "main_rss") == pytest.approx(12)
    assert slope(lives[2:], "main_rss") is None  # too young
    assert slope(lives, "loader_rss") is None  # there was none


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_is_gone_holds_nothing():
    rss, anonymous = resident(os.getpid())
    assert rss > anonymous > 1
    child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", ""])
    os.waitpid(child, 0)
    assert resident(child) is None


def test_files_and_table(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "x").write_text("")
    assert files(tmp_path) == {"best/x"}
    assert (
        table({"updates": 3, "same": {"metrics": True}}) == "updates        3\nsame: metrics  True"
    )
