"""Settings that were asked for and change nothing are named."""

from dataclasses import replace

import pytest

from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training.alphabets import NO_ALPHABETS
from speechssl.training.built_tasks import build_tasks
from speechssl.training.pretrain import pretrain
from speechssl.training.unused import unused_settings
from tests.pretext.small import SMALL


def named(config, names, given):
    """The sentences for a run of these tasks."""
    model = config.model
    if any(name in ("future_frames", "future_units", "wav2vec") for name in names):
        model = replace(model, context=replace(model.context, causal=True), running_norm=True)
    config = replace(config, model=model, tasks=TaskConfigs(tuple(SMALL[name] for name in names)))
    tasks = build_tasks(config, SpeechModel(model), NO_ALPHABETS, 1)
    return unused_settings(config, tasks, given)


@pytest.mark.parametrize(
    ("tasks", "given", "expected"),
    [
        (
            ["future_frames"],
            ["distortion.noise.p", "mask.share", "noise-dir"],
            [
                "--distortion.noise.p, --noise-dir change nothing: the input of future_frames is "
                "clean.",
                "--mask.share changes nothing: future_frames does not use the masks of the run.",
            ],
        ),
        (
            ["temporal_gap"],
            ["mask.span", "distortion.noise.p"],
            ["--mask.span changes nothing: temporal_gap does not use the masks of the run."],
        ),
        (["future_frames", "temporal_gap"], ["rir_dir"], []),
        (["reconstruction"], ["mask.share", "distortion.pitch.p", "optim.lr"], []),
        (
            ["masked_units"],
            ["ema.start", "balance", "teacher-layer"],
            [
                "--ema.start changes nothing: masked_units does not use a moving average of the "
                "model.",
                "--balance changes nothing: it weighs several tasks, and masked_units is the only "
                "one.",
                "--teacher-layer changes nothing: no --teacher is named.",
            ],
        ),
        (["bootstrap"], ["ema.start"], []),
        (["masked_units", "reconstruction"], ["balance"], []),
        (["masked_units"], ["model.context.dropout", "batch_s"], []),
    ],
)
def test_what_no_task_uses_is_named(tasks, given, expected, pretrain_config):
    assert named(pretrain_config, tasks, given) == expected


def test_a_run_says_it_and_goes_on(tones, pretrain_config, tmp_path, capsys):
    config = replace(pretrain_config, loop=replace(pretrain_config.loop, max_steps=1))
    outcome = pretrain(
        replace(config, tasks=TaskConfigs((SMALL["masked_units"],))),
        tones[0][:8],
        tmp_path / "run",
        valid_set=tones[1][:4],
        given=["balance", "mask.share"],
    )
    assert outcome.steps == 1
    assert "--balance changes nothing" in capsys.readouterr().err
