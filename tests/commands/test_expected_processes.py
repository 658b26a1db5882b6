"""Where several processes are asked for, they are prepared while the command imports its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from speechssl import system
from speechssl.commands.options import PRELOADED
from speechssl.inference.groups import ModelJob

LOOK = """
import json, sys
from argparse import Namespace
from speechssl.commands.options import expect_processes
from speechssl import system
{before}
expect_processes(Namespace({given}))
server = sys.modules.get("multiprocessing.forkserver")
begun = server is not None and server._forkserver._forkserver_pid is not None
print(json.dumps([begun, "torch" in sys.modules]))
"""


def looked(given: str, before: str = "") -> list[bool]:
    """Whether a server was begun, and whether torch was imported for that."""
    code = LOOK.format(given=given, before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: list[bool] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(system.worker_start_method() == "spawn", reason="workers are spawned here")
@pytest.mark.parametrize("given", ["processes=2", "processes=4, cluster=None"])
def test_a_server_begins_before_torch_is_imported(given: str) -> None:
    assert looked(given) == [True, False]


@pytest.mark.parametrize(
    "given", ["processes='auto'", "processes=1", "processes=2, cluster='local'"]
)
def test_no_server_where_none_may_be_needed(given: str) -> None:
    assert looked(given) == [False, False]


WAIT = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from argparse import Namespace
from speechssl.commands.options import expect_processes
expect_processes(Namespace(processes=2))
print("begun", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no groups of processes")
@pytest.mark.parametrize("delay_s", [0.0, 0.5, 1.5])
def test_ctrl_c_while_they_are_prepared(delay_s: float) -> None:
    """A terminal sends it to all of them: the server says nothing, and ends with the command."""
    with subprocess.Popen(
        [sys.executable, "-c", WAIT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(delay_s)
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60) == ("interrupted\n", "")


def test_no_server_where_workers_are_spawned() -> None:
    spawn = "system.worker_start_method = lambda: 'spawn'"
    assert looked("processes=2", spawn) == [False, False]


def test_what_is_prepared_is_what_workers_of_a_model_need() -> None:
    assert ModelJob.modules == (PRELOADED,)
