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
from speechssl.workers import Cluster, Group
from speechssl.workers.cluster import (
    MOST_ATTEMPTS,
    Answer,
    Attempts,
    ClusterWorker,
    check_missing,
    versions,
)
from speechssl.workers.process import Outcome

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
