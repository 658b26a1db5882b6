"""What tests/test_cluster.py has done on one local cluster of two workers, in a process of its own:
``python cluster_jobs.py`` in a folder with recordings and a model. It writes found.json there."""

import contextlib
import io
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from speechssl.checkpoint import Checkpoint
from speechssl.cli import main
from speechssl.commands import progress
from speechssl.data.layouts import Recording
from speechssl.data.prepare import cache
from speechssl.data.prepare.inspection import Inspection
from speechssl.inference import groups, transcribe
from speechssl.workers import Cluster


def small_groups() -> None:
    """Groups of two seconds, so that a few short recordings are several; no line of progress, which
    depends on the machine's load."""
    usual = groups._groups
    groups._groups = lambda clips, items, _seconds, *rest: usual(clips, items, 2.0, *rest)
    progress.FIRST_S = float("inf")


@dataclass(frozen=True)
class KillsOnce(transcribe.TranscribeGroup):
    """Ends its own process in the middle of the first group with c.wav."""

    def __call__(self, checkpoint: Checkpoint):
        usual = super().__call__(checkpoint)

        def work(clips):
            Path(f"worker-{os.getpid()}").touch()
            if any(clip.name.endswith("c.wav") for clip in clips):
                with contextlib.suppress(FileExistsError):
                    Path("killed").touch(exist_ok=False)
                    os.kill(os.getpid(), signal.SIGKILL)
            return usual(clips)

        return work


@dataclass(frozen=True)
class Interrupts(cache.Inspecting):
    """Sends the command a Ctrl-C, and would then work for a minute."""

    command: int = os.getpid()

    def __call__(self, records: tuple[Recording, ...]) -> list[Inspection]:
        os.kill(self.command, signal.SIGINT)
        time.sleep(60)
        return super().__call__(records)


def run(*arguments: object) -> dict[str, object]:
    """Exit code, stdout and stderr of a command on the cluster, and the seconds it took."""
    out, err = io.StringIO(), io.StringIO()
    began = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments] + ["--cluster", "local", "--processes", "2"])
    took = time.monotonic() - began
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "seconds": took}


def open_to_others() -> list[str]:
    """Addresses other than the loopback one at which this process or one below it listens."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(place.read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(place.parent.name))
    below = [os.getpid()]
    for each in below:
        below += children.get(each, [])
    sockets = set()
    for number in below:
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{number}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(os.readlink(file))
    found = []
    for kind in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            address = fields[1].rsplit(":", 1)[0]
            listens = fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
            if listens and not address.endswith("0100007F"):
                found.append(fields[1])
    return found


def everything() -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where a shell began the tests
    small_groups()
    found: dict[str, object] = {}
    names = json.loads(Path("names.json").read_text())
    with Cluster("local", 2) as cluster:
        transcribe.TranscribeGroup = KillsOnce
        transcript = ("transcribe", "model", *names, "--format", "json", "--out", "texts")
        found["transcribe"] = run(*transcript, "--skip-existing")
        found["workers"] = len(list(Path().glob("worker-*")))
        found["open"] = open_to_others() if sys.platform == "linux" else []
        found["prepare"] = run("prepare", "recordings", "--out", "data")
        cache.Inspecting = Interrupts
        found["interrupt"] = run("prepare", "recordings", "--out", "interrupted")
        found["connected"] = cluster._ray.is_initialized()
    Path("found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    everything()
