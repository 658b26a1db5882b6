"""A model that reads what a wave spells: each frame of 20 ms holds the number of a symbol."""

import numpy as np
import torch

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.text import CharTokenizer

FRAME = 320
STEP = 0.02
LETTERS = CharTokenizer.train(["abcdefghijklmnopqrstuvwxyz"])


def speller(folder) -> Checkpoint:
    """The model in `folder`, whose frames have 320 samples, with another way to its output."""
    checkpoint = load_model(folder)
    model = checkpoint.model
    assert model.speech.config.hop_samples == FRAME

    def forward(wave, lengths):
        frames = wave[:, : wave.shape[1] // FRAME * FRAME].unflatten(1, (-1, FRAME)).mean(2)
        symbols = (frames / STEP).round().long().clamp(0, LETTERS.vocab_size - 1)  # (B, T)
        probs = torch.full((*symbols.shape, LETTERS.vocab_size), 0.1 / (LETTERS.vocab_size - 1))
        return probs.scatter(2, symbols[:, :, None], 0.9).log(), lengths // FRAME

    model.forward = forward
    return Checkpoint(model, LETTERS, folder=checkpoint.folder)


def speak(text: str, pause_s: float = 0.0) -> np.ndarray:
    """(S,) float32: a frame for each letter, a blank one before it, and `pause_s` of silence behind
    all."""
    symbols = [s for i in LETTERS.encode(text) for s in (0, i)] + [0] * round(pause_s * 50)
    return np.repeat(np.array(symbols, np.float32) * STEP, FRAME)


def say(*texts: str, pause_s: float = 0.5) -> np.ndarray:
    """(S,) float32: texts with a pause before, between and behind them."""
    silence = np.zeros(round(pause_s * 16000), np.float32)
    return np.concatenate([silence, *(speak(text, pause_s) for text in texts)])
