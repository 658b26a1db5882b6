"""Representations of speech: any layer's output, with the time of each frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from speechssl import audio
from speechssl.checkpoint import Checkpoint

PART_S = 60.0
"""A longer recording is heard in parts of this length, so that memory stays bounded."""


@dataclass(frozen=True)
class Features:
    """One recording's frames."""

    frames: np.ndarray
    """(T, D) float32."""
    times_s: np.ndarray
    """(T,) float64, the middle of each frame in seconds of the source."""
    layer: int


def extract(checkpoint: Checkpoint, source: str | Path | np.ndarray, layer: int = -1) -> Features:
    """Hear a file, or a wave (S,) float32 at the model's rate.

    Args:
        checkpoint: pretrained or fine-tuned.
        source: path or wave.
        layer: 0 is the input of the first layer, K the output of layer K; -1 the last.

    Raises ValueError for a layer that the model does not have.
    """
    model = checkpoint.speech
    num_layers = model.config.context.num_layers
    if not -1 <= layer <= num_layers:
        raise ValueError(
            f"layer must be between 0 and {num_layers} (or -1 for the last), got {layer}."
        )
    layer = num_layers if layer == -1 else layer
    rate = model.config.sample_rate
    wave = source if isinstance(source, np.ndarray) else audio.read(source, sample_rate=rate)
    step = round(PART_S * rate) // model.config.hop_samples * model.config.hop_samples
    device = next(model.parameters()).device
    parts = []
    for first in range(0, max(len(wave), 1), step):
        part = torch.from_numpy(np.ascontiguousarray(wave[first : first + step]))[None].float()
        with torch.inference_mode():
            output = model(
                part.to(device), torch.tensor([part.shape[1]], device=device), keep_hidden=True
            )
        parts.append(output.hidden[layer][0].float().cpu().numpy())  # (T, D)
    frames = np.concatenate(parts)
    times = (np.arange(len(frames)) + 0.5) * model.hop_s
    return Features(frames, times, layer)
