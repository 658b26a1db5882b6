"""The fast forms of the network train as the plain ones do: the same curve over 200 updates."""

from dataclasses import replace

import pytest

from speechssl.runlog import read_metrics
from speechssl.training import pretrain_work as module
from speechssl.training.pretrain import PretrainConfig, preset, pretrain

UPDATES = 200


@pytest.fixture
def plain(monkeypatch):
    """Call it, and what runs from then on is written with PyTorch's own layers."""

    def switch() -> None:
        monkeypatch.setattr(module, "accelerate", lambda model: model)

    return switch


def config_of(size: str) -> PretrainConfig:
    """The run of a size in small, with `tiny`'s fixed targets: those that are drawn turn a rounding
    error into another target."""
    config = replace(preset(size), tasks=preset("tiny").tasks)
    loop = replace(config.loop, max_steps=UPDATES, num_validations=1, log_every=1, num_workers=0)
    return replace(config, batch_s=1.0, loop=loop, precision="fp32")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "tiny-conv"])
def test_two_hundred_updates(size, tones, tmp_path, plain):
    config = config_of(size)
    curves = []
    for name in ("fast", "plain"):
        if name == "plain":
            plain()
        pretrain(config, tones[0], tmp_path / name, valid_set=tones[1])
        metrics = read_metrics(tmp_path / name)
        curves.append([m["loss/total"] for m in metrics if "loss/total" in m])
    fast, slow = curves
    assert len(fast) == UPDATES
    assert sum(fast[-20:]) < 0.98 * sum(fast[:20])  # it learns
    assert fast[:20] == pytest.approx(slow[:20], rel=1e-4)
    # Rounding differs, and every update builds on it.
    assert fast == pytest.approx(slow, rel=0.02)
    assert sum(fast) == pytest.approx(sum(slow), rel=1e-3)
