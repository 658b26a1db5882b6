"""The vocabulary of a CTC model of transformers, and ours: which row of a head writes what.

Theirs is a table of tokens and ids with the blank (the padding token) anywhere; ours begins with
the blank and the unknown symbol. A head's rows are put into our order when it is read, and back
into theirs when it is written: the numbers stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechssl.text import BLANK, SPACE, UNKNOWN, SentencePieceTokenizer, Tokenizer
from speechssl.text import VocabularyTokenizer as Vocabulary

NEVER = -1e4
"""Bias of a row that is never written: exp(-1e4) is 0 in float32, so it changes no probability."""
_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "word_delimiter_token": "|",
}


@dataclass(frozen=True)
class TheirVocabulary:
    """What the tokenizer files of transformers say."""

    ids: dict[str, int]
    """Token -> row of the head."""
    special: dict[str, str | None]
    """``pad_token`` and so on -> token, None where they have none."""
    uppercase: bool = False

    @classmethod
    def read(
        cls, ids: Mapping[str, int], tokenizer: Mapping[str, Any], added: Mapping[str, int]
    ) -> "TheirVocabulary":
        """From ``vocab.json``, ``tokenizer_config.json`` (with ``special_tokens_map.json``) and
        ``added_tokens.json``."""
        special: dict[str, str | None] = {}
        for name, default in _TOKENS.items():
            token = tokenizer.get(name, default)
            token = token.get("content") if isinstance(token, Mapping) else token
            if token is not None and not isinstance(token, str):
                raise ValueError(f"The tokenizer's {name} must be a text, got {token!r}.")
            special[name] = token
        every = {**ids, **added}
        for token, number in every.items():
            if type(number) is not int or number < 0:
                raise ValueError(f"The vocabulary's {token!r} must be a row, got {number!r}.")
        return cls(every, special, bool(tokenizer.get("do_lower_case", False)))

    def as_ours(self, num_rows: int, blank_id: int | None) -> tuple[Vocabulary, list[int | None]]:
        """``(tokenizer, rows)``: symbol i is written by their row ``rows[i]``, None where they have
        no unknown token.

        Args:
            num_rows: of the head.
            blank_id: ``pad_token_id`` of the model's config.

        Raises ValueError where the vocabulary and the head do not belong together.
        """
        most = max(self.ids.values(), default=-1)
        if most >= num_rows:
            raise ValueError(
                f"The vocabulary has {most + 1} ids but the head writes {num_rows}: these files do "
                "not belong together."
            )
        blank = self.row("pad_token")
        if blank is None or blank != blank_id:
            raise ValueError(
                f"The config says that the blank is id {blank_id}, the vocabulary that "
                f"{self.special['pad_token']!r} is id {blank}: these files do not belong together."
            )
        unknown = self.row("unk_token")
        names = {i: token for token, i in self.ids.items()}
        rest = [i for i in range(num_rows) if i not in (blank_id, unknown)]
        texts = [self._text(names.get(i, f"<unused-{i}>")) for i in rest]
        ends = (self.special["bos_token"], self.special["eos_token"])
        silent = {t for t in texts if t in ends or t.startswith("<unused-")}
        tokenizer = Vocabulary([BLANK, UNKNOWN, *texts], silent, uppercase=self.uppercase)
        return tokenizer, [blank_id, unknown, *rest]

    def _text(self, token: str) -> str:
        return SPACE if token == self.special["word_delimiter_token"] else token

    def row(self, name: str) -> int | None:
        """The row of the special token `name`; None where there is none."""
        token = self.special[name]
        return None if token is None else self.ids.get(token)

    def silent_tokens(self) -> list[str]:
        """The special tokens that are no text, without the blank."""
        tokens = (self.special[name] for name in ("unk_token", "bos_token", "eos_token"))
        return [token.lower() if self.uppercase else token for token in tokens if token]

    def as_data(self) -> dict[str, Any]:
        """For meta.json, so that an export writes the same files."""
        return {"ids": self.ids, "special": self.special, "uppercase": self.uppercase}


def check_tokenizer(settings: Mapping[str, Any]) -> None:
    """ValueError naming what a ``tokenizer_config.json`` asks for that is not written here."""
    known = {
        "tokenizer_class": (None, "Wav2Vec2CTCTokenizer", "Wav2Vec2Tokenizer"),
        "replace_word_delimiter_char": (None, " "),
    }
    wrong = [f"{k} = {settings[k]!r}" for k, only in known.items() if settings.get(k) not in only]
    if wrong:
        raise ValueError(
            f"This model's tokenizer writes in another way than the ones known here "
            f"(Wav2Vec2CTCTokenizer, spaces between words): {', '.join(wrong)}."
        )


def their_vocabulary(tokenizer: Tokenizer) -> TheirVocabulary:
    """A vocabulary for transformers' ``Wav2Vec2CTCTokenizer`` with the ids that ours has.

    Raises ValueError for word pieces, which that tokenizer cannot join to words.
    """
    if isinstance(tokenizer, SentencePieceTokenizer):
        raise ValueError(
            "transformers' CTC tokenizer cannot join SentencePiece units to words: fine-tune with "
            "--tokenizer char to export a model for transformers, or export to onnx."
        )
    delimiter = next(c for c in "|▁␣⎵" if c not in tokenizer.symbols)
    special: dict[str, str | None] = {**_TOKENS, "word_delimiter_token": delimiter}
    texts = {BLANK: _TOKENS["pad_token"], UNKNOWN: _TOKENS["unk_token"], SPACE: delimiter}
    ids = {texts.get(symbol, symbol): i for i, symbol in enumerate(tokenizer.symbols)}
    return TheirVocabulary(ids, special, getattr(tokenizer, "uppercase", False))


def their_files(vocabulary: TheirVocabulary) -> dict[str, dict[str, Any]]:
    """File name -> content, for a folder of transformers."""
    return {
        "vocab.json": dict(vocabulary.ids),
        "tokenizer_config.json": {
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
            "do_lower_case": vocabulary.uppercase,
            **vocabulary.special,
        },
        "special_tokens_map.json": {
            k: v for k, v in vocabulary.special.items() if v and k != "word_delimiter_token"
        },
    }


def take_rows(head: Mapping[str, Tensor], rows: list[int | None]) -> dict[str, Tensor]:
    """Their head in our order; a row that they lack is never written."""
    weight, bias = head["linear.weight"], head["linear.bias"]
    if None not in rows and rows == list(range(len(rows))):
        return dict(head)
    weights = [torch.zeros_like(weight[0]) if i is None else weight[i] for i in rows]
    biases = [torch.full_like(bias[0], NEVER) if i is None else bias[i] for i in rows]
    return {"linear.weight": torch.stack(weights), "linear.bias": torch.stack(biases)}


def give_rows(head: Mapping[str, Tensor], rows: list[int | None]) -> dict[str, Tensor]:
    """The inverse of :func:`take_rows`."""
    places = {theirs: ours for ours, theirs in enumerate(rows) if theirs is not None}
    order = [places[i] for i in range(len(places))]
    return {name: value[order] for name, value in head.items()}
