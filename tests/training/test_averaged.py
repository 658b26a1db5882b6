"""The average of the weights: it follows them, is scored beside them; the better one is kept."""

import shutil
from dataclasses import replace

import pytest
import torch

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.model.speech_model import SpeechModel
from speechssl.runlog import read_metrics
from speechssl.training.averaged import AVERAGE, LAST, AveragedWork, warmed_up
from speechssl.training.finetune import finetune
from speechssl.training.finetune_work import FinetuneWork


@pytest.fixture
def config(finetune_config):
    loop = replace(finetune_config.loop, max_steps=6, num_validations=2, checkpoint_every=3)
    return replace(finetune_config, loop=loop, ema_decay=0.9)


def some(tones):
    return tones[0][:8], tones[1][:4]


def test_the_decay_begins_small():
    assert warmed_up(0.999, 0) == 0.1
    assert warmed_up(0.999, 90) == 0.91
    assert warmed_up(0.9, 90) == 0.9
    assert warmed_up(0.999, 10**6) == 0.999


def test_the_average_is_that_of_the_weights_after_each_update(config, tones, tmp_path, monkeypatch):
    seen, real = [], AveragedWork.backward

    def noted(self, step, max_steps, batches):
        seen.append(self.model.head.linear.weight.detach().clone())
        losses = real(self, step, max_steps, batches)
        average = seen[0]
        for i, weight in enumerate(seen):
            decay = warmed_up(0.9, i)
            average = decay * average + (1 - decay) * weight
        torch.testing.assert_close(self.average.average.head.linear.weight, average)
        return losses

    monkeypatch.setattr(AveragedWork, "backward", noted)
    finetune(config, *some(tones), tmp_path)
    assert len(seen) == 6


def test_training_is_the_same_with_and_without(config, tones, tmp_path):
    finetune(config, *some(tones), tmp_path / "with")
    finetune(replace(config, ema_decay=0.0), *some(tones), tmp_path / "without")
    with_it, without = (
        [
            {k: v for k, v in m.items() if k.startswith(("loss", "valid/", "grad_norm"))}
            for m in each
        ]
        for each in (read_metrics(tmp_path / "with"), read_metrics(tmp_path / "without"))
    )
    for one, other in zip(with_it, without, strict=True):
        assert {k: v for k, v in one.items() if k in other} == other
    assert {"valid/ema/cer", "valid/ema/wer", "valid/ema/loss"} <= with_it[-1].keys()
    assert not any("average" in name for m in with_it for name in m)


@pytest.mark.parametrize("better", [AVERAGE, LAST])
def test_the_better_one_is_scored_and_saved(better, config, tones, tmp_path, monkeypatch):
    made, real = [], FinetuneWork.validate

    def rigged(self, step):
        is_average = self.model is self.average.average
        _, metrics = real(self, step)
        made.append(self)
        score = 0.1 if is_average == (better == AVERAGE) else 0.2
        return score, metrics | {"cer": score}

    monkeypatch.setattr(FinetuneWork, "validate", rigged)
    outcome = finetune(config, *some(tones), tmp_path)
    assert outcome.best_score == 0.1
    work, checkpoint = made[0], load_model(tmp_path / "model")
    assert checkpoint.meta["weights"] == better
    assert checkpoint.meta["valid"]["cer"] == 0.1
    own = work.model if better == LAST else work.average.average
    saved = checkpoint.model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in own.state_dict().items())
    assert not torch.equal(work.model.head.linear.weight, work.average.average.head.linear.weight)


def test_a_run_that_was_stopped_has_the_same_average(config, tones, tmp_path):
    finetune(config, *some(tones), tmp_path)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000006")
    shutil.rmtree(tmp_path / "model")
    finetune(config, *some(tones), tmp_path)
    again = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    assert again["model.safetensors"] == whole["model.safetensors"]


def test_lora_is_merged_into_the_average_too(config, tones, tmp_path):
    speech = SpeechModel(config.model)
    names = {f"speech.{name}" for name in speech.state_dict()}
    lora = replace(config, learns="lora", loop=replace(config.loop, max_steps=2))
    finetune(lora, *some(tones), tmp_path, init=Checkpoint(speech))
    found = load_model(tmp_path).model.state_dict()
    assert {name for name in found if name.startswith("speech.")} == names


def test_the_average_is_not_shared_out(finetune_config):
    loop = replace(finetune_config.loop, parallel="fsdp")
    with pytest.raises(ValueError, match=r"ema_decay needs loop\.parallel ddp"):
        replace(finetune_config, ema_decay=0.9, loop=loop)
    with pytest.raises(ValueError, match="ema_decay must"):
        replace(finetune_config, ema_decay=1.0)


def test_a_model_names_the_folder_it_began_with(config, tones, tmp_path):
    finetune(config, *some(tones), tmp_path / "first")
    finetune(config, *some(tones), tmp_path / "second", init=load_model(tmp_path / "first"))
    assert "init_folder" not in load_model(tmp_path / "first").meta
    meta = load_model(tmp_path / "second").meta
    assert meta["init_folder"] == str(tmp_path / "first" / "best")
