"""The test set under fixed distortions, the same for every model.

What is drawn (which noise, which room) depends on the utterance's id alone, so that an utterance
has the same noise at each SNR, in each comparison, for each model.

Shapes: S samples.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from speechssl import audio
from speechssl.compare.config import Condition
from speechssl.data.effects import (
    NoiseKind,
    add_noise,
    clip,
    down_up,
    make_noise,
    make_rir,
    reverberate,
)
from speechssl.data.manifest import Utterance
from speechssl.inference.recordings import Clip
from speechssl.rng import rng

NOISES: tuple[NoiseKind, ...] = ("white", "pink", "brown", "babble")
"""One is drawn for each utterance; hum is left out, as models learn to bear it at any level."""
RT60_S = 0.6
"""Of the rooms: seconds until the sound has fallen by 60 dB, as in a hard-walled office."""
DIRECT_DB = 0.0
"""Energy of the direct path over that of all reflections."""
CLIP_LEVEL = 0.1
"""What clipping leaves of the highest peak: the hardest of PASE+ (arXiv:2001.09239)."""
NARROW_HZ = 8000
"""Sampling rate of a telephone."""
_SEED = 0
_PEAK = 0.99

TITLES: dict[Condition, str] = {
    "clean": "clean",
    "snr-20": "noise, SNR 20 dB",
    "snr-10": "noise, SNR 10 dB",
    "snr-5": "noise, SNR 5 dB",
    "snr-0": "noise, SNR 0 dB",
    "reverb": "reverberation",
    "8khz": "8 kHz",
    "clipping": "clipping",
}

RULE = (
    f"Noise is white, pink, brown or speech-shaped, one for each utterance and the same at every "
    f"SNR; rooms fall by 60 dB in {RT60_S:g} s, direct and reflected sound equally strong; 8 kHz "
    f"keeps what a telephone keeps; clipping cuts at {CLIP_LEVEL:g} of the peak."
)


def distort(wave: np.ndarray, rate: int, condition: Condition, name: str) -> np.ndarray:
    """`wave` (S,) float32 in [-1, 1] of `rate` Hz under a condition, as (S,) in [-1, 1].

    `name` is the utterance's id, from which noise and room are drawn. Where the result is too loud
    for [-1, 1] it is made quieter as a whole.
    """
    if condition == "clean" or not len(wave):
        return wave
    if condition == "8khz":
        distorted = down_up(wave, NARROW_HZ, rate) if rate > NARROW_HZ else wave
    elif condition == "clipping":
        distorted = clip(wave, CLIP_LEVEL)
    elif condition == "reverb":
        room = make_rir(RT60_S, DIRECT_DB, rate, rng(_SEED, "robustness-room", name))
        distorted = reverberate(wave, room)
    else:
        generator = rng(_SEED, "robustness-noise", name)
        noise = make_noise(str(generator.choice(NOISES)), len(wave), rate, generator)
        distorted = add_noise(wave, noise, float(condition.removeprefix("snr-")))
    peak = float(np.abs(distorted).max(initial=0.0))
    return distorted * np.float32(_PEAK / peak) if peak > 1 else distorted


def clips(utterances: Sequence[Utterance], rate: int, condition: Condition) -> Iterator[Clip]:
    """What a model of `rate` Hz transcribes; recordings are read one after the other."""
    for u in utterances:
        if condition == "clean":
            yield Clip(u.id, u.audio, u.start_s, u.duration_s)
            continue
        wave = audio.read(u.audio, start_s=u.start_s, duration_s=u.duration_s, sample_rate=rate)
        yield Clip(u.id, distort(np.clip(wave, -1.0, 1.0), rate, condition, u.id))
