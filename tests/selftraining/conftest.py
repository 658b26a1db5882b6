"""Voices that sing: each letter is a tone, higher or lower by the voice, in noise. A few labels do
not cover the voices; a pool of others does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.checkpoint import load_model
from speechssl.data.manifest import Utterance
from speechssl.rng import rng
from speechssl.selftraining.config import SelfTrainConfig
from speechssl.selftraining.sets import Sets
from speechssl.training.finetune import FinetuneConfig, finetune
from speechssl.training.loop import LoopConfig
from speechssl.training.optim import OptimConfig
from tests.training.conftest import MICRO, TONES

UPDATES = 100


def voices(folder: Path, num: int, seed: int) -> list[Utterance]:
    """Five letters an utterance, with their transcripts."""
    made = []
    for index in range(num):
        generator = rng(seed, "voices", index)
        word = "".join("abcdef"[i] for i in generator.integers(0, 6, 5))
        height = generator.uniform(0.88, 1.14)
        pieces = []
        for letter in word:
            time_s = np.arange(int(generator.uniform(0.12, 0.2) * 16000)) / 16000
            tone = np.sin(2 * np.pi * TONES[letter] * height * time_s) * np.hanning(len(time_s))
            pieces += [0.2 * tone, np.zeros(int(0.04 * 16000))]
        wave = np.concatenate(pieces)
        wave += 0.02 * generator.standard_normal(len(wave))
        path = folder / f"{seed}-{index}.wav"
        audio.write(path, wave.astype(np.float32), 16000)
        made.append(Utterance(f"{seed}-{index}", path, 0.0, len(wave) / 16000, 16000, None, word))
    return made


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Sets:
    folder = tmp_path_factory.mktemp("voices")
    pool, labeled, valid = voices(folder, 80, 1), voices(folder, 12, 0), voices(folder, 30, 2)
    return Sets(tuple(pool), tuple(labeled), tuple(valid))


def tuning(max_steps: int) -> FinetuneConfig:
    """A fine-tuning of seconds."""
    return FinetuneConfig(
        model=MICRO,
        batch_s=6.0,
        dropout=0.1,
        mask_share=0.0,
        channel_share=0.0,
        optim=OptimConfig(lr=5e-3, warmup_steps=20, clip_norm=1.0),
        loop=LoopConfig(max_steps=max_steps, num_validations=2, log_every=10, num_workers=0),
        precision="fp32",
    )


@pytest.fixture(scope="session")
def teacher_folder(toy, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("teacher")
    finetune(tuning(UPDATES), toy.labeled, toy.valid, run)
    return run


@pytest.fixture
def teacher(teacher_folder):
    return load_model(teacher_folder)


@pytest.fixture
def config() -> SelfTrainConfig:
    """A round of seconds with a noisy student."""
    student = replace(tuning(UPDATES), speeds=(0.95, 1.0, 1.05), mask_share=0.1, ema_decay=0.99)
    return SelfTrainConfig(rounds=1, student=student)


@pytest.fixture
def short(config) -> SelfTrainConfig:
    """The same with students that learn next to nothing."""
    loop = replace(config.student.loop, max_steps=4, num_validations=1, checkpoint_every=2)
    return replace(config, student=replace(config.student, loop=loop))
