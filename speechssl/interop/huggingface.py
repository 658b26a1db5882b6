"""Wav2Vec2 of transformers: its config and weight names, and ours, both ways.

Everything here is a pure function of dicts and tensors; transformers itself is not imported. The
maths of both models is the same, with one difference: our group norm takes its statistics over an
utterance's valid frames, theirs over the padding too. A batch of unequal lengths through a
group-norm model therefore gives here what theirs gives for each utterance alone.

Heads cross the wall as plain dicts (the fields of ``ContrastiveConfig``, the state of
``GumbelContrastive``), since the objectives are another room.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.speech_model import CTCModel, SpeechModel

# Wav2Vec2Config's own values: a config.json may leave out what equals them.
_DEFAULTS: dict[str, Any] = {
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
    "model_type": "wav2vec2",
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "add_adapter": False,
    "adapter_attn_dim": None,
    "conv_pos_batch_norm": False,
}

# Our names -> theirs, one rule a name.
_RULES = (
    (r"encoder\.layers\.(\d+)\.conv\.(.+)", r"feature_extractor.conv_layers.\1.conv.\2"),
    (r"encoder\.layers\.(\d+)\.norm\.(.+)", r"feature_extractor.conv_layers.\1.layer_norm.\2"),
    (r"latent_norm\.(.+)", r"feature_projection.layer_norm.\1"),
    (r"project\.(.+)", r"feature_projection.projection.\1"),
    (r"mask_embedding", r"masked_spec_embed"),
    (r"context\.position\.conv\.(.+)", r"encoder.pos_conv_embed.conv.\1"),
    (r"context\.norm\.(.+)", r"encoder.layer_norm.\1"),
    (r"context\.layers\.(\d+)\.attention\.query\.(.+)", r"encoder.layers.\1.attention.q_proj.\2"),
    (r"context\.layers\.(\d+)\.attention\.key\.(.+)", r"encoder.layers.\1.attention.k_proj.\2"),
    (r"context\.layers\.(\d+)\.attention\.value\.(.+)", r"encoder.layers.\1.attention.v_proj.\2"),
    (r"context\.layers\.(\d+)\.attention\.out\.(.+)", r"encoder.layers.\1.attention.out_proj.\2"),
    (r"context\.layers\.(\d+)\.attention_norm\.(.+)", r"encoder.layers.\1.layer_norm.\2"),
    (
        r"context\.layers\.(\d+)\.ffn_in\.(.+)",
        r"encoder.layers.\1.feed_forward.intermediate_dense.\2",
    ),
    (r"context\.layers\.(\d+)\.ffn_out\.(.+)", r"encoder.layers.\1.feed_forward.output_dense.\2"),
    (r"context\.layers\.(\d+)\.ffn_norm\.(.+)", r"encoder.layers.\1.final_layer_norm.\2"),
)
_CONTRASTIVE = {
    "quantizer.logits.weight": "quantizer.weight_proj.weight",
    "quantizer.logits.bias": "quantizer.weight_proj.bias",
    "quantizer.codebook": "quantizer.codevectors",
    "project_target.weight": "project_q.weight",
    "project_target.bias": "project_q.bias",
    "project_context.weight": "project_hid.weight",
    "project_context.bias": "project_hid.bias",
}
_HEAD = {"linear.weight": "lm_head.weight", "linear.bias": "lm_head.bias"}
# torch's weight norm wrote the first names before 2.0, and writes the second ones since.
_WEIGHT_NORM = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


@dataclass(frozen=True)
class ImportedWeights:
    """State dicts under our names."""

    speech: dict[str, Tensor]
    """Of :class:`SpeechModel`."""
    head: dict[str, Tensor] | None
    """Of ``CTCHead``, its rows in their vocabulary's order; None where there was no ``lm_head``."""
    contrastive: dict[str, Tensor] | None
    """Of ``GumbelContrastive``; None where the checkpoint was not one for pretraining."""


# --- configs --------------------------------------------------------------------------------------


def model_config_from_hf(
    hf: Mapping[str, Any], preprocessor: Mapping[str, Any] | None = None
) -> ModelConfig:
    """The model that a ``config.json`` of transformers describes.

    Args:
        hf: the config's fields; what is left out has transformers' default. Fields that only steer
            training (SpecAugment, CTC reduction, ...) have no place in a model and are left out.
        preprocessor: fields of ``preprocessor_config.json``, which tells the sample rate and
            whether waves are normalised; without it 16 kHz and waves as they are.

    Raises ValueError naming each field that this model cannot have, with its value.
    """
    _refuse(hf)
    value = {name: hf.get(name, default) for name, default in _DEFAULTS.items()}
    heard: dict[str, Any] = {"sampling_rate": 16000, "do_normalize": False}
    if preprocessor is not None:
        heard |= {
            "do_normalize": True,
            **preprocessor,
        }  # transformers normalises unless told not to
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
            pos_kernel=value["num_conv_pos_embeddings"],
            pos_groups=value["num_conv_pos_embedding_groups"],
            dropout=value["hidden_dropout"],
            attention_dropout=value["attention_dropout"],
            activation_dropout=value["activation_dropout"],
            layerdrop=value["layerdrop"],
            norm_eps=value["layer_norm_eps"],
        ),
        sample_rate=heard["sampling_rate"],
        normalize_wave=heard["do_normalize"],
        latent_dropout=value["feat_proj_dropout"],
    )


def hf_config(
    config: ModelConfig,
    *,
    vocab_size: int | None = None,
    contrastive: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields of transformers' ``config.json`` for a model.

    Args:
        config: the model.
        vocab_size: of the CTC head, where there is one; the blank is 0.
        contrastive: fields of ``ContrastiveConfig``, where the pretraining heads go along.

    Raises ValueError naming the part that transformers' Wav2Vec2 does not have.
    """
    encoder = _published_encoder(config)
    context = config.context
    fields: dict[str, Any] = {
        "model_type": "wav2vec2",
        "architectures": ["Wav2Vec2Model"],
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
    if contrastive is not None:
        fields |= {"architectures": ["Wav2Vec2ForPreTraining"], **_hf_contrastive(contrastive)}
    if vocab_size is not None:
        fields |= {"architectures": ["Wav2Vec2ForCTC"], "vocab_size": vocab_size, "pad_token_id": 0}
    return fields


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
    """Those fields of ``ContrastiveConfig`` that a ``config.json`` of transformers tells.

    There is no feature penalty in transformers, so it is 0. Raises ValueError where codes and
    comparisons have different widths.
    """
    value = {name: hf.get(name, default) for name, default in _DEFAULTS.items()}
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


def _refuse(hf: Mapping[str, Any]) -> None:
    """ValueError if a field would change what the model computes."""
    wrong = [
        f"{name} = {hf[name]!r} (only {only!r} is known)"
        for name, only in _ONLY.items()
        if name in hf and hf[name] != only
    ]
    if wrong:
        raise ValueError(
            f"This config of transformers describes a model not built here: {', '.join(wrong)}."
        )


def _published_encoder(config: ModelConfig) -> ConvEncoderConfig:
    """The conv encoder of a model in the published form; ValueError names what is not in it."""
    encoder, context = config.encoder, config.context
    wrong = []
    if not isinstance(encoder, ConvEncoderConfig):
        wrong.append("a filterbank encoder")
    if context.local_layers:
        wrong.append(f"context.local_layers = {context.local_layers}")
    if context.upper != "attention":
        wrong.append(f"context.upper = {context.upper}")
    if context.pos_norm:
        wrong.append("context.pos_norm")
    if wrong or not isinstance(encoder, ConvEncoderConfig):
        raise ValueError(
            f"transformers' Wav2Vec2 cannot hold this model: it has no {' and no '.join(wrong)}. "
            "The sizes tiny-conv, base and large are in the published form."
        )
    return encoder


# --- weights --------------------------------------------------------------------------------------


def to_hf_state(
    model: SpeechModel | CTCModel,
    contrastive: Mapping[str, Tensor] | None = None,
    *,
    old_weight_norm: bool = False,
) -> dict[str, Tensor]:
    """The weights under transformers' names; the tensors are the model's own, not copies.

    Args:
        model: gives a Wav2Vec2Model, or a Wav2Vec2ForCTC if it has a head.
        contrastive: the state of ``GumbelContrastive``; with it, a Wav2Vec2ForPreTraining.
        old_weight_norm: name the positional convolution's weights as torch did before 2.0
            (``weight_g`` and ``weight_v``), which transformers reads as well.

    Raises ValueError naming what transformers' Wav2Vec2 does not have.
    """
    head = model.head if isinstance(model, CTCModel) else None
    speech = model.speech if isinstance(model, CTCModel) else model
    if head is not None and head.upsample > 1:
        raise ValueError(
            f"transformers' Wav2Vec2ForCTC writes one row per frame, this head {head.upsample}."
        )
    if head is not None and contrastive is not None:
        raise ValueError("A checkpoint of transformers has a CTC head or the pretraining heads.")
    names = _names(speech.config)
    state = {names[name]: value for name, value in speech.state_dict().items()}
    if old_weight_norm:
        state = {
            _replace_ending(n, {b: a for a, b in _WEIGHT_NORM.items()}): v for n, v in state.items()
        }
    if head is None and contrastive is None:
        return state
    state = {f"wav2vec2.{name}": value for name, value in state.items()}
    if head is not None:
        return state | {_HEAD[name]: value for name, value in head.state_dict().items()}
    for name, theirs in _CONTRASTIVE.items():
        if contrastive is None or name not in contrastive:
            raise ValueError(f"The pretraining heads of gumbel hold {name}, which is missing here.")
        value = contrastive[name]
        state[theirs] = value.reshape(1, -1, value.shape[2]) if name.endswith("codebook") else value
    return state


def from_hf_state(state: Mapping[str, Tensor], config: ModelConfig) -> ImportedWeights:
    """Our names for the weights of a Wav2Vec2Model, Wav2Vec2ForCTC or Wav2Vec2ForPreTraining.

    Both namings of weight norm are read. A model that was never masked has no mask embedding; it
    is zero then. The tensors are those of `state`, not copies. Raises ValueError naming the tensors
    that are missing, unknown or of another shape.
    """
    plain = {
        _replace_ending(n.removeprefix("wav2vec2."), _WEIGHT_NORM): v for n, v in state.items()
    }
    head = _take(plain, _HEAD)
    contrastive = _take(plain, _CONTRASTIVE)
    if contrastive is not None:
        codes, mixed = contrastive["quantizer.codebook"], contrastive["project_target.weight"]
        groups = mixed.shape[1] // codes.shape[-1]
        contrastive["quantizer.codebook"] = codes.reshape(groups, -1, codes.shape[-1])  # (G, V, E)
    names = _names(config)
    plain.setdefault("masked_spec_embed", torch.zeros(config.context.dim))
    missing = sorted(names.values() - plain.keys())
    unknown = sorted(plain.keys() - names.values())
    if missing or unknown:
        raise ValueError(
            f"These weights do not fit the config: missing {missing}, not known here {unknown}."
        )
    speech = {ours: plain[theirs] for ours, theirs in names.items()}
    for name, shape in _shapes(config).items():
        if speech[name].shape != shape:
            raise ValueError(
                f"{names[name]} has shape {tuple(speech[name].shape)}, the config asks for "
                f"{tuple(shape)}."
            )
    return ImportedWeights(speech, head, contrastive)


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Name -> shape of every tensor of a model, without making it."""
    with torch.device("meta"):
        return {name: value.shape for name, value in SpeechModel(config).state_dict().items()}


def _names(config: ModelConfig) -> dict[str, str]:
    """Our name -> theirs, for every tensor of a model in the published form."""
    _published_encoder(config)
    return {name: _translate(name) for name in _shapes(config)}


def _translate(name: str) -> str:
    for ours, theirs in _RULES:
        if match := re.fullmatch(ours, name):
            return match.expand(theirs)
    raise AssertionError(f"no rule for {name}")


def _replace_ending(name: str, endings: Mapping[str, str]) -> str:
    """`name` with its ending replaced, for the positional convolution only."""
    stem = "encoder.pos_conv_embed.conv."
    return stem + endings.get(rest, rest) if (rest := name.removeprefix(stem)) != name else name


def _take(state: dict[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor] | None:
    """Move the tensors of one part out of `state`, under our names; None where it has none."""
    missing = sorted(theirs for theirs in names.values() if theirs not in state)
    if len(missing) == len(names):
        return None
    if missing:
        raise ValueError(f"These weights hold only a part of a head: missing {missing}.")
    return {ours: state.pop(theirs) for ours, theirs in names.items()}
