"""The tokenizers by name: trained, loaded from a model folder, compared."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from speechssl.text.characters import CharTokenizer, VocabularyTokenizer
from speechssl.text.normalize import lower_case
from speechssl.text.phones import PhoneTokenizer
from speechssl.text.sentencepieces import SentencePieceTokenizer
from speechssl.text.tokenizer import FORMAT_VERSION, INFO_FILE, MODEL_FILE, Tokenizer


def train_tokenizer(spec: str, texts: Iterable[str], *, allow_smaller: bool = False) -> Tokenizer:
    """A tokenizer for `texts`. `spec` is "char" or "spm:SIZE"; see the classes for the errors."""
    kind, _, size = spec.partition(":")
    if spec == "char":
        return CharTokenizer.train(texts)
    if kind == "spm" and size.isdecimal():
        return SentencePieceTokenizer.train(texts, int(size), allow_smaller=allow_smaller)
    raise ValueError(
        f'"{spec}" is not a tokenizer; write "char", or "spm:SIZE" with a number, e.g. "spm:300".'
    )


def load_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises FileNotFoundError or ValueError with a sentence that names the missing or damaged file.
    """
    path = Path(folder) / INFO_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: {folder} holds no tokenizer, so it is not a fine-tuned model."
        ) from None
    except (ValueError, RecursionError):  # not JSON, or not UTF-8
        raise ValueError(_damaged(path, "it is not JSON")) from None
    if not isinstance(info, dict) or info.get("type") not in (
        "char",
        "phones",
        "vocabulary",
        "spm",
    ):
        allowed = 'its "type" is neither "char", "phones", "vocabulary" nor "spm"'
        raise ValueError(_damaged(path, allowed))
    if info.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has the format version {info.get('version')!r}, and this speechssl reads "
            f"version {FORMAT_VERSION}: install the version that wrote it."
        )
    if info["type"] == "spm":
        return _load_sentencepiece(path.with_name(MODEL_FILE), info)
    try:
        if info["type"] == "vocabulary":
            silent, uppercase = info.get("silent", []), info.get("uppercase", False)
            if not isinstance(silent, list) or not all(isinstance(s, str) for s in silent):
                raise ValueError("its silent symbols are not a list of strings")
            if not isinstance(uppercase, bool):
                raise ValueError('its "uppercase" is neither true nor false')
            return VocabularyTokenizer(info.get("symbols"), silent, uppercase=uppercase)  # type: ignore[arg-type]  # checked inside
        if info["type"] == "phones":
            return PhoneTokenizer(info.get("symbols"))  # type: ignore[arg-type]  # checked inside
        return CharTokenizer(info.get("symbols"))  # type: ignore[arg-type]  # checked inside
    except ValueError as error:
        raise ValueError(_damaged(path, str(error))) from None


def count_unknown(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, int]:
    """Characters of `texts` that the tokenizer lacks -> how often; the most frequent first."""
    counts = Counter(char for text in texts for char in tokenizer.unknown_characters(text))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def shared_symbols(new: Tokenizer, old: Tokenizer) -> list[int | None]:
    """For each symbol of `new` its id in `old`, None where `old` does not have it.

    A letter that `old` has in the other case only is the same sound, and taken: published models
    often write in capitals.
    """
    ids = {symbol: i for i, symbol in enumerate(old.symbols)}
    return [
        next((ids[form] for form in (s, s.upper(), lower_case(s)) if form in ids), None)
        for s in new.symbols
    ]


def _load_sentencepiece(path: Path, info: dict[str, Any]) -> SentencePieceTokenizer:
    try:
        model = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing, but {INFO_FILE} beside it names a SentencePiece model."
        ) from None
    if hashlib.sha256(model).hexdigest() != info.get("sha256"):
        raise ValueError(_damaged(path, f"its checksum is not the one in {INFO_FILE}"))
    try:
        return SentencePieceTokenizer(model)
    except ValueError as error:
        raise ValueError(_damaged(path, str(error))) from None


def _damaged(path: Path, reason: str) -> str:
    return f"{path} is damaged: {reason}; copy the model folder again."
