"""The command: help, exit codes, what is printed and written."""

import errno
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechssl import __version__, audio, cli, extract, load, transcribe
from speechssl.cli import main
from speechssl.commands import options, pretrain
from speechssl.data.manifest import Utterance, write_manifest

COMMANDS = (
    "demo",
    "run",
    "prepare",
    "pretrain",
    "finetune",
    "selftrain",
    "evaluate",
    "check",
    "transcribe",
    "extract",
)
COMMANDS += ("find", "lm", "probe", "report", "doctor")


def run(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as stop:  # argparse
        return int(stop.code or 0)


@pytest.fixture
def fails(capsys):
    """``fails(2, "transcribe", ...)``: the one sentence on stderr."""

    def check(code: int, *arguments: object) -> str:
        assert run(*arguments) == code
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return str(err.splitlines()[-1])

    return check


# ---- help and options ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_quick(command):
    """No import that takes long: neither torch, nor NumPy."""
    code = (
        "import sys, speechssl.cli as c\n"
        "try: c.main(sys.argv[1:])\n"
        "finally: print(sorted({'torch', 'numpy', 'soundfile'} & set(sys.modules)))"
    )
    arguments = [*filter(None, [command]), "--help"]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    elapsed_s = time.monotonic() - began
    assert done.returncode == 0
    *shown, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert elapsed_s < 0.5 * 4  # a shared machine may be four times as slow
    if command:
        assert any("Example:" in line for line in shown)
        assert shown[0].startswith(f"usage: speechssl {command}")
    else:
        assert all(any(name in line for line in shown) for name in COMMANDS)


def test_the_choices_are_those_that_exist():
    from speechssl.inference.writers import WRITERS
    from speechssl.model.config import SIZES

    assert tuple(SIZES) == options.SIZES
    assert tuple(WRITERS) == options.FORMATS


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_version(flag, capsys):
    assert run(flag) == 0
    assert capsys.readouterr().out == f"speechssl {__version__}\n"


def test_wrong_arguments_are_a_sentence(fails):
    assert "COMMAND" in fails(2)
    assert "invalid choice: 'fly'" in fails(2, "fly")
    assert "--out" in fails(2, "prepare", "folder")
    assert "unknown arguments: --no" in fails(2, "transcribe", "m", "a.wav", "--no")
    line = fails(2, "transcribe", "m", "a.wav", "--format", "pdf")
    assert line.startswith("speechssl transcribe: argument --format")


@pytest.mark.parametrize("place", [0, 1, -1])
def test_debug_shows_the_traceback_wherever_it_stands(place, capsys):
    arguments = ["report", "gone"]
    arguments.insert(place if place >= 0 else len(arguments), "--debug")
    assert run(*arguments) != 0
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("Too\nlong."), 2, "Too long."),
        (FileNotFoundError("No such file: x."), 2, "No such file: x."),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "x: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device."),
        (
            ModuleNotFoundError("No module named 'espeakng_loader'", name="espeakng_loader"),
            2,
            "The package espeakng_loader is missing: pip install 'speechssl[demo]'.",
        ),
        (RuntimeError("shapes"), 1, "RuntimeError: shapes (--debug shows where)."),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_exit_codes(error, code, line, monkeypatch, fails):
    def broken(*_: object) -> int:
        raise error

    fake = types.SimpleNamespace(demo=broken)
    monkeypatch.setitem(sys.modules, "speechssl.experiment", fake)
    assert fails(code, "demo") == f"speechssl: {line}"


def test_training_that_stops_or_breaks(monkeypatch, fails):
    from speechssl.training.loop import (
        InterruptedRunError,
        NonFiniteLossError,
        PreemptedRunError,
    )

    codes = {InterruptedRunError: 130, PreemptedRunError: 0, NonFiniteLossError: 1}
    for kind, code in codes.items():
        error = kind("Stopped.")

        def broken(*_: object, error: Exception = error) -> int:
            raise error

        monkeypatch.setitem(sys.modules, "speechssl.experiment", types.SimpleNamespace(demo=broken))
        assert fails(code, "demo") == f"speechssl: {error}"


def test_demo_and_run_are_passed_on(monkeypatch, tmp_path):
    calls: list[tuple[object, ...]] = []
    fake = types.SimpleNamespace(
        demo=lambda *a: calls.append(a) or 0, run_folder=lambda *a: calls.append(a) or 0
    )
    monkeypatch.setitem(sys.modules, "speechssl.experiment", fake)
    assert run("demo", "--out", tmp_path, "--minutes", "2") == 0
    assert run("run", "f", "--transcripts", "t.tsv", "--out", "o", "--size", "small") == 0
    assert run("demo", "--out", tmp_path, "--minutes", "3", "--processes", "1") == 0
    assert run("demo", "--out", tmp_path, "--init", "scratch") == 0
    assert run("run", "f", "--transcripts", "t.tsv", "--out", "o", "--init", "facebook/x") == 0
    assert calls == [
        (tmp_path, 2.0, "auto", None),
        (Path("f"), Path("t.tsv"), Path("o"), 60.0, "small", "auto", None, []),
        (tmp_path, 3.0, 1, None),
        (tmp_path, 9.0, "auto", "scratch"),
        (Path("f"), Path("t.tsv"), Path("o"), 60.0, None, "auto", "facebook/x", []),
    ]


# ---- transcribe ---------------------------------------------------------------------------------


def test_text_on_stdout(tiny_models, record, capsys):
    path = record("a.wav", 1.0)
    text = transcribe(load(tiny_models["ctc"]), path).text
    assert run("transcribe", tiny_models["ctc"], path) == 0
    assert capsys.readouterr().out == text + "\n"
    assert run("transcribe", tiny_models["ctc"], path, path) == 0
    assert capsys.readouterr().out == f"{path}\t{text}\n" * 2


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_standard_input(name, tiny_models, record, capsys, monkeypatch):
    audio.write(path := record("a.wav", 1.0).with_name(name), 0.1 * np.ones(16000), 16000, None)
    stdin = types.SimpleNamespace(buffer=io.BytesIO(path.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run("transcribe", tiny_models["ctc"], "-", "--format", "json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["audio"] == "-"
    assert data["text"] == transcribe(load(tiny_models["ctc"]), path).text


def test_nothing_on_standard_input(tiny_models, fails, monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO()))
    line = fails(2, "transcribe", tiny_models["ctc"], "-")
    assert line.startswith("speechssl: standard input cannot be opened as sound")


@pytest.mark.parametrize("fmt", options.FORMATS)
def test_a_file_for_each_recording(fmt, tiny_models, record, tmp_path, capsys):
    record("in/a.wav", 0.5)
    record("in/sub/b.wav", 0.7)
    out = tmp_path / "new" / "out"
    assert (
        run("transcribe", tiny_models["ctc"], tmp_path / "in", "--format", fmt, "--out", out) == 0
    )
    assert capsys.readouterr().out == ""
    made = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    ending = options.suffix_of(fmt)
    assert made == [f"a.{ending}", f"sub/b.{ending}"]
    assert all((out / name).read_text(encoding="utf-8").strip() for name in made)


def test_several_recordings_on_stdout(tiny_models, record, capsys, fails):
    paths = [record("a.wav", 0.5), record("b.wav", 0.7)]
    assert run("transcribe", tiny_models["ctc"], *paths, "--format", "tsv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("audio\t")
    assert {line.split("\t")[0] for line in lines[1:]} == {str(p) for p in paths}
    assert run("transcribe", tiny_models["ctc"], *paths, "--format", "json") == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [o["audio"] for o in objects] == [str(p) for p in paths]
    line = fails(2, "transcribe", tiny_models["ctc"], *paths, "--format", "srt")
    assert "2 recordings cannot be in one srt: give --out DIR" in line


def test_narrow_recordings_are_reported(tiny_models, tmp_path, capsys):
    noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    for rate, shown in ((8000, True), (16000, False)):
        audio.write(tmp_path / "a.wav", 0.1 * noise, rate)
        assert run("transcribe", tiny_models["ctc"], tmp_path / "a.wav") == 0
        assert ("1 of 1 recordings (the first: " in capsys.readouterr().err) == shown
    silence = np.zeros(17 * 8000, np.float32)
    audio.write(tmp_path / "a.wav", np.concatenate([silence, 0.1 * noise]), 8000)
    assert run("transcribe", tiny_models["ctc"], tmp_path / "a.wav", "--format", "json") == 0
    assert "1 of 1 recordings (the first: " in capsys.readouterr().err


def test_one_bad_recording_among_many(tiny_models, record, tmp_path, capsys):
    good, bad = record("a.wav", 0.5), tmp_path / "b.wav"
    bad.write_text("I am not sound.")
    assert run("transcribe", tiny_models["ctc"], bad, good) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{good}\t")
    assert f"{bad} cannot be opened as sound" in err
    assert err.splitlines()[-1] == "speechssl: 1 of 2 recordings could not be read."


def test_only_bad_recordings(tiny_models, fails, tmp_path):
    audio.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16000)
    line = fails(2, "transcribe", tiny_models["ctc"], tmp_path / "empty.wav")
    assert line == f"speechssl: {tmp_path / 'empty.wav'} holds no samples."


def test_what_is_missing_is_said_before_any_work(tiny_models, record, fails, tmp_path):
    path = record("a.wav", 0.5)
    line = fails(2, "transcribe", tiny_models["ctc"], path, "gone.wav")
    assert line == "speechssl: No such recording or folder: gone.wav."
    (tmp_path / "nothing").mkdir()
    line = fails(2, "transcribe", tiny_models["ctc"], tmp_path / "nothing")
    assert "There is no recording in the folder" in line


@pytest.mark.parametrize("command", ["transcribe", "extract"])
def test_models_that_are_not_whole(command, tiny_models, record, tmp_path, fails):
    path = record("a.wav", 0.5)
    out = ("--out", tmp_path / "out")
    assert "There is no model folder gone" in fails(2, command, "gone", path, *out)
    model = tmp_path / "model"
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        for damage in (Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:40])):
            shutil.rmtree(model, ignore_errors=True)
            shutil.copytree(tiny_models["ctc"], model)
            damage(model / name)
            assert str(model) in fails(2, command, model, path, *out), (name, damage)


def test_a_model_that_was_only_pretrained(tiny_models, record, fails):
    line = fails(2, "transcribe", tiny_models["speech"], record("a.wav", 0.5))
    assert "has no transcription head: it was pretrained but not fine-tuned" in line


def test_a_closed_pipe_is_no_error(tiny_models, record):
    """``| head`` closes the pipe; no traceback, no "Exception ignored"."""
    read, write = os.pipe()
    os.close(read)
    commands = (
        ["transcribe", str(tiny_models["ctc"]), str(record("a.wav", 0.5))],
        ["pretrain", "--help-all", "teacher"],  # printed before the command begins
        ["pretrain", "--help-all"],  # more than a buffer
        ["transcribe", "--help"],
        ["--help"],
    )
    for arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", "speechssl.cli", *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, ""), arguments
    os.close(write)


def test_garbage_is_collected_from_when_a_command_works():
    """As a program; not where another program calls `main`."""
    code = (
        "import gc, sys, weakref\n"
        "from speechssl import cli\n"
        "usual, numbers = gc.get_threshold(), len(gc.callbacks)\n"
        "class Node: pass\n"
        "def cycle():\n"
        "    node = Node()\n"
        "    node.own = node\n"
        "    return weakref.ref(node)\n"
        "sys.argv = ['speechssl', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "assert gc.get_threshold()[0] > usual[0] and gc.get_freeze_count() == 0\n"
        "held = [[] for _ in range(600_000)]\n"
        "assert gc.get_threshold() == usual and len(gc.callbacks) == numbers\n"
        "assert gc.get_freeze_count() > 0\n"
        "gone = cycle()\n"
        "held += [[] for _ in range(10_000)]\n"
        "assert gone() is None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_main_leaves_the_garbage_collector_of_others_alone():
    before = gc.get_threshold(), len(gc.callbacks)
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert (gc.get_threshold(), len(gc.callbacks)) == before


# ---- extract and evaluate -----------------------------------------------------------------------


def test_extract(tiny_models, record, tmp_path, capsys, fails):
    record("in/a.wav", 1.0)
    record("in/sub/b.wav", 0.5)
    out = tmp_path / "out"
    for name in ("speech", "ctc"):
        assert run("extract", tiny_models[name], tmp_path / "in", "--layer", 1, "--out", out) == 0
        assert f"{out / 'a'}.npy: 50 frames of 16" in capsys.readouterr().out
        assert np.load(out / "sub/b.npy").shape == (25, 16)
        assert np.load(out / "sub/b.times.npy").shape == (25,)
    line = fails(2, "extract", tiny_models["ctc"], tmp_path / "in", "--layer", 9, "--out", out)
    assert "The model has layers 0" in line
    (tmp_path / "in/bad.wav").write_text("I am not sound.")
    line = fails(1, "extract", tiny_models["ctc"], tmp_path / "in", "--out", out)
    assert line == "speechssl: 1 of 3 recordings could not be read."
    assert not (out / "bad.npy").exists()


def test_extract_sums_and_means(tiny_models, record, tmp_path, fails):
    path, out = record("a.wav", 1.0), tmp_path / "out"
    common = ("extract", tiny_models["speech"], path, "--out", out)
    assert run(*common, "--weights", "0.5,0,0.5", "--pool", "mean") == 0
    frames = [extract(load(tiny_models["speech"]), path, layer).frames for layer in (0, 2)]
    expected = (frames[0] + frames[1]).mean(0) / 2
    assert np.allclose(np.load(out / "a.npy"), expected, atol=1e-5)
    assert run(*common, "--weights", "mean") == 0
    assert np.load(out / "a.npy").shape == (50, 16)
    assert "needs 3 finite weights" in fails(2, *common, "--weights", "1,2")
    assert "numbers with commas" in fails(2, *common, "--weights", "uniform")
    assert "not allowed with" in fails(2, *common, "--weights", "mean", "--layer", 1)


@pytest.mark.extras
def test_extract_to_one_table(tiny_models, record, tmp_path, fails, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    record("in/a.wav", 1.0)
    (tmp_path / "in/bad.wav").write_text("I am not sound.")
    out = tmp_path / "all.parquet"
    common = ("extract", tiny_models["speech"], tmp_path / "in", "--out", out)
    assert "1 of 2 recordings could not be read" in fails(1, *common)
    assert parquet.read_table(out).num_rows == 50
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "speechssl.inference.feature_table")
    assert "speechssl[parquet]" in fails(2, *common)


@pytest.fixture
def manifest(tiny_models, record, tmp_path) -> Path:
    utterances = []
    for i, seconds in enumerate((1.0, 0.6)):
        path = record(f"{i}.wav", seconds)
        text = transcribe(load(tiny_models["ctc"]), path).text.upper()
        utterances.append(Utterance(f"u{i}", path, 0.0, seconds, 16000, None, text))
    write_manifest(tmp_path / "test.jsonl", utterances)
    return tmp_path / "test.jsonl"


def test_evaluate(tiny_models, manifest, tmp_path, capsys, fails):
    out = tmp_path / "scores.json"
    model = tiny_models["ctc"]
    assert run("evaluate", model, manifest, "--normalize", "lower", "--out", out) == 0
    shown = capsys.readouterr().out
    data = json.loads(out.read_text())
    assert (data["wer"], data["normalizer"], data["manifest"]) == (0, "lower", str(manifest))
    assert "lower" in shown
    assert "100.0 %" in shown  # raw: all in capitals
    assert run("evaluate", model, manifest, manifest, "--out", out) == 0
    data = json.loads(out.read_text())
    assert (data["num_utterances"], data["manifest"]) == (4, [str(manifest)] * 2)
    assert data["decoding"] == "greedy"
    line = fails(2, "evaluate", model, manifest, "--normalize", "whisper")
    assert "--normalize must be one of none, lower, basic, got 'whisper'" in line
    assert "No such manifest: gone.jsonl" in fails(2, "evaluate", model, "gone.jsonl")


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),  # which it would overrule
    ],
)
def test_threads_that_wait_leave_the_cores_to_others(given, then, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    run("--version")
    assert os.environ.get("GOMP_SPINCOUNT") == then


def test_a_language_model_changes_what_is_written(tiny_models, manifest, tmp_path, capsys, fails):
    arpa, out = tmp_path / "deep" / "lm.arpa", tmp_path / "scores.json"
    text = tmp_path / "text.txt"
    text.write_text("fa fa fa\n\nfa fa\n", encoding="utf-8")
    model = tiny_models["ctc"]
    assert run("lm", text, "--order", "3", "--out", arpa) == 0
    assert "from 2 sentences" in capsys.readouterr().out
    assert run("evaluate", model, manifest, "--beam", "4", "--out", out) == 0
    data = json.loads(out.read_text())
    assert data["decoding"] == "beam 4"
    searched = data["utterances"]
    assert run("evaluate", model, manifest, "--lm", arpa, "--lm-weight", "5", "--out", out) == 0
    guided = json.loads(out.read_text())["utterances"]
    assert [u["hypothesis"] for u in searched] != [u["hypothesis"] for u in guided]
    recording = manifest.parent / "0.wav"
    assert run("transcribe", model, recording, "--lm", arpa) == 0
    other = tmp_path / "other.arpa"
    text.write_text("zu zu\n", encoding="utf-8")
    assert run("lm", text, "--out", other) == 0
    assert run("lm", manifest, "--unit", "word", "--out", tmp_path / "words.arpa.gz") == 0
    capsys.readouterr()
    assert run("lm", manifest, "--label-minutes", 0.001, "--out", tmp_path / "few.arpa") == 0
    assert "from 1 sentences" in capsys.readouterr().out
    sizes = []
    for prune in ((), ("--prune", 0, 0, 1)):
        assert run("lm", manifest, *prune, "--out", tmp_path / "cut.arpa") == 0
        sizes.append(len((tmp_path / "cut.arpa").read_text("utf-8").splitlines()))
    assert sizes[1] < sizes[0]
    assert "must begin with 0 for the 1-grams" in fails(
        2, "lm", manifest, "--prune", 1, "--out", arpa
    )
    for message, arguments in (
        ("beam must be between 1 and 10000, got 0", ("--beam", "0")),
        ("There is no language model gone.arpa", ("--lm", "gone.arpa")),
        ("is not a whole ARPA language model", ("--lm", text)),
        ("give one with lm", ("--bonus", "1")),
        ("is of another alphabet: it knows 0 of the 6 letters", ("--lm", other)),
    ):
        assert message in fails(2, "evaluate", model, manifest, *arguments)
    assert "no text" in fails(2, "lm", tiny_models["ctc"] / "empty.txt", "--out", arpa)
    recording.with_suffix(".txt").write_bytes(b"no\ncaf\xe9\n")
    assert "is not UTF-8 text: the byte 0xe9 in line 2" in fails(
        2, "lm", recording.with_suffix(".txt"), "--out", arpa
    )


# ---- data and training --------------------------------------------------------------------------


def test_prepare(record, tmp_path, capsys, fails):
    for i in range(6):
        record(f"in/{i}.wav", 0.5)
        (tmp_path / f"in/{i}.txt").write_text(f"text {i}")
    assert run("prepare", tmp_path / "in", "--out", tmp_path / "data") == 0
    out = capsys.readouterr().out
    assert "6 utterances" in out
    assert "layout folder: all recordings of the folder" in out
    names = {p.name for p in (tmp_path / "data").iterdir()}
    assert {"train.jsonl", "dev.jsonl", "summary.json", "dropped.jsonl"} <= names
    long = ("prepare", tmp_path / "in", "--out", tmp_path / "long", "--max-duration-s", 90)
    assert "--max-labeled-duration-s" in fails(2, *long)
    assert run(*long, "--max-labeled-duration-s", 90) == 0
    summary = json.loads((tmp_path / "long" / "summary.json").read_text())
    assert summary["config"]["max_labeled_duration_s"] == 90
    assert "No such file or folder: gone" in fails(2, "prepare", "gone", "--out", tmp_path / "x")
    (tmp_path / "in" / "some.tsv").write_text("path\ttext\n0.wav\ttext 6\n")
    assert run("prepare", tmp_path / "in", "--out", tmp_path / "data") == 0
    out = capsys.readouterr().out
    assert "6 utterances" in out
    assert "layout tsv: the rows of a table; of a folder all recordings" in out


SMALL = (
    *("--model.encoder.num-filters", 8, "--model.context.dim", 16, "--model.context.num-layers", 2),
    *("--model.context.local-layers", 1, "--model.context.num-heads", 2, "--precision", "fp32"),
    *("--model.context.ffn-dim=32", "--loop.num-workers", 0, "--loop.num-validations", 2),
)
"""Settings that make a run of milliseconds."""


@pytest.fixture
def speech(record, tmp_path) -> Path:
    """A manifest of transcribed noise."""
    utterances = [
        Utterance(f"u{i}", record(f"{i}.wav", 1.0), 0.0, 1.0, 16000, None, "abc"[i % 3 :])
        for i in range(8)
    ]
    write_manifest(tmp_path / "train.jsonl", utterances)
    return tmp_path / "train.jsonl"


def test_pretrain_and_finetune(speech, tmp_path, capsys):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    data = ("--train", speech, speech, "--max-steps", 2, "--seed", 5)
    contrast = ("--masked-units.num-units", 4)
    assert run("pretrain", *data, *SMALL, *contrast, "--optim.lr", "1e-4", "--out", first) == 0
    assert f"Best model: {first}/best" in capsys.readouterr().out
    config = json.loads((first / "config.json").read_text())
    assert (config["optim"]["lr"], config["loop"]["seed"]) == (1e-4, 5)
    assert config["loop"]["max_steps"] == 2

    again = ("--recipe", first / "config.json", "--init", first)
    assert run("pretrain", "--train", speech, "--out", second, *again) == 0
    assert json.loads((second / "config.json").read_text()) == config

    loop = ("--loop.num-workers", 0, "--precision", "fp32", "--loop.num-validations", 1)
    data = (*data, "--valid", speech, "--init", first, "--label-minutes", 0.05)
    capsys.readouterr()
    assert run("finetune", *data, *loop, "--tokenizer", "char", "--out", third) == 0
    assert "validation WER" in capsys.readouterr().out
    config = json.loads((third / "config.json").read_text())
    assert config["model"]["context"]["dim"] == 16  # of the model it began with
    assert load(third).meta["train_utterances"] == 3


def test_of_several_processes_the_first_one_speaks(speech, tmp_path, capsys, monkeypatch):
    data = ("--train", speech, "--max-steps", 1, "--out", tmp_path / "run", *SMALL)
    monkeypatch.setenv("RANK", "1")
    assert run("pretrain", *data, "--masked-units.num-units", 4) == 0
    assert capsys.readouterr().out == ""


def test_training_settings_that_are_wrong(speech, tmp_path, fails):
    data = ("--train", speech, "--out", tmp_path / "run")
    line = fails(2, "pretrain", *data, "--optim.lrr", "1")
    assert "There is no setting 'optim.lrr'" in line
    assert "optim.lr" in line.split("Perhaps")[1]
    assert "Perhaps --size?" in fails(2, "pretrain", *data, "--sizze", "tiny")
    line = fails(2, "pretrain", *data, "--qqqqqqqq", "1")
    assert line.endswith("--precision, --compile, --device.")
    assert "--optim.…" in line
    assert "needs a value" in fails(2, "pretrain", *data, "--optim.lr")
    assert "Unexpected argument 'stray'" in fails(2, "pretrain", *data, "stray")
    line = fails(2, "pretrain", *data, "--masked-units.layers", "3", "-1")
    assert "'-1' after --masked-units.layers 3:" in line
    assert line.endswith("joined by commas (3,-1).")
    assert "'6' after --optim.lr 5: " in fails(2, "pretrain", *data, "--optim.lr=5", "6", "7")
    assert "There is no recipe nobody" in fails(2, "pretrain", *data, "--recipe", "nobody")
    assert "needs --valid" in fails(2, "finetune", *data, "--init", "scratch")
    valid = ("--valid", speech)
    line = fails(2, "finetune", *data, *valid, "--init", "scratch", "--tokenizer", "bpe")
    assert '"bpe" is not a tokenizer' in line
    assert "There is no model folder gone" in fails(2, "finetune", *data, *valid, "--init", "gone")


def test_recipes(speech, tmp_path, monkeypatch, fails):
    folder = tmp_path / "recipes" / "mine"
    folder.mkdir(parents=True)
    (folder / "pretrain.py").write_text(
        "from dataclasses import replace\n"
        "from speechssl.training.pretrain import PretrainConfig\n\n\n"
        "def tiny():\n    return replace(PretrainConfig(), batch_s=5.0)\n\n\n"
        "def other():\n    return replace(PretrainConfig(), batch_s=2.5)\n"
    )
    monkeypatch.chdir(tmp_path)
    steps = ("--train", speech, *SMALL, "--masked-units.num-units", 4, "--max-steps", 1)
    for name, share in (("mine", 0.5), ("mine:other", 0.25), (folder / "pretrain.py", 0.5)):
        out = tmp_path / str(share) / Path(name).name
        assert run("pretrain", *steps, "--recipe", name, "--out", out) == 0
        assert json.loads((out / "config.json").read_text())["batch_s"] == 10 * share
    line = fails(2, "pretrain", *steps, "--recipe", "mine:big", "--out", tmp_path / "x")
    assert "has no recipe 'big'; it has " in line
    assert "tiny, other" in line


def test_the_size_is_that_of_the_model_to_start_from():
    from speechssl.commands.training import choose_size
    from speechssl.model.config import base, tiny

    asked = types.SimpleNamespace(size=None, recipe=None)
    assert choose_size(asked, None) == "tiny"
    assert choose_size(asked, base()) == "base"
    assert choose_size(asked, replace(tiny(), latent_dropout=0.3)) == "tiny"
    assert choose_size(asked, replace(base(), normalize_wave=True)) == "base"
    assert choose_size(types.SimpleNamespace(size="small", recipe=None), base()) == "small"
    assert choose_size(types.SimpleNamespace(size="small", recipe="mboshi"), None) == "small"


def test_settings_without_effect_are_refused(speech, tmp_path, fails):
    first, out = tmp_path / "first", ("--out", tmp_path / "x")
    data = ("--train", speech, "--max-steps", 1)
    assert run("pretrain", *data, *SMALL, "--masked-units.num-units", 4, "--out", first) == 0
    for recipe in (first / "config.json", "mboshi:tiny"):
        line = fails(2, "pretrain", *data, "--recipe", recipe, "--size", "small", *out)
        assert f"--size small changes nothing of the recipe {recipe}" in line
    start = ("--init", first, "--precision", "fp32", "--loop.num-workers", 0)
    tuned = ("finetune", *data, "--valid", speech, *start, *out)
    line = fails(2, *tuned, "--model.context.dim", 64, "--model.context.dropout", 0.1)
    assert f"--model.context.dim, --model.context.dropout: the model of --init {first} is" in line
    assert run(*tuned, "--model.context.dim", 16) == 0  # it is so
    out = ("--out", tmp_path / "y")
    line = fails(2, "pretrain", *data, *start, "--model.context.local_layers", 2, *out)
    assert "do not fit the model of the run (model.context.local_layers 1 there, 2 now)" in line
    assert len(line) < 250
    line = fails(2, "pretrain", *data, *start, "--mix_temperature", 0.5, *out)
    assert "mix-temperature 0.5 mixes several manifests, and --train names one" in line
    config = json.loads((first / "config.json").read_text()) | {"mix_temperature": 0.5}
    mixing = tmp_path / "mixing.json"
    mixing.write_text(json.dumps(config))
    given = ("pretrain", *data, "--recipe", mixing, *out)
    assert "give --mix-temperature 1, or each corpus its own manifest" in fails(2, *given)
    assert run(*given, "--mix_temperature", 1) == 0


def test_report(speech, tmp_path, capsys, fails):
    steps = ("--train", speech, *SMALL, "--masked-units.num-units", 4, "--max-steps", 2)
    assert run("pretrain", *steps, "--out", tmp_path / "run") == 0
    capsys.readouterr()
    assert run("report", tmp_path / "run") == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == tmp_path / "run" / "report.html"
    assert "<html" in page.read_text(encoding="utf-8")
    assert "gone" in fails(2, "report", "gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_while_torch_is_imported_is_no_failure(number, monkeypatch, capsys):
    before = signal.getsignal(number)
    monkeypatch.setattr(pretrain, "run", lambda _: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", "--train", "a.jsonl", "--out", "b"])
    assert stopped.value.code == 0
    assert "The same command goes on" in capsys.readouterr().err
    assert signal.getsignal(number) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGUSR1, 0)]
)
def test_an_interrupted_run_is_saved_and_goes_on(number, code, speech, tmp_path):
    """Ctrl-C, which the terminal sends to the loader processes as well, and a cluster's notice."""
    out = tmp_path / "run"
    arguments = [
        *("pretrain", "--train", speech, *SMALL, "--masked-units.num-units", 4, "--out", out),
        *("--loop.num-workers", 1, "--loop.log-every", 1, "--max-steps", 200),
    ]
    command = [sys.executable, "-m", "speechssl.cli", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    metrics = out / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert f"the state is saved in {out}" in err.splitlines()[-1]
    stopped = int(next((out / "checkpoints").iterdir()).name.split("-")[1])
    assert 3 <= stopped < 200

    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"Going on from step {stopped} of 200" in done.stderr
    steps = [r["step"] for r in map(json.loads, metrics.read_text().splitlines()) if "lr" in r]
    assert steps == list(range(1, 201))


def test_doctor_describes_the_machine(capsys, monkeypatch):
    from speechssl import doctor

    real = doctor.importlib.import_module

    def broken(name: str) -> object:
        if name == "torchaudio":
            raise OSError("libcudart.so.13: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "tensorboard" else "1.0")
    assert run("doctor") == 0
    shown = capsys.readouterr().out
    assert f"speechssl {__version__}" in shown
    assert "torchaudio          1.0, does not load: libcudart.so.13" in shown
    assert "missing tensorboard: pip install 'speechssl[tensorboard]'" in shown
    for name in ("device", "threads", "memory", "disk"):
        assert f"\n  {name} " in shown


def test_doctor_reads_a_run(tmp_path, capsys, fails):
    lines = [{"step": i, "time_s": i, "loss/total": 5.0} for i in range(1, 9)]
    lines.append({"step": 9, "time_s": 9.0, "faults/not_finite": 1.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in lines))
    assert run("doctor", tmp_path) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{tmp_path}: diverging\n  At update 9 ")
    assert "gone" in fails(2, "doctor", tmp_path / "gone")


def test_what_is_missing_of_a_recording_is_told_as_a_line(tiny_models, record, tmp_path):
    """By every command, once a recording, and the rest of it is used."""
    whole, cut = record("a.wav", 1.0), tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:16044])
    line = f"speechssl: {cut} is cut off or damaged: 0.500 s of the 1.000 s in its header are there"
    model = str(tiny_models["ctc"])
    for command in (
        ["transcribe", model, str(cut), str(whole)],
        ["extract", model, str(cut), "--out", str(tmp_path / "out")],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "speechssl", *command], capture_output=True, text=True
        )
        assert done.returncode == 0
        assert [said for said in done.stderr.splitlines() if "cut.wav" in said] == [
            f"{line} and are used."
        ]
    assert np.load(tmp_path / "out/cut.npy").shape[0] == 25


def test_products_compiled_by_onednn_are_kept_in_training_unless_a_person_says_otherwise(
    monkeypatch, tmp_path
):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    texts = tmp_path / "texts.txt"
    texts.write_text("a line\nand one more\n")
    lm = ("lm", str(texts), "--out", str(tmp_path / "lm.arpa"))
    monkeypatch.setenv(name, "7")
    assert run("doctor") == 0
    assert os.environ[name] == "7"
    for command, kept in ((("doctor",), cli.TRAINING_PRIMITIVES), (lm, cli.PRIMITIVES)):
        monkeypatch.delenv(name)
        assert run(*command) == 0
        assert os.environ[name] == kept
