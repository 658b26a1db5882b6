"""What a run will cost is measured before it starts, and changes nothing."""

import dataclasses
from dataclasses import replace
from datetime import datetime

import pytest
import torch

from speechssl.data.dataset import Waves
from speechssl.data.voice import VoiceConfig
from speechssl.device import Memory
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training import planner
from speechssl.training.budget import Budget
from speechssl.training.finetune import finetune
from speechssl.training.planner import Plan, describe, plan_run
from speechssl.training.pretrain import PretrainWork, pretrain
from speechssl.training.resume import newest_state
from tests.pretext.small import SMALL

CPU = torch.device("cpu")
NOW = datetime(2026, 1, 2, 23, 30)


@pytest.fixture
def work(tones, pretrain_config, tmp_path):
    waves = Waves.open(tones[0], tmp_path / "cache", 16000, False)
    torch.manual_seed(0)
    return PretrainWork(pretrain_config, SpeechModel(pretrain_config.model), waves, waves, CPU)


@pytest.fixture
def dataset(work):
    return work.dataset(work.valid_batches.waves, shuffle=True)


def test_a_plan_is_what_was_measured(work, dataset, pretrain_config):
    plan = plan_run(work, dataset, pretrain_config.loop, 6.0, CPU)
    assert plan.num_parameters == sum(p.numel() for p in work.modules.parameters())
    assert plan.state_bytes == 16 * plan.num_parameters
    assert (plan.batch_s, plan.longest_s) == (6.0, 1.0)
    frames, width = 25, pretrain_config.model.context.dim
    assert plan.bytes_per_s > 10 * 4 * frames * width  # a few tensors of each layer
    assert 0 < plan.update_s < 20
    twice = plan_run(work, dataset, replace(pretrain_config.loop, accumulate=4), 6.0, CPU)
    assert twice.updates_per_epoch == plan.updates_per_epoch / 4


@pytest.mark.parametrize("announce", [True, False])
@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_budget_begins_with_what_was_measured(
    kind, announce, tones, pretrain_config, finetune_config, tmp_path, monkeypatch
):
    begun = []
    real = Budget.first_plan
    monkeypatch.setattr(
        Budget, "first_plan", lambda self, update_s: begun.append(update_s) or real(self, update_s)
    )
    if kind == "pretrain":
        config = replace(pretrain_config, loop=replace(pretrain_config.loop, max_steps=1))
        pretrain(config, tones[0], tmp_path / "run", announce=announce)
        pretrain(config, tones[0], tmp_path / "run", announce=announce)  # goes on: no first plan
    else:
        config = replace(finetune_config, loop=replace(finetune_config.loop, max_steps=1))
        finetune(config, *tones, tmp_path / "run", announce=announce)
    (update_s,) = begun
    assert update_s > 0 if announce else update_s is None


def test_a_micro_batch_is_no_larger_than_all_recordings(work, dataset, pretrain_config):
    plan = plan_run(work, dataset, pretrain_config.loop, 1e9, CPU)
    lengths_s = dataset.plan.lengths_s
    assert lengths_s.sum() <= plan.batch_s <= 1.01 * lengths_s.max() * len(lengths_s)


def test_measuring_changes_nothing(work, dataset, pretrain_config):
    before = {k: v.clone() for k, v in work.modules.state_dict().items()}
    plan_run(work, dataset, pretrain_config.loop, 6.0, CPU)
    assert all(torch.equal(before[k], v) for k, v in work.modules.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in work.modules.parameters())


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_run_that_was_announced_is_the_same_run(
    kind, tones, pretrain_config, finetune_config, tmp_path, capsys
):
    run = {"pretrain": pretrain, "finetune": finetune}[kind]
    config = {"pretrain": pretrain_config, "finetune": finetune_config}[kind]
    config = replace(config, loop=replace(config.loop, max_steps=3, num_validations=1))
    states = []
    for announce in (False, True):
        out = tmp_path / str(announce)
        sets = {"valid_set": tones[1]} if kind == "pretrain" else {}
        given = (tones[0], out) if kind == "pretrain" else (*tones, out)
        run(config, *given, **sets, announce=announce)
        assert ("Parameters: " in capsys.readouterr().err) is announce
        states.append(newest_state(out).tensors())
        run(config, *given, **sets, announce=True)  # nothing is left to announce
        assert "Parameters: " not in capsys.readouterr().err
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


GIGA = 10**9
PLAN = Plan(
    num_parameters=GIGA // 16,
    num_learning=GIGA // 16,
    state_bytes=GIGA,
    bytes_per_s=0.1 * GIGA,
    batch_s=80.0,
    longest_s=15.0,
    crops=True,
    free=Memory(4 * GIGA, 8 * GIGA),
    update_s=2.0,
    updates_per_epoch=100,
)


def test_what_does_not_fit_is_refused_with_what_does():
    with pytest.raises(ValueError, match=r"80 s needs about 9.2 GB .* 4 GB are free") as caught:
        planner._check_fits(PLAN, accumulate=3)
    assert "--batch_s 20 --loop.accumulate 12:" in str(caught.value)
    fits = dataclasses.replace(PLAN, batch_s=20.0)
    planner._check_fits(fits, accumulate=12)


def test_a_short_crop_is_proposed_where_one_utterance_is_too_long():
    plan = dataclasses.replace(PLAN, free=Memory(2 * GIGA, 8 * GIGA))
    with pytest.raises(ValueError, match=r"--batch_s 5 --loop.accumulate 16 --max_crop_s 5: as"):
        planner._check_fits(plan, accumulate=1)


@pytest.mark.parametrize(("free", "crops"), [(1.0, True), (2.0, False)])
def test_a_model_that_is_too_large_at_all(free, crops):
    plan = dataclasses.replace(PLAN, free=Memory(int(free * GIGA), 8 * GIGA), crops=crops)
    with pytest.raises(ValueError, match="at a time fit: take a smaller --size"):
        planner._check_fits(plan, accumulate=1)


def test_a_run_is_refused_before_it_is_tried(work, dataset, pretrain_config, monkeypatch):
    monkeypatch.setattr(planner, "memory", lambda _: Memory(10**6, 10**9))
    monkeypatch.setattr(planner, "_seconds", lambda *_: pytest.fail("tried"))
    with pytest.raises(ValueError, match="A micro-batch of 6 s needs about"):
        plan_run(work, dataset, pretrain_config.loop, 6.0, CPU)


def test_the_plan_for_a_person(pretrain_config):
    loop = replace(pretrain_config.loop, max_steps=900, accumulate=2)
    told = describe(PLAN, loop, NOW)
    assert "Parameters: 62.5 M." in told
    assert "9.2 GB: 1 GB for weights" in told
    assert "2 s an update of 2 x 80 s" in told
    assert "End: 00:00" not in told
    assert "End: Sat 03 Jan 00:00, after 30 min and about 900 updates" in told
    assert "about 9 epochs" in told
    frozen = dataclasses.replace(PLAN, num_learning=10**6)
    assert "Parameters: 62.5 M, of which 1 M learn." in describe(frozen, loop, NOW)
    short = describe(PLAN, replace(loop, budget_minutes=10), NOW)
    assert "End: 23:40, after 10 min (budget 10 min) and about 285 updates" in short


def planned(config, tones, folder, batch_s=6.0):
    waves = Waves.open(tones[0], folder / "cache", 16000, False)
    work = PretrainWork(config, SpeechModel(config.model), waves, waves, CPU)
    return work, plan_run(work, work.dataset(waves, shuffle=True), config.loop, batch_s, CPU)


@pytest.mark.parametrize("slowest", [0.5, 0.8])
def test_slower_voices_are_planned_for(slowest, tones, pretrain_config, tmp_path):
    voice = VoiceConfig(speed_p=0.5, speed=(slowest, 1.1))
    _, usual = planned(pretrain_config, tones, tmp_path / "usual")
    _, slower = planned(replace(pretrain_config, voice=voice), tones, tmp_path / "slower")
    assert slower.longest_s == pytest.approx(usual.longest_s / slowest)
    assert slower.bytes_per_s == usual.bytes_per_s  # of the same second of audio
    assert slower.batch_s == 6.0
    _, one = planned(replace(pretrain_config, voice=voice), tones, tmp_path / "one", 1e-3)
    assert one.batch_s == slower.longest_s


def test_the_copy_of_a_moving_average_is_no_parameter_more(tones, pretrain_config, tmp_path):
    config = replace(pretrain_config, tasks=TaskConfigs((SMALL["bootstrap"],)))
    work, plan = planned(config, tones, tmp_path)
    held = sum(p.numel() for p in work.modules.parameters())
    learned = sum(p.numel() for p in work.modules.parameters() if p.requires_grad)
    assert plan.num_parameters == plan.num_learning == learned < held
    assert plan.state_bytes == 4 * held + 12 * learned  # the copies need memory all the same
