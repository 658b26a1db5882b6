"""The gradients of tasks on the shared model, and weights that make them even."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from speechssl.pretext.task import LossTerm
from speechssl.runlog import read_metrics
from speechssl.training.balance import Balance, describe_gradients, task_gradients
from speechssl.training.pretrain import pretrain
from tests.training.test_pretrain import steps_only, weights


def pulls(weights=(1.0, 1.0)):
    """A model of two weights, and the terms of two tasks."""
    model = nn.Linear(2, 1, bias=False)
    a, b = weights

    def terms():
        w = model.weight[0]
        return {
            "a": LossTerm(6 * w[0], "n", a, "a"),
            "a_more": LossTerm(2 * w[0], "n", 0.5 * a, "a"),
            "b": LossTerm(-30 * w[0] + 40 * w[1], "m", b, "b"),
        }

    return model, terms, {"n": 2.0, "m": 10.0}


def test_gradients_and_their_cosine_by_hand():
    model, terms, counts = pulls()
    grads = task_gradients(terms, counts, model)
    assert grads["a"].tolist() == [3.5, 0.0]
    assert grads["b"].tolist() == [-3.0, 4.0]
    found = describe_gradients(grads)
    assert found == pytest.approx(
        {"gradient/a": 3.5, "gradient/b": 5.0, "gradient/cosine/a/b": -0.6}
    )


def test_a_task_without_a_graph_pulls_at_nothing():
    model, terms, counts = pulls()
    constant = LossTerm(torch.ones(()), "m", 1.0, "b")
    found = describe_gradients(task_gradients(lambda: terms() | {"b": constant}, counts, model))
    assert found["gradient/b"] == found["gradient/cosine/a/b"] == 0


@pytest.mark.parametrize("proportion", [(1.0, 1.0), (2.0, 1.0)])
def test_norms_are_in_proportion_to_the_weights_and_their_sum_stays(proportion):
    model, terms, counts = pulls(proportion)
    weights = dict(zip("ab", proportion, strict=True))
    before = describe_gradients(task_gradients(terms, counts, model))
    balance = Balance(weights, "gradient")
    balance.follow(task_gradients(terms, counts, model))
    after = describe_gradients(task_gradients(lambda: balance.balanced(terms()), counts, model))
    ratio = after["gradient/a"] / after["gradient/b"]
    assert ratio == pytest.approx(proportion[0] / proportion[1])
    assert after["gradient/a"] + after["gradient/b"] == pytest.approx(
        before["gradient/a"] + before["gradient/b"]
    )


def test_nothing_is_balanced_before_it_is_measured_and_idle_tasks_never():
    _, terms, _ = pulls()
    now = terms()
    assert Balance({"a": 1.0, "b": 1.0}, "gradient").balanced(now) == now
    balance = Balance({"a": 1.0, "b": 0.0}, "gradient")
    balance.follow({"a": torch.ones(3), "b": torch.zeros(3)})
    assert balance.factors().tolist() == [1.0, 1.0]


def test_measurements_are_averaged():
    balance = Balance({"a": 1.0}, "gradient")
    balance.follow({"a": torch.tensor([1.0])})
    balance.follow({"a": torch.tensor([2.0])})
    assert balance.norms.item() == pytest.approx(0.8 + 0.4)


def test_a_run_logs_and_resumes_its_balance(tones, pretrain_config, tmp_path, monkeypatch):
    from speechssl.training import balance
    from speechssl.training.pretrain import PretrainWork

    monkeypatch.setattr(balance, "_EVERY", 3)
    config = replace(pretrain_config, balance="gradient")
    pretrain(config, tones[0], tmp_path / "whole", valid_set=tones[1])
    metrics = read_metrics(tmp_path / "whole")
    (last,) = [m for m in metrics if "valid/loss" in m and m["step"] == 12]
    assert -1 <= last["valid/gradient/cosine/masked_units/reconstruction"] <= 1
    factors = [
        (m["balance/masked_units"], m["balance/reconstruction"])
        for m in metrics
        if "balance/masked_units" in m
    ]
    assert all(math.isfinite(f) and f > 0 for pair in factors for f in pair)
    assert factors[-1] != (1.0, 1.0)
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
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert "balance.norms" in one
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert steps_only(tmp_path / "whole") == steps_only(tmp_path / "broken")
