"""A pretext task that stands in this file alone: trained, resumed, logged, judged and drawn.

This is the proof that a new task needs its file, its test and one line in tasks.py, and nothing
else: no word of the package is changed here but that line.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from speechssl.cli import main
from speechssl.config.json import override
from speechssl.data.manifest import write_manifest
from speechssl.doctor import describe_run, judge_run
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import LossTerm, Panel, PretextTask, TaskConfig, TaskLoss, View
from speechssl.pretext.tasks import TASKS, TaskConfigs
from speechssl.report.page import write_report
from speechssl.runlog import read_metrics
from speechssl.training.pretrain import PretrainWork, pretrain
from tests.training.test_pretrain import steps_only, weights

# ---- the task -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoudnessConfig(TaskConfig):
    """How loud each masked frame of the clean wave is."""

    name: ClassVar[str] = "loudness"
    weight: float = 1.0

    @property
    def signals(self):
        return (
            Signal(
                "loudness",
                "loudness error",
                "Squared, of masked frames.",
                training="loss/loudness",
                chance="loudness/chance",
                chance_of="the mean loudness",
            ),
        )

    def build(self, model, _resources):
        return Loudness(model, self.weight)


class Loudness(PretextTask):
    """Mean square error of the first value of the log-mel features' mean."""

    name, title = "loudness", "loudness of masked frames"

    def __init__(self, model, weight):
        super().__init__()
        self.head, self.weight = nn.Linear(model.config.context.dim, 1), weight

    def counts(self, x):
        return {"masked": int(x.mask().sum())}

    def forward(self, x):
        mask = x.mask()
        target = x.features("logmel").mean(2)[mask]
        error = (self.head(x.encode().context.float())[:, :, 0][mask] - target).square()
        metrics = {"loudness/chance": target.square().mean()}
        return TaskLoss({"loudness": LossTerm(error.sum(), "masked", self.weight)}, metrics)

    def panels(self, x):
        return (Panel("", f"The loudest frame is {int(x.features('logmel').mean(2).argmax())}."),)


# ---- what becomes of it -------------------------------------------------------------------------


@pytest.fixture
def config(pretrain_config, monkeypatch):
    monkeypatch.setitem(TASKS, "loudness", LoudnessConfig)  # the one line
    return replace(pretrain_config, tasks=TaskConfigs((LoudnessConfig(),)))


def test_it_trains_and_is_logged(config, tones, tmp_path):
    config = replace(config, loop=replace(config.loop, max_steps=60))
    pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1])
    metrics = read_metrics(tmp_path / "run")
    losses = [m["loss/loudness"] for m in metrics if "loss/loudness" in m]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert all("grad_norm/loudness" in m for m in metrics if "loss/loudness" in m)
    valid = [m for m in metrics if "valid/loudness" in m]
    assert len(valid) == 2
    assert valid[-1]["valid/loss"] == valid[-1]["valid/loudness"]


def test_it_resumes_exactly(config, tones, tmp_path, monkeypatch):
    pretrain(config, tones[0], tmp_path / "whole", valid_set=tones[1])
    real = PretrainWork.backward

    def dies(self, step, max_steps, batches):
        if step == 8:
            raise RuntimeError("killed")
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", dies)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(config, tones[0], tmp_path / "broken", valid_set=tones[1])
    monkeypatch.setattr(PretrainWork, "backward", real)
    pretrain(config, tones[0], tmp_path / "broken", valid_set=tones[1])
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert "loudness.head.weight" in whole
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert steps_only(tmp_path / "whole") == steps_only(tmp_path / "broken")


@pytest.mark.parametrize(("lr", "name"), [(1e-12, "at chance"), (3e-3, "healthy")])
def test_the_doctor_judges_it(lr, name, config, tones, tmp_path):
    loop = replace(config.loop, max_steps=60, log_every=10)
    config = replace(config, optim=replace(config.optim, lr=lr), loop=loop)
    pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1])
    verdict = judge_run(tmp_path / "run")
    assert verdict.name == name
    assert "loudness error" in dict(verdict.measures)
    if name == "at chance":
        assert "the mean loudness" in describe_run(tmp_path / "run").replace("\n", " ")


def test_the_report_draws_it(config, tones, tmp_path):
    pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1])
    html = write_report([tmp_path / "run"], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Loudness error" in html
    assert "run, chance:" in html
    assert "The loudest frame is" in html


def test_it_is_chosen_on_the_command_line(config, tones, tmp_path):
    write_manifest(tmp_path / "train.jsonl", tones[0][:12])
    small = ["--max-steps", "1", "--loop.num-workers", "0", "--precision", "fp32"]
    command = ["pretrain", "--train", tmp_path / "train.jsonl", "--out", tmp_path / "run", *small]
    assert main(list(map(str, [*command, "--tasks", "loudness=2", "reconstruction"]))) == 0
    (line,) = [m for m in read_metrics(tmp_path / "run") if "valid/loudness" in m]
    parts = {k.removeprefix("valid/"): v for k, v in line.items()}
    rest = parts["reconstruction_logmel_masked"] + 0.2 * parts["reconstruction_logmel_unmasked"]
    assert parts["loss"] == pytest.approx(2 * parts["loudness"] + rest, rel=1e-5)
    assert override(config, [("loudness.weight", "3")]).tasks["loudness"].weight == 3


def test_a_task_may_have_views_of_its_own(config, tones, tmp_path, monkeypatch):
    """Here: the clean wave without masks."""
    needs = replace(Loudness.needs, views=(View("clean", None),))
    monkeypatch.setattr(Loudness, "needs", needs)
    monkeypatch.setattr(
        Loudness,
        "forward",
        lambda self, x: TaskLoss(
            {
                "loudness": LossTerm(
                    self.head(x.encode(View("clean", None)).context).sum(), "masked", 1
                )
            }
        ),
    )
    short = replace(config, loop=replace(config.loop, max_steps=2))
    pretrain(short, tones[0], tmp_path / "run", valid_set=tones[1])
    assert not any("mask/share" in m for m in read_metrics(tmp_path / "run"))
