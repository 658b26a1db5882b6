"""Every pretext task as a run: it learns, resumes exactly, in both precisions, in two processes.

What a task does on a micro-batch is in tests/pretext/test_tasks.py.
"""

import math
from dataclasses import replace

import pytest
import torch

from speechssl.pretext.tasks import TASKS, TaskConfigs
from speechssl.runlog import read_metrics
from speechssl.training.pretrain import PretrainWork, pretrain
from tests.pretext.small import SMALL
from tests.training.conftest import model_to_start_from, tone_utterances
from tests.training.test_many_processes import assert_same, looped, smooth, together
from tests.training.test_pretrain import steps_only, weights


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Utterances of three seconds, for training and for validation, with transcripts."""
    folder = tmp_path_factory.mktemp("long-tones")
    return tone_utterances(folder, 12, 0, 15), tone_utterances(folder, 4, 1, 15)


def of_task(name, config):
    """The config with this task alone, on a causal model where it wants one."""
    config = looped(config, max_steps=4, checkpoint_every=2)
    model = config.model
    causal = replace(model, context=replace(model.context, causal=True), running_norm=True)
    return replace(
        config,
        model=causal if needs_causal(name) else model,
        tasks=TaskConfigs((SMALL[name],)),
        batch_s=9.0,
    )


def needs_causal(name):
    from tests.pretext.speech import model_and_task

    return model_and_task(SMALL[name], "filterbank")[1].needs.causal


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", TASKS)
def test_its_numbers_are_finite_and_named(name, precision, speech, pretrain_config, tmp_path):
    config = replace(of_task(name, pretrain_config), precision=precision)
    init = model_to_start_from(config)
    outcome = pretrain(config, speech[0], tmp_path / "run", valid_set=speech[1], init=init)
    assert all(math.isfinite(value) for value in outcome.metrics.values())
    logged = read_metrics(tmp_path / "run")
    for signal in config.tasks.signals:
        assert any(f"valid/{signal.metric}" in line for line in logged), signal.metric
        if signal.training:
            assert any(signal.training in line for line in logged), signal.training
        if signal.chance:
            assert any(f"valid/{signal.chance}" in line for line in logged), signal.chance


@pytest.mark.parametrize("name", TASKS)
def test_it_resumes_exactly(name, speech, pretrain_config, tmp_path, monkeypatch):
    config = of_task(name, pretrain_config)
    init = model_to_start_from(config)
    pretrain(config, speech[0], tmp_path / "whole", valid_set=speech[1], init=init)
    real = PretrainWork.backward

    def dies(self, step, max_steps, batches):
        if step == 3:
            raise RuntimeError("killed")
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", dies)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(config, speech[0], tmp_path / "broken", valid_set=speech[1], init=init)
    monkeypatch.setattr(PretrainWork, "backward", real)
    pretrain(config, speech[0], tmp_path / "broken", valid_set=speech[1], init=init)
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert steps_only(tmp_path / "whole") == steps_only(tmp_path / "broken")


@pytest.mark.distributed
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("name", TASKS)
def test_two_processes_are_one_with_accumulation(name, speech, pretrain_config, tmp_path):
    config = looped(smooth(of_task(name, pretrain_config)), max_steps=2)
    one, two, init = tmp_path / "one", tmp_path / "two", model_to_start_from(config)
    pretrain(looped(config, accumulate=2), speech[0], one, valid_set=speech[1], init=init)
    together(lambda: pretrain(config, speech[0], two, valid_set=speech[1], init=init))
    assert_same(one, two)
