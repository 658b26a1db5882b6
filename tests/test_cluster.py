"""Groups shared with the workers of a Ray cluster: the same bytes as on one machine."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from speechssl.audio import AudioError
from speechssl.cli import main
from speechssl.commands import progress
from speechssl.inference import groups
from speechssl.workers import Cluster, Group, cluster_connection
from speechssl.workers.cluster import check_missing
from speechssl.workers.cluster_connection import checked_address
from speechssl.workers.cluster_worker import (
    MOST_ATTEMPTS,
    Answer,
    Attempts,
    ClusterWorker,
    versions,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, record, tiny_models, monkeypatch) -> Path:
    """Recordings of several lengths, two of one name, a broken one, an empty one and one cut off; a
    model; and the transcripts of the first three, from a command that did not go further."""
    (tmp_path / "recordings" / "sub").mkdir(parents=True)
    lengths = {"a": 0.7, "b": 2.3, "c": 1.9, "d": 0.4, "e": 3.1, "f": 1.2, "sub/a": 1.5}
    for name, seconds in lengths.items():
        record(f"recordings/{name}.wav", seconds)
    whole = record("recordings/cut.wav", 2.0).read_bytes()
    (tmp_path / "recordings" / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "recordings" / "broken.wav").write_bytes(b"RIFF this is no sound at all")
    (tmp_path / "recordings" / "empty.wav").write_bytes(b"")
    (tmp_path / "model").symlink_to(tiny_models["ctc"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "FIRST_S", float("inf"))
    usual = groups._groups
    monkeypatch.setattr(groups, "_groups", lambda a, b, _, *rest: usual(a, b, 2.0, *rest))
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.distributed
@pytest.mark.extras
def test_a_local_cluster_gives_what_one_machine_gives(folder, capfd):
    """Of two workers, one of which is killed in the middle of a transcription that goes on where
    another one ended; of a preparation; and Ctrl-C ends a command once and for all."""
    if find_spec("ray") is None:  # an import would leave threads in this process
        pytest.skip("Ray is not installed")
    order = ("f", "b", "d", "broken", "a", "c", "empty", "sub/a", "cut", "e")
    names = [f"recordings/{name}.wav" for name in order]
    (folder / "names.json").write_text(json.dumps(names))
    first = ["transcribe", "model", *names[:3], "--format", "json", "--out", "texts"]
    assert main([*first, "--skip-existing", "--processes", "1"]) == 0
    capfd.readouterr()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    jobs = [sys.executable, str(ROOT / "tests" / "cluster_jobs.py")]
    done = subprocess.run(jobs, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""  # nothing of Ray's own
    found = json.loads((folder / "found.json").read_text())
    texts, data = files(folder / "texts"), files(folder / "data")

    for name in ("texts", "data"):
        (folder / name).rename(folder / f"cluster-{name}")
    assert main([*first, "--skip-existing", "--processes", "1"]) == 0
    capfd.readouterr()
    whole = ["transcribe", "model", *names, "--format", "json", "--out", "texts", "--skip-existing"]
    code = main([*whole, "--processes", "1"])
    said = capfd.readouterr()
    ran = found["transcribe"]
    lost = "speechssl: A worker of the cluster ended at work on recordings/c.wav"
    others = [line for line in ran["err"].splitlines() if not line.startswith(lost)]
    assert (ran["code"], ran["out"], others) == (code, said.out, said.err.splitlines())
    assert "3 of 10 recordings are transcribed already." in said.err
    assert "2 of 10 recordings could not be read." in said.err
    assert code == 1
    assert texts == files(folder / "texts")
    assert len({json.loads(text)["text"] for name, text in texts.items() if "done" not in name}) > 4
    assert sum(line.startswith(lost) for line in ran["err"].splitlines()) == 1
    assert found["workers"] == 3  # one took the killed one's place
    assert found["open"] == []

    code = main(["prepare", "recordings", "--out", "data", "--processes", "1"])
    said, ran = capfd.readouterr(), found["prepare"]
    assert (ran["code"], ran["out"], ran["err"]) == (code, said.out, said.err)
    assert data == files(folder / "data")
    assert {"train.jsonl", "dropped.jsonl", "summary.json", "probe_cache.jsonl"} <= set(data)

    assert found["interrupt"]["code"] == 130
    assert found["interrupt"]["err"] == "speechssl: Interrupted.\n"
    assert found["interrupt"]["seconds"] < 50
    assert found["connected"]  # to the cluster that was there before


def upper(items: tuple[str, ...]) -> list[str]:
    return [item.upper() for item in items]


@dataclass(frozen=True)
class Uppers:
    fails: bool = False

    def start(self) -> Callable[[tuple[str, ...]], list[str]]:
        if self.fails:
            raise ValueError("the model has changed")
        return self

    def __call__(self, items: tuple[str, ...]) -> list[str]:
        if items == ("unreadable",):
            raise AudioError("it is no sound.")
        if items == ("too large",):
            raise MemoryError
        return upper(items)


@dataclass(frozen=True)
class Near:
    """What :class:`RemoteAttempts` is to a worker."""

    attempts: Attempts
    job: int = 1

    def begin(self, number: int) -> int:
        return self.attempts.begin(self.job, number)

    def end(self, number: int) -> None:
        self.attempts.end(self.job, number)


def worker(attempts: Attempts | None = None, fails: bool = False, **theirs: str) -> ClusterWorker:
    begin = pickle.dumps(Uppers(fails)), os.getcwd(), 1, versions() | theirs
    return ClusterWorker(*begin, Near(attempts or Attempts()))


def asked(given: ClusterWorker, number: int, *items: str) -> Answer:
    return pickle.loads(given({"number": number, "items": pickle.dumps(items)})["answer"])


def shared(answers: list[Answer], *items: str) -> tuple[list[list[str]], list[str]]:
    """What a cluster makes of answers that come in this order, and what it says."""

    class Answering(Cluster):
        def _answers(self, *_):
            yield from answers

    said: list[str] = []
    groups = [Group((item,), 1.0, f"{item}.wav") for item in items]
    found = Answering().share(groups, upper, Uppers(), say=said.append)
    return list(found), said


def test_results_are_in_the_order_of_the_groups_whenever_they_come():
    given = worker()
    answers = [asked(given, number, item) for number, item in ((2, "c"), (0, "a"), (1, "b"))]
    assert shared(answers, "a", "b", "c") == ([["A"], ["B"], ["C"]], [])


def test_an_error_of_the_work_is_raised_in_its_place():
    given = worker()
    answers = [asked(given, 1, "unreadable"), asked(given, 0, "a")]
    with pytest.raises(AudioError, match="it is no sound") as raised:
        shared(answers, "a", "unreadable")
    assert "In a worker" in raised.value.__notes__[0]


def test_who_ended_a_worker_is_named_and_whoever_ends_many_is_done_here():
    attempts = Attempts()
    for _ in range(MOST_ATTEMPTS):
        attempts.begin(1, 1)  # and never an end
    attempts.begin(1, 0)
    answers = [asked(worker(attempts), number, "ab"[number]) for number in (0, 1)]
    assert answers[1].outcome.is_for_others
    assert shared(answers, "a", "b") == (
        [["A"], ["B"]],
        [
            "A worker of the cluster ended at work on a.wav; another one does it.",
            "3 workers of the cluster ended at work on b.wav; this process does it.",
        ],
    )
    assert asked(worker(attempts), 0, "a").attempt == 1  # that was done


def test_what_is_too_large_for_a_worker_is_done_here():
    answers = [asked(worker(), 0, "too large")]
    sentence = "A worker of the cluster was short of memory at work on too large.wav; this process"
    assert shared(answers, "too large") == ([["TOO LARGE"]], [f"{sentence} does it."])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"fails": True}, "the model has changed"),
        ({"speechssl": "0.0.1"}, f"it has speechssl {versions()['speechssl']}, and the command 0"),
        ({"torch": "1.0"}, f"it has torch {versions()['torch']}, and the command 1.0: install"),
    ],
)
def test_a_worker_that_cannot_begin_says_where_and_why(given, reason):
    answer = asked(worker(**given), 0, "a")
    with pytest.raises(ValueError, match="cannot begin") as raised:
        shared([answer], "a")
    assert f"The worker on {answer.host} cannot begin: {reason}" in str(raised.value)


def test_a_group_that_is_lost_is_no_success():
    with pytest.raises(RuntimeError, match="has lost 1 groups of work"):
        shared([asked(worker(), 0, "a")], "a", "b")


def test_a_worker_finds_paths_as_the_command_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = worker()
    monkeypatch.chdir("/")
    asked(given, 0, "a")
    assert os.getcwd() == str(tmp_path)


@pytest.mark.parametrize(
    ("asked_for", "nodes", "cpus", "gpus", "room"),
    [
        ("auto", [{"CPU": 4.0}, {"CPU": 3.0}], 1, 0, (7, 1)),
        ("auto", [{"CPU": 4.0}, {"CPU": 3.0}], 2, 0, (3, 2)),
        ("auto", [{"CPU": 2.0}], 8, 0, (1, 2)),  # no machine has eight
        (2, [{"CPU": 1.0}], 1, 0, (2, 1)),  # the second one waits for a machine
        ("auto", [{"CPU": 64.0}], 1, 0, (9, 1)),  # no more than there are groups
        ("auto", [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}], 4, 1, (2, 4)),
        ("auto", [{}], 1, 0, (1, 1)),
    ],
)
def test_how_many_workers(asked_for, nodes, cpus, gpus, room):
    class Nodes:
        def nodes(self):
            gone = {"Alive": False, "Resources": {"CPU": 100.0}}
            return [gone, *({"Alive": True, "Resources": each} for each in nodes)]

    cluster = Cluster("auto", asked_for)
    cluster._ray = Nodes()
    assert cluster._room(9, cpus, gpus) == room
    cluster.workers = "auto"
    with pytest.raises(ValueError, match="has a GPU and the cluster has none"):
        cluster._room(9, cpus, 3)


def test_a_recording_that_only_this_machine_has_is_no_missing_recording(tmp_path):
    check_missing(tmp_path / "gone.wav")
    (tmp_path / "here.wav").touch()
    with pytest.raises(ValueError, match="where all machines see them, under one path"):
        check_missing(tmp_path / "here.wav")


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.1:6379", "[::1]:6379", "head:6379"])
def test_addresses(address):
    assert checked_address(address) == address


@pytest.mark.parametrize(
    "address", ["", "2", "head", "head:", ":6379", "ray://head:10001", "a/b:1"]
)
def test_what_is_no_address(address, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["prepare", "x", "--out", "y", f"--cluster={address}"])
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert f"must be local, auto or HOST:PORT, got '{address}'" in said
    assert ("a Ray Client" in said) == address.startswith("ray:")


def test_standard_input_is_not_on_the_cluster(tiny_models, capfd):
    model = str(tiny_models["ctc"])
    assert main(["transcribe", model, "-", "--cluster", "local"]) == 2
    assert "Standard input is on this machine only" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("ray", "The package ray is missing: pip install 'speechssl[ray]'."),
        ("pyarrow", "--cluster needs Ray Data (No module named 'pyarrow'): pip install 'speechssl"),
    ],
)
def test_without_ray_the_extra_is_named(missing, sentence, monkeypatch, tmp_path, capfd, record):
    class Missing:
        def find_spec(self, name, *_):
            if name == "ray":
                raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    record("a.wav", 1.0)
    arguments = ["prepare", str(tmp_path), "--out", str(tmp_path / "out"), "--cluster", "local"]
    assert main(arguments) == 2
    assert capfd.readouterr().err.startswith(f"speechssl: {sentence}")


def test_nobody_at_an_address():
    with pytest.raises(ValueError, match=r"Nobody answers at 127.0.0.1:1 .*`ray start`"):
        cluster_connection._reach("127.0.0.1:1")
