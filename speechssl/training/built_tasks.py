"""The tasks of a run, built, fitted to its data, and joined with the model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from speechssl import distributed
from speechssl.data.dataset import Waves
from speechssl.interop.sources import open_model
from speechssl.model.ema import EMA
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.task import Resources
from speechssl.pretext.tasks import Tasks
from speechssl.pretext.teacher import Teacher
from speechssl.rng import rng, torch_seed
from speechssl.training.alphabets import Alphabets
from speechssl.training.units import single_inputs

if TYPE_CHECKING:
    from speechssl.training.pretrain import PretrainConfig

_FIT_AUDIO_S = 1800.0
"""Seconds of audio to which tasks are fitted."""


def build_tasks(
    config: "PretrainConfig", model: SpeechModel, alphabets: Alphabets, num_corpora: int
) -> Tasks:
    """The tasks of a run, with fresh heads."""
    return Tasks(
        config.tasks, model, _resources(config, alphabets, load_teacher(config), num_corpora)
    )


def check_tasks(config: "PretrainConfig", model: SpeechModel, alphabets: Alphabets) -> Tasks:
    """The tasks with other heads than those of the run; ValueError where one does not fit the
    model, before any recording is decoded."""
    with torch.random.fork_rng(devices=[]):  # the heads of the run are drawn later
        return Tasks(config.tasks, model, _resources(config, alphabets, None, 1))


def _resources(
    config: "PretrainConfig", alphabets: Alphabets, teacher: Teacher | None, num_corpora: int
) -> Resources:
    return Resources(
        teacher,
        config.ema,
        alphabets.text,
        alphabets.phones,
        alphabets.recogniser,
        num_corpora,
    )


def build_modules(tasks: Tasks, model: SpeechModel) -> tuple[nn.ModuleDict, EMA | None]:
    """``(modules, ema)``: everything that a checkpoint holds, and the moving average of the model
    among it where a task looks at one."""
    modules = nn.ModuleDict({"model": model, **tasks.modules()})
    ema = EMA(model) if tasks.uses_ema else None
    if ema is not None:
        modules["ema"] = ema
    return modules, ema


def load_teacher(config: "PretrainConfig") -> Teacher | None:
    """The teacher of the config; None where it names none."""
    if config.teacher is None:
        return None
    speech = accelerate(open_model(config.teacher).speech)
    return Teacher(speech, config.teacher_layer, beside=config.teacher_beside)


def fit_tasks(tasks: Tasks, model: SpeechModel, waves: Waves, seed: int) -> None:
    """Let the first process fit each task to half an hour of clean audio, drawn from the training
    set; all processes then have its buffers."""

    def sample() -> Iterator[Inputs]:
        spent = 0.0
        for item in rng(seed, "codes").permutation(len(waves.utterances)).tolist():
            wave = waves.wave(item)
            yield single_inputs(model, wave, torch.device("cpu"))
            spent += len(wave) / waves.sample_rate
            if spent > _FIT_AUDIO_S:
                return

    @torch.no_grad()
    def fitted() -> dict[str, dict[str, Tensor]]:
        for task in tasks:
            task.fit(sample(), torch_seed(seed, "codes"))
        return {task.name: dict(task.named_buffers()) for task in tasks}

    buffers = distributed.broadcast(fitted)
    for task in tasks:
        for name, buffer in task.named_buffers():
            buffer.copy_(buffers[task.name][name])
