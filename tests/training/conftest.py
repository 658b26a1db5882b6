"""A corpus that a tiny model can learn in seconds: each letter is a tone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechssl import audio
from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import Utterance
from speechssl.model.config import ContextConfig, FilterbankEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.rng import rng
from speechssl.text import CharTokenizer
from speechssl.training.finetune import FinetuneConfig
from speechssl.training.loop import LoopConfig
from speechssl.training.optim import OptimConfig
from speechssl.training.pretrain import PretrainConfig

TONES = {letter: 200 * 1.35**i for i, letter in enumerate("abcdef")}

MICRO = ModelConfig(
    encoder=FilterbankEncoderConfig(num_filters=24, stack=4),
    context=ContextConfig(
        dim=32,
        num_layers=2,
        num_heads=2,
        ffn_dim=64,
        norm_order="pre",
        pos_kernel=7,
        pos_groups=4,
        pos_norm=True,
        dropout=0.0,
        attention_dropout=0.0,
        layerdrop=0.0,
    ),
)


def tone_utterances(folder: Path, num: int, seed: int, num_letters: int = 5) -> list[Utterance]:
    made = []
    for index in range(num):
        generator = rng(seed, "tones", index)
        word = [" ".join("abcdef"[i] for i in generator.integers(0, 6, num_letters))][0].replace(
            " ", ""
        )
        pieces = []
        for letter in word:
            time = np.arange(int(0.16 * 16000)) / 16000
            tone = np.sin(2 * np.pi * TONES[letter] * time) * np.hanning(len(time))
            pieces += [0.3 * tone, np.zeros(int(0.04 * 16000))]
        wave = np.concatenate(pieces) + 0.003 * generator.standard_normal(sum(map(len, pieces)))
        path = folder / f"{seed}-{index}.wav"
        audio.write(path, wave.astype(np.float32), 16000)
        own = Utterance(f"{seed}-{index}", path, 0.0, len(wave) / 16000, 16000, None, word)
        made.append(replace(own, ipa=" ".join(word)))
    return made


def model_to_start_from(config: PretrainConfig) -> Checkpoint | None:
    """One that transcribes, for a run that keeps what it knows; None for other runs."""
    if not config.tasks.uses_recogniser:
        return None
    with torch.random.fork_rng():
        torch.manual_seed(5)
        tokenizer = CharTokenizer.train(["abcdef"])
        head = CTCHead(config.model.context.dim, tokenizer.vocab_size)
        torch.nn.init.normal_(head.linear.weight)
        torch.nn.init.zeros_(head.linear.bias)
        return Checkpoint(CTCModel(SpeechModel(config.model), head), tokenizer)


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> tuple[list[Utterance], list[Utterance]]:
    folder = tmp_path_factory.mktemp("tones")
    return tone_utterances(folder, 60, 0), tone_utterances(folder, 20, 1)


@pytest.fixture
def pretrain_config() -> PretrainConfig:
    config = PretrainConfig(
        model=MICRO,
        batch_s=6.0,
        optim=OptimConfig(lr=3e-3, warmup_steps=5),
        loop=LoopConfig(
            max_steps=12, num_validations=2, checkpoint_every=5, log_every=1, num_workers=0
        ),
        precision="fp32",
    )
    units = replace(config.tasks["masked_units"], num_units=16, target_dim=16)
    return replace(config, tasks=config.tasks.having(units))


@pytest.fixture
def finetune_config() -> FinetuneConfig:
    return FinetuneConfig(
        model=MICRO,
        batch_s=6.0,
        mask_share=0.0,
        channel_share=0.0,
        optim=OptimConfig(lr=5e-3, warmup_steps=20, clip_norm=1.0),
        loop=LoopConfig(max_steps=150, num_validations=10, log_every=1, num_workers=0),
        precision="fp32",
    )
