"""fairseq's wav2vec 2.0 and HuBERT checkpoints (.pt): read, and written in the same naming.

The names are fairseq's; everything else goes through the maps for transformers, which hold the same
tensors. fairseq itself is not imported.
"""

import argparse
import ast
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechssl.checkpoint import Checkpoint, build_empty, fill
from speechssl.interop import huggingface as hf
from speechssl.interop.folders import damage, refused_object
from speechssl.interop.vocabulary import take_rows
from speechssl.model.config import ConvEncoderConfig
from speechssl.model.speech_model import CTCModel
from speechssl.text import BLANK, SPACE, UNKNOWN, VocabularyTokenizer

DICTIONARY = "dict.ltr.txt"
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq.data.Dictionary; the first is the blank
_DELIMITER = "|"
MADE_UP = re.compile("madeupword[0-9]{4,}")
"""Rows without a symbol, as fairseq's dictionaries name them."""
_UNUSED = ("label_embs_concat", "final_proj.weight", "final_proj.bias")  # of HuBERT's pretext task

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
_HEADS = {
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


def read_fairseq(
    place: Path, *, trust_pickle: bool = False, dictionary: Path | None = None
) -> Checkpoint:
    """The model in a fairseq .pt: pretrained wav2vec 2.0 or HuBERT, or their CTC children.

    Args:
        place: the file.
        trust_pickle: read the settings where they are objects of other packages. Those objects are
            built as inert tables, so that still no code of the file runs.
        dictionary: of a CTC model; default: ``dict.ltr.txt`` beside the file.

    Raises FileNotFoundError or ValueError naming what is missing, damaged or not known here.
    """
    data = _load(place, trust_pickle)
    state = {_strip(name): value for name, value in data["model"].items()}
    model, task = _settings(data, place)
    is_ctc = "proj.weight" in state
    left_out: list[str] = []
    if _is_hubert(state):
        left_out = [name for name in _UNUSED if state.pop(name, None) is not None]
    fields = _hf_fields(model, state)
    preprocessor = {"do_normalize": bool(task.get("normalize", False))}
    config = hf.model_config_from_hf(fields, preprocessor)
    encoder = config.encoder
    assert isinstance(encoder, ConvEncoderConfig)
    theirs = hf.tensor_names(config).values()
    names = {_to_fairseq(name, encoder): name for name in theirs}
    heads = {} if is_ctc else {own: name for name, own in _HEADS.items()}
    renamed = {{**names, **heads}.get(name, name): value.float() for name, value in state.items()}
    if is_ctc:
        renamed["lm_head.weight"] = renamed.pop("proj.weight")
        renamed["lm_head.bias"] = renamed.pop("proj.bias")
    weights = hf.from_hf_state(renamed, config)
    meta: dict[str, Any] = {"task": "import", "source": place.name}
    if left_out:
        meta["left_out"] = left_out
    if weights.head is None:
        speech = build_empty(config)
        fill(speech, weights.speech)
        if weights.contrastive is not None:
            meta["pretraining"] = hf.contrastive_fields_from_hf(fields)
        return Checkpoint(speech, None, meta, place.parent, weights.contrastive or {})
    tokenizer, rows = _read_dictionary(
        dictionary or place.with_name(DICTIONARY), len(weights.head["linear.bias"])
    )
    ctc = build_empty(config, tokenizer.vocab_size)
    head = {f"head.{k}": v for k, v in take_rows(weights.head, rows).items()}
    fill(ctc, {**{f"speech.{k}": v for k, v in weights.speech.items()}, **head})
    return Checkpoint(ctc, tokenizer, meta, place.parent)


def write_fairseq(checkpoint: Checkpoint, folder: Path) -> None:
    """Write ``model.pt`` (``model``: tensors, ``cfg``: tables) and, for CTC, ``dict.ltr.txt``.

    Raises ValueError where the model is not in the published form.
    """
    model, speech = checkpoint.model, checkpoint.speech
    heads = checkpoint.pretraining or None
    told = checkpoint.meta.get("pretraining") if heads else None
    fields = hf.hf_config(speech.config, family="wav2vec2", contrastive=told)
    encoder = speech.config.encoder
    assert isinstance(encoder, ConvEncoderConfig)
    theirs = hf.to_hf_state(speech, heads, family="wav2vec2")
    state = {
        _HEADS.get(name) or _to_fairseq(name.removeprefix("wav2vec2."), encoder): value.contiguous()
        for name, value in theirs.items()
    }
    cfg: dict[str, Any] = {
        "model": _fairseq_fields(fields),
        "task": {
            "_name": "audio_pretraining",
            "normalize": speech.config.normalize_wave,
            "sample_rate": speech.config.sample_rate,
        },
    }
    if isinstance(model, CTCModel):
        if model.head.upsample > 1:
            raise ValueError(
                f"A CTC model of fairseq writes one row per frame, this head {model.head.upsample}."
            )
        state = {f"w2v_encoder.w2v_model.{name}": value for name, value in state.items()}
        rows, lines = _dictionary(checkpoint)
        for name, value in take_rows(model.head.state_dict(), rows).items():
            state[name.replace("linear.", "w2v_encoder.proj.")] = value
        cfg = {
            "model": {
                "_name": "wav2vec_ctc",
                "normalize": cfg["task"]["normalize"],
                "w2v_args": cfg,
            },
            "task": {**cfg["task"], "_name": "audio_finetuning", "labels": "ltr"},
        }
        (folder / DICTIONARY).write_text(lines, encoding="utf-8")
    try:
        torch.save({"args": None, "cfg": cfg, "model": state}, folder / "model.pt")
    except RuntimeError as error:  # of a full disk
        raise OSError(f"{folder / 'model.pt'} could not be written ({error}).") from error


# ---- the file -----------------------------------------------------------------------------------


def _load(place: Path, trust_pickle: bool) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it then refuses
            data = torch.load(place, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {place}.") from None
    except Exception as error:
        name = refused_object(error)
        if name is None:
            raise ValueError(damage(place, error)) from error
        if not trust_pickle:
            raise ValueError(
                f"{place} holds objects of other packages beside its tensors ({name}). If you "
                "trust its source, `speechssl import --trust-pickle` reads them as plain tables "
                "(no code of the file is run even then)."
            ) from error
        data = _load_inert(place)
    if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
        raise ValueError(f"{place} is no checkpoint of fairseq: it has no table 'model'.")
    return data


class _Inert:
    """Stands for an object of another package: keeps what it was given, does nothing."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        self.args, self.fields = args, fields

    def __setstate__(self, state: Any) -> None:
        self.fields = state if isinstance(state, dict) else {"state": state}

    # Subclasses of dict and list are filled by these.
    def __setitem__(self, key: Any, value: Any) -> None:
        self.fields[key] = value

    def append(self, value: Any) -> None:
        self.args = (*self.args, value)

    def extend(self, values: Any) -> None:
        self.args = (*self.args, *values)


class _InertUnpickler(pickle.Unpickler):
    """Builds tensors and tables; whatever else the file names becomes :class:`_Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS or (module == "torch" and name.endswith("Storage")):
            return super().find_class(module, name)
        return _Inert


_HARMLESS = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "device"),
    ("torch", "Size"),
    ("argparse", "Namespace"),
    *((("torch", n)) for n in ("float32", "float16", "bfloat16", "float64", "int64", "int32")),
}


class _InertPickle:
    """What torch.load asks of a ``pickle_module``."""

    Unpickler = _InertUnpickler
    UnpicklingError = pickle.UnpicklingError
    HIGHEST_PROTOCOL = pickle.HIGHEST_PROTOCOL

    @staticmethod
    def load(file: Any, **settings: Any) -> Any:
        return _InertUnpickler(file, **settings).load()


def _load_inert(place: Path) -> Any:
    try:
        return torch.load(place, map_location="cpu", weights_only=False, pickle_module=_InertPickle)
    except Exception as error:
        raise ValueError(f"{place} cannot be read ({type(error).__name__}: {error}).") from error


def _plain(value: Any, depth: int = 0) -> Any:
    """Namespaces and omegaconf's nodes (``_content``, ``_val``) as tables and values."""
    if depth > 30:
        return None
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, _Inert):
        fields = value.fields
        if "_content" in fields:
            return _plain(fields["_content"], depth + 1)
        if "_val" in fields:
            return _plain(fields["_val"], depth + 1)
        return _plain(fields or list(value.args), depth + 1)
    if isinstance(value, Mapping):
        return {k: _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, depth + 1) for v in value]
    return value


def _settings(data: Mapping[str, Any], place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(model, task)``: the innermost ones, which describe the wav2vec 2.0 model."""
    cfg = _plain(data.get("cfg"))
    if not cfg:  # before fairseq had a cfg
        flat = _plain(data.get("args"))
        cfg = {"model": flat, "task": flat}
    if not isinstance(cfg, dict) or not isinstance(cfg.get("model"), dict):
        raise ValueError(f"{place} does not tell the settings of its model ('cfg' or 'args').")
    model, task = cfg["model"], cfg.get("task") or {}
    inner = model.get("w2v_args")
    if isinstance(inner, dict):
        own = inner.get("model", inner)
        return own, {**(inner.get("task") or {}), **task}
    return model, task


def _strip(name: str) -> str:
    for prefix in ("w2v_encoder.w2v_model.", "w2v_encoder."):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _is_hubert(state: Mapping[str, Tensor]) -> bool:
    return "label_embs_concat" in state


# ---- names and settings -------------------------------------------------------------------------


def _to_fairseq(name: str, encoder: ConvEncoderConfig) -> str:
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


def _hf_fields(model: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
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


def _fairseq_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
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


# ---- the dictionary -----------------------------------------------------------------------------


def _read_dictionary(place: Path, num_rows: int) -> tuple[VocabularyTokenizer, list[int | None]]:
    """The tokenizer of a CTC head, and which of its rows writes which symbol."""
    if not place.exists():
        raise FileNotFoundError(
            f"The model writes {num_rows} symbols but {place} is not there to name them: give its "
            "dictionary with `speechssl import --dictionary FILE`."
        )
    lines = place.read_text(encoding="utf-8").splitlines()
    tokens = [*_SPECIAL, *(line.rsplit(" ", 1)[0] for line in lines if line.strip())]
    if len(tokens) != num_rows:
        raise ValueError(
            f"{place} names {len(tokens)} symbols (with fairseq's own four), the head writes "
            f"{num_rows}: they do not belong together."
        )
    unknown = tokens.index("<unk>")
    rest = [i for i in range(1, num_rows) if i != unknown]
    texts = [SPACE if tokens[i] == _DELIMITER else tokens[i] for i in rest]
    silent = [t for t in texts if t in _SPECIAL or MADE_UP.fullmatch(t)]
    letters = "".join(t for t in texts if t not in silent)
    uppercase = letters == letters.upper() != letters.lower()
    tokenizer = VocabularyTokenizer([BLANK, UNKNOWN, *texts], silent, uppercase=uppercase)
    return tokenizer, [0, unknown, *rest]


def _dictionary(checkpoint: Checkpoint) -> tuple[list[int | None], str]:
    """Rows of our head in fairseq's order (its own four first; None: never written), and the text
    of the dictionary."""
    _, tokenizer = checkpoint.require_ctc()
    symbols = list(tokenizer.symbols)
    if any(" " in s for s in symbols if s != SPACE) or _DELIMITER in symbols:
        raise ValueError("A dictionary of fairseq cannot hold symbols with a space or a bar.")
    # fairseq has no name for the row of <s>, as that is its blank: transformers reads its models
    # with the blank as <pad> and <pad> as <s>, and so it goes back.
    silent: frozenset[str] = getattr(tokenizer, "silent", frozenset())
    pad = next((i for i, s in enumerate(symbols) if s in ("<pad>", "<s>") and i > 1), None)
    end = symbols.index("</s>") if "</s>" in symbols else None
    own = [i for i in range(2, len(symbols)) if i not in (pad, end)]
    names = {i: f"madeupword{i:04d}" for i in own if symbols[i] in silent}
    names |= {i: _DELIMITER for i in own if symbols[i] == SPACE}
    lines = [f"{names.get(i, symbols[i])} 1" for i in own]
    return [0, pad, end, 1, *own], "\n".join(lines) + "\n"


def rows_read_again(checkpoint: Checkpoint) -> list[int | None]:
    """For each symbol of what :func:`read_fairseq` makes of the model's file, the row of the model
    that writes it; None: it is never written."""
    rows, _ = _dictionary(checkpoint)
    return [rows[0], rows[3], rows[1], rows[2], *rows[4:]]
