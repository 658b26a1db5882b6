"""The main jobs where what only Linux or POSIX has is not there: fresh interpreters that begin with
tests/other_system/sitecustomize.py, by the real command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.data.manifest import read_manifest
from speechssl.rng import rng

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "other_system"), str(ROOT)]),
    "PYTHONIOENCODING": "cp1252",
    "PYTHONUTF8": "0",
    "OMP_NUM_THREADS": "1",
}


def python(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        check=False,
        **options,
    )


def speechssl(*arguments: object) -> str:
    """What a command prints; it ends with 0."""
    done = python("-m", "speechssl", *map(str, arguments))
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


CHAIN = """
import json, sys
from speechssl.cli import main
if __name__ == "__main__":
    for line in sys.stdin:
        print("code", main(json.loads(line)), flush=True)
"""


def chain(folder: Path, *commands: list[object]) -> str:
    """What several commands print, one after the other in one process; each ends with 0."""
    (folder / "chain.py").write_text(CHAIN, encoding="utf-8")
    lines = [json.dumps([str(part) for part in command]) + "\n" for command in commands]
    done = python(str(folder / "chain.py"), input="".join(lines))
    assert done.stdout.count("code 0\n") == len(commands), done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_other_system_is_one():
    """What is taken away is not there for our code, nor what Windows refuses."""
    code = """
import os, pathlib, signal, subprocess, sys, tempfile
import sitecustomize
sys.modules["__main__"].__name__ = "speechssl.trial"  # our code
def refused(error, call, *given):
    try:
        call(*given)
    except error:
        return True
missing = [name for module, names in sitecustomize.MISSING.items() for name in names]
assert not any(hasattr(os, name) or hasattr(signal, name) for name in missing)
assert refused(ImportError, __import__, "fcntl") and refused(ImportError, __import__, "pwd")
assert refused(FileNotFoundError, open, "/proc/self/maps")
assert refused(FileNotFoundError, pathlib.Path("/proc/meminfo").read_text)
assert not pathlib.Path("/sys/fs").exists()
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "a").mkdir()
file = open(folder / "a" / "b", "w")
file.write("é\\n"); file.flush()
assert (folder / "a" / "b").read_bytes() == b"\\xe9\\r\\n"
for call in (os.replace, os.rename):
    assert refused(PermissionError, call, folder / "a" / "b", folder / "c")
    assert refused(PermissionError, call, folder / "a", folder / "d")
assert refused(PermissionError, (folder / "a" / "b").unlink)
file.close()
os.replace(folder / "a" / "b", folder / "c")
print("taken away")
"""
    done = python("-c", code)
    assert done.stdout == "taken away\n", done.stderr


SMALL = (
    *("--model.encoder.num-filters", 8, "--model.context.dim", 16, "--model.context.num-layers", 2),
    *("--model.context.local-layers", 1, "--model.context.num-heads", 2, "--precision", "fp32"),
    *("--model.context.ffn-dim=32", "--masked-units.num-units", 4, "--seed", 5),
)
"""Settings that make a run of milliseconds."""
WORDS = ("abc", "bca", "çab", "aβc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Recordings of noise and a table of their transcripts."""
    made = tmp_path_factory.mktemp("elsewhere")
    (made / "speech").mkdir()
    lines = ["path\tsentence\tclient_id"]
    for index in range(12):
        wave = rng(0, "noise", index).uniform(-0.5, 0.5, 16000).astype(np.float32)
        audio.write(made / "speech" / f"é{index}.wav", wave, 16000)
        lines.append(f"é{index}.wav\t{WORDS[index % 4]}\ts{index % 4}")
    (made / "speech" / "all.tsv").write_bytes(
        "\r\n".join(["\ufeff" + lines[0], *lines[1:]]).encode()
    )
    return made


@pytest.fixture(scope="module")
def data(folder) -> Path:
    """What `prepare` makes of them."""
    speechssl("prepare", folder / "speech", "--out", folder / "data")
    return folder / "data"


def pretraining(data: Path, out: Path, steps: int, workers: int) -> list[object]:
    every = ("--checkpoint-every", 2, "--loop.num-validations", 1, "--loop.num-workers", workers)
    manifests = ("--train", data / "train.jsonl", "--valid", data / "dev.jsonl", "--out", out)
    return ["pretrain", *manifests, *every, *SMALL, "--max-steps", steps]


@pytest.fixture(scope="module")
def pretrained(data, folder) -> Path:
    """Four updates with a loader's process."""
    assert "Best model" in speechssl(*pretraining(data, folder / "first", 4, 1))
    return folder / "first"


def numbers(run: Path) -> tuple[list[float], bytes]:
    """The losses of a run's validations, and its weights."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [r["valid/loss"] for r in map(json.loads, lines) if "valid/loss" in r]
    assert losses
    return losses, (run / "model" / "model.safetensors").read_bytes()


def test_prepare_reads_and_writes_the_same_text(data, folder):
    raw = (data / "train.jsonl").read_bytes()
    assert b"\r" not in raw
    read = [u for name in ("train", "dev", "test") for u in read_manifest(data / f"{name}.jsonl")]
    assert {u.text for u in read} == set(WORDS)
    assert {u.audio for u in read} <= set((folder / "speech").iterdir())


@pytest.mark.slow
def test_pretraining_with_spawned_workers_gives_the_same_numbers(data, pretrained, tmp_path):
    command = [str(part) for part in pretraining(data, tmp_path / "here", 4, 0)]
    here = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}  # with all that this system has
    subprocess.run([sys.executable, "-m", "speechssl", *command], env=here, check=True)
    assert numbers(pretrained) == numbers(tmp_path / "here")


@pytest.mark.slow
def test_the_other_commands(data, pretrained, folder):
    """Continuing after a kill, fine-tuning, transcribing, scoring, features, report, doctor, and
    the plan of a comparison."""
    before = numbers(pretrained)
    newest = max((pretrained / "checkpoints").iterdir())
    newest.rename(folder / "gone")
    tuned, speech = folder / "tuned", folder / "speech"
    manifests = ["--train", data / "train.jsonl", "--valid", data / "dev.jsonl"]
    short = ["--max-steps", 2, "--loop.num-validations", 1, "--precision", "fp32"]
    race = ["--test", data / "test.jsonl", "--tasks", "masked_units", "--labels", 0.05]
    race += ["--minutes", 0.2, "--seeds", 0]
    said = chain(
        folder,
        pretraining(data, pretrained, 4, 1),
        ["finetune", "--init", pretrained, *manifests, *short, "--out", tuned],
        ["transcribe", tuned, speech, "--format", "json", "--out", folder / "text"],
        ["evaluate", tuned, data / "test.jsonl", "--out", folder / "scores.json"],
        ["extract", tuned, speech, "--layer", 1, "--out", folder / "features"],
        ["doctor", pretrained],
        ["doctor"],
        ["report", pretrained, tuned],
        ["compare", *manifests, *race, "--out", folder / "race", "--dry-run"],
    )
    assert numbers(pretrained) == before
    assert newest.is_dir()
    assert {path.stem for path in (folder / "text").iterdir()} == {f"é{i}" for i in range(12)}
    for path in (folder / "text").iterdir():
        assert b"\r" not in path.read_bytes()
        json.loads(path.read_text(encoding="utf-8"))
    assert json.loads((folder / "scores.json").read_text(encoding="utf-8"))["num_utterances"] > 0
    assert np.load(folder / "features" / "é3.npy").dtype == np.float32
    assert "the system does not say" in said  # how much memory there is
    assert (pretrained / "report.html").exists() or "report.html" in said
