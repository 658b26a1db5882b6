"""Tiny models with random weights, and recordings of noise, for everything that uses a model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.rng import rng


@pytest.fixture(scope="session", autouse=True)
def _forks_may_train():
    """torch's autograd counts the devices when it is first used. Where an export or a compilation
    came before, it takes a CUDA for there that is not, starts a thread for it, and refuses to work
    in the processes that tests fork."""
    import torch

    torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture(scope="session", autouse=True)
def _package_without_seed(tmp_path_factory):
    """Tests begin from scratch, and give the package a seed of their own where they need one."""
    from speechssl import seed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seed, "FOLDER", tmp_path_factory.mktemp("package") / "seed")
        yield


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> dict[str, Path]:
    """Model folders: `ctc` and `conv` write (two kinds of encoder), `speech` is only pretrained."""
    import torch

    from speechssl.checkpoint import Checkpoint, save_model
    from speechssl.model.config import (
        ContextConfig,
        ConvEncoderConfig,
        FilterbankEncoderConfig,
        ModelConfig,
    )
    from speechssl.model.heads import CTCHead
    from speechssl.model.speech_model import CTCModel, SpeechModel
    from speechssl.text import CharTokenizer

    context = ContextConfig(
        dim=16, num_layers=2, num_heads=2, ffn_dim=32, pos_kernel=5, pos_groups=2, layerdrop=0.0
    )
    encoders = {
        "ctc": FilterbankEncoderConfig(num_filters=8, hop_samples=160, stack=2),
        "conv": ConvEncoderConfig(dims=(8,) * 7),
    }
    tokenizer = CharTokenizer.train(["abc déf"])
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    for name, encoder in encoders.items():
        speech = SpeechModel(ModelConfig(encoder=encoder, context=context))
        head = CTCHead(16, tokenizer.vocab_size)
        head.linear.weight.data *= 7  # so that frames differ, and the text with them
        head.linear.bias.data.zero_()
        save_model(folder / name, Checkpoint(CTCModel(speech, head), tokenizer))
        if name == "ctc":
            save_model(folder / "speech", Checkpoint(speech))
    return {name: folder / name for name in ("ctc", "conv", "speech")}


@pytest.fixture
def record(tmp_path) -> Callable[..., Path]:
    """``record("a.wav", 2.0)``: a recording of noise whose loudness changes, in `tmp_path`."""

    def make(name: str, duration_s: float, rate: int = 16000, channels: int = 1) -> Path:
        generator = rng(0, "noise", name)
        num = round(duration_s * rate)
        loudness = np.repeat(generator.uniform(0.01, 0.5, num // (rate // 8) + 1), rate // 8)[:num]
        wave = loudness[:, None] * generator.uniform(-1, 1, (num, channels))
        path = tmp_path / name
        audio.write(path, wave.astype(np.float32), rate)
        return path

    return make
