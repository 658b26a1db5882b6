"""The model types of transformers that are wav2vec 2.0, and what sets each of them apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechssl.model.config import ModelConfig


@dataclass(frozen=True)
class Family:
    """What sets a model type of transformers apart from Wav2Vec2."""

    model_type: str
    """In config.json."""
    stem: str
    """Of its classes: ``stem + "ForCTC"``."""
    prefix: str
    """Of the body's tensors where there is a head."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Its config's own values of fields that Wav2Vec2Config lacks or sets otherwise."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What its code fixes, whatever the config."""


WAV2VEC2 = Family("wav2vec2", "Wav2Vec2", "wav2vec2")
HUBERT = Family("hubert", "Hubert", "hubert")
WAVLM = Family("wavlm", "WavLM", "wavlm", {"num_buckets": 320, "max_bucket_distance": 800})
DATA2VEC = Family(
    "data2vec-audio",
    "Data2VecAudio",
    "data2vec_audio",
    {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19},
    {"feat_extract_norm": "layer", "do_stable_layer_norm": False},
)
UNISPEECH = Family("unispeech", "UniSpeech", "unispeech")
UNISPEECH_SAT = Family("unispeech-sat", "UniSpeechSat", "unispeech_sat")
FAMILIES = {f.model_type: f for f in (WAV2VEC2, HUBERT, WAVLM, DATA2VEC, UNISPEECH, UNISPEECH_SAT)}


def family_of(hf: Mapping[str, Any]) -> Family:
    """The family that ``model_type`` names, Wav2Vec2 where it is left out.

    Raises ValueError naming the model type that is not known.
    """
    kind = hf.get("model_type", WAV2VEC2.model_type)
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(
            f"model_type {kind!r} in the config of transformers is not known here; known are "
            f"{', '.join(FAMILIES)}."
        )
    return FAMILIES[kind]


def family_for(config: ModelConfig, name: str | None = None) -> Family:
    """The family `name`, or the first that can hold the model.

    Raises ValueError where no family of that name exists or it cannot hold the model.
    """
    context, fits = config.context, families_for(config)
    wanted = family_of({"model_type": name}) if name else fits[0] if fits else None
    if wanted is None or wanted not in fits:
        parts = ("rel_buckets", "pos_stack", "adapter_dim")
        has = [f"context.{part}" for part in parts if getattr(context, part)]
        raise ValueError(
            f"{wanted.stem if wanted else 'No model'} of transformers can hold a model with "
            f"{' and '.join(has) or 'one positional convolution'}, context.norm_order "
            f"{context.norm_order!r} and this encoder.{' It is no ' + name + '.' if name else ''}"
        )
    return wanted


def families_for(config: ModelConfig) -> tuple[Family, ...]:
    """Those that can hold the model."""
    context = config.context
    needs = (bool(context.rel_buckets), bool(context.pos_stack), bool(context.adapter_dim))
    fits: tuple[Family, ...] = {
        (False, False, False): (WAV2VEC2, HUBERT, UNISPEECH, UNISPEECH_SAT),
        (True, False, False): (WAVLM,),
        (False, True, False): (DATA2VEC,),
        (False, False, True): (WAV2VEC2, UNISPEECH, UNISPEECH_SAT),
    }.get(needs, ())
    if fits == (DATA2VEC,) and (
        context.norm_order != "post" or getattr(config.encoder, "norm", "layer") != "layer"
    ):
        fits = ()
    if context.adapter_dim and context.norm_order != "pre":
        fits = ()
    return fits
