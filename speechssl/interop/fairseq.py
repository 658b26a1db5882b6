"""fairseq's wav2vec 2.0 and HuBERT checkpoints (.pt): read, and written in the same naming.

The names are fairseq's; everything else goes through the maps for transformers, which hold the same
tensors. fairseq itself is not imported.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechssl.checkpoint import Checkpoint
from speechssl.interop import huggingface as hf
from speechssl.interop.fairseq_dictionary import dictionary_name, dictionary_of, read_dictionary
from speechssl.interop.fairseq_file import load_checkpoint, settings_of
from speechssl.interop.fairseq_names import HEADS, fairseq_fields, hf_fields, to_fairseq
from speechssl.interop.folders import naming
from speechssl.interop.imported import body_checkpoint, ctc_checkpoint
from speechssl.interop.vocabulary import take_rows
from speechssl.model.config import ConvEncoderConfig
from speechssl.model.speech_model import CTCModel

_UNUSED = ("label_embs_concat", "final_proj.weight", "final_proj.bias")  # of HuBERT's pretext task


def read_fairseq(
    place: Path, *, trust_pickle: bool = False, dictionary: Path | None = None
) -> Checkpoint:
    """The model in a fairseq .pt: pretrained wav2vec 2.0 or HuBERT, or their CTC children.

    Args:
        place: the file.
        trust_pickle: read the settings where they are objects of other packages. Those objects are
            built as inert tables, so that still no code of the file runs.
        dictionary: of a CTC model; default: the one beside the file that its task names, for
            letters ``dict.ltr.txt``.

    Raises FileNotFoundError or ValueError naming what is missing, damaged or not known here.
    """
    data = load_checkpoint(place, trust_pickle)
    state = {_strip(name): value for name, value in data["model"].items()}
    model, task = settings_of(data, place)
    is_ctc = "proj.weight" in state
    left_out: list[str] = []
    if _is_hubert(state):
        left_out = [name for name in _UNUSED if state.pop(name, None) is not None]
    preprocessor = {"do_normalize": bool(task.get("normalize", False))}
    with naming(place):
        fields = hf_fields(model, state)
        config = hf.model_config_from_hf(fields, preprocessor)
    encoder = config.encoder
    assert isinstance(encoder, ConvEncoderConfig)
    theirs = hf.tensor_names(config).values()
    names = {to_fairseq(name, encoder): name for name in theirs}
    heads = {} if is_ctc else {own: name for name, own in HEADS.items()}
    renamed = {{**names, **heads}.get(name, name): value.float() for name, value in state.items()}
    if is_ctc:
        renamed["lm_head.weight"] = renamed.pop("proj.weight")
        renamed["lm_head.bias"] = renamed.pop("proj.bias")
    with naming(place):
        weights = hf.from_hf_state(renamed, config)
    meta: dict[str, Any] = {"task": "import", "source": place.name}
    if left_out:
        meta["left_out"] = left_out
    if weights.head is None:
        pretraining = (
            hf.contrastive_fields_from_hf(fields) if weights.contrastive is not None else None
        )
        return body_checkpoint(config, weights, meta, place.parent, pretraining)
    names_of_rows = dictionary or place.with_name(dictionary_name(task))
    vocabulary = read_dictionary(names_of_rows, len(weights.head["linear.bias"]))
    return ctc_checkpoint(config, weights, vocabulary, meta, place.parent)


def write_fairseq(checkpoint: Checkpoint, folder: Path) -> None:
    """Write ``model.pt`` (``model``: tensors, ``cfg``: tables) and, for CTC, ``dict.ltr.txt``.

    Raises ValueError where the model is not in the published form.
    """
    model, speech = checkpoint.model, checkpoint.speech
    if dim := speech.config.context.adapter_dim:
        raise ValueError(
            f"fairseq's wav2vec 2.0 has no adapters, and this model has them (context.adapter_dim "
            f"{dim}): export it as hf or onnx."
        )
    heads = checkpoint.pretraining or None
    pretraining = checkpoint.meta.get("pretraining") if heads else None
    fields = hf.hf_config(speech.config, family="wav2vec2", contrastive=pretraining)
    encoder = speech.config.encoder
    assert isinstance(encoder, ConvEncoderConfig)
    theirs = hf.to_hf_state(speech, heads, family="wav2vec2")
    state = {
        HEADS.get(name) or to_fairseq(name.removeprefix("wav2vec2."), encoder): value.contiguous()
        for name, value in theirs.items()
    }
    cfg: dict[str, Any] = {
        "model": fairseq_fields(fields),
        "task": {
            "_name": "audio_pretraining",
            "normalize": speech.config.normalize_wave,
            "sample_rate": speech.config.sample_rate,
        },
    }
    if isinstance(model, CTCModel):
        if model.head.upsample > 1:
            raise ValueError(
                "A CTC model of fairseq outputs one row per frame, this head "
                f"{model.head.upsample}."
            )
        state = {f"w2v_encoder.w2v_model.{name}": value for name, value in state.items()}
        rows, lines = dictionary_of(checkpoint)
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
        (folder / dictionary_name({})).write_text(lines, encoding="utf-8", newline="\n")
    try:
        torch.save({"args": None, "cfg": cfg, "model": state}, folder / "model.pt")
    except RuntimeError as error:  # of a full disk
        raise OSError(f"{folder / 'model.pt'} could not be written ({error}).") from error


def _strip(name: str) -> str:
    for prefix in ("w2v_encoder.w2v_model.", "w2v_encoder."):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _is_hubert(state: Mapping[str, Tensor]) -> bool:
    return "label_embs_concat" in state
