"""A compiled run computes what a plain one does."""

import shutil
from dataclasses import replace

import pytest
import torch

from speechssl.data.dataset import Waves
from speechssl.model.speech_model import SpeechModel
from speechssl.training.pretrain import PretrainWork


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_gradients_of_a_compiled_step(tones, pretrain_config, tmp_path):
    waves = Waves.open(tones[0], tmp_path / "cache", 16000, False)
    results = []
    for compiled in (False, True):
        config = replace(pretrain_config, compile=compiled)
        torch.manual_seed(0)
        work = PretrainWork(config, SpeechModel(config.model), waves, waves, torch.device("cpu"))
        batch = work.dataset(waves, shuffle=True)[0]
        logged = work.backward(0, 10, [batch])
        grads = {name: p.grad.clone() for name, p in work.modules.named_parameters()}
        results.append((float(logged["loss/total"]), grads))
    (plain_loss, plain), (loss, compiled_grads) = results
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert plain.keys() == compiled_grads.keys()  # the same names: the same checkpoints
    for name, grad in plain.items():
        torch.testing.assert_close(compiled_grads[name], grad, rtol=1e-3, atol=1e-5)
