"""The precision of inference where nobody names one.

A small model, and any on a GPU, takes float32: what it gives for a recording then does not depend
on what is in the batch. On a CPU each chunk of a model of some size is a batch anyway, so that the
fastest precision is taken (:mod:`speechssl.precision`).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import nn

from speechssl.config.json import to_json
from speechssl.device import has_bf16_units
from speechssl.inference.batching import (
    InferencePrecision,
    fills_the_cpu,
    pad_chunks,
    products,
)
from speechssl.model.config import nearest_size
from speechssl.model.fast.accelerate import accelerate, in_8_bits, int8_is_fast
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.precision import Choice, Pass, clock, find
from speechssl.rng import rng

CHUNK_S = 10.0
"""Seconds of audio in the chunk that is timed."""


def fitting_precision(
    model: SpeechModel | CTCModel, *, with_int8: bool = True
) -> InferencePrecision:
    """What ``auto`` is for a model, on its device: float32, or for a model of 20 M parameters or
    more on a CPU the fastest of the :func:`candidates`.

    Of several processes that work on one set of recordings one asks, and tells the others.
    """
    names = candidates(model, with_int8=with_int8)
    if len(names) == 1:
        return names[0]
    return cast(InferencePrecision, timed_choice(model, names).precision)


def candidates(model: nn.Module, *, with_int8: bool = True) -> tuple[InferencePrecision, ...]:
    """The precisions that ``auto`` may take, the most exact first. 8 bits, the least exact one, is
    among them on a CPU that has instructions for it (VNNI) and no tiles for bfloat16."""
    if not fills_the_cpu(model):
        return ("fp32",)
    device = next(model.parameters()).device
    if with_int8 and int8_is_fast(device) and not has_bf16_units(device):
        return ("fp32", "bf16", "int8")
    return ("fp32", "bf16")


def timed_choice(model: SpeechModel | CTCModel, names: tuple[InferencePrecision, ...]) -> Choice:
    """What is fastest for a chunk, measured now or earlier."""
    device = next(model.parameters()).device
    speech = model.speech if isinstance(model, CTCModel) else model
    what = {
        "label": f"transcription, {nearest_size(speech.config)}",
        "kind": "transcription",
        "settings": {"model": to_json(speech.config)},
    }
    return find(partial(passes, model), names, CHUNK_S, what, device)


@contextmanager
def passes(model: SpeechModel | CTCModel) -> Iterator[Pass]:
    """Chunks of noise through a model, which stays as it is; those of a pass are a batch."""
    was_training = model.training
    accelerate(model.eval())
    # With another object as its owner the copy in 8 bits goes when the timing ends.
    owner = copy.copy(model)
    device = next(model.parameters()).device
    config = (model.speech if isinstance(model, CTCModel) else model).config
    noise = rng(0, "precision").standard_normal(round(CHUNK_S * config.sample_rate))
    wave = (0.1 * noise).astype(np.float32)

    def run(precision: str, audio_s: float) -> float:
        name = cast(InferencePrecision, precision)
        used: nn.Module = in_8_bits(cast(CTCModel, owner)) if name == "int8" else model
        num = max(round(audio_s / CHUNK_S), 1)
        chunk = wave[: round(audio_s / num * config.sample_rate)]
        given, lengths = pad_chunks([chunk] * num, device)
        begun = clock(device)
        with torch.no_grad(), products(device, name):
            used(given, lengths)
        return clock(device) - begun

    try:
        yield run
    finally:
        model.train(was_training)
