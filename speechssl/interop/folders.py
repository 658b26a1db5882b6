"""Folders of transformers: read one as a model of ours, write a model of ours as one.

Nothing is run from a folder: tensors come from safetensors, or from a .bin read with
``weights_only``, and the rest is JSON. transformers itself is not imported.
"""

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from speechssl.checkpoint import Checkpoint, build_empty, fill
from speechssl.interop import huggingface as hf
from speechssl.interop.vocabulary import (
    TheirVocabulary,
    give_rows,
    take_rows,
    their_files,
    their_vocabulary,
)
from speechssl.model.speech_model import CTCModel

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def is_transformers_folder(folder: Path) -> bool:
    """Whether its config.json is one of transformers."""
    place = folder / "config.json"
    if not place.is_file():
        return False
    config = _read_json(place)
    return "format" not in config and ("model_type" in config or "architectures" in config)


def read_folder(folder: Path, *, language: str | None = None) -> Checkpoint:
    """The model in a folder of transformers: a body, with its CTC head and vocabulary or its
    pretraining heads where it has them.

    Args:
        folder: config.json, weights, and for CTC the tokenizer's files.
        language: of an MMS model, whose vocabulary and adapter are read.

    Raises FileNotFoundError or ValueError naming what is missing, damaged or not known here.
    """
    theirs = _read_json(folder / "config.json")
    preprocessor = _maybe(folder / "preprocessor_config.json")
    if not preprocessor and (processor := _maybe(folder / "processor_config.json")):
        preprocessor = processor.get("feature_extractor", {})  # as transformers 5 writes it
    config = hf.model_config_from_hf(theirs, preprocessor or None)
    state = read_weights(folder)
    if language is not None:
        state |= _adapter(folder, language)
    weights = hf.from_hf_state(state, config)
    meta: dict[str, Any] = {"task": "import", "source": theirs.get("_name_or_path") or folder.name}
    if weights.head is None:
        model = build_empty(config)
        fill(model, _float32(weights.speech))
        if weights.contrastive is None:
            return Checkpoint(model, None, meta, folder)
        meta["pretraining"] = hf.contrastive_fields_from_hf(theirs)
        return Checkpoint(model, None, meta, folder, _float32(weights.contrastive))
    vocabulary = _read_vocabulary(folder, language)
    num_rows = len(weights.head["linear.bias"])
    tokenizer, rows = vocabulary.as_ours(num_rows, theirs.get("pad_token_id", 0))
    model = build_empty(config, tokenizer.vocab_size)
    head = {f"head.{k}": v for k, v in take_rows(_float32(weights.head), rows).items()}
    speech = {f"speech.{k}": v for k, v in _float32(weights.speech).items()}
    fill(model, {**speech, **head})
    meta["transformers"] = {"vocabulary": vocabulary.as_data(), "num_rows": num_rows}
    return Checkpoint(model, tokenizer, meta, folder)


def write_folder(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config, weights, tokenizer and processor as transformers reads them.

    Raises ValueError naming the part of the model that transformers does not have.
    """
    model = checkpoint.model
    files: dict[str, Mapping[str, Any]] = {
        "preprocessor_config.json": hf.hf_preprocessor(checkpoint.speech.config)
    }
    if not isinstance(model, CTCModel):
        knows_heads = hf.family_for(model.config) is hf.WAV2VEC2  # its relatives have others
        heads = checkpoint.pretraining if knows_heads and checkpoint.pretraining else None
        fields = checkpoint.meta.get("pretraining") if heads else None
        state = hf.to_hf_state(model, heads)
        files["config.json"] = hf.hf_config(model.config, contrastive=fields)
    else:
        vocabulary, rows = vocabulary_of(checkpoint)
        state = hf.to_hf_state(model)
        head = {n: state.pop(f"lm_head.{n}") for n in ("weight", "bias")}
        given = give_rows({f"linear.{n}": v for n, v in head.items()}, rows)
        state |= {name.replace("linear.", "lm_head."): v for name, v in given.items()}
        config = hf.hf_config(model.speech.config, vocab_size=len(given["linear.bias"]))
        files["config.json"] = {
            **config,
            **{
                f"{n}_token_id": vocabulary.ids.get(vocabulary.special[f"{n}_token"])
                for n in ("pad", "bos", "eos")
            },
        }
        files |= their_files(vocabulary)
        processor = {"processor_class": "Wav2Vec2Processor"}  # for families that name none
        for name in ("preprocessor_config.json", "tokenizer_config.json"):
            files[name] = {**files[name], **processor}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {n: v.contiguous() for n, v in state.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    for name, data in files.items():
        text = json.dumps(data, ensure_ascii=False, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def vocabulary_of(checkpoint: Checkpoint) -> tuple[TheirVocabulary, list[int | None]]:
    """The vocabulary that the model came with, else one made for its tokenizer; and the rows."""
    _, tokenizer = checkpoint.require_ctc()
    if came := checkpoint.meta.get("transformers"):
        data = came["vocabulary"]
        vocabulary = TheirVocabulary(data["ids"], data["special"], data["uppercase"])
        blank = vocabulary.ids[vocabulary.special["pad_token"]]
        theirs, rows = vocabulary.as_ours(came["num_rows"], blank)
        if theirs.symbols == tokenizer.symbols:  # else it was fine-tuned with another one since
            return vocabulary, rows
    return their_vocabulary(tokenizer), list(range(tokenizer.vocab_size))


def _read_vocabulary(folder: Path, language: str | None) -> TheirVocabulary:
    place = folder / "vocab.json"
    if not place.exists():
        raise FileNotFoundError(
            f"{place} is missing: the model in {folder} has a CTC head, and only its vocabulary "
            "tells what the head writes."
        )
    ids = _read_json(place)
    if nested := [k for k, v in ids.items() if isinstance(v, dict)]:
        if language not in nested:
            raise ValueError(
                f"{folder} writes {len(nested)} languages ({', '.join(nested[:8])}, ...): name one "
                f"with --language{'' if language is None else f', {language!r} is not among them'}."
            )
        ids = ids[language]
    settings = {
        **_maybe(folder / "special_tokens_map.json"),
        **_maybe(folder / "tokenizer_config.json"),
    }
    return TheirVocabulary.read(ids, settings, _maybe(folder / "added_tokens.json"))


def _adapter(folder: Path, language: str) -> dict[str, Tensor]:
    """The adapter and the head of one language of an MMS model."""
    for suffix in ("safetensors", "bin"):
        place = folder / f"adapter.{language}.{suffix}"
        if place.exists():
            return read_tensors(place)
    known = sorted(p.name.split(".")[1] for p in folder.glob("adapter.*"))
    raise FileNotFoundError(
        f"{folder} has no adapter for the language {language!r}; it has "
        f"{', '.join(known[:8]) or 'none'}."
    )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Name -> tensor of model.safetensors or pytorch_model.bin, whole or in shards."""
    for name in _WEIGHTS:
        place, index = folder / name, folder / f"{name}.index.json"
        if place.exists():
            return read_tensors(place)
        if index.exists():
            shards = sorted(set(_read_json(index)["weight_map"].values()))
            return {k: v for shard in shards for k, v in read_tensors(folder / shard).items()}
    raise FileNotFoundError(f"{folder} has no weights: neither {' nor '.join(_WEIGHTS)}.")


def read_tensors(place: Path) -> dict[str, Tensor]:
    """The tensors of one file, which may run no code.

    Raises ValueError where it is damaged, or holds anything else than tensors.
    """
    try:
        if place.suffix == ".safetensors":
            return load_file(place)
        mapped = zipfile.is_zipfile(place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it then refuses
            state = torch.load(place, map_location="cpu", weights_only=True, mmap=mapped or None)
    except FileNotFoundError:
        raise FileNotFoundError(f"{place} is missing.") from None
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{place} holds more than tensors, and reading it would run code: it was not read. Ask "
            f"for a safetensors file. ({str(error).splitlines()[0]})"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise ValueError(f"{place} is damaged or no file of weights ({error}).") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{place} is not a table of tensors.")
    return state


def _float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() for name, value in state.items()}


def _maybe(place: Path) -> dict[str, Any]:
    return _read_json(place) if place.exists() else {}


def _read_json(place: Path) -> dict[str, Any]:
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{place} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{place} is damaged: {error}.") from error
    if not isinstance(data, dict):
        raise ValueError(f"{place} must hold a JSON object.")
    return data
