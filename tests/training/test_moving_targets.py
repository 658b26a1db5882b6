"""A loss whose targets are the model's own neither chooses the best model nor shows overfitting."""

import math
from dataclasses import replace

import pytest

from speechssl.pretext.layers import signals_at_layers
from speechssl.pretext.tasks import TASKS, TaskConfigs
from speechssl.training.pretrain import PretrainWork, pretrain
from speechssl.training.pretrain_work import comparable_loss
from speechssl.training.verdict import judge
from tests.pretext.small import SMALL

MOVING = {"bootstrap", "direct_pred"}


def of(*names):
    return TaskConfigs(tuple(SMALL[name] for name in names))


def test_which_tasks_have_moving_targets():
    assert {name for name, config in TASKS.items() if config.moving_targets} == MOVING


@pytest.mark.parametrize("name", sorted(MOVING))
def test_the_newest_model_of_a_run_of_moving_targets_is_its_best(
    name, tones, pretrain_config, tmp_path, monkeypatch
):
    scores, validate = [], PretrainWork.validate

    def noted(self, step):
        score, metrics = validate(self, step)
        scores.append(score)
        return score, metrics

    monkeypatch.setattr(PretrainWork, "validate", noted)
    config = replace(pretrain_config, tasks=of(name))
    outcome = pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1])
    assert len(scores) == 2
    assert all(math.isnan(score) for score in scores)
    assert outcome.best_step == outcome.steps == 12


def test_beside_a_task_with_fixed_targets_that_one_chooses():
    losses = {"bootstrap": 5.0, "masked_units": 2.0, "masked_units_feature_penalty": 0.25}
    tasks = dict.fromkeys(losses, "masked_units") | {"bootstrap": "bootstrap"}
    assert comparable_loss(losses, tasks, of("bootstrap", "masked_units")) == 2.25
    assert math.isnan(comparable_loss({"bootstrap": 5.0}, tasks, of("bootstrap")))
    fixed = {"masked_units": 2.0}
    assert comparable_loss(fixed, tasks, of("masked_units", "reconstruction")) == 2.0


def curves(name, train, valid):
    """The verdict on a run of one task, logged each ten updates."""
    logged = {"loss/total": train, f"loss/{name}": train}
    records = [
        {"step": 10 * (i + 1), **{metric: values[i] for metric, values in logged.items()}}
        for i in range(len(train))
    ]
    every = 10 * len(train) // len(valid)
    for k, value in enumerate(valid):
        records.append({"step": every * (k + 1), "valid/loss": value, f"valid/{name}": value})
    return [f.name for f in judge(records, {}, signals_at_layers(SMALL[name])).findings]


def test_a_rising_loss_of_moving_targets_is_no_divergence():
    rising = [0.5 + 0.02 * i for i in range(40)]
    assert "diverging" not in curves("bootstrap", rising, [0.6, 0.9, 1.2])
    assert "diverging" in curves("masked_units", rising, [0.6, 0.9, 1.2])


def test_a_rising_validation_of_moving_targets_is_no_overfitting():
    train, valid = [3.0 - 0.05 * i for i in range(40)], [1.5, 2.2, 3.0, 3.4]
    assert "overfitting" not in curves("direct_pred", train, valid)
    assert "overfitting" in curves("masked_units", train, valid)


def test_a_loss_that_is_no_number_is_divergence_of_any_task():
    train = [1.0] * 20 + [math.nan] * 20
    assert "diverging" in curves("bootstrap", train, [1.0, 1.0])
