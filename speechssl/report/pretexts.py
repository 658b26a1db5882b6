"""What the input of a pretrained model is, what is masked, and what its tasks make of it.

Shapes: S samples, H hops of 10 ms, T frames, M mel bands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from torch import Tensor

from speechssl.data.dataset import Waves
from speechssl.data.distortion import DistortionPool, distort_named
from speechssl.pretext.features import HOP_S, log_mel, power_spectrum
from speechssl.pretext.task import Panel
from speechssl.report.blocks import example_blocks
from speechssl.report.opened import (
    CannotShowError,
    Pretraining,
    gone,
    open_pretraining,
    open_valid_set,
    read_wave,
)
from speechssl.report.pictures import colour_limits, spectrogram
from speechssl.report.runs import Run
from speechssl.report.sound import griffin_lim, player
from speechssl.rng import rng

_NUM_EXAMPLES = 2
_MOST_PLAIN = 8
"""Utterances without a distortion after which one with a distortion is no longer looked for."""
_SHORTEST_S, _LONGEST_S = 1.5, 5.0


@dataclass(frozen=True)
class Example:
    """One utterance in pretraining."""

    id: str
    sample_rate: int
    clean: np.ndarray
    """(S,)."""
    distorted: np.ndarray
    """(S,), the model's input."""
    applied: tuple[str, ...]
    """Names of the distortions."""
    mask: np.ndarray
    """(T,) bool, True = masked."""
    frame_s: float
    clean_mels: np.ndarray
    """(H, M) log mel energies, like the next ones."""
    distorted_mels: np.ndarray
    panels: tuple[Panel, ...]
    """What the tasks show of it."""


def pretexts_section(runs: Sequence[Run]) -> str:
    """Examples of the pretraining runs; '' where there is none."""
    blocks = example_blocks(runs, "pretrain", _of_run)
    if not blocks:
        return ""
    note = (
        "Utterances of the validation set: as recorded; the model's input, distorted, with the "
        "masked frames covered; and what its tasks make of that. Rebuilt spectrograms are given "
        "back the level of each band, and their sound is made with estimated phases."
    )
    return (
        '<section id="pretext"><h2>Input and output of the pretext tasks</h2>'
        f'<p class="note">{note}</p>{blocks}</section>'
    )


def _of_run(run: Run) -> str:
    try:
        return "".join(_card(example) for example in examples(run))
    except CannotShowError as error:
        return f'<p class="note">{escape(str(error))}</p>'


def examples(run: Run) -> list[Example]:
    """A few utterances of a few seconds, always the same ones.

    Raises CannotShowError where the run has no checkpoint, or its recordings are gone.
    """
    opened = open_pretraining(run)
    waves = open_valid_set(run, opened.model.config.sample_rate)
    found: list[Example] = []
    plain: list[Example] = []
    for item in _order(waves):
        if (wave := read_wave(waves, item)) is not None:
            example = _example(opened, waves, item, wave)
            (found if example.applied else plain).append(example)
        if len(found) == _NUM_EXAMPLES or len(plain) == _MOST_PLAIN:
            break
    if not found and not plain:
        raise gone(run, waves)
    return [*found, *plain][:_NUM_EXAMPLES]


def _order(waves: Waves) -> list[int]:
    """Numbers of utterances as they are tried: a random choice, those of fitting length first."""
    order = rng(0, "report").permutation(len(waves.utterances)).tolist()
    return sorted(
        order,
        key=lambda item: not _SHORTEST_S <= waves.utterances[item].duration_s <= _LONGEST_S,
    )[:50]


@torch.no_grad()
def _example(opened: Pretraining, waves: Waves, item: int, wave: np.ndarray) -> Example:
    rate = waves.sample_rate
    wave = wave[: round(_LONGEST_S * rate)]
    pool = DistortionPool(speech=waves.wave, num_speech=len(waves.utterances))
    damaged = distort_named(wave, rate, opened.config.distortion, rng(0, "report", item), pool)
    x = opened.inputs(wave, damaged.wave, item)
    num_hops = int(x.frames) * round(opened.model.hop_s / HOP_S)
    mels = [_log_mels(x.speech(which).wave, num_hops, rate) for which in ("clean", "distorted")]
    return Example(
        id=waves.utterances[item].id,
        sample_rate=rate,
        clean=wave,
        distorted=damaged.wave,
        applied=damaged.applied,
        mask=x.mask()[0].numpy(),
        frame_s=opened.model.hop_s,
        clean_mels=mels[0].numpy(),
        distorted_mels=mels[1].numpy(),
        panels=tuple(panel for task in opened.tasks for panel in task.panels(x)),
    )


def _log_mels(wave: Tensor, num_hops: int, sample_rate: int) -> Tensor:
    """(1, S) -> (H, M)."""
    return log_mel(power_spectrum(wave, num_hops, sample_rate), sample_rate)[0]


def _card(example: Example) -> str:
    done = ", ".join(name.replace("_", " ") for name in example.applied)
    how = f"Distorted by {done}" if done else "No distortion was drawn"
    share = f"{int(example.mask.sum())} of {len(example.mask)} frames masked"
    figures = [
        _figure(example, "Clean", "", example.clean_mels, example.clean),
        _figure(
            example,
            "Input",
            f"{how}; {share}.",
            example.distorted_mels,
            example.distorted,
            example.mask,
        ),
    ]
    notes = " ".join(panel.note for panel in example.panels if panel.log_mels is None)
    for panel in example.panels:
        if panel.log_mels is not None:
            sound = griffin_lim(torch.from_numpy(panel.log_mels), example.sample_rate)
            figures.append(_figure(example, panel.title, panel.note, panel.log_mels, sound))
    return (
        f'<div class="card"><h4 class="id">{escape(example.id)}</h4>'
        f"{f'<p>{escape(notes)}</p>' if notes else ''}"
        f'<div class="charts">{"".join(figures)}</div></div>'
    )


def _figure(
    example: Example,
    name: str,
    hint: str,
    mels: np.ndarray,
    wave: np.ndarray,
    mask: np.ndarray | None = None,
) -> str:
    drawn = spectrogram(
        mels,
        limits=colour_limits(example.clean_mels),
        sample_rate=example.sample_rate,
        hop_s=HOP_S,
        title=f"{name}: spectrogram of {example.id}",
        hidden=mask,
        frame_s=example.frame_s,
    )
    sound = player(wave, example.sample_rate, f"{name}: {example.id}")
    return (
        f"<figure><figcaption><h4>{escape(name)}</h4><p>{escape(hint)}</p></figcaption>"
        f"{drawn}{sound}</figure>"
    )
