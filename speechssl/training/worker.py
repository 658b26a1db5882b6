"""One of the further processes of a training: started by :mod:`.team`, fed through its standard
input, gone when that ends.

The process that started it holds the other end of that pipe. However it ends, SIGKILL included,
the system closes the pipe, and this process ends too. Signals are for the first process: a stop
that was asked of it reaches the others with the next update.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from typing import Any, NoReturn, TextIO

from speechssl.system import preemption_signals

READY, FAILED = "ready", "failed"
"""What it tells the first process, a JSON object a line, on its standard output."""


def main() -> NoReturn:
    """Read where this process stands and what it is to do, do it, and end."""
    for number in (signal.SIGINT, *preemption_signals()):  # the first process gets them
        signal.signal(number, signal.SIG_IGN)
    tell = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # whatever a library prints is no message
    source = sys.stdin.buffer
    place = json.loads(source.readline() or b"null")
    data = source.read(place["bytes"]) if place else b""
    if not place or len(data) < place["bytes"]:
        os._exit(1)
    # In a thread: the first one waits for the pipe to end, and no handler of a signal is set.
    threading.Thread(target=_work, args=(place, data, tell), daemon=True).start()
    source.read()
    os._exit(1)


def _work(place: dict[str, int], data: bytes, tell: TextIO) -> None:
    code = 1
    try:
        _take_part(place, data, tell)
        code = 0
    except BaseException as error:
        traceback.print_exc()
        _say(tell, {FAILED: _sentence(error)})
    finally:
        sys.stderr.flush()
        os._exit(code)  # the threads of a group that has lost a member may not let it end


def _take_part(place: dict[str, int], data: bytes, tell: TextIO) -> None:
    import pickle

    from speechssl.device import keep_freed_memory
    from speechssl.training.job import open_store

    keep_freed_memory()
    job = pickle.loads(data)  # of the process that started this one
    store = open_store(place["port"], is_first=False)
    _say(tell, {READY: True})
    job.follow_orders(place["rank"], store)


def _say(tell: TextIO, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody is there any more
        tell.write(json.dumps(message) + "\n")
        tell.flush()


def _sentence(error: BaseException) -> str:
    """One line for the person."""
    text = " ".join(str(error).split())
    ours = type(error).__module__.startswith("speechssl") or isinstance(
        error, (ValueError, OSError)
    )
    return text if ours and text else f"{type(error).__name__}: {text}"
