"""The precision of a run: chosen when it begins, and the same to its end.

``auto`` times a step of the run's own model (:mod:`speechssl.precision`): forward and backward over
a made batch of the run's usual shape, on a copy. What is chosen takes the place of ``auto`` in the
run's config, so that a run that goes on elsewhere keeps its arithmetic.
"""

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from speechssl import distributed
from speechssl.config.json import to_json
from speechssl.device import Precision, autocast, has_bf16_units, pick_device
from speechssl.model.config import nearest_size
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.precision import Choice, Pass, clock, find, offered
from speechssl.rng import rng
from speechssl.training.states import newest_progress

Config = TypeVar("Config")


@dataclass(frozen=True)
class Step:
    """What is timed of a run."""

    kind: str
    """``pretraining`` or ``fine-tuning``."""
    model: Callable[[], SpeechModel | CTCModel]
    """Gives the model of the run; it may be the run's own, which stays as it is."""
    lengths_s: np.ndarray
    """(N,) seconds of the utterances, after cropping."""
    batch_s: float
    settings: Mapping[str, Any]
    """All else on which the speed of a step depends: the config of the model, and what learns."""
    encoder_grad_scale: float = 1.0

    @property
    def utterance_s(self) -> float:
        """Seconds of a usual utterance: the median."""
        return float(np.median(self.lengths_s)) if len(self.lengths_s) else 1.0

    @property
    def audio_s(self) -> float:
        """Seconds of audio in a usual micro-batch."""
        return max(min(self.batch_s, float(self.lengths_s.sum())), self.utterance_s)


def with_precision(
    config: Config, run: Path, device: torch.device, step: Step, *, resume: bool, announce: bool
) -> Config:
    """The config of a run with the precision that it takes; every process calls this.

    Args:
        config: with a field `precision`.
        run: its folder. One that goes on keeps the precision that it began with.
        device: where it computes.
        step: what is timed.
        resume: go on with what lies in `run`.
        announce: say on stderr what is taken and why.
    """
    asked = cast(Precision, config.precision)  # type: ignore[attr-defined]
    chosen, sentence = distributed.broadcast(
        lambda: _settle(asked, run if resume else None, device, step, announce)
    )
    if sentence and distributed.rank() == 0:
        print(sentence, file=sys.stderr, flush=True)
    return replace(config, precision=chosen)  # type: ignore[type-var]


def precision_of_run(config: Mapping[str, Any]) -> str:
    """The precision that a run of this config (as JSON) computes in. A run of before this was
    recorded says ``auto``, which then was bfloat16 on a device with units for it."""
    precision = str(config.get("precision", "fp32"))
    if precision != "auto":
        return precision
    try:
        device = pick_device(str(config.get("device", "auto")))
    except ValueError:  # not on this machine, which is refused where devices are compared
        return "fp32"
    return "bf16" if has_bf16_units(device) else "fp32"


def _settle(
    asked: Precision, run: Path | None, device: torch.device, step: Step, announce: bool
) -> tuple[str, str]:
    """``(precision, sentence)``; the sentence may be empty."""
    before = newest_progress(run) if run is not None else None
    if before is not None and before.config:
        if asked != "auto":
            return asked, ""  # a run of another one is refused
        began = precision_of_run(before.config)
        if before.config.get("precision") == "auto":
            return began, (
                f"Precision: {began}. The run began before its precision was recorded; this is "
                "what auto took then on a machine like this one."
            )
        return began, f"Precision: {began}, with which the run began."
    if asked == "auto":
        choice = timed_choice(device, step)
        return choice.precision, choice.sentence() if announce else ""
    if asked == "bf16" and announce:
        return asked, _advice(timed_choice(device, step))
    return asked, ""


def _advice(choice: Choice) -> str:
    """A sentence where bf16 was asked for and float32 would be quicker; else nothing."""
    times = choice.timing.seconds
    if choice.precision == "bf16" or "bf16" not in times or times["bf16"] <= times["fp32"]:
        return ""
    ratio = times["bf16"] / times["fp32"]
    return (
        f"Precision: bf16 as asked for; a step takes {ratio:.2g} times as long in it as in "
        "float32 on this machine, which --precision auto takes."
    )


def timed_choice(device: torch.device, step: Step) -> Choice:
    """What is fastest for a step on a device, measured now or earlier."""
    model = step.settings["model"]
    what = {
        "label": f"{step.kind}, {nearest_size(model)} ({step.audio_s:.2g} s a batch)",
        "kind": step.kind,
        "utterance_s": 2.0 ** round(np.log2(step.utterance_s)),
        "encoder_grad_scale": step.encoder_grad_scale,
        "settings": {**step.settings, "model": to_json(model)},
    }
    found = find(partial(_passes, step, device), offered(device), step.audio_s, what, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the plan of the run looks at what is free
    return found


@contextmanager
def _passes(step: Step, device: torch.device) -> Iterator[Pass]:
    """Steps of a copy of the model. No random number of the run is drawn, nothing of it changed."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(0)
        model = accelerate(copy.deepcopy(step.model()).to(device).train())
        speech = model.speech if isinstance(model, CTCModel) else model
        speech.context.draw_dropped(rng(0, "precision"))
        rate = speech.config.sample_rate

        def run(precision: str, audio_s: float) -> float:
            wave, lengths = _made_batch(audio_s, step.utterance_s, rate, device)
            begun = clock(device)
            with autocast(device, cast(Precision, precision)):
                out = model(wave, lengths, encoder_grad_scale=step.encoder_grad_scale)
            values = out[0] if isinstance(out, tuple) else out.context
            if values.requires_grad:
                values.float().square().mean().backward()
            spent = clock(device) - begun
            model.zero_grad(set_to_none=True)
            return spent

        yield run


def _made_batch(
    audio_s: float, utterance_s: float, rate: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(B, S) noise of so many seconds in all and (B,) lengths; as many utterances of the usual
    length as that makes, at least one."""
    num = max(round(audio_s / utterance_s), 1)
    samples = max(round(audio_s * rate / num), 1)
    wave = 0.1 * torch.randn(num, samples)
    return wave.to(device), torch.full((num,), samples, device=device)
