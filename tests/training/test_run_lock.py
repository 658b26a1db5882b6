"""The lock of a run's folder names the process that has it."""

import os
import socket
import subprocess
import sys

import pytest

from speechssl.training import runfolder

HOLD = """
import sys, time
from pathlib import Path
from speechssl.training.runfolder import run_lock
with run_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_who_is_at_work_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(runfolder, "_WAIT_S", 0.1)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline().strip() == b"locked"
    with (
        pytest.raises(runfolder.BusyRunError) as error,
        runfolder.run_lock(tmp_path),
    ):
        raise AssertionError("it is not free")
    said = str(error.value)
    assert f"at work in {tmp_path}: process {holder.pid} on {socket.gethostname()}, since " in said
    assert said.endswith(". Wait for its end or stop it, or give another --out.")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with runfolder.run_lock(tmp_path):
        held = (tmp_path / ".lock").read_text(encoding="utf-8")
    assert held.startswith(f"process {os.getpid()} on ")
    assert held.count("\n") == 1  # the last one alone


@pytest.mark.parametrize("left", ["", "\n"])
def test_a_lock_without_a_name(left, tmp_path, monkeypatch):
    """Of an earlier version, which wrote nothing into it."""
    monkeypatch.setattr(runfolder, "_WAIT_S", 0.0)
    monkeypatch.setattr(runfolder, "try_lock", lambda _: False)
    (tmp_path / ".lock").write_text(left, encoding="utf-8")
    with pytest.raises(runfolder.BusyRunError, match="its process is not known"):
        runfolder.run_lock(tmp_path).__enter__()
