import itertools

import pytest
import torch

from speechssl.training.optim import OptimConfig, Part, build_optimizer, lr_at, set_lr


@pytest.mark.parametrize("schedule", ["linear", "cosine", "tri_stage"])
def test_every_schedule_warms_up_and_ends_at_its_final_share(schedule):
    config = OptimConfig(lr=1.0, schedule=schedule, warmup_steps=10, final_share=0.1)
    rates = [lr_at(config, step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.109)
    assert max(rates) == pytest.approx(1.0)
    assert rates[9] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, rel=0.02)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))


def test_tri_stage_holds():
    config = OptimConfig(lr=1.0, schedule="tri_stage", warmup_steps=100, hold_share=0.4)
    assert lr_at(config, 499, 1000) == 1.0
    assert lr_at(config, 600, 1000) < 1.0


def test_a_short_run_has_a_short_warmup():
    config = OptimConfig(lr=1.0, warmup_steps=10_000)
    assert max(lr_at(config, step, 50) for step in range(50)) == pytest.approx(1.0)


def test_decay_is_for_matrices_and_rates_are_scaled():
    a, b = torch.nn.Linear(2, 3), torch.nn.LayerNorm(3)
    config = OptimConfig(weight_decay=0.5)
    optimizer = build_optimizer(config, [Part((a,)), Part((b,), 0.1)])
    decays = {
        tuple(p.shape): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]
    }
    assert decays == {(3, 2): 0.5, (3,): 0.0}
    set_lr(optimizer, 2.0)
    assert sorted({g["lr"] for g in optimizer.param_groups}) == [0.2, 2.0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0.0),
        ("schedule", "noam"),
        ("warmup_steps", -1),
        ("hold_share", 1.5),
        ("clip_norm", 0.0),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(ValueError, match=f"optim.{field}"):
        OptimConfig(**{field: value})
