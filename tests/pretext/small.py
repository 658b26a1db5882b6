"""A small config of every pretext task, for the tests of all of them."""

from speechssl.pretext.autoencoder import AutoencoderConfig
from speechssl.pretext.bootstrap import BootstrapConfig
from speechssl.pretext.cbow import CBOWConfig
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.ctc_distillation import CTCDistillationConfig
from speechssl.pretext.direct_pred import DirectPredConfig
from speechssl.pretext.future_frames import FutureFramesConfig
from speechssl.pretext.future_units import FutureUnitsConfig
from speechssl.pretext.jigsaw import JigsawConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.phones import PhonesConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.reverse_context import ReverseContextConfig
from speechssl.pretext.skip_gram import SkipGramConfig
from speechssl.pretext.speech_text import SpeechTextConfig
from speechssl.pretext.supervised import CTCConfig
from speechssl.pretext.task import TaskConfig
from speechssl.pretext.temporal_coherence import TemporalCoherenceConfig
from speechssl.pretext.temporal_gap import TemporalGapConfig
from speechssl.pretext.wav2vec import Wav2VecConfig

SMALL: dict[str, TaskConfig] = {
    "contrastive": ContrastiveConfig(
        target_dim=8, num_negatives=5, entries=6, diversity_weight=0.0, feature_penalty=0.0
    ),
    "masked_units": MaskedUnitsConfig(target_dim=8, num_units=9, features=("mfcc", "prosody")),
    "speech_text": SpeechTextConfig(dim=8, text_dim=8, text_kernel=3),
    "ctc": CTCConfig(),
    "phones": PhonesConfig(),
    "ctc_distillation": CTCDistillationConfig(top=4),
    "reconstruction": ReconstructionConfig(features=("logmel", "mfcc", "prosody", "wave")),
    "autoencoder": AutoencoderConfig(bottleneck_dim=8, hidden_dim=12),
    "future_frames": FutureFramesConfig(),
    "future_units": FutureUnitsConfig(target_dim=8, num_units=9, features=("mfcc", "logmel")),
    "cbow": CBOWConfig(segment_s=0.04, gap_s=0.02, neighbours=1, hidden_dim=12),
    "skip_gram": SkipGramConfig(segment_s=0.04, gap_s=0.02, neighbours=1, hidden_dim=12),
    "temporal_gap": TemporalGapConfig(segment_s=0.04, gap_s=0.02, hidden_dim=8),
    "jigsaw": JigsawConfig(pieces=3, segment_s=0.04, gap_s=(0.02, 0.06), hidden_dim=8),
    "temporal_coherence": TemporalCoherenceConfig(
        segment_s=0.04, gap_s=0.02, distant=2, target_dim=6
    ),
    "wav2vec": Wav2VecConfig(num_steps=3, num_negatives=4),
    "reverse_context": ReverseContextConfig(num_cuts=3, least_frames=1, gap=0),
    "bootstrap": BootstrapConfig(hidden_dim=16, target_dim=8),
    "direct_pred": DirectPredConfig(hidden_dim=16, target_dim=8),
}
"""Terms that are no sums over frames or utterances are off."""

CONTRASTS_THE_BATCH: frozenset[str] = frozenset({"speech_text", "reverse_context"})
"""Tasks whose loss compares the utterances of a micro-batch with each other, so that several small
ones are not one large one; each says so at its head."""
