"""A run's precision: chosen once, without a trace in its numbers, and kept."""

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from speechssl import precision
from speechssl.config.json import to_json
from speechssl.data.index import durations_s
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.rng import rng
from speechssl.text import CharTokenizer
from speechssl.training import precision as of_runs
from speechssl.training.finetune import _timed_step as finetuning_step
from speechssl.training.precision import Step, precision_of_run, timed_choice, with_precision
from speechssl.training.pretrain import pretrain
from speechssl.training.start import _check_same
from speechssl.training.states import Progress
from tests.training.conftest import MICRO

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "cache_folder", lambda: tmp_path / "cache")


@pytest.fixture
def fastest(monkeypatch):
    """``fastest("bf16")``: what the timing finds from now on; it is done all the same."""

    def set_to(name: str) -> None:
        monkeypatch.setattr(precision, "choose", lambda _: name)

    return set_to


def a_step(**changes) -> Step:
    model = SpeechModel(MICRO)
    step = Step("pretraining", lambda: model, np.full(9, 1.5), 6.0, {"model": MICRO})
    return replace(step, **changes)


def losses(run) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [{n: v for n, v in r.items() if "loss" in n or "grad" in n} for r in records]


def short(config, name: str, max_steps: int = 2):
    loop = replace(config.loop, max_steps=max_steps, num_validations=1, checkpoint_every=2)
    return replace(config, precision=name, loop=loop, device="cpu")


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_the_numbers_are_those_of_the_precision_named(
    name, fastest, tones, pretrain_config, tmp_path, capsys
):
    fastest(name)
    for asked in ("auto", name):
        config = short(pretrain_config, asked)
        pretrain(config, tones[0][:8], tmp_path / asked, valid_set=tones[1][:2], announce=True)
    assert losses(tmp_path / "auto") == losses(tmp_path / name)
    assert losses(tmp_path / name)
    configs = [json.loads((tmp_path / n / "config.json").read_text()) for n in ("auto", name)]
    assert configs[0] == configs[1]
    assert configs[0]["precision"] == name
    assert f"Precision: {name}, " in capsys.readouterr().err


def test_a_run_that_goes_on_keeps_its_precision(
    fastest, tones, pretrain_config, tmp_path, monkeypatch, capsys
):
    run, sets = tmp_path / "run", {"train_set": tones[0][:8], "valid_set": tones[1][:2]}
    fastest("bf16")
    pretrain(short(pretrain_config, "auto"), run=run, **sets)
    fastest("fp32")
    monkeypatch.setattr(precision, "machine_name", lambda _: "another machine")
    monkeypatch.setattr(of_runs, "timed_choice", lambda *_: pytest.fail("measured again"))
    capsys.readouterr()
    pretrain(short(pretrain_config, "auto"), run=run, **sets)
    assert "Precision: bf16, with which the run began." in capsys.readouterr().err
    pretrain(short(pretrain_config, "bf16"), run=run, **sets)
    assert json.loads((run / "config.json").read_text())["precision"] == "bf16"
    with pytest.raises(ValueError, match=r"other settings \(precision"):
        pretrain(short(pretrain_config, "fp32"), run=run, **sets)


@pytest.mark.parametrize("units", [True, False])
def test_a_run_of_before_goes_on_as_it_was(units, monkeypatch, tmp_path, capsys, pretrain_config):
    monkeypatch.setattr(of_runs, "has_bf16_units", lambda _: units)
    old = Progress(config={**to_json(pretrain_config), "precision": "auto", "device": "cpu"})
    monkeypatch.setattr(of_runs, "newest_progress", lambda _: old)
    asked = replace(pretrain_config, precision="auto", device="cpu")
    config = with_precision(asked, tmp_path, CPU, a_step(), resume=True, announce=True)
    began = "bf16" if units else "fp32"
    assert config.precision == precision_of_run(old.config) == began
    said = capsys.readouterr().err
    assert f"Precision: {began}. The run began before its precision was recorded" in said
    _check_same(tmp_path, old, Progress(config=to_json(config)))
    other = replace(config, precision="fp32" if units else "bf16")
    with pytest.raises(ValueError, match=r"other settings \(precision"):
        _check_same(tmp_path, old, Progress(config=to_json(other)))


def test_a_run_that_begins_anew_chooses_anew(fastest, monkeypatch, tmp_path, pretrain_config):
    old = Progress(config={**to_json(pretrain_config), "precision": "bf16"})
    monkeypatch.setattr(of_runs, "newest_progress", lambda _: old)
    fastest("fp32")
    asked = replace(pretrain_config, precision="auto")
    kept = with_precision(asked, tmp_path, CPU, a_step(), resume=True, announce=False)
    anew = with_precision(asked, tmp_path, CPU, a_step(), resume=False, announce=False)
    assert (kept.precision, anew.precision) == ("bf16", "fp32")


def test_the_timing_leaves_the_model_and_the_random_numbers_alone():
    torch.manual_seed(3)
    model = SpeechModel(replace(MICRO, normalize_wave=True, running_norm=True))
    model.context.draw_dropped(rng(1, "layers"))
    before, dropped = copy.deepcopy(model.state_dict()), model.context._dropped
    step = a_step(model=lambda: model)
    drawn, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    choice = timed_choice(CPU, step)
    assert set(choice.timing.seconds) == {"fp32", "bf16"}
    assert torch.equal(torch.get_rng_state(), drawn)
    assert np.array_equal(np.random.get_state()[1], numbers)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.context._dropped == dropped


@pytest.mark.parametrize("learns", ["all", "adapters", "lora"])
def test_a_model_to_start_from_is_left_alone(learns, finetune_config, tones):
    tokenizer = CharTokenizer.train(["abcdef"])
    speech = SpeechModel(MICRO)
    given = CTCModel(speech, CTCHead(32, tokenizer.vocab_size))
    init = SimpleNamespace(model=given, speech=speech, tokenizer=tokenizer, folder=None, meta={})
    before = copy.deepcopy(given.state_dict())
    config = replace(finetune_config, learns=learns)
    step = finetuning_step(config, init, tokenizer, tones[0][:8])
    assert timed_choice(CPU, step).precision in ("fp32", "bf16")
    assert given.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in given.parameters())


def test_what_learns_makes_another_question(finetune_config, tones, monkeypatch):
    asked = []
    monkeypatch.setattr(of_runs, "find", lambda *args: asked.append(args[3]))
    tokenizer = CharTokenizer.train(["abcdef"])
    for changes in ({}, {"learns": "lora"}, {"freeze": ("speech.encoder.*",)}, {"upsample": 2}):
        config = replace(finetune_config, **changes)
        timed_choice(CPU, finetuning_step(config, None, tokenizer, tones[0]))
    assert len({json.dumps(what, sort_keys=True) for what in asked}) == 4


def test_bf16_that_is_slower_is_advised_against(monkeypatch, tmp_path, capsys, pretrain_config):
    times = {"fp32": 1.0, "bf16": 1.7}
    choice = precision.Choice("fp32", precision.Timing(times, 30.0, 2), "2026-01-01")
    monkeypatch.setattr(of_runs, "timed_choice", lambda *_: choice)
    for name in ("bf16", "fp32"):
        asked = replace(pretrain_config, precision=name)
        found = with_precision(asked, tmp_path, CPU, a_step(), resume=False, announce=True)
        assert found.precision == name
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "bf16 as asked for; a step takes 1.7 times as long in it as in float32" in said[0]


def test_the_usual_shape_is_that_of_the_utterances(tones):
    lengths = durations_s(tones[0])
    step = a_step(lengths_s=np.array([1.0, 2.0, 9.0]), batch_s=30.0)
    assert (step.utterance_s, step.audio_s) == (2.0, 12.0)
    assert a_step(lengths_s=lengths, batch_s=6.0).audio_s == 6.0
    assert a_step(lengths_s=np.array([40.0] * 3), batch_s=6.0).audio_s == 40.0


def test_all_processes_take_what_the_first_one_found(
    monkeypatch, tmp_path, capsys, pretrain_config
):
    monkeypatch.setattr(of_runs.distributed, "broadcast", lambda _: ("bf16", "A sentence."))
    asked = replace(pretrain_config, precision="auto")
    for rank, said in ((0, "A sentence.\n"), (1, "")):
        monkeypatch.setattr(of_runs.distributed, "rank", lambda rank=rank: rank)
        found = with_precision(asked, tmp_path, CPU, a_step(), resume=False, announce=True)
        assert found.precision == "bf16"
        assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"precision": "bf16", "device": "cuda:9"}, "bf16"),
        ({"precision": "auto", "device": "cuda:9"}, "fp32"),  # another machine's GPU
        ({}, "fp32"),
    ],
)
def test_what_a_config_says_of_its_precision(config, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision_of_run(config) == expected
