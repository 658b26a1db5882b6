"""Wav2Vec2 and its relatives in transformers: their config and weight names, and ours, both ways.

HuBERT, UniSpeech and UniSpeech-SAT are Wav2Vec2 with another training; WavLM adds a gated bias for
distances to attention, data2vec-audio stacks its positional convolutions, MMS adds an adapter to
every layer.

Everything here is a pure function of dicts and tensors; transformers itself is not imported. The
maths of both models is the same, with one difference: an utterance here does not depend on the
padding behind it, while their group norm takes its statistics over the padding too, and their
stacked convolutions reach into it. A batch of unequal lengths through such a model therefore gives
here what theirs gives for each utterance by itself.

Heads cross the wall as plain dicts (the fields of ``ContrastiveConfig``, the state of
``ContrastiveTask``), since pretext tasks are another room.
"""

from speechssl.interop.huggingface.config import (
    contrastive_fields_from_hf,
    hf_config,
    hf_preprocessor,
    model_config_from_hf,
)
from speechssl.interop.huggingface.families import (
    FAMILIES,
    WAV2VEC2,
    Family,
    families_for,
    family_for,
    family_of,
)
from speechssl.interop.huggingface.weights import (
    ImportedWeights,
    from_hf_state,
    tensor_names,
    to_hf_state,
)

__all__ = [
    "FAMILIES",
    "WAV2VEC2",
    "Family",
    "ImportedWeights",
    "contrastive_fields_from_hf",
    "families_for",
    "family_for",
    "family_of",
    "from_hf_state",
    "hf_config",
    "hf_preprocessor",
    "model_config_from_hf",
    "tensor_names",
    "to_hf_state",
]
