"""A small config of every pretext task, for the tests of all of them."""

from speechssl.pretext.autoencoder import AutoencoderConfig
from speechssl.pretext.bootstrap import BootstrapConfig
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.direct_pred import DirectPredConfig
from speechssl.pretext.future_frames import FutureFramesConfig
from speechssl.pretext.future_units import FutureUnitsConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.task import TaskConfig

SMALL: dict[str, TaskConfig] = {
    "contrastive": ContrastiveConfig(
        target_dim=8, num_negatives=5, entries=6, diversity_weight=0.0, feature_penalty=0.0
    ),
    "masked_units": MaskedUnitsConfig(target_dim=8, num_units=9, features=("mfcc", "prosody")),
    "reconstruction": ReconstructionConfig(features=("logmel", "mfcc", "prosody", "wave")),
    "autoencoder": AutoencoderConfig(bottleneck_dim=8, hidden_dim=12),
    "future_frames": FutureFramesConfig(),
    "future_units": FutureUnitsConfig(target_dim=8, num_units=9, features=("mfcc", "logmel")),
    "bootstrap": BootstrapConfig(hidden_dim=16, target_dim=8),
    "direct_pred": DirectPredConfig(hidden_dim=16, target_dim=8),
}
"""Terms that are no sums over frames or utterances are off."""

CONTRASTS_THE_BATCH: frozenset[str] = frozenset()
"""Tasks whose loss compares the utterances of a micro-batch with each other, so that several small
ones are not one large one; each says so at its head."""
