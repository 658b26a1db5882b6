"""Noise to pretrain on: every feature of a view is a little uncertain, so that a constant is what
two views agree on best. A task that nothing keeps from collapse then collapses in some 100
updates."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from speechssl import audio
from speechssl.data.distortion import none as no_distortion
from speechssl.data.distortion_config import NoiseConfig
from speechssl.data.manifest import Utterance
from speechssl.doctor import judge_run
from speechssl.model.ema import EMAConfig
from speechssl.pretext.task import MaskConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.rng import rng
from speechssl.runlog import read_metrics
from speechssl.training.loop import LoopConfig
from speechssl.training.optim import OptimConfig
from speechssl.training.pretrain import PretrainConfig, pretrain
from tests.training.conftest import MICRO


def noise_utterances(folder: Path, num: int, seed: int) -> list[Utterance]:
    """Of 0.8 s each."""
    made = []
    for index in range(num):
        wave = 0.1 * rng(seed, "noise", index).standard_normal(12_800).astype(np.float32)
        path = folder / f"{seed}-{index}.wav"
        audio.write(path, wave, 16_000)
        made.append(Utterance(f"{seed}-{index}", path, 0.0, 0.8, 16_000, None, None))
    return made


def train_on_noise(task, folder: Path, updates: int = 120):
    """``(verdict of the doctor, last validation)`` of a short run of one task."""
    white = NoiseConfig(p=1.0, snr_db=(6.0, 6.0), kinds=("white",))
    config = PretrainConfig(
        model=MICRO,
        tasks=TaskConfigs((task,)),
        mask=MaskConfig(share=0.1),
        ema=EMAConfig(start=0.9, end=0.9),
        distortion=replace(no_distortion(), noise=white),
        batch_s=3.2,
        optim=OptimConfig(lr=4e-3, warmup_steps=5, final_share=1.0),
        loop=LoopConfig(max_steps=updates, num_validations=2, log_every=10, num_workers=0),
        precision="fp32",
    )
    folder.mkdir(exist_ok=True)
    pretrain(
        config,
        noise_utterances(folder, 32, 0),
        folder / "run",
        valid_set=noise_utterances(folder, 8, 1),
    )
    last = [line for line in read_metrics(folder / "run") if "valid/loss" in line][-1]
    return judge_run(folder / "run"), last
