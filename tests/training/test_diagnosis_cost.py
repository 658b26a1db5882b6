"""benchmarks/diagnosis_cost.py, and that looking at a run does not change it."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from benchmarks.diagnosis_cost import Stopwatch, counting, share
from speechssl.data.dataset import Waves
from speechssl.model.speech_model import SpeechModel
from speechssl.training import pretrain_work
from speechssl.training.diagnosis import gradient_norms
from speechssl.training.pretrain import PretrainWork


def test_each_measure_counts_as_often_as_it_is_made():
    facts = {"update_s": 0.5, "numbers_s": 0.001, "norms_s": 0.01, "health_s": 1.0}
    assert share(facts, log_every=20, valid_every=500) == pytest.approx(
        (0.001 + 0.0005 + 0.002) / 0.5
    )


@pytest.mark.parametrize("task", ["masked_units", "contrastive"])
def test_an_update_that_is_looked_at_is_the_same(task, tones, pretrain_config, tmp_path):
    config = replace(pretrain_config, tasks=pretrain_config.tasks.chosen([task, "reconstruction"]))
    waves = Waves.open(tones[0], tmp_path / "cache", 16000, False)
    torch.manual_seed(0)
    work = PretrainWork(config, SpeechModel(config.model), waves, waves, torch.device("cpu"))
    batch = work.dataset(waves, shuffle=True)[0]
    parameters = list(work.modules.parameters())

    def gradients(change):
        work.modules.zero_grad()
        with counting(change):
            logged = work.backward(0, 10, [batch])
        return logged, [p.grad.clone() for p in parameters]

    watch = Stopwatch()
    bare, without = gradients(lambda _: lambda *_: ({}, {}))
    full, looked_at = gradients(watch.on)
    norms = gradient_norms(work.modules)
    assert f"{task}/accuracy" in full.keys() - bare.keys()
    assert watch.take() > 0 == watch.take()
    assert norms.keys() == {f"grad_norm/{p}" for p in (*PARTS, task)}
    assert all(torch.equal(a, b) for a, b in zip(without, looked_at, strict=True))
    assert all(torch.equal(a, p.grad) for a, p in zip(without, parameters, strict=True))


PARTS = ("encoder", "project", "context", "reconstruction")


def test_gradients_of_a_validation_are_taken_where_cudnn_allows_it(
    tones, pretrain_config, tmp_path, monkeypatch
):
    """cuDNN goes back through recurrent layers in training mode alone; nothing else is in it, and
    no number is another one for it."""
    model = replace(
        pretrain_config.model,
        context=replace(pretrain_config.model.context, upper="gru", local_layers=1),
    )
    waves = Waves.open(tones[0], tmp_path / "cache", 16000, False)
    torch.manual_seed(0)
    config = replace(pretrain_config, model=model)
    work = PretrainWork(config, SpeechModel(model), waves, waves, torch.device("cpu"))
    work.modules.eval()
    recurrent = [m for m in work.modules.modules() if isinstance(m, torch.nn.RNNBase)]
    assert recurrent
    modes = []
    work.model.context.register_forward_hook(
        lambda context, *_: modes.append((context.training, {m.training for m in recurrent}))
    )
    found = work.gradients(0)
    assert set(map(str, modes)) == {"(False, {True})"}
    assert not any(module.training for module in work.modules.modules())
    monkeypatch.setattr(pretrain_work, "_recurrent_layers_go_back", lambda _: nullcontext())
    assert work.gradients(0) == found
