"""A step on a device never waits for it: on the meta device, which has shapes and no numbers, every
question that the host would have to ask is an error."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from speechssl.data.dataset import Waves
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training.pretrain import PretrainWork

PUBLISHED = ModelConfig(
    encoder=ConvEncoderConfig(dims=(16,) * 7),
    context=ContextConfig(
        dim=24, num_layers=2, num_heads=4, ffn_dim=40, pos_kernel=8, pos_groups=4, layerdrop=0.0
    ),
    latent_dropout=0.1,
)
GUMBEL = TaskConfigs(
    (
        ContrastiveConfig(target_dim=16, entries=12, num_negatives=5),
        ReconstructionConfig(),
    )
)


@pytest.fixture
def work(request, tones, pretrain_config, tmp_path):
    config = replace(pretrain_config, **request.param)
    waves = Waves.open(tones[0], tmp_path / "cache", 16000, False)
    torch.manual_seed(0)
    return PretrainWork(config, SpeechModel(config.model), waves, waves, torch.device("cpu"))


@pytest.mark.parametrize(
    "work",
    [{}, {"model": PUBLISHED, "tasks": GUMBEL, "encoder_grad_scale": 0.1}],
    indirect=True,
    ids=["kmeans", "gumbel"],
)
def test_forward_backward_and_update_ask_nothing(work, monkeypatch):
    dataset = work.dataset(work.valid_batches.waves, shuffle=True)
    batches = [dataset[index] for index in range(2)]
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    work.modules.to("meta")
    work.device = torch.device("meta")
    logged = work.backward(0, 10, batches)
    parameters = list(work.modules.parameters())
    assert all(p.grad is not None and p.grad.is_meta for p in parameters)
    assert logged["loss/total"].is_meta
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    torch.optim.AdamW(parameters, foreach=True).step()
    with pytest.raises(RuntimeError):  # what the test lives on
        float(norm)
