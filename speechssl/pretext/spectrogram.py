"""Log-mel features of the model's frames as a spectrogram to look at.

Shapes: T frames, F = hops of 10 ms in a frame x 80 mel bands, H hops, M mel bands.
"""

import numpy as np
from torch import Tensor

from speechssl.pretext.features import HOP_S, NUM_MELS, log_mel, power_spectrum
from speechssl.pretext.inputs import Inputs


def rebuilt_log_mels(x: Inputs, features: Tensor) -> np.ndarray:
    """(T, F) normalised log-mel features of the one utterance of `x` -> (H, M) natural log of mel
    energies: each band is given back the level and range that it has in the clean wave."""
    rate = x.model.config.sample_rate
    num_hops = int(x.frames) * round(x.model.hop_s / HOP_S)
    clean = log_mel(power_spectrum(x.speech().wave, num_hops, rate), rate)[0]  # (H, M)
    normal = features.reshape(-1, NUM_MELS)
    rebuilt: np.ndarray = (normal * (clean.std(0) + 1e-2) + clean.mean(0)).cpu().numpy()
    return rebuilt
