"""Weights keep their names and shapes: a model folder or state written by version 0.1 opens."""

import hashlib
from dataclasses import replace

import pytest

from speechssl.model import config as sizes
from speechssl.model.config import ConvEncoderConfig, ModelConfig
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.speech_model import SpeechModel


def shrunken(size: str, **context) -> ModelConfig:
    config = sizes.size(size)
    narrow = {"dim": 32, "ffn_dim": 48, "num_heads": 4, "num_layers": 2}
    narrow["local_layers"] = min(config.context.local_layers, 1)
    encoder = config.encoder
    if isinstance(encoder, ConvEncoderConfig):
        encoder = replace(encoder, dims=(16,) * len(encoder.dims))
    changed = replace(config.context, **narrow, **context)
    return replace(config, context=changed, encoder=encoder)


FORMS = {
    "tiny": (shrunken("tiny"), 29, "bfdd66a6682accff"),
    "tiny-conv": (shrunken("tiny-conv"), 51, "6aab38518616193e"),
    "small": (shrunken("small"), 33, "3f5881fa828d8cd0"),
    "base": (shrunken("base"), 51, "6aab38518616193e"),
    "large": (shrunken("large"), 70, "accbb32f85eafa7d"),
    "WavLM": (shrunken("base", rel_buckets=320, adapter_dim=16), 70, "3444321cfe16adc1"),
    "data2vec": (shrunken("base", pos_stack=5, pos_kernel=19), 58, "e53a7c114af1c5c6"),
}
"""Of each form with two layers the number of tensors, and the digest of their names and shapes in
their order, which is also that of the optimizer's state; as version 0.1.0 had them."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("work", [lambda model: model, accelerate])
def test_names_shapes_and_order_are_those_of_version_0_1(form, work):
    config, number, digest = FORMS[form]
    lines = [f"{n} {tuple(v.shape)}" for n, v in work(SpeechModel(config)).state_dict().items()]
    assert len(lines) == number
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digest
