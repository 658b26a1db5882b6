"""Wav2Vec2 and its relatives in transformers: their config and weight names, and ours, both ways.

HuBERT, UniSpeech and UniSpeech-SAT are Wav2Vec2 with another training; WavLM adds a gated bias for
distances to attention, data2vec-audio stacks its positional convolutions, MMS adds an adapter to
every layer.

Everything here is a pure function of dicts and tensors; transformers itself is not imported. The
maths of both models is the same, with one difference: an utterance here hears nothing of the
padding behind it, while their group norm takes its statistics over the padding too, and their
stacked convolutions reach into it. A batch of unequal lengths through such a model therefore gives
here what theirs gives for each utterance alone.

Heads cross the wall as plain dicts (the fields of ``ContrastiveConfig``, the state of
``ContrastiveTask``), since the objectives are another room.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    """What its code has settled, whatever its config says."""


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
_PREFIX = re.compile(rf"^({'|'.join(f.prefix for f in FAMILIES.values())})\.")

# Our names -> theirs, one rule a name.
_RULES = (
    (r"encoder\.layers\.(\d+)\.conv\.(.+)", r"feature_extractor.conv_layers.\1.conv.\2"),
    (r"encoder\.layers\.(\d+)\.norm\.(.+)", r"feature_extractor.conv_layers.\1.layer_norm.\2"),
    (r"latent_norm\.(.+)", r"feature_projection.layer_norm.\1"),
    (r"project\.(.+)", r"feature_projection.projection.\1"),
    (r"mask_embedding", r"masked_spec_embed"),
    (r"context\.position\.conv\.(.+)", r"encoder.pos_conv_embed.conv.\1"),
    (r"context\.position\.layers\.(\d+)\.(.+)", r"encoder.pos_conv_embed.layers.\1.conv.\2"),
    (r"context\.norm\.(.+)", r"encoder.layer_norm.\1"),
    (r"context\.distance\.weight", r"encoder.layers.0.attention.rel_attn_embed.weight"),
    (
        r"context\.layers\.(\d+)\.attention\.gate\.(.+)",
        r"encoder.layers.\1.attention.gru_rel_pos_linear.\2",
    ),
    (
        r"context\.layers\.(\d+)\.attention\.gate_scale",
        r"encoder.layers.\1.attention.gru_rel_pos_const",
    ),
    (r"context\.layers\.(\d+)\.adapter\.norm\.(.+)", r"encoder.layers.\1.adapter_layer.norm.\2"),
    (
        r"context\.layers\.(\d+)\.adapter\.down\.(.+)",
        r"encoder.layers.\1.adapter_layer.linear_1.\2",
    ),
    (r"context\.layers\.(\d+)\.adapter\.up\.(.+)", r"encoder.layers.\1.adapter_layer.linear_2.\2"),
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
    """Of ``ContrastiveTask``; None where the checkpoint was not one for pretraining."""
    left_out: tuple[str, ...] = ()
    """Heads of other jobs (``classifier``), whose tensors are not read."""


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
    family = family_of(hf)
    _refuse("config", hf, _ONLY)
    if preprocessor is not None:
        _refuse("preprocessor config", preprocessor, _ONLY_PREPROCESSOR)
    defaults = {**_DEFAULTS, **family.defaults}
    value = {name: hf.get(name, default) for name, default in defaults.items()}
    value |= family.fixed
    for name in ("conv_dim", "conv_kernel", "conv_stride"):
        if not isinstance(value[name], (list, tuple)):
            raise ValueError(f"{name} must be a list of numbers, got {value[name]!r}.")
    heard: dict[str, Any] = {"sampling_rate": 16000, "do_normalize": False}
    if preprocessor is not None:  # transformers normalises unless told not to
        heard |= {"do_normalize": True, **preprocessor}
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
        sample_rate=heard["sampling_rate"],
        normalize_wave=heard["do_normalize"],
        latent_dropout=value["feat_proj_dropout"],
    )


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
    encoder = _published_encoder(config)
    kind = family_for(config, family)
    context = config.context
    fields: dict[str, Any] = {
        "model_type": kind.model_type,
        "architectures": [f"{kind.stem}Model"],
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
    if kind is WAV2VEC2:
        fields["adapter_attn_dim"] = context.adapter_dim or None
    if kind is WAVLM:
        fields["num_buckets"] = context.rel_buckets
        fields["max_bucket_distance"] = context.rel_max_distance
    if kind is DATA2VEC:
        fields["num_conv_pos_embeddings"] = context.pos_stack
        fields["conv_pos_kernel_size"] = context.pos_kernel
    if contrastive is not None:
        if kind is not WAV2VEC2:
            raise ValueError(f"transformers has no pretraining heads for {kind.model_type}.")
        fields |= {"architectures": ["Wav2Vec2ForPreTraining"], **_hf_contrastive(contrastive)}
    if vocab_size is not None:
        fields |= {"architectures": [f"{kind.stem}ForCTC"]}
        fields |= {"vocab_size": vocab_size, "pad_token_id": 0}
    return fields


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


def _published_encoder(config: ModelConfig) -> ConvEncoderConfig:
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
    family: str | None = None,
) -> dict[str, Tensor]:
    """The weights under transformers' names; the tensors are the model's own, not copies.

    Args:
        model: gives a Wav2Vec2Model, or a Wav2Vec2ForCTC if it has a head.
        contrastive: the state of ``ContrastiveTask``; with it, a Wav2Vec2ForPreTraining.
        old_weight_norm: name the positional convolution's weights as torch did before 2.0
            (``weight_g`` and ``weight_v``), which transformers reads as well.
        family: the model type, as in :func:`hf_config`.

    Raises ValueError naming what the family does not have.
    """
    head = model.head if isinstance(model, CTCModel) else None
    speech = model.speech if isinstance(model, CTCModel) else model
    if head is not None and head.upsample > 1:
        raise ValueError(
            f"A CTC model of transformers writes one row per frame, this head {head.upsample}."
        )
    if head is not None and contrastive is not None:
        raise ValueError("A checkpoint of transformers has a CTC head or the pretraining heads.")
    names = tensor_names(speech.config)
    kind = family_for(speech.config, family)
    state = {names[name]: value for name, value in speech.state_dict().items()}
    if old_weight_norm:
        state = {
            _replace_ending(n, {b: a for a, b in _WEIGHT_NORM.items()}): v for n, v in state.items()
        }
    if head is None and contrastive is None:
        return state
    state = {f"{kind.prefix}.{name}": value for name, value in state.items()}
    if head is not None:
        return state | {_HEAD[name]: value for name, value in head.state_dict().items()}
    for name, theirs in _CONTRASTIVE.items():
        if contrastive is None or name not in contrastive:
            raise ValueError(f"The pretraining heads of gumbel hold {name}, which is missing here.")
        value = contrastive[name]
        state[theirs] = value.reshape(1, -1, value.shape[2]) if name.endswith("codebook") else value
    return state


def from_hf_state(state: Mapping[str, Tensor], config: ModelConfig) -> ImportedWeights:
    """Our names for the weights of a model of any family, with a CTC head or pretraining heads.

    Both namings of weight norm are read. A model that was never masked has no mask embedding; it
    is zero then. Where the body's names have its family's prefix, whatever else has none belongs to
    a head: those of classification, speakers and other pretraining are left out by name. The
    tensors are those of `state`, not copies. Raises ValueError naming the tensors that are missing,
    unknown or of another shape.
    """
    plain, left_out = _without_other_heads(state)
    head = _take(plain, _HEAD)
    contrastive = _take(plain, _CONTRASTIVE)
    if head is not None and head["linear.weight"].shape != (
        *head["linear.bias"].shape,
        config.context.dim,
    ):
        raise ValueError(
            f"lm_head.weight has shape {tuple(head['linear.weight'].shape)}, its bias "
            f"{tuple(head['linear.bias'].shape)} and a model of width {config.context.dim} ask for "
            f"{(len(head['linear.bias']), config.context.dim)}."
        )
    if contrastive is not None:
        codes, mixed = contrastive["quantizer.codebook"], contrastive["project_target.weight"]
        groups = mixed.shape[1] // codes.shape[-1]
        contrastive["quantizer.codebook"] = codes.reshape(groups, -1, codes.shape[-1])  # (G, V, E)
    names = tensor_names(config)
    plain.setdefault("masked_spec_embed", torch.zeros(config.context.dim))
    check_names(plain, names.values(), "their config")
    speech = {ours: plain[theirs] for ours, theirs in names.items()}
    for name, shape in _shapes(config).items():
        if speech[name].shape != shape:
            raise ValueError(
                f"{names[name]} has shape {tuple(speech[name].shape)}, the config asks for "
                f"{tuple(shape)}."
            )
    return ImportedWeights(speech, head, contrastive, left_out)


def _without_other_heads(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """``(tensors without the family's prefix, names of the heads that are not read)``."""
    prefixes = {match[1] for name in state if (match := _PREFIX.match(name))}
    read = set(_HEAD.values()) | (
        set(_CONTRASTIVE.values()) if WAV2VEC2.prefix in prefixes else set()
    )
    plain: dict[str, Tensor] = {}
    left_out: set[str] = set()
    for name, value in state.items():
        if prefixes and not _PREFIX.match(name) and name not in read:
            left_out.add(name.partition(".")[0])
        else:
            plain[_replace_ending(_PREFIX.sub("", name), _WEIGHT_NORM)] = value
    return plain, tuple(sorted(left_out))


def check_names(found: Iterable[str], wanted: Iterable[str], what: str) -> None:
    """ValueError with the first few and the number of the tensors missing and not known."""
    found, wanted = set(found), set(wanted)
    if found != wanted:
        raise ValueError(
            f"These weights are not what {what} describes: missing {_list(wanted - found)}; not "
            f"known here {_list(found - wanted)}."
        )


def _list(names: set[str], shown: int = 4) -> str:
    """``2 (a, b)``, ``70 (a, b, c, d, ...)`` or ``none``."""
    if not names:
        return "none"
    first = ", ".join(sorted(names)[:shown])
    return f"{len(names)} ({first}{', ...' if len(names) > shown else ''})"


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Name -> shape of every tensor of a model, without making it."""
    with torch.device("meta"):
        return {name: value.shape for name, value in SpeechModel(config).state_dict().items()}


def tensor_names(config: ModelConfig) -> dict[str, str]:
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
