"""The pitch of a voice, changed while the duration stays.

Shapes: S samples, H samples of half a window, K segments.
"""

import numpy as np

from speechssl.audio.resample import play_at

_HALF_S = 0.015
"""H in seconds: windows of 30 ms hold two periods of a low voice."""
_REACH_S = 0.00625
"""How far a segment is moved to fit the one before it: half a period of 80 Hz."""
_NEAREST = 0.2
"""How much more alike (cosine) the farthest place must be to be taken instead of the nearest."""
MOST_SEMITONES = 9.0
"""Up to here every sample stays within 17 ms of its place (see :func:`shift_pitch`)."""


def shift_pitch(wave: np.ndarray, semitones: float, sample_rate: int) -> np.ndarray:
    """(S,) float32 -> a new (S,) float32, higher by so many semitones (lower where below 0).

    The wave is stretched in time with its pitch kept (:func:`stretch`) and played faster by the
    same ratio, as SoX's effect ``pitch`` does it, which arXiv:2007.00991 takes. The formants
    (resonances) move with the pitch, as if the speaker had a shorter or longer vocal tract. A lower
    voice has nothing left above ``2 ** (semitones / 12)`` of the highest frequency.

    With ratio r a sample is found within 6.25 ms + 15 ms * abs(1 - 1 / r) of its place: 9 ms for 3
    semitones. Total for every S >= 1; silence stays silent.
    """
    if semitones == 0:
        return np.array(wave, np.float32)
    ratio = 2.0 ** (semitones / 12)
    played = play_at(stretch(wave, ratio, sample_rate), ratio)[: len(wave)]
    return np.pad(played, (0, len(wave) - len(played)))


def stretch(wave: np.ndarray, factor: float, sample_rate: int) -> np.ndarray:
    """(S,) float32 -> (S * factor, rounded,) float32: `factor` times as long, at the same pitch.

    WSOLA (Verhelst and Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for
    high quality time-scale modification of speech", ICASSP 1993): overlapping windows of the wave
    are added up at another distance. Each is taken where, near its place, the wave is most like
    what followed the window before it, so that periods of the voice meet.
    """
    half = max(round(_HALF_S * sample_rate), 1)  # H
    length = max(round(len(wave) * factor), 1)
    centres = np.arange(length // half + 2) * (half / factor)  # (K,)
    centres = np.rint(centres.clip(max=len(wave))).astype(np.int64)
    reach = round(_REACH_S * sample_rate)
    padded = np.pad(np.asarray(wave, np.float32), half + reach)
    firsts = _similar_places(padded, centres, half, reach)
    segments = padded[firsts[:, None] + np.arange(2 * half)]  # (K, 2H)
    rise = (0.5 - 0.5 * np.cos(np.pi / half * np.arange(half))).astype(np.float32)  # Hann
    blocks = segments[:-1, half:] * (1 - rise) + segments[1:, :half] * rise  # (K - 1, H)
    return np.asarray(blocks.ravel()[:length])


def _similar_places(padded: np.ndarray, centres: np.ndarray, half: int, reach: int) -> np.ndarray:
    """(K,) the first sample of each window in `padded`, the wave with H + `reach` zeros at both
    ends; `centres` (K,) are the middles of the windows in the wave as they would be unmoved."""
    energies = np.concatenate([[0.0], np.cumsum(padded.astype(np.float64) ** 2)])
    energies = energies[half:] - energies[:-half]  # of the H samples from each one on
    # of places that fit about equally (whole periods, silence) the nearest
    away = _NEAREST * np.abs(np.arange(-reach, reach + 1)) / max(reach, 1)
    firsts = centres + reach
    for k in range(1, len(centres)):
        middle = firsts[k - 1] + half  # of the window before: what follows it is to be continued
        lowest = centres[k]
        likeness = np.correlate(
            padded[lowest : lowest + half + 2 * reach], padded[middle : middle + half], "valid"
        )
        sizes = energies[lowest : lowest + 2 * reach + 1] * energies[middle]
        firsts[k] = lowest + np.argmax(likeness / np.sqrt(sizes + 1e-12) - away)
    return firsts
