"""What a pretrained model hears, what is hidden from it, and what it rebuilds.

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
from speechssl.model.masking import span_mask
from speechssl.objectives.contrastive import FixedCodesContrastive
from speechssl.objectives.features import HOP_S, NUM_MELS, log_mel, power_spectrum
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
class Heard:
    """One utterance in pretraining."""

    id: str
    sample_rate: int
    clean: np.ndarray
    """(S,)."""
    heard: np.ndarray
    """(S,) after the distortions."""
    applied: tuple[str, ...]
    """Their names."""
    mask: np.ndarray
    """(T,) bool, True = hidden."""
    frame_s: float
    clean_mels: np.ndarray
    """(H, M) log mel energies, like the next ones."""
    heard_mels: np.ndarray
    rebuilt_mels: np.ndarray | None
    """None where the run does not rebuild them."""
    num_right: int | None
    """Hidden frames whose code was guessed; None where codes are not fixed."""


def pretexts_section(runs: Sequence[Run]) -> str:
    """Examples of the pretraining runs; '' where there is none."""
    blocks = example_blocks(runs, "pretrain", _of_run)
    if not blocks:
        return ""
    note = (
        "Utterances of the validation set: as recorded; as the model hears them, distorted, with "
        "the covered frames hidden; and what it makes of that, given back the loudness of each "
        "band. The last one's sound is made from its picture, with guessed phases."
    )
    return (
        '<section id="pretext"><h2>Heard and rebuilt</h2>'
        f'<p class="note">{note}</p>{blocks}</section>'
    )


def _of_run(run: Run) -> str:
    try:
        return "".join(_card(example) for example in examples(run))
    except CannotShowError as error:
        return f'<p class="note">{escape(str(error))}</p>'


def examples(run: Run) -> list[Heard]:
    """A few utterances of a few seconds, always the same ones.

    Raises CannotShowError where the run has no checkpoint, or its recordings are gone.
    """
    opened = open_pretraining(run)
    waves = open_valid_set(run, opened.model.config.sample_rate)
    found: list[Heard] = []
    plain: list[Heard] = []
    for item in _order(waves):
        if (wave := read_wave(waves, item)) is not None:
            example = _hear(opened, waves, item, wave)
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
def _hear(opened: Pretraining, waves: Waves, item: int, wave: np.ndarray) -> Heard:
    config, rate = opened.config, waves.sample_rate
    wave = wave[: round(_LONGEST_S * rate)]
    pool = DistortionPool(speech=waves.wave, num_speech=len(waves.utterances))
    damaged = distort_named(wave, rate, config.distortion, rng(0, "report", item), pool)
    clean, heard = opened.speech(wave), opened.speech(damaged.wave)
    num_frames = int(clean.frames)
    drawn = span_mask(
        [num_frames],
        num_frames,
        share=config.mask_share,
        span=config.mask_span,
        generator=rng(0, "report-mask", item),
    )
    mask = torch.from_numpy(drawn)  # (1, T)
    output = opened.model(heard.wave, heard.lengths, mask=mask)
    num_hops = num_frames * round(opened.model.hop_s / HOP_S)
    clean_mels, heard_mels = (_log_mels(s.wave, num_hops, rate) for s in (clean, heard))
    rebuilt = None
    task = opened.reconstruction
    if task is not None and "logmel" in task.config.features:
        normal = task.rebuild("logmel", output.context)[0].reshape(-1, NUM_MELS)  # (H, M)
        rebuilt = (normal * (clean_mels.std(0) + 1e-2) + clean_mels.mean(0)).numpy()
    num_right = None
    if isinstance(opened.contrastive, FixedCodesContrastive):
        right = opened.contrastive(output, mask, clean).metrics["contrastive/accuracy"]
        num_right = round(float(right) * int(mask.sum()))
    return Heard(
        id=waves.utterances[item].id,
        sample_rate=rate,
        clean=wave,
        heard=damaged.wave,
        applied=damaged.applied,
        mask=drawn[0],
        frame_s=opened.model.hop_s,
        clean_mels=clean_mels.numpy(),
        heard_mels=heard_mels.numpy(),
        rebuilt_mels=rebuilt,
        num_right=num_right,
    )


def _log_mels(wave: Tensor, num_hops: int, sample_rate: int) -> Tensor:
    """(1, S) -> (H, M)."""
    return log_mel(power_spectrum(wave, num_hops, sample_rate), sample_rate)[0]


def _card(example: Heard) -> str:
    limits = colour_limits(example.clean_mels)
    done = ", ".join(name.replace("_", " ") for name in example.applied)
    heard = f"Distorted by {done}" if done else "No distortion was drawn"
    share = f"{int(example.mask.sum())} of {len(example.mask)} frames hidden"
    panels = [
        ("Clean", "", example.clean_mels, None, example.clean),
        ("Heard", f"{heard}; {share}.", example.heard_mels, example.mask, example.heard),
    ]
    if example.rebuilt_mels is not None:
        sound = griffin_lim(torch.from_numpy(example.rebuilt_mels), example.sample_rate)
        guessed = ""
        if example.num_right is not None:
            guessed = f"{example.num_right} of {int(example.mask.sum())} hidden codes guessed."
        panels.append(("Rebuilt", guessed, example.rebuilt_mels, None, sound))
    figures = []
    for name, hint, mels, hidden, wave in panels:
        drawn = spectrogram(
            mels,
            limits=limits,
            sample_rate=example.sample_rate,
            hop_s=HOP_S,
            title=f"{name}: spectrogram of {example.id}",
            hidden=hidden,
            frame_s=example.frame_s,
        )
        sound_of = player(wave, example.sample_rate, f"{name}: {example.id}")
        figures.append(
            f"<figure><figcaption><h4>{name}</h4><p>{escape(hint)}</p></figcaption>"
            f"{drawn}{sound_of}</figure>"
        )
    return (
        f'<div class="card"><h4 class="id">{escape(example.id)}</h4>'
        f'<div class="charts">{"".join(figures)}</div></div>'
    )
