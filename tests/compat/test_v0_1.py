"""What version 0.1 wrote is opened, resumed and continued with the same numbers: see README.md."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import speechssl
from speechssl import audio
from speechssl.cli import main
from speechssl.data.manifest import read_manifest
from speechssl.model import config as model_config
from speechssl.model.speech_model import CTCModel
from speechssl.runlog import read_metrics
from speechssl.training.finetune import FinetuneConfig
from speechssl.training.pretrain import PretrainConfig
from speechssl.training.recipe import load_recipe

FROZEN = Path(__file__).parent / "v0_1"
EXPECTED: dict[str, Any] = json.loads((FROZEN / "expected.json").read_text(encoding="utf-8"))
RUNS = ("pretrain", "pretrain_gumbel", "finetune")
RTOL = 2e-4
"""Of losses, gradient norms and log-probabilities down to -50, between two machines."""
ATOL = 1e-3
"""Of outputs, which are about 1."""


@pytest.fixture
def old(tmp_path) -> Path:
    """A copy to work in."""
    return Path(shutil.copytree(FROZEN, tmp_path / "old"))


def train(old: Path, run: str, out: Path, *more: str) -> int:
    """The command that made `run`."""
    command = ["finetune", "--init", str(old / "pretrain")] if run == "finetune" else ["pretrain"]
    data = ["--train", str(old / "data/train.jsonl"), "--valid", str(old / "data/dev.jsonl")]
    recipe = ["--recipe", str(old / run / "config.json")]
    return main([*command, *data, *recipe, "--out", str(out), *more])


def check_numbers(run: str, out: Path) -> None:
    """Loss and gradient norm of each update; of a part of a run, of its updates."""
    found = {m["step"]: m for m in read_metrics(out) if "grad_norm" in m}
    expected = EXPECTED["updates"][run]
    names = ["grad_norm", "lr", "loss/total" if "loss/total" in expected else "loss/ctc"]
    assert sorted(found) == list(range(1, len(expected["lr"]) + 1))
    for name in names:
        told = [found[step][name] for step in sorted(found)]
        np.testing.assert_allclose(told, expected[name], rtol=RTOL, err_msg=name)


@pytest.mark.parametrize("place", EXPECTED["outputs"])
def test_a_model_gives_the_same_outputs(place, old):
    wave = torch.from_numpy(audio.read(old / "recordings/0.flac"))[None]
    lengths = torch.tensor([wave.shape[1]])
    expected = EXPECTED["outputs"][place]
    source = old / place
    checkpoint = speechssl.load(source)
    with torch.no_grad():
        context = checkpoint.speech(wave, lengths).context[0]
        np.testing.assert_allclose(context[::5], expected["context"], rtol=RTOL, atol=ATOL)
        assert isinstance(checkpoint.model, CTCModel) == ("log_probs" in expected)
        if isinstance(checkpoint.model, CTCModel):
            rows, _ = checkpoint.model(wave, lengths)
            np.testing.assert_allclose(rows[0, ::5], expected["log_probs"], rtol=RTOL, atol=ATOL)
            text = speechssl.transcribe(checkpoint, old / "recordings/0.flac").text
            assert text == expected["text"]


@pytest.mark.parametrize("run", RUNS)
def test_a_run_opens_as_its_best_model(run, old):
    best, opened = (speechssl.load(old / place) for place in (f"{run}/best", run))
    state, other = best.model.state_dict(), opened.model.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert opened.pretraining.keys() == best.pretraining.keys()
    assert bool(best.pretraining) == (run == "pretrain_gumbel")
    assert best.meta["steps"] == 4


@pytest.mark.parametrize("run", RUNS)
def test_a_killed_run_continues_to_the_same_numbers(run, old, capsys):
    assert train(old, run, old / run) == 0
    assert "from step 4 of 8" in capsys.readouterr().err
    check_numbers(run, old / run)


@pytest.mark.parametrize("run", RUNS)
def test_its_config_is_a_recipe_that_gives_the_same_numbers(run, old, tmp_path):
    assert train(old, run, tmp_path / "again") == 0
    check_numbers(run, tmp_path / "again")


def test_a_setting_on_top_of_an_old_config_counts(old, tmp_path):
    assert train(old, "pretrain", tmp_path / "new", "--max-steps", "1", "--optim.lr", "1e-5") == 0
    assert [m["lr"] for m in read_metrics(tmp_path / "new") if "grad_norm" in m] == [1e-5]


@pytest.mark.parametrize("run", RUNS)
def test_the_doctor_reads_a_run(run, old, capsys):
    assert main(["doctor", str(old / run)]) == 0
    assert str(old / run) in capsys.readouterr().out


def test_the_report_shows_the_runs(old):
    assert main(["report", *(str(old / run) for run in RUNS)]) == 0
    assert (old / "pretrain/report.html").stat().st_size > 10_000


def test_pretraining_continues_with_the_quantizer_of_an_old_model(old, tmp_path, capsys):
    init = ["--init", str(old / "pretrain_gumbel"), "--max-steps", "1"]
    assert train(old, "pretrain_gumbel", tmp_path / "more", *init) == 0
    assert "its quantizer and its projections" in capsys.readouterr().err


PRESETS = sorted(path.name for path in (FROZEN / "configs").iterdir())


@pytest.mark.parametrize("name", PRESETS)
def test_a_resolved_preset_is_read(name):
    place = FROZEN / "configs" / name
    task, size = place.stem.split("_")
    kind = PretrainConfig if task == "pretrain" else FinetuneConfig
    config = load_recipe(str(place), task, "tiny", kind)
    assert isinstance(config, kind)
    told = json.loads(place.read_text())
    assert config.model == model_config.size(size)
    span = config.mask.span if task == "pretrain" else config.mask_span
    assert (config.batch_s, span) == (told["batch_s"], told["mask_span"])
    assert (config.optim.lr, config.optim.warmup_steps) == (
        told["optim"]["lr"],
        told["optim"]["warmup_steps"],
    )
    assert config.loop.max_steps == told["loop"]["max_steps"]


def test_a_manifest_is_read(old):
    train_set, dev_set = (read_manifest(old / f"data/{name}.jsonl") for name in ("train", "dev"))
    assert [u.text for u in train_set] == [
        "bad ace",
        "cab ebb",
        "deed",
        "dab ace",
        "add bee",
        "cede",
    ]
    assert [u.speaker for u in dev_set] == ["dev0", "dev1", "dev0"]
    assert all(u.audio.exists() for u in (*train_set, *dev_set))


def test_evaluate_and_transcribe_take_a_run(old, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    dev = str(old / "data/dev.jsonl")
    assert main(["evaluate", str(old / "finetune"), dev, "--out", str(scores)]) == 0
    assert json.loads(scores.read_text())["wer"] == 1.0  # it outputs blanks only so far
    capsys.readouterr()
    assert main(["transcribe", str(old / "models/char"), str(old / "recordings/0.flac")]) == 0
    assert capsys.readouterr().out.strip() == EXPECTED["outputs"]["models/char"]["text"]


@pytest.mark.parametrize("kind", ["hf", "fairseq"])
def test_an_export_takes_the_place_of_an_old_one(kind, old):
    out = old / "exported" / kind
    told = ["--format", kind, "--out", str(out), "--no-verify"]
    assert main(["export", str(old / "models/vocabulary"), *told]) == 0
    found = speechssl.transcribe(speechssl.load(out), old / "recordings/0.flac")
    assert found.text == EXPECTED["outputs"]["models/vocabulary"]["text"]


def test_a_model_takes_the_place_of_an_old_one(old):
    source, out = str(old / "exported/hf"), str(old / "models/vocabulary")
    assert main(["import", source, "--out", out, "--no-verify"]) == 0
    assert speechssl.load(out).meta["source"] == source
