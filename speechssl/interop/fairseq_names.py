"""Names of weights and settings in fairseq's wav2vec 2.0 and HuBERT, from and to transformers'."""

import ast
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from speechssl.model.config import ConvEncoderConfig

# transformers' names -> fairseq's, by part; in this order.
_PARTS = (
    ("feature_projection.layer_norm", "layer_norm"),
    ("feature_projection.projection", "post_extract_proj"),
    ("masked_spec_embed", "mask_emb"),
    ("encoder.pos_conv_embed.conv", "encoder.pos_conv.0"),
    ("feed_forward.intermediate_dense", "fc1"),
    ("feed_forward.output_dense", "fc2"),
    ("attention.", "self_attn."),
)
HEADS = {
    "quantizer.codevectors": "quantizer.vars",
    "quantizer.weight_proj.weight": "quantizer.weight_proj.weight",
    "quantizer.weight_proj.bias": "quantizer.weight_proj.bias",
    "project_q.weight": "project_q.weight",
    "project_q.bias": "project_q.bias",
    "project_hid.weight": "final_proj.weight",
    "project_hid.bias": "final_proj.bias",
}
_WEIGHT_NORM = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}


def to_fairseq(name: str, encoder: ConvEncoderConfig) -> str:
    """A name of transformers -> fairseq's."""
    if name.startswith("feature_extractor.conv_layers."):
        _, _, layer, part, leaf = name.split(".")
        # Sequential(conv, dropout, norm, gelu); the layer norm stands between two transpositions.
        place = {"conv": "0", "layer_norm": "2.1" if encoder.norm == "layer" else "2"}[part]
        return f"feature_extractor.conv_layers.{layer}.{place}.{leaf}"
    # The norm before the feed-forward is called final_layer_norm in both; the first one is not.
    parts = name.split(".")
    if len(parts) == 5 and parts[:2] == ["encoder", "layers"] and parts[3] == "layer_norm":
        return f"encoder.layers.{parts[2]}.self_attn_layer_norm.{parts[4]}"
    for theirs, ours in _PARTS:
        if theirs in name:
            name = name.replace(theirs, ours)
            break
    for theirs, ours in _WEIGHT_NORM.items():
        name = name.replace(theirs, ours)
    return name


_CONV_DEFAULT = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
_FIELDS: dict[str, tuple[str, Any]] = {  # transformers' -> (fairseq's, its default)
    "hidden_size": ("encoder_embed_dim", 768),
    "num_hidden_layers": ("encoder_layers", 12),
    "num_attention_heads": ("encoder_attention_heads", 12),
    "intermediate_size": ("encoder_ffn_embed_dim", 3072),
    "hidden_dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "activation_dropout": ("activation_dropout", 0.0),
    "layerdrop": ("encoder_layerdrop", 0.0),
    "feat_proj_dropout": ("dropout_input", 0.0),
    "conv_bias": ("conv_bias", False),
    "num_conv_pos_embeddings": ("conv_pos", 128),
    "num_conv_pos_embedding_groups": ("conv_pos_groups", 16),
    "do_stable_layer_norm": ("layer_norm_first", False),
    "hidden_act": ("activation_fn", "gelu"),
    "num_codevectors_per_group": ("latent_vars", 320),
    "num_codevector_groups": ("latent_groups", 2),
    "contrastive_logits_temperature": ("logit_temp", 0.1),
    "num_negatives": ("num_negatives", 100),
}
_KNOWN = {
    "conv_pos_batch_norm": False,
    "pos_conv_depth": 1,
    "layer_type": "transformer",
    "quantize_input": False,
    "target_glu": False,
}


def hf_fields(model: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The same settings as transformers names them."""
    wrong = [f"{k} = {model[k]!r}" for k, only in _KNOWN.items() if model.get(k, only) != only]
    if wrong:
        raise ValueError(f"This fairseq model is not one that is built here: {', '.join(wrong)}.")
    fields = {theirs: model.get(own, default) for theirs, (own, default) in _FIELDS.items()}
    layers = parse_conv_layers(str(model.get("conv_feature_layers") or _CONV_DEFAULT))
    fields["conv_dim"], fields["conv_kernel"], fields["conv_stride"] = zip(*layers, strict=True)
    mode = model.get("extractor_mode", "default")
    fields["feat_extract_norm"] = "layer" if str(mode).endswith("layer_norm") else "group"
    if "quantizer.vars" in state:
        fields["codevector_dim"] = state["project_q.weight"].shape[1]
        fields["proj_codevector_dim"] = state["project_q.weight"].shape[0]
    return fields


def fairseq_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    model = {own: fields[theirs] for theirs, (own, _) in _FIELDS.items() if theirs in fields}
    layers = zip(fields["conv_dim"], fields["conv_kernel"], fields["conv_stride"], strict=True)
    model["conv_feature_layers"] = repr([tuple(layer) for layer in layers])
    model["extractor_mode"] = "layer_norm" if fields["feat_extract_norm"] == "layer" else "default"
    if "proj_codevector_dim" in fields:
        model |= {"quantize_targets": True, "final_dim": fields["proj_codevector_dim"]}
    return {"_name": "wav2vec2", **model}


def parse_conv_layers(text: str) -> list[tuple[int, int, int]]:
    """``[(512, 10, 5)] + [(512, 3, 2)] * 4`` -> (channels, kernel, stride) of each layer.

    Only lists of triples, sums and repeats are understood; nothing is evaluated.
    """

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return value(node.left) * value(node.right)
        return ast.literal_eval(node)

    try:
        layers = [(int(a), int(b), int(c)) for a, b, c in value(ast.parse(text, mode="eval").body)]
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(f"conv_feature_layers of this model cannot be read: {text!r}.") from error
    return layers
