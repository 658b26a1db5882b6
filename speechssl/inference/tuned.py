"""Weights of language models that were tuned on validation speech, kept beside the ARPA file.

``lm.arpa.tuned.json`` names the model and the files by their content: for others it is not used.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from speechssl.caches import kept_object
from speechssl.checkpoint import Checkpoint, hash_tensors
from speechssl.files import sha256, writing

WEIGHTS = ("lm_weight", "bonus", "word_weight", "word_bonus")
SUFFIX = ".tuned.json"


def tuned_file(lm: Path) -> Path:
    """Where the weights for a language model are kept."""
    return lm.with_name(lm.name + SUFFIX)


def write_tuned(
    checkpoint: Checkpoint, lm: Path, word_lm: Path | None, found: dict[str, Any]
) -> Path:
    """Keep `found`, which holds :data:`WEIGHTS` and how they were found."""
    path = tuned_file(lm)
    with writing(path) as file:
        data = {**_identity(checkpoint, lm, word_lm), **found}
        file.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")
    return path


def read_tuned(
    checkpoint: Checkpoint, lm: Path, word_lm: Path | None
) -> tuple[dict[str, float], list[str]]:
    """The weights that were tuned for this model and these files, and a sentence that says so; none
    where there are none, with a sentence where what is kept is for others."""
    path = tuned_file(lm)
    if not path.is_file() or not lm.is_file():
        return {}, []
    kept = kept_object(path)
    weights = {
        name: float(value)
        for name in WEIGHTS
        if isinstance(value := kept.get(name), int | float) and math.isfinite(value)
    }
    if "lm_weight" not in weights or weights["lm_weight"] < 0:
        return {}, [f"{path} is damaged: the usual weights are used."]
    for name, value in _identity(checkpoint, lm, word_lm).items():
        if kept.get(name) != value:
            what = {"model": "another model", "lm": "another language model"}
            other = what.get(name, "another pair of language models")
            return {}, [f"{path} was tuned for {other}: the usual weights are used."]
    shown = ", ".join(f"{name} {value:g}" for name, value in weights.items())
    return weights, [f"{path}: {shown}, as tuned on {kept.get('valid', 'validation speech')}."]


def _identity(checkpoint: Checkpoint, lm: Path, word_lm: Path | None) -> dict[str, str | None]:
    return {
        "model": model_digest(checkpoint),
        "lm": _digest(lm),
        "word_lm": None if word_lm is None else _digest(word_lm),
    }


def model_digest(checkpoint: Checkpoint) -> str:
    """Tells a fine-tuned model from others, by its head and symbols."""
    model, tokenizer = checkpoint.require_ctc()
    digest = hashlib.sha256(json.dumps(tokenizer.symbols).encode())
    hash_tensors(digest, model.head.state_dict())
    return digest.hexdigest()[:16]


def _digest(path: Path) -> str:
    return sha256(path)[:16]
