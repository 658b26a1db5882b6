"""Where a long recording is cut: at its quietest moments.

Shapes: S samples, F frames of a level, P places.
"""

import numpy as np

LEVEL_SMOOTHING_S = 0.3
"""`cut_times` takes the mean energy over this time."""

PAUSE_DB = 33.0
"""So much quieter than speech is a pause of 0.2 s. The quietest such stretch of 15 s was 35 dB or
more below the loud ones in read and acted speech of three corpora (Mboshi, Wolof, Czech), and less
than 33 dB, with few exceptions, once every silence in it was cut to 0.15 s, as long as a plosive is
closed. In noise a pause counts as speech, which costs time and no words."""


def quietest(energy: np.ndarray, places: np.ndarray, before: int, after: int) -> int:
    """The place around which there is least energy; the first of several.

    Args:
        energy: (S,) of samples or of frames, 0 or more. Only what lies around the places is read.
        places: (P,) int, rising, at least one: indices of `energy`, its end included.
        before: a place has the energy of ``[place - before, place + after)``, as far as that is
            within `energy`.
        after: see `before`.
    """
    starts = np.maximum(places - before, 0)  # (P,)
    ends = np.minimum(places + after, len(energy))
    first, last = starts[0], ends[-1]
    total = np.concatenate([[0.0], np.cumsum(energy[first:last], dtype=np.float64)])
    return int(places[np.argmin(total[ends - first] - total[starts - first])])


def quiet_place(wave: np.ndarray, first: int, last: int, grid: int, smoothing: int) -> int:
    """The multiple of `grid` in [first, last] around which `smoothing` samples of a wave (S,) are
    quietest."""
    places = np.arange(-(-first // grid), last // grid + 1) * grid  # (P,)
    half = smoothing // 2
    start, end = max(int(places[0]) - half, 0), int(places[-1]) + half
    energy = np.square(wave[start:end], dtype=np.float64)  # a wave may go on for hours behind it
    return start + quietest(energy, places - start, half, half)


def is_pause(wave: np.ndarray, place: int, first: int, last: int, smoothing: int) -> bool:
    """Whether nobody speaks around `place` of a wave (S,): `smoothing` samples there are
    :data:`PAUSE_DB` below the loudest tenth of [first, last), which is taken in pieces as long."""
    num = max((last - first) // smoothing, 1)
    pieces = np.array_split(np.square(wave[first:last], dtype=np.float64), num)
    levels = np.sort([piece.mean() for piece in pieces])  # (P,)
    loud = float(levels[-max(num // 10, 1) :].mean())
    around = wave[max(place - smoothing // 2, 0) : place + smoothing // 2]
    level = float(np.square(around, dtype=np.float64).mean())
    return level <= loud * 10 ** (-PAUSE_DB / 10)


def cut_times(rms: np.ndarray, hop_s: float, duration_s: float, max_s: float) -> list[float]:
    """Where to cut `duration_s` so that no part is longer than `max_s` and each cut is quiet.

    `rms` (F,) is the level of frames of `hop_s`. Each cut is the quietest moment between half of
    `max_s` and `max_s` after the one before, but leaves at least a quarter of `max_s` to the end.
    Returns the inner boundaries in seconds, rising.
    """
    width = max(round(LEVEL_SMOOTHING_S / hop_s), 1)
    energy = np.square(rms, dtype=np.float64)
    cuts: list[float] = []
    start = 0.0
    while duration_s - start > max_s:
        low = int((start + max_s / 2) / hop_s) + 1
        high = int(min(start + max_s, duration_s - max_s / 4) / hop_s)
        places = np.arange(low, min(high, len(energy)))
        start = quietest(energy, places, width // 2, width - width // 2) * hop_s
        cuts.append(start)
    return cuts


class Envelope:
    """The RMS of frames of `hop` samples, collected over blocks of any length."""

    def __init__(self, hop: int) -> None:
        self.hop = hop
        self.rest = np.zeros(0, np.float32)
        self.parts: list[np.ndarray] = []

    def add(self, mono: np.ndarray) -> None:
        """The next block (S,) float32."""
        import librosa

        mono = np.concatenate([self.rest, mono])
        whole = len(mono) // self.hop * self.hop
        self.rest = mono[whole:]
        if whole:
            self.parts.append(
                librosa.feature.rms(
                    y=mono[:whole], frame_length=self.hop, hop_length=self.hop, center=False
                )[0]
            )

    def values(self) -> np.ndarray:
        """(F,) float32; what is left of less than a frame is in none."""
        return np.concatenate(self.parts)
