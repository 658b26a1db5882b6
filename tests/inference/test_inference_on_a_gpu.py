"""Transcripts and features on a GPU are those of the CPU."""

import numpy as np
import pytest
import torch

from speechssl.checkpoint import load_model
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import transcribe_all
from speechssl.rng import rng

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def clips():
    generator = rng(0, "gpu-clips")
    lengths = [400, 16000, 30000, 47123]
    return [Clip(f"{n}", generator.uniform(-0.3, 0.3, n).astype(np.float32)) for n in lengths]


@pytest.mark.parametrize("name", ["ctc", "conv"])
@pytest.mark.parametrize("beam", [False, True])
def test_transcripts_are_those_of_the_cpu(name, beam, tiny_models, clips, monkeypatch):
    texts = []
    for device in ("cpu", "cuda"):
        checkpoint = load_model(tiny_models[name])
        _, tokenizer = checkpoint.require_ctc()
        decode = {"decode": BeamDecoder(tokenizer, BeamConfig(), None)} if beam else {}
        with monkeypatch.context() as patch:
            if device == "cpu":
                patch.setattr(torch.cuda, "is_available", lambda: False)
            texts.append([t.text for t in transcribe_all(checkpoint, clips, **decode)])
        assert next(checkpoint.model.parameters()).device.type == device
    assert texts[0] == texts[1]
    assert any(texts[0])


def test_8_bits_are_refused_in_a_sentence(tiny_models, clips):
    with pytest.raises(ValueError, match="int8 is for a CPU"):
        list(transcribe_all(load_model(tiny_models["ctc"]), clips, precision="int8"))
