"""``speechssl doctor --speed``: how fast this machine trains and transcribes, beside known ones.

Training is whole updates of a size's preset on noise: targets, forward, backward, AdamW.
Transcription is the model with a CTC head on chunks of noise, without reading and decoding. Both
are timed as a precision is chosen (:func:`speechssl.precision.measure`), and end with the seconds
that are given: where a machine is slow, with shorter batches and fewer passes.
"""

import json
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from speechssl.data.dataset import Batch, Waves
from speechssl.data.manifest import Utterance
from speechssl.device import Precision, keep_freed_memory, machine_name, pick_device
from speechssl.inference.batching import BATCH_S, runs_alone
from speechssl.inference.precision import CHUNK_S, candidates
from speechssl.inference.precision import passes as chunk_passes
from speechssl.model import config as model_config
from speechssl.model.fast.accelerate import int8_is_fast
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.precision import EXACT_FIRST, Pass, Timing, choose, clock, measure, offered
from speechssl.rng import rng
from speechssl.training.optim import OptimConfig, Part, build_optimizer
from speechssl.training.pretrain import preset
from speechssl.training.pretrain_work import PretrainWork

SIZES = ("tiny", "base")
SECONDS = 30.0

_KNOWN = Path(__file__).with_name("known_speeds.json")
_SHARE = 0.4
"""Of the seconds of a measurement for passes that count; the rest is for making the model and for
first passes."""
_UTTERANCE_S, _NUM_UTTERANCES, _MOST_BATCH_S = 5.0, 8, 30.0
_VOCABULARY = 32
_LAST = 1000
"""An update at the end of a run is measured, as in the plan of a run."""
_WIDTH = 96


@dataclass(frozen=True)
class Speed:
    """How fast something was."""

    size: str
    work: str
    """``training`` or ``transcription``."""
    timing: Timing
    auto: str
    """The precision that ``auto`` would take by these times."""

    @property
    def audio_s_per_s(self) -> dict[str, float]:
        """Seconds of audio a second, by precision."""
        return {name: self.timing.audio_s / t for name, t in self.timing.seconds.items()}


def describe_speed(device: str, seconds: float) -> str:
    """Measure for so many seconds, and show it beside known machines, as text for a person.

    Raises ValueError where there is no such device.
    """
    place = pick_device(device)
    keep_freed_memory()
    found = list(measure_all(place, seconds))
    missing = [
        f"{size}, {work}"
        for size, work in _asked()
        if (size, work) not in {(s.size, s.work) for s in found}
    ]
    threads = torch.get_num_threads()
    of = f"{threads} thread{'s' * (threads > 1)}" if place.type == "cpu" else place.type
    lines = ["Seconds of audio a second", "", f"This machine: {machine_name(place)}, {of}"]
    columns = ("", *EXACT_FIRST, "auto")
    lines.append(_row(*columns))
    lines += [_row(f"{s.size}, {s.work}", *_cells(s.audio_s_per_s), s.auto) for s in found]
    lines += ["", *_notes(found, missing, seconds, place), "", "Known machines"]
    for machine, (description, rows) in known_speeds().items():
        lines += ["", _fill(f"{machine}: {description}"), _row(*columns)]
        lines += [_row(what, *_cells(speeds), _number(speeds.get("auto"))) for what, speeds in rows]
    lines += ["", *map(_fill, _known()["notes"])]
    return "\n".join(lines)


def measure_all(
    device: torch.device, seconds: float, now: Callable[[], float] = time.monotonic
) -> Iterator[Speed]:
    """Each size's training and transcription, the small one first, as long as the time lasts; at
    least the first."""
    end = now() + seconds
    asked = _asked()
    for number, (size, work) in enumerate(asked):
        left_s = end - now()
        if number and left_s <= 0:
            return
        share_s = _SHARE * max(left_s, 0.0) / (len(asked) - number)
        yield (_training if work == "training" else _transcription)(size, device, share_s)


def _asked() -> list[tuple[str, str]]:
    return [(size, work) for size in SIZES for work in ("training", "transcription")]


def _training(size: str, device: torch.device, budget_s: float) -> Speed:
    names = offered(device)
    longest_s = min(preset(size).batch_s, _MOST_BATCH_S)
    timing = _timed(partial(training_passes, size, device), names, longest_s, budget_s)
    return Speed(size, "training", timing, choose(timing.seconds))


def _transcription(size: str, device: torch.device, budget_s: float) -> Speed:
    config = model_config.size(size)
    with torch.random.fork_rng(devices=[]):
        model = CTCModel(SpeechModel(config), CTCHead(config.context.dim, _VOCABULARY))
    model.to(device)
    names = (*offered(device), *(["int8"] if int8_is_fast(device) else []))
    longest_s = CHUNK_S if runs_alone(model, "fp32") else BATCH_S
    timing = _timed(partial(chunk_passes, model), names, longest_s, budget_s)
    allowed = candidates(model)
    own: dict[str, float] = {n: t for n, t in timing.seconds.items() if n in allowed}
    return Speed(size, "transcription", timing, choose(own))


def _timed(
    passes: Callable[[], AbstractContextManager[Pass]],
    names: Sequence[str],
    longest_s: float,
    budget_s: float,
) -> Timing:
    with passes() as run:
        return measure(run, names, longest_s, budget_s)


class _Noise:
    """In place of a cache of decoded waves."""

    faults: dict[int, str] = {}  # noqa: RUF012

    def __init__(self, rate: int) -> None:
        self._num_samples = round(_UTTERANCE_S * rate)

    def __len__(self) -> int:
        return _NUM_UTTERANCES

    def get(self, index: int) -> np.ndarray:
        """(S,) float32."""
        noise = rng(0, "speed", index).standard_normal(self._num_samples)
        return (0.1 * noise).astype(np.float32)


@contextmanager
def training_passes(size: str, device: torch.device) -> Iterator[Pass]:
    """Updates of a size's preset, from the batch to the new weights."""
    config = preset(size)
    rate = config.model.sample_rate
    utterances = [
        Utterance(str(i), Path(f"{i}.wav"), 0.0, _UTTERANCE_S, rate, None, None)
        for i in range(_NUM_UTTERANCES)
    ]
    waves = Waves(utterances, cast(Any, _Noise(rate)), rate)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        work = PretrainWork(config, SpeechModel(config.model), waves, waves, device)
        optimizer = build_optimizer(OptimConfig(lr=1e-6), [Part((work.modules,))])

        def run(precision: str, audio_s: float) -> float:
            work.config = replace(config, precision=cast(Precision, precision))
            batch = _batch(waves, audio_s)
            begun = clock(device)
            work.backward(_LAST - 1, _LAST, [batch])
            optimizer.step()
            work.modules.zero_grad(set_to_none=True)
            return clock(device) - begun

        yield run


def _batch(waves: Waves, audio_s: float) -> Batch:
    """So many seconds of audio, of as many utterances as that takes."""
    num = max(round(audio_s / _UTTERANCE_S), 1)
    samples = min(round(audio_s * waves.sample_rate / num), len(waves.wave(0)))
    clean = torch.from_numpy(
        np.stack([waves.wave(i % _NUM_UTTERANCES)[:samples] for i in range(num)])
    )
    return Batch(
        index=0,
        ids=tuple(map(str, range(num))),
        texts=("",) * num,
        distorted=clean,
        clean=clean,
        lengths=torch.full((num,), samples),
        items=tuple(i % _NUM_UTTERANCES for i in range(num)),
        starts=(0,) * num,
    )


def _notes(
    found: Sequence[Speed], missing: Sequence[str], seconds: float, device: torch.device
) -> Iterator[str]:
    """On what the figures rest."""
    for speed in found:
        timing = speed.timing
        passes = "one pass" if timing.turns == 1 else f"the fastest of {timing.turns} passes"
        rests = f"{passes} over {timing.audio_s:.2g} s of audio"
        if timing.from_s:
            first, longer = timing.from_s
            rests = (
                f"estimated for {timing.audio_s:.2g} s of audio from one pass over {first:.2g} s "
                f"and {passes} over {longer:.2g} s"
            )
        yield _fill(f"{speed.size}, {speed.work}: {rests}.")
    if missing:
        yield _fill(
            f"Not measured, as the {seconds:g} s were used up: {'; '.join(missing)}. Give more "
            "with --seconds."
        )
    if device.type == "cpu" and torch.get_num_threads() == 1:
        yield _fill("With one thread a second is one of processor time.")


def known_speeds() -> dict[str, tuple[str, list[tuple[str, dict[str, float]]]]]:
    """By machine its description, and by what was done the seconds of audio a second in each
    precision (``auto``: in what auto took)."""
    known = _known()
    made: dict[str, tuple[str, list[tuple[str, dict[str, float]]]]] = {}
    for machine, description in known["machines"].items():
        rows: dict[str, dict[str, float]] = {}
        for figure in known["figures"]:
            if figure["machine"] == machine:
                what = f"{figure['size']}, {figure['work']}"
                rows.setdefault(what, {})[figure["precision"]] = figure["audio_s_per_s"]
        made[machine] = (description, list(rows.items()))
    return made


def _known() -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(_KNOWN.read_text(encoding="utf-8")))


def _cells(speeds: dict[str, float]) -> list[str]:
    return [_number(speeds.get(name)) for name in EXACT_FIRST]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _row(what: str, *cells: str) -> str:
    return f"  {what:<24}" + "".join(f"{cell:>8}" for cell in cells)


def _fill(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")
