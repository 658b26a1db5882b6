"""Where several processes are asked for, they are prepared while the command imports its own."""

import json
import subprocess
import sys

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


def test_no_server_where_workers_are_spawned() -> None:
    spawn = "system.worker_start_method = lambda: 'spawn'"
    assert looked("processes=2", spawn) == [False, False]


def test_what_is_prepared_is_what_workers_of_a_model_need() -> None:
    assert ModelJob.modules == (PRELOADED,)
