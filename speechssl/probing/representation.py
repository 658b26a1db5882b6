"""What is probed: the layers of a model, or log-mel energies, which every model has to beat.

Shapes: N utterances, T frames, L layers + 1, D width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from speechssl import audio
from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import Utterance
from speechssl.inference.extract import Layers, extract_all
from speechssl.inference.recordings import Clip
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.features import HOP_S, NUM_MELS, log_mel, power_spectrum
from speechssl.rng import torch_seed

LOG_MEL = "log-mel"
_RATE = 16000
_BATCH_S = 15.0
"""Memory holds all layers of eight batches: for `base` about 250 MB."""


@dataclass(frozen=True)
class Representation:
    """Something that gives frames for utterances."""

    name: str
    num_layers: int
    """L."""
    frames_of: Callable[[Sequence[Utterance]], Iterator[np.ndarray]]
    """For each utterance (T, L, D) float32."""


def of_model(name: str, checkpoint: Checkpoint) -> Representation:
    """All layers of a model."""
    num_layers = checkpoint.speech.config.context.num_layers + 1

    def frames_of(utterances: Sequence[Utterance]) -> Iterator[np.ndarray]:
        clips = (Clip(u.id, u.audio, u.start_s, u.duration_s) for u in utterances)
        for parts in extract_all(checkpoint, clips, Layers(), batch_s=_BATCH_S):
            frames = np.concatenate([part.frames for part in parts])  # (T, L D)
            yield frames.reshape(len(frames), num_layers, -1)

    return Representation(name, num_layers, frames_of)


def untrained(name: str, checkpoint: Checkpoint, seed: int) -> Representation:
    """A model of the same form with fresh weights: what is not due to learning."""
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "untrained"))
        fresh = SpeechModel(checkpoint.speech.config)
    return of_model(name, replace(checkpoint, model=fresh, tokenizer=None))


def log_mels(frame_s: float, *, normalize: bool) -> Representation:
    """80 log-mel energies every 10 ms, stacked to frames of `frame_s`; where asked for, with zero
    mean and unit variance over each utterance."""
    hop = round(HOP_S * _RATE)
    per_frame = max(round(frame_s / HOP_S), 1)

    def frames_of(utterances: Sequence[Utterance]) -> Iterator[np.ndarray]:
        for u in utterances:
            wave = audio.read(
                u.audio, start_s=u.start_s, duration_s=u.duration_s, sample_rate=_RATE
            )
            num = max(len(wave) // (hop * per_frame), 1) * per_frame  # of 10 ms
            power = power_spectrum(torch.from_numpy(wave)[None], num, _RATE)
            energies = log_mel(power, _RATE)[0].numpy()  # (num, 80)
            if normalize:
                energies = (energies - energies.mean(0)) / (energies.std(0) + 1e-2)
            yield energies.reshape(-1, 1, per_frame * NUM_MELS)

    return Representation(LOG_MEL, 1, frames_of)
