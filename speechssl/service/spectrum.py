"""The spectrogram of a recording in tiles of some seconds, so that three hours need no more than
what is on the screen.

Shapes: S samples, T frames, F frequencies.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from speechssl import audio
from speechssl.audio.info import file_state

RATE = 16000
TILE_S = 10.0
FRAMES_PER_S = 100
NUM_FREQUENCIES = 128
"""Rows, linear from 0 to 8 kHz: 62.5 Hz each."""
_WINDOW = 320
"""Samples: 20 ms, between the wide and the narrow band of phoneticians."""
_FFT = 512
RANGE_DB = 70.0
"""From black to white."""
CEILING_DB = -25.0
"""Of a frequency in a Hann window, with full scale at 0 dB: what loud speech reaches."""
EMPHASIS = 0.97
"""Raises high frequencies by 6 dB an octave, as Praat does, for fricatives to be seen."""


def tile(path: Path, number: int, gain_db: float = 0.0) -> np.ndarray:
    """(F, T) uint8 of the seconds from ``number * TILE_S`` on, the lowest frequency first; fewer
    frames at the end, none behind it. `gain_db` is added, to make quiet recordings visible.

    Raises FileNotFoundError or AudioError where the file cannot be read.
    """
    if (state := file_state(path)) is None:
        raise FileNotFoundError(f"No such file: {path}.")
    return _tile(path, state, number, round(gain_db))


@lru_cache(maxsize=128)  # 128 kB each
def _tile(path: Path, _state: tuple[int, int], number: int, gain_db: int) -> np.ndarray:
    start_s = max(0.0, number * TILE_S - 0.05)
    duration_s = audio.probe(path).duration_s
    if number * TILE_S >= duration_s:
        return np.zeros((NUM_FREQUENCIES, 0), dtype=np.uint8)
    length_s = min(duration_s, (number + 1) * TILE_S + 0.05) - start_s
    wave, _ = audio.read_with_notes(path, sample_rate=RATE, start_s=start_s, duration_s=length_s)
    ahead = round((number * TILE_S - start_s) * RATE)
    seconds = min(TILE_S, (len(wave) - ahead) / RATE)
    num_frames = max(1, int(seconds * FRAMES_PER_S + 1e-6))
    return spectrogram(wave, ahead, num_frames, gain_db)


def spectrogram(wave: np.ndarray, first: int, num_frames: int, gain_db: float = 0.0) -> np.ndarray:
    """(F, T) uint8 of a wave (S,) at 16 kHz; frame t is centred on sample ``first + 160 * t``."""
    hop = RATE // FRAMES_PER_S
    raised = np.append(wave[:1], wave[1:] - EMPHASIS * wave[:-1])
    padded = np.pad(raised, (_WINDOW // 2, _WINDOW + hop * num_frames))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[first::hop][:num_frames]
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    powers = np.abs(np.fft.rfft(frames * window, _FFT)) ** 2 / window.sum() ** 2 * 4  # (T, 257)
    pairs = powers[:, : 2 * NUM_FREQUENCIES].reshape(len(frames), NUM_FREQUENCIES, 2).max(2)
    decibels = 10 * np.log10(pairs + 1e-12) + gain_db
    shares = (decibels - CEILING_DB + RANGE_DB) / RANGE_DB
    return np.ascontiguousarray(np.rint(255 * shares.clip(0, 1)).astype(np.uint8).T)
