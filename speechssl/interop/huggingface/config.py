"""``config.json`` and ``preprocessor_config.json`` of transformers, and our configs, both ways."""

from collections.abc import Mapping
from typing import Any

from speechssl.interop.huggingface.families import (
    DATA2VEC,
    WAV2VEC2,
    WAVLM,
    Family,
    family_for,
    family_of,
)
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig

# Wav2Vec2Config's own values: a config.json may leave out what equals them.
DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_dropout": 0.1,
    "activation_dropout": 0.1,
    "attention_dropout": 0.1,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.1,
    "layer_norm_eps": 1e-5,
    "feat_extract_norm": "group",
    "conv_dim": (512,) * 7,
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_bias": False,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "do_stable_layer_norm": False,
    "adapter_attn_dim": None,
    "num_codevectors_per_group": 320,
    "num_codevector_groups": 2,
    "contrastive_logits_temperature": 0.1,
    "num_negatives": 100,
    "codevector_dim": 256,
    "proj_codevector_dim": 256,
    "diversity_loss_weight": 0.1,
}

# Fields that would change what the model computes; all but these values are refused.
_ONLY: dict[str, Any] = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "add_adapter": False,
    "conv_pos_batch_norm": False,
}
_ONLY_PREPROCESSOR: dict[str, Any] = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
}


def model_config_from_hf(
    hf: Mapping[str, Any], preprocessor: Mapping[str, Any] | None = None
) -> ModelConfig:
    """The model that a ``config.json`` of transformers describes.

    Args:
        hf: the config's fields; what is left out has transformers' default. Fields that only steer
            training (SpecAugment, CTC reduction, ...) have no place in a model and are left out.
        preprocessor: fields of ``preprocessor_config.json``, with the sample rate and
            whether waves are normalised; without it 16 kHz and waves as they are.

    Raises ValueError naming each field that this model cannot have, with its value.
    """
    family = family_of(hf)
    _refuse("config", hf, _ONLY)
    if preprocessor is not None:
        _refuse("preprocessor config", preprocessor, _ONLY_PREPROCESSOR)
    defaults = {**DEFAULTS, **family.defaults}
    value = {name: hf.get(name, default) for name, default in defaults.items()}
    value |= family.fixed
    for name in ("conv_dim", "conv_kernel", "conv_stride"):
        if not isinstance(value[name], (list, tuple)):
            raise ValueError(f"{name} must be a list of numbers, got {value[name]!r}.")
    wave: dict[str, Any] = {"sampling_rate": 16000, "do_normalize": False}
    if preprocessor is not None:  # transformers normalises by default
        wave |= {"do_normalize": True, **preprocessor}
    stacked = family is DATA2VEC
    return ModelConfig(
        encoder=ConvEncoderConfig(
            dims=tuple(value["conv_dim"]),
            kernels=tuple(value["conv_kernel"]),
            strides=tuple(value["conv_stride"]),
            norm=value["feat_extract_norm"],
            bias=value["conv_bias"],
        ),
        context=ContextConfig(
            dim=value["hidden_size"],
            num_layers=value["num_hidden_layers"],
            num_heads=value["num_attention_heads"],
            ffn_dim=value["intermediate_size"],
            norm_order="pre" if value["do_stable_layer_norm"] else "post",
            pos_kernel=value["conv_pos_kernel_size" if stacked else "num_conv_pos_embeddings"],
            pos_groups=value["num_conv_pos_embedding_groups"],
            pos_stack=value["num_conv_pos_embeddings"] if stacked else 0,
            dropout=value["hidden_dropout"],
            attention_dropout=value["attention_dropout"],
            activation_dropout=value["activation_dropout"],
            layerdrop=value["layerdrop"],
            norm_eps=value["layer_norm_eps"],
            rel_buckets=value.get("num_buckets", 0),
            rel_max_distance=value.get("max_bucket_distance", 800),
            adapter_dim=_adapter_dim(value),
        ),
        sample_rate=wave["sampling_rate"],
        normalize_wave=wave["do_normalize"],
        latent_dropout=value["feat_proj_dropout"],
    )


def _adapter_dim(value: Mapping[str, Any]) -> int:
    """Of the attention adapters, which transformers has in the pre-norm form only."""
    return (value["adapter_attn_dim"] or 0) if value["do_stable_layer_norm"] else 0


def hf_config(
    config: ModelConfig,
    *,
    vocab_size: int | None = None,
    contrastive: Mapping[str, Any] | None = None,
    family: str | None = None,
) -> dict[str, Any]:
    """The fields of transformers' ``config.json`` for a model.

    Args:
        config: the model.
        vocab_size: of the CTC head, where there is one; the blank is 0.
        contrastive: fields of ``ContrastiveConfig``, where the pretraining heads go along.
        family: the model type, e.g. ``hubert``; by default the first that can hold the model.

    Raises ValueError naming the part that the family does not have.
    """
    kind = family_for(config, family)
    fields = {
        "model_type": kind.model_type,
        "architectures": [f"{kind.stem}Model"],
        **_body_fields(config),
        **_family_fields(config, kind),
    }
    if contrastive is not None:
        if kind is not WAV2VEC2:
            raise ValueError(f"transformers has no pretraining heads for {kind.model_type}.")
        fields |= {"architectures": ["Wav2Vec2ForPreTraining"], **_hf_contrastive(contrastive)}
    if vocab_size is not None:
        fields |= {"architectures": [f"{kind.stem}ForCTC"]}
        fields |= {"vocab_size": vocab_size, "pad_token_id": 0}
    return fields


def _body_fields(config: ModelConfig) -> dict[str, Any]:
    """Those that all families share."""
    encoder, context = published_encoder(config), config.context
    return {
        "hidden_act": "gelu",
        "feat_extract_activation": "gelu",
        "conv_dim": list(encoder.dims),
        "conv_kernel": list(encoder.kernels),
        "conv_stride": list(encoder.strides),
        "feat_extract_norm": encoder.norm,
        "conv_bias": encoder.bias,
        "hidden_size": context.dim,
        "num_hidden_layers": context.num_layers,
        "num_attention_heads": context.num_heads,
        "intermediate_size": context.ffn_dim,
        "do_stable_layer_norm": context.norm_order == "pre",
        "num_conv_pos_embeddings": context.pos_kernel,
        "num_conv_pos_embedding_groups": context.pos_groups,
        "hidden_dropout": context.dropout,
        "attention_dropout": context.attention_dropout,
        "activation_dropout": context.activation_dropout,
        "layerdrop": context.layerdrop,
        "layer_norm_eps": context.norm_eps,
        "feat_proj_dropout": config.latent_dropout,
        "final_dropout": 0.0,
    }


def _family_fields(config: ModelConfig, kind: Family) -> dict[str, Any]:
    """Those that a family has beside, or uses otherwise."""
    context = config.context
    if kind is WAVLM:
        return {
            "num_buckets": context.rel_buckets,
            "max_bucket_distance": context.rel_max_distance,
        }
    if kind is DATA2VEC:
        return {
            "num_conv_pos_embeddings": context.pos_stack,
            "conv_pos_kernel_size": context.pos_kernel,
        }
    if kind is WAV2VEC2 or context.adapter_dim:
        return {"adapter_attn_dim": context.adapter_dim or None}
    return {}


def hf_preprocessor(config: ModelConfig) -> dict[str, Any]:
    """The fields of transformers' ``preprocessor_config.json``: what is done to a wave before."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": config.sample_rate,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": config.normalize_wave,
        "return_attention_mask": True,
    }


def contrastive_fields_from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields of ``ContrastiveConfig`` that a ``config.json`` of transformers has.

    There is no feature penalty in transformers, so it is 0. Raises ValueError where codes and
    comparisons have different widths.
    """
    value = {name: hf.get(name, default) for name, default in DEFAULTS.items()}
    if value["codevector_dim"] != value["proj_codevector_dim"]:
        raise ValueError(
            "codevector_dim and proj_codevector_dim must be equal here, got "
            f"{value['codevector_dim']} and {value['proj_codevector_dim']}."
        )
    return {
        "quantizer": "gumbel",
        "target_dim": value["proj_codevector_dim"],
        "num_negatives": value["num_negatives"],
        "temperature": value["contrastive_logits_temperature"],
        "groups": value["num_codevector_groups"],
        "entries": value["num_codevectors_per_group"],
        "diversity_weight": value["diversity_loss_weight"],
        "feature_penalty": 0.0,
    }


def _hf_contrastive(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`contrastive_fields_from_hf`."""
    if fields["quantizer"] != "gumbel":
        raise ValueError(
            "transformers' Wav2Vec2ForPreTraining quantizes with gumbel, not with "
            f"{fields['quantizer']}: export the model without its pretraining head."
        )
    return {
        "codevector_dim": fields["target_dim"],
        "proj_codevector_dim": fields["target_dim"],
        "num_negatives": fields["num_negatives"],
        "contrastive_logits_temperature": fields["temperature"],
        "num_codevector_groups": fields["groups"],
        "num_codevectors_per_group": fields["entries"],
        "diversity_loss_weight": fields["diversity_weight"],
    }


def _refuse(what: str, fields: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """ValueError if a field would change what the model computes."""
    wrong = [
        f"{name} = {fields[name]!r} (only {only!r} is known)"
        for name, only in known.items()
        if name in fields and fields[name] != only
    ]
    if wrong:
        raise ValueError(
            f"This {what} of transformers describes a model not built here: {', '.join(wrong)}."
        )


def published_encoder(config: ModelConfig) -> ConvEncoderConfig:
    """The conv encoder of a model in the published form; ValueError names what is not in it."""
    encoder, context = config.encoder, config.context
    wrong = []
    if not isinstance(encoder, ConvEncoderConfig):
        wrong.append("filterbank encoder")
    if context.local_layers:
        wrong.append(f"context.local_layers = {context.local_layers}")
    if context.upper != "attention":
        wrong.append(f"context.upper = {context.upper}")
    if context.pos_norm:
        wrong.append("context.pos_norm")
    if context.causal:
        wrong.append("context.causal")
    if config.running_norm:
        wrong.append("running_norm")
    if wrong or not isinstance(encoder, ConvEncoderConfig):
        raise ValueError(
            f"transformers' Wav2Vec2 cannot hold this model: it has no {' and no '.join(wrong)}. "
            "The sizes tiny-conv, base and large are in the published form."
        )
    return encoder
