"""Pretraining end to end on tones, and the promises of the loop: exact resume, micro-batches,
faults."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from speechssl.checkpoint import load_model
from speechssl.config.json import from_json, override, to_json
from speechssl.data.index import Corpora
from speechssl.data.manifest import read_manifest
from speechssl.data.voice import VoiceConfig
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.tasks import TASKS
from speechssl.runlog import read_metrics
from speechssl.training import budget
from speechssl.training.loop import InterruptedRunError, NonFiniteLossError
from speechssl.training.pretrain import PretrainConfig, PretrainWork, pretrain
from tests.pretext.small import SMALL
from tests.pretext.speech import model_and_task
from tests.training.conftest import model_to_start_from


def weights(run):
    """Of the newest checkpoint; copies, since load_file may map the file."""
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    return {k: v.clone() for k, v in load_file(newest / "model.safetensors").items()}


def steps_only(run):
    """Metrics without what depends on the clock."""
    return [
        {k: v for k, v in m.items() if k != "time_s" and not k.startswith("speed/")}
        for m in read_metrics(run)
    ]


def test_both_losses_fall(tones, pretrain_config, tmp_path):
    config = replace(pretrain_config, loop=replace(pretrain_config.loop, max_steps=160))
    pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1])
    metrics = [m for m in read_metrics(tmp_path / "run") if "valid/loss" in m]
    chance = math.log(16)
    assert metrics[-1]["valid/masked_units"] < 0.8 * chance
    logged = [m for m in read_metrics(tmp_path / "run") if "loss/total" in m]
    rebuilt = "loss/reconstruction_logmel_unmasked"  # what is masked are random tones
    assert logged[-1][rebuilt] < 0.9 * logged[0][rebuilt]
    assert load_model(tmp_path / "run").meta["task"] == "pretrain"
    assert read_manifest(tmp_path / "run" / "valid.jsonl") == tones[1]


def test_codes_are_counted_at_each_validation(tones, pretrain_config, tmp_path):
    pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    counted = [m for m in read_metrics(tmp_path / "run") if "codes/masked_units/targets" in m]
    assert [m["step"] for m in counted] == [6, 12]
    assert counted[0]["codes/masked_units/targets"] == counted[1]["codes/masked_units/targets"]
    assert {len(m["codes/masked_units/predicted"]) for m in counted} == {16}
    assert (
        sum(counted[0]["codes/masked_units/targets"])
        == sum(counted[0]["codes/masked_units/predicted"])
        > 0
    )


@pytest.mark.parametrize("alone", TASKS)
def test_each_task_alone_is_a_configuration(alone, tones, pretrain_config, tmp_path):
    causal = model_and_task(SMALL[alone], "filterbank")[1].needs.causal
    model = pretrain_config.model
    config = replace(
        pretrain_config,
        model=replace(model, context=replace(model.context, causal=causal), running_norm=causal),
        loop=replace(pretrain_config.loop, max_steps=2),
        tasks=pretrain_config.tasks.chosen([alone]),
    )
    init = model_to_start_from(config)
    outcome = pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1], init=init)
    assert math.isfinite(outcome.metrics["loss"])


def test_a_second_round_on_the_codes_of_the_first(tones, pretrain_config, tmp_path):
    pretrain(pretrain_config, tones[0], tmp_path / "first", valid_set=tones[1])
    config = replace(pretrain_config, teacher=str(tmp_path / "first"), teacher_layer=1)
    outcome = pretrain(config, tones[0], tmp_path / "second", valid_set=tones[1])
    assert outcome.steps == config.loop.max_steps
    again = pretrain(config, tones[0], tmp_path / "second", valid_set=tones[1])  # nothing is left
    assert again.steps == outcome.steps
    with pytest.raises(ValueError, match="teacher_layer"):
        pretrain(replace(config, teacher_layer=9), tones[0], tmp_path / "x", valid_set=tones[1])


@pytest.mark.parametrize("voice", [VoiceConfig(), VoiceConfig(speed_p=0.5, pitch_p=0.5)])
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(
    voice, tones, pretrain_config, tmp_path, monkeypatch
):
    pretrain_config = replace(pretrain_config, voice=voice)
    pretrain(pretrain_config, tones[0], tmp_path / "whole", valid_set=tones[1])

    calls = 0
    real = PretrainWork.backward

    def dies(self, step, max_steps, batches):
        nonlocal calls
        calls += 1
        if calls == 9:
            raise RuntimeError("killed")
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", dies)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(pretrain_config, tones[0], tmp_path / "broken", valid_set=tones[1])
    pretrain(pretrain_config, tones[0], tmp_path / "broken", valid_set=tones[1])
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[k], broken[k]) for k in whole)
    assert steps_only(tmp_path / "whole") == steps_only(tmp_path / "broken")


def test_loader_processes_change_nothing(tones, pretrain_config, tmp_path):
    short = replace(pretrain_config.loop, max_steps=3)
    for workers in (0, 2):
        config = replace(pretrain_config, loop=replace(short, num_workers=workers))
        pretrain(config, tones[0], tmp_path / str(workers), valid_set=tones[1])
    a, b = weights(tmp_path / "0"), weights(tmp_path / "2")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_with_other_settings_is_not_gone_on_with(tones, pretrain_config, tmp_path):
    pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    other = replace(pretrain_config, optim=replace(pretrain_config.optim, lr=1e-4))
    with pytest.raises(ValueError, match=r"optim\.lr 0\.003 there, 0\.0001 now"):
        pretrain(other, tones[0], tmp_path / "run", valid_set=tones[1])


def test_a_loss_that_is_not_a_number_stops_before_the_step(
    tones, pretrain_config, tmp_path, monkeypatch
):
    real = PretrainWork.losses

    def poisoned(self, x):
        result = real(self, x)
        if x.batch.index == 5:
            name, term = next(iter(result.terms.items()))
            result.terms[name] = replace(term, total=term.total * float("nan"))
        return result

    monkeypatch.setattr(PretrainWork, "losses", poisoned)
    with pytest.raises(NonFiniteLossError, match=r"Step 6: .*loss/.*not finite.*0-\d+"):
        pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    assert all(torch.isfinite(v).all() for v in weights(tmp_path / "run").values())


def test_an_interrupt_saves_and_the_run_goes_on(tones, pretrain_config, tmp_path, monkeypatch):
    import os
    import signal

    pretrain(pretrain_config, tones[0], tmp_path / "whole", valid_set=tones[1])
    real = PretrainWork.backward

    def interrupted(self, step, max_steps, batches):
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", interrupted)
    with pytest.raises(InterruptedRunError, match="step 7 of 12"):
        pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    monkeypatch.undo()
    pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    whole, again = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(whole[k], again[k]) for k in whole)


def test_a_full_disk_while_saving_leaves_the_checkpoint_before(
    tones, pretrain_config, tmp_path, monkeypatch
):
    import errno

    from speechssl.training import resume

    real, calls = resume.write_tensors, 0

    def full(tensors, path):
        nonlocal calls
        calls += 1
        if calls == 3:  # the second checkpoint
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(resume, "write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    monkeypatch.undo()
    folders = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [f.name for f in folders] == ["step-00000005"]
    pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])


def test_a_damaged_newest_checkpoint_falls_back(tones, pretrain_config, tmp_path, capsys):
    pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    whole = weights(tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    (newest / "model.safetensors").write_bytes(b"damaged")
    pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    assert "is damaged" in capsys.readouterr().err
    again = weights(tmp_path / "run")
    assert all(torch.equal(whole[k], again[k]) for k in whole)


def test_micro_batches_are_one_batch(tones, pretrain_config, tmp_path, monkeypatch):
    """Gradients of two micro-batches equal those of both together (both losses, all weights)."""
    from speechssl.data.dataset import Batch, Waves
    from speechssl.model.speech_model import SpeechModel

    waves = Waves.open(tones[0], tmp_path / "cache", 16000, False)
    torch.manual_seed(0)
    work = PretrainWork(
        pretrain_config, SpeechModel(pretrain_config.model), waves, waves, torch.device("cpu")
    )
    parts = [work.dataset(waves, shuffle=True)[k] for k in (0, 1)]
    masks = [work.inputs(b).mask() for b in parts]
    whole = Batch(
        0,
        parts[0].ids + parts[1].ids,
        parts[0].texts + parts[1].texts,
        torch.cat([p.distorted for p in parts]),
        torch.cat([p.clean for p in parts]),
        torch.cat([p.lengths for p in parts]),
        parts[0].items + parts[1].items,
        parts[0].starts + parts[1].starts,
    )

    def gradients(batches, masks):
        work.modules.zero_grad()
        numbered = {id(b): m for b, m in zip(batches, masks, strict=True)}
        monkeypatch.setattr(Inputs, "_draw_mask", lambda self, _: numbered[id(self.batch)])
        work.backward(0, 10, batches)
        return torch.cat(
            [p.grad.flatten() for p in work.modules.parameters() if p.grad is not None]
        )

    split, joint = gradients(parts, masks), gradients([whole], [torch.cat(masks)])
    assert torch.allclose(split, joint, rtol=1e-4, atol=1e-6)
    assert float(joint.norm()) > 0


def test_the_budget_ends_the_run_in_time(tones, pretrain_config, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "_MEASURED_STEPS", 5)
    loop = replace(pretrain_config.loop, max_steps=100_000, budget_minutes=0.05)
    outcome = pretrain(
        replace(pretrain_config, loop=loop), tones[0], tmp_path / "run", valid_set=tones[1]
    )
    assert outcome.elapsed_s < 6.0  # the budget is 3 s; a busy machine gets some slack
    assert outcome.steps > 10
    rates = [m["lr"] for m in read_metrics(tmp_path / "run") if "lr" in m]
    assert rates[-1] < 0.3 * max(rates)  # the schedule ended with the run


def test_the_written_config_is_the_run(tones, pretrain_config, tmp_path):
    pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    data = json.loads((tmp_path / "run" / "config.json").read_text())
    assert from_json(PretrainConfig, data) == pretrain_config


def test_overrides_by_name():
    config = override(PretrainConfig(), [("optim.lr", "1e-4"), ("masked-units.num-units", "7")])
    assert config.optim.lr == 1e-4
    assert config.tasks["masked_units"].num_units == 7
    assert override(config, [("tasks.masked_units.num_units", "8")]).tasks[
        "masked_units"
    ] == replace(config.tasks["masked_units"], num_units=8)
    assert "reconstruction" not in override(PretrainConfig(), [("reconstruction", "null")]).tasks
    with pytest.raises(
        ValueError, match=r"contrastive is not a task of this run \(masked_units, rec"
    ):
        override(PretrainConfig(), [("contrastive.entries", "7")])
    with pytest.raises(ValueError, match=r"no setting 'optim.lrr'.*optim\.lr"):
        override(PretrainConfig(), [("optim.lrr", "1")])
    with pytest.raises(ValueError, match=r"optim\.lr must be a number .*, got 'fast'"):
        override(PretrainConfig(), [("optim.lr", "fast")])
    assert to_json(config)["optim"]["lr"] == 1e-4


def test_a_mix_without_a_cache_resumes_exactly(tones, pretrain_config, tmp_path, monkeypatch):
    train_set = Corpora([tones[0][:50], tones[0][50:]])
    config = replace(pretrain_config, mix_temperature=0.3, cache=False)
    loop = replace(config.loop, max_steps=6, checkpoint_every=2, num_validations=1)
    config = replace(config, loop=loop)
    heard = []
    real = PretrainWork.backward

    def backward(self, step, max_steps, batches):
        if step == 5 and len(heard) == 11:
            raise RuntimeError("killed")
        heard.append(batches[0].ids)
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", backward)
    pretrain(config, train_set, tmp_path / "whole", valid_set=tones[1])
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(config, train_set, tmp_path / "again", valid_set=tones[1])
    pretrain(config, train_set, tmp_path / "again", valid_set=tones[1])
    assert steps_only(tmp_path / "whole") == steps_only(tmp_path / "again")
    assert not (tmp_path / "whole" / "cache").exists()
    small = {f"2/{u.id}" for u in tones[0][50:]}
    corpora = {len(small.intersection(ids)) in (0, len(ids)) for ids in heard}
    assert corpora == {True}


def test_a_run_that_goes_on_is_not_profiled(tones, pretrain_config, tmp_path):
    """Its centroids are restored later: units computed before would be others."""
    short = replace(pretrain_config, loop=replace(pretrain_config.loop, max_steps=2))
    pretrain(short, tones[0], tmp_path / "run", valid_set=tones[1])
    with pytest.raises(ValueError, match="--profile measures a run that begins"):
        pretrain(short, tones[0], tmp_path / "run", valid_set=tones[1], profile=True)


def test_a_validation_that_is_not_a_number_is_never_the_best_for_long(
    tones, pretrain_config, tmp_path, monkeypatch
):
    real = PretrainWork.validate

    def first_is_nan(self, step):
        score, metrics = real(self, step)
        return (math.nan if step < 10 else score), metrics

    monkeypatch.setattr(PretrainWork, "validate", first_is_nan)
    outcome = pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    assert outcome.best_step == 12
    assert math.isfinite(outcome.best_score)


def test_the_best_model_is_chosen_by_a_named_metric(tones, pretrain_config, tmp_path, monkeypatch):
    real = PretrainWork.validate

    def falling_accuracy(self, step):
        score, metrics = real(self, step)
        return score, metrics | {"masked_units/accuracy": 1.0 / step}

    monkeypatch.setattr(PretrainWork, "validate", falling_accuracy)
    loop = replace(pretrain_config.loop, select_by="masked_units/accuracy")
    config = replace(pretrain_config, loop=loop)
    outcome = pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1])
    assert outcome.best_step == 6  # higher is better
    wrong = replace(config, loop=replace(loop, select_by="masked_units/acuracy"))
    with pytest.raises(ValueError, match=r"select_by 'masked_units/acuracy' is not a metric"):
        pretrain(wrong, tones[0], tmp_path / "wrong", valid_set=tones[1])


def test_a_task_that_does_not_fit_the_model_is_refused_before_anything_is_decoded(
    tones, pretrain_config, tmp_path, monkeypatch
):
    from speechssl.training import pretrain as module

    monkeypatch.setattr(module, "open_waves", lambda *_: pytest.fail("decoded"))
    units = pretrain_config.tasks["masked_units"]
    for tasks, said in (
        (pretrain_config.tasks.chosen(["future_frames"]), "must not see future frames"),
        (pretrain_config.tasks.having(replace(units, layers=(9,))), "layers must be from 0 to 2"),
    ):
        with pytest.raises(ValueError, match=said):
            pretrain(replace(pretrain_config, tasks=tasks), tones[0], tmp_path / "run")
