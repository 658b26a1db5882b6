"""The weights of products in bfloat16, as all processes of a command share them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from speechssl.checkpoint import load_model, save_model, write_tensors
from speechssl.inference import shared_weights
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import log_probs, transcribe_files
from speechssl.model.fast.accelerate import accelerate
from speechssl.rng import rng


@pytest.fixture
def counts_as_large(monkeypatch):
    monkeypatch.setattr(shared_weights, "fills_the_cpu", lambda _: True)


def noise(seconds: float) -> np.ndarray:
    return rng(0, "noise").normal(0, 0.1, int(16000 * seconds)).astype(np.float32)


@pytest.mark.usefixtures("counts_as_large")
@pytest.mark.parametrize("name", ["ctc", "conv"])
def test_the_numbers_are_the_same_to_the_last_bit(name, tiny_models):
    own = accelerate(load_model(tiny_models[name]).model)
    with shared_weights.shared_weights(own, "bf16") as path:
        taken = shared_weights.with_weights(own, path)
        found = [log_probs(model, [noise(2.0)], "bf16")[0] for model in (own, taken)]
    assert torch.equal(*found)
    shared = [n for n, p in taken.named_parameters() if p.dtype == torch.bfloat16]
    assert len(shared) == 12  # of two layers: query, key, value, output, and both of the network
    assert all(p.dtype == torch.float32 for p in own.parameters())
    assert taken.head.linear.weight is own.head.linear.weight
    assert not path.parent.exists()


@pytest.mark.usefixtures("counts_as_large")
def test_another_model_would_be_heard(tiny_models):
    """Else the test above could not fail."""
    own, other = (accelerate(load_model(tiny_models["conv"]).model) for _ in range(2))
    with torch.no_grad():
        other.speech.context.layers[1].ffn_out.weight.mul_(1.5)
    with shared_weights.shared_weights(other, "bf16") as path:
        taken = shared_weights.with_weights(own, path)
        found = [log_probs(model, [noise(2.0)], "bf16")[0] for model in (own, taken)]
    assert not torch.equal(*found)


@pytest.mark.usefixtures("counts_as_large")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_precisions_share_nothing(precision, tiny_models):
    model = load_model(tiny_models["conv"]).model
    with shared_weights.shared_weights(model, precision) as path:
        assert path is None


def test_a_small_model_shares_nothing(tiny_models):
    with shared_weights.shared_weights(load_model(tiny_models["conv"]).model, "bf16") as path:
        assert path is None


@pytest.mark.usefixtures("counts_as_large")
def test_no_room_on_the_disk(tiny_models, monkeypatch):
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(shared_weights, "write_tensors", full)
    with shared_weights.shared_weights(load_model(tiny_models["conv"]).model, "bf16") as path:
        assert path is None


@pytest.mark.usefixtures("counts_as_large")
def test_two_processes_write_what_one_does(tiny_models, record, tmp_path, monkeypatch):
    """And the file is gone afterwards."""
    checkpoint = load_model(save_model(tmp_path / "model", load_model(tiny_models["conv"])))
    clips = [Clip(f"{i}", record(f"{i}.wav", 1.0 + 0.3 * i)) for i in range(6)]
    written: list[Path] = []

    def write(tensors, path):
        written.append(path)
        write_tensors(tensors, path)

    monkeypatch.setattr(shared_weights, "write_tensors", write)
    found = [
        list(
            transcribe_files(
                checkpoint,
                clips,
                source=str(tmp_path / "model"),
                precision="bf16",
                batch_s=2.0,
                processes=processes,
                say=print,
            )
        )
        for processes in (1, 2)
    ]
    assert found[0] == found[1]
    assert any(each.words for each in found[0])
    assert len(written) == 1
    assert not written[0].parent.exists()
