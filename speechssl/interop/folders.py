"""Folders of transformers: read one as a model of ours, write a model of ours as one.

Nothing is run from a folder: tensors come from safetensors, or from a .bin read with
``weights_only``, and the rest is JSON. transformers itself is not imported.
"""

import contextlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from speechssl.checkpoint import Checkpoint, write_tensors
from speechssl.interop import huggingface as hf
from speechssl.interop.imported import body_checkpoint, ctc_checkpoint
from speechssl.interop.vocabulary import (
    TheirVocabulary,
    check_tokenizer,
    give_rows,
    their_files,
    their_vocabulary,
)
from speechssl.model.config import ModelConfig
from speechssl.model.speech_model import CTCModel

_VOCABULARY = "vocab.json"
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
    preprocessor, is_with_lm = _preprocessor(folder)
    with naming(folder / "config.json"):
        config = hf.model_config_from_hf(theirs, preprocessor)
    state = read_weights(folder)
    if language is not None:
        state |= _adapter(folder, language)
    with naming(folder):
        weights = hf.from_hf_state(state, config)
    meta: dict[str, Any] = {
        "task": "import",
        "source": theirs.get("_name_or_path") or folder.name,
        "model_type": hf.family_of(theirs).model_type,
    }
    if language is not None:
        meta["language"] = language
    left_out = list(weights.left_out)
    if is_with_lm:
        left_out.append("the n-gram language model of its processor: decoding here is greedy")
    if weights.head is not None:
        return _with_head(folder, theirs, config, weights, language, meta, left_out)
    pretraining = hf.contrastive_fields_from_hf(theirs) if weights.contrastive is not None else None
    return body_checkpoint(config, weights, _with_left_out(meta, left_out), folder, pretraining)


def _with_head(
    folder: Path,
    theirs: Mapping[str, Any],
    config: ModelConfig,
    weights: hf.ImportedWeights,
    language: str | None,
    meta: dict[str, Any],
    left_out: list[str],
) -> Checkpoint:
    """The CTC model, with the vocabulary of its folder."""
    assert weights.head is not None
    settings = {
        **_maybe(folder / "special_tokens_map.json"),
        **_maybe(folder / "tokenizer_config.json"),
    }
    with naming(folder / "tokenizer_config.json"):
        check_tokenizer(settings)
    ids, chosen = _read_ids(folder, language or settings.get("target_lang"))
    if chosen is not None and language is None:
        meta["language"] = chosen
        left_out.append(f"the other languages of {_VOCABULARY}: --language chooses one of them")
    with naming(folder / _VOCABULARY):
        vocabulary = TheirVocabulary.read(ids, settings, _maybe(folder / "added_tokens.json"))
    num_rows = len(weights.head["linear.bias"])
    blank_id = theirs.get("pad_token_id", 0)
    vocabulary = vocabulary.with_blank(blank_id, num_rows)
    with naming(folder / _VOCABULARY):
        tokenizer, rows = vocabulary.as_ours(num_rows, blank_id)
    if extra := vocabulary.without_row(num_rows):
        names = ", ".join(repr(token) for token in extra[:8])
        left_out.append(
            f"{'a token' if len(extra) == 1 else f'{len(extra)} tokens'} of {_VOCABULARY} without "
            f"a row of its own in the head, which has {num_rows}: {names}"
            f"{', ...' if len(extra) > 8 else ''}"
        )
    if settings.get("clean_up_tokenization_spaces") and set(".,?!'") & set(tokenizer.symbols):
        left_out.append("the removal of spaces before punctuation (clean_up_tokenization_spaces)")
    meta["transformers"] = {"vocabulary": vocabulary.as_data(), "num_rows": num_rows}
    return ctc_checkpoint(
        config, weights, (tokenizer, rows), _with_left_out(meta, left_out), folder
    )


def _with_left_out(meta: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    return {**meta, "left_out": left_out} if left_out else meta


def _preprocessor(folder: Path) -> tuple[dict[str, Any] | None, bool]:
    """``(feature extractor's settings or None, whether the processor has a language model)``."""
    preprocessor = _maybe(folder / "preprocessor_config.json")
    processor = _maybe(folder / "processor_config.json")
    is_with_lm = any("WithLM" in str(p.get("processor_class")) for p in (preprocessor, processor))
    if processor and not preprocessor:
        preprocessor = processor.get("feature_extractor", {})  # as transformers 5 writes it
    return preprocessor or None, is_with_lm


@contextlib.contextmanager
def naming(place: Path) -> Iterator[None]:
    """Put the file's name in front of what is wrong with its content."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def write_folder(checkpoint: Checkpoint, folder: Path) -> None:
    """Write config, weights, tokenizer and processor as transformers reads them.

    Raises ValueError naming the part of the model that transformers does not have.
    """
    model = checkpoint.model
    family = _family(checkpoint)
    files: dict[str, Mapping[str, Any]] = {
        "preprocessor_config.json": hf.hf_preprocessor(checkpoint.speech.config)
    }
    if not isinstance(model, CTCModel):
        heads = None if leaves_heads_out(checkpoint) else checkpoint.pretraining or None
        fields = checkpoint.meta.get("pretraining") if heads else None
        state = hf.to_hf_state(model, heads, family=family.model_type)
        files["config.json"] = hf.hf_config(
            model.config, contrastive=fields, family=family.model_type
        )
    else:
        vocabulary, rows = vocabulary_of(checkpoint)
        state = hf.to_hf_state(model, family=family.model_type)
        head = {n: state.pop(f"lm_head.{n}") for n in ("weight", "bias")}
        given = give_rows({f"linear.{n}": v for n, v in head.items()}, rows)
        state |= {name.replace("linear.", "lm_head."): v for name, v in given.items()}
        config = hf.hf_config(
            model.speech.config, vocab_size=len(given["linear.bias"]), family=family.model_type
        )
        files["config.json"] = {
            **config,
            **{f"{n}_token_id": vocabulary.row(f"{n}_token") for n in ("pad", "bos", "eos")},
        }
        files |= their_files(vocabulary)
        processor = {"processor_class": "Wav2Vec2Processor"}  # for families that name none
        for name in ("preprocessor_config.json", "tokenizer_config.json"):
            files[name] = {**files[name], **processor}
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(state, folder / "model.safetensors", {"format": "pt"})
    for name, data in files.items():
        text = json.dumps(data, ensure_ascii=False, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8", newline="\n")


def leaves_heads_out(checkpoint: Checkpoint) -> bool:
    """Whether a folder of transformers has no place for the quantizer and projections that the
    model was pretrained with: wav2vec 2.0's relatives have other ones."""
    return bool(checkpoint.pretraining) and _family(checkpoint) is not hf.WAV2VEC2


def _family(checkpoint: Checkpoint) -> hf.Family:
    """The one that the model came from, where that still holds it; else the first that does."""
    came = hf.FAMILIES.get(checkpoint.meta.get("model_type", ""))
    if came in hf.families_for(checkpoint.speech.config):
        assert came is not None
        return came
    return hf.family_for(checkpoint.speech.config)


def vocabulary_of(checkpoint: Checkpoint) -> tuple[TheirVocabulary, list[int | None]]:
    """The vocabulary that the model came with, else one made for its tokenizer; and the rows."""
    _, tokenizer = checkpoint.require_ctc()
    if came := checkpoint.meta.get("transformers"):
        vocabulary = TheirVocabulary.from_data(came["vocabulary"])
        theirs, rows = vocabulary.as_ours(came["num_rows"], vocabulary.row("pad_token"))
        if theirs.symbols == tokenizer.symbols:  # else it was fine-tuned with another one since
            return vocabulary, rows
    return their_vocabulary(tokenizer), list(range(tokenizer.vocab_size))


def _read_ids(folder: Path, language: object) -> tuple[dict[str, Any], str | None]:
    """``(token -> row, the language)`` of ``vocab.json``; None where it holds one language."""
    place = folder / _VOCABULARY
    if not place.exists():
        raise FileNotFoundError(
            f"{place} is missing: the model in {folder} has a CTC head, and only its vocabulary "
            "names the symbol of each row of the head."
        )
    ids = _read_json(place)
    nested = [k for k, v in ids.items() if isinstance(v, dict)]
    if not nested:
        return ids, None
    if not isinstance(language, str) or language not in nested:
        raise ValueError(
            f"{place} holds the vocabularies of {len(nested)} languages "
            f"({', '.join(nested[:8])}{', ...' if len(nested) > 8 else ''})"
            f"{'' if language is None else f', {language!r} is not among them'}: import one of "
            "them with `speechssl import --language`."
        )
    return ids[language], language


def _adapter(folder: Path, language: str) -> dict[str, Tensor]:
    """The adapter and the head of one language of an MMS model."""
    for suffix in ("safetensors", "bin"):
        place = folder / f"adapter.{language}.{suffix}"
        if place.exists():
            return read_tensors(place)
    raise no_adapter(folder, language, {p.name.split(".")[1] for p in folder.glob("adapter.*")})


def no_adapter(where: str | Path, language: str, known: Collection[str]) -> FileNotFoundError:
    """That an MMS model has no adapter for a language, and for which it has."""
    shown = ", ".join(sorted(known)[:8]) or "none"
    return FileNotFoundError(
        f"{where} has no adapter for the language {language!r}; it has {shown}"
        f"{', ...' if len(known) > 8 else ''}."
    )


def has_weights(folder: Path) -> bool:
    """Whether all files of its weights are there."""
    for name in _WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            return True
        if index.exists() and all((folder / shard).exists() for shard in _shards(index)):
            return True
    return False


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Name -> tensor of model.safetensors or pytorch_model.bin, whole or in shards."""
    for name in _WEIGHTS:
        place, index = folder / name, folder / f"{name}.index.json"
        if place.exists():
            return read_tensors(place)
        if index.exists():
            shards = _shards(index)
            return {k: v for shard in shards for k, v in read_tensors(folder / shard).items()}
    raise FileNotFoundError(f"{folder} has no weights: neither {' nor '.join(_WEIGHTS)}.")


def _shards(index: Path) -> list[str]:
    """The files beside an index that hold the weights."""
    found = _read_json(index).get("weight_map")
    names = list(found.values()) if isinstance(found, dict) else []
    if not names or not all(isinstance(n, str) and Path(n).name == n for n in names):
        raise ValueError(f"{index} is damaged: its weight_map names no files beside it.")
    return sorted(set(names))


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
    except Exception as error:
        if name := refused_object(error):
            raise ValueError(
                f"{place} holds more than tensors, and reading it would run code ({name}): it was "
                "not read. Ask for a safetensors file."
            ) from error
        raise ValueError(damage(place, error)) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{place} is not a table of tensors.")
    return state


def refused_object(error: Exception) -> str | None:
    """What torch.load with ``weights_only`` would not build, e.g. ``os.system``; None where
    nothing is named."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return found[1] if found and isinstance(error, pickle.UnpicklingError) else None


def damage(place: Path, error: Exception) -> str:
    """Why a file of weights cannot be read, for a person."""
    with place.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            return (
                f"{place} is a pointer of Git LFS and no weights: fetch them with `git lfs pull`."
            )
    first = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, pickle.UnpicklingError):  # whose first line is advice to run code
        first = "it is no pickle of plain tensors"
    return f"{place} is damaged or no file of weights ({first})."


def _maybe(place: Path) -> dict[str, Any]:
    return _read_json(place) if place.exists() else {}


def _read_json(place: Path) -> dict[str, Any]:
    try:
        data = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{place} is missing.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is damaged: {error}.") from error
    if not isinstance(data, dict):
        raise ValueError(f"{place} must hold a JSON object.")
    return data
