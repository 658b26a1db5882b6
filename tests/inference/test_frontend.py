"""The front end: what it computes, what learns, what is kept."""

import numpy as np
import pytest
import torch

import speechssl
from speechssl import shapes
from speechssl.checkpoint import load_model
from speechssl.inference.frontend import FrontEnd
from speechssl.rng import rng


@pytest.fixture(params=["speech", "conv"])
def checkpoint(request, tiny_models):
    return load_model(tiny_models[request.param])


@pytest.fixture
def waves():
    generator = rng(0, "waves")
    return [generator.normal(0, 0.1, num).astype(np.float32) for num in (8000, 16000, 3000)]


def test_it_is_the_mean_of_the_layers_at_first_and_a_chosen_one_later(checkpoint, waves):
    front = FrontEnd(checkpoint)
    wave, lengths = shapes.pad_waves(waves)
    features, frames = front(wave, lengths)
    assert features.shape == (3, int(frames.max()), front.dim)
    assert torch.equal(frames, checkpoint.speech.frame_lengths(lengths))
    for row, one in enumerate(waves):
        expected = speechssl.extract(checkpoint, one, weights="mean").frames
        found = features[row].detach().numpy()
        assert np.allclose(found[: len(expected)], expected, atol=2e-5)
        assert not found[len(expected) :].any()
    front.layer_logits.data = torch.tensor([0.0, 100.0, 0.0])
    features, _ = front(wave, lengths)
    expected = speechssl.extract(checkpoint, waves[1], layer=1).frames
    assert np.allclose(features[1].detach().numpy(), expected, atol=2e-5)
    assert front.layer_weights == pytest.approx([0.0, 1.0, 0.0])


def learn(front, waves):
    """One step down the sum of squares of a first frame."""
    optimizer = torch.optim.SGD([p for p in front.parameters() if p.requires_grad], lr=0.01)
    front.train()
    features, _ = front(*shapes.pad_waves(waves))
    features[:, 0].square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("trainable", [False, True])
def test_what_learns(checkpoint, waves, trainable):
    front = FrontEnd(checkpoint, trainable=trainable)
    before = {name: value.clone() for name, value in front.state_dict().items()}
    original = {name: value.clone() for name, value in checkpoint.speech.state_dict().items()}
    learn(front, waves)
    changed = {n for n, value in front.state_dict().items() if not torch.equal(value, before[n])}
    assert "layer_logits" in changed
    assert ("speech.project.weight" in changed) is trainable
    assert trainable or changed == {"layer_logits"}
    assert any(module.training for module in front.speech.modules()) is trainable
    for name, value in checkpoint.speech.state_dict().items():
        assert torch.equal(value, original[name])


def test_the_state_comes_back(checkpoint, waves, tmp_path):
    front = FrontEnd(checkpoint, trainable=True)
    learn(front, waves)
    torch.save(front.state_dict(), tmp_path / "front.pt")
    again = FrontEnd(checkpoint)
    again.load_state_dict(torch.load(tmp_path / "front.pt", weights_only=True))
    batch = shapes.pad_waves(waves)
    assert torch.equal(again(*batch)[0], front.eval()(*batch)[0])


def test_it_is_part_of_the_package():
    assert speechssl.FrontEnd is FrontEnd
    with pytest.raises(AttributeError, match="BackEnd"):
        _ = speechssl.BackEnd
