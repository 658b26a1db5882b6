"""Sound inside the page: a player that holds its own data, and sound made from a spectrogram.

Shapes: S samples, H hops of 10 ms, M mel bands.
"""

import base64
import io
from html import escape

import numpy as np
import soundfile
import torch
from torch import Tensor

from speechssl.pretext.features import HOP_S, mel_bands

_NUM_ROUNDS = 32


def player(wave: np.ndarray, sample_rate: int, label: str) -> str:
    """Controls that play (S,) float32; MP3 where it can be written, else WAV."""
    coding = "MP3" if "MP3" in soundfile.available_formats() else "WAV"
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1, 1), sample_rate, format=coding)
    kind = "mpeg" if coding == "MP3" else "wav"
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<audio controls preload="metadata" aria-label="{escape(label)}" '
        f'src="data:audio/{kind};base64,{data}"></audio>'
    )


def griffin_lim(log_mels: Tensor, sample_rate: int) -> np.ndarray:
    """Sound whose mel energies are (H, M): (S,) float32.

    The power spectrum by least squares, no value below zero; the phases are guessed and corrected
    in turn (Griffin and Lim 1984). What is lost in bands and phases makes the voice rough.
    """
    hop, window = round(HOP_S * sample_rate), round(0.025 * sample_rate)
    size = 1 << (window - 1).bit_length()
    bands = mel_bands(sample_rate, size, torch.device("cpu"))  # (bins, M)
    power = log_mels.exp() @ torch.linalg.pinv(bands)  # (H, bins)
    size_of = power.clamp_min(0).sqrt().T[None]  # (1, bins, H)
    taper = torch.hann_window(window)
    num_samples = hop * (len(log_mels) - 1)
    generator = torch.Generator().manual_seed(0)
    angles = 2 * torch.pi * torch.rand(size_of.shape, generator=generator)
    phases = torch.polar(torch.ones_like(angles), angles)
    wave = torch.zeros(1, num_samples)
    for _ in range(_NUM_ROUNDS):
        wave = torch.istft(size_of * phases, size, hop, window, taper, length=num_samples)
        again = torch.stft(wave, size, hop, window, taper, return_complex=True)
        phases = again / again.abs().clamp_min(1e-8)
    return wave[0].numpy()
