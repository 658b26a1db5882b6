"""The vocabulary of a CTC model of transformers, and ours: which row of a head emits what.

Theirs is a table of tokens and ids with the blank (the padding token) anywhere; ours begins with
the blank and the unknown symbol. A head's rows are put into our order when it is read, and back
into theirs when it is written: the numbers stay.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from speechssl.text import BLANK, SPACE, UNKNOWN, SentencePieceTokenizer, Tokenizer
from speechssl.text import VocabularyTokenizer as Vocabulary

NEVER = -1e4
"""Bias of a row that is never emitted: exp(-1e4) is 0 in float32, so it changes no probability."""
_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "word_delimiter_token": "|",
}


@dataclass(frozen=True)
class TheirVocabulary:
    """The content of the tokenizer files of transformers."""

    ids: dict[str, int]
    """Token -> row of the head; also tokens that the head has no row for."""
    special: dict[str, str | None]
    """``pad_token`` and so on -> token, None where they have none."""
    uppercase: bool = False
    """``do_lower_case``: text is put into upper case before it is encoded."""
    joins_words: bool = False
    """The delimiter between words outputs nothing, as in scripts without spaces."""

    @classmethod
    def read(
        cls, ids: Mapping[str, int], tokenizer: Mapping[str, Any], added: Mapping[str, int]
    ) -> "TheirVocabulary":
        """From ``vocab.json``, ``tokenizer_config.json`` (with ``special_tokens_map.json``) and
        ``added_tokens.json``.

        Where a row has two names the one of ``vocab.json`` counts, as in transformers. Raises
        ValueError for a special token that is no text, and for a row that is no number.
        """
        special: dict[str, str | None] = {}
        for name, default in _TOKENS.items():
            token = tokenizer.get(name, default)
            token = token.get("content") if isinstance(token, Mapping) else token
            if token is not None and not isinstance(token, str):
                raise ValueError(f"The tokenizer's {name} must be a text, got {token!r}.")
            special[name] = token
        added = {**_added_tokens(tokenizer), **added}
        for token, number in (*ids.items(), *added.items()):
            if type(number) is not int or number < 0:
                raise ValueError(f"The vocabulary's {token!r} must be a row, got {number!r}.")
        taken = set(ids.values())
        fresh = {t: i for t, i in added.items() if t not in ids and i not in taken}
        joins = tokenizer.get("replace_word_delimiter_char", SPACE) == ""
        return cls({**fresh, **ids}, special, bool(tokenizer.get("do_lower_case", False)), joins)

    def as_ours(self, num_rows: int, blank_id: int | None) -> tuple[Vocabulary, list[int | None]]:
        """``(tokenizer, rows)``: symbol i is emitted by their row ``rows[i]``, None where they have
        no unknown token.

        Args:
            num_rows: of the head.
            blank_id: ``pad_token_id`` of the model's config; None where it has none.

        Tokens without a row are left out (:meth:`without_row`), and rows without a token are
        silent. Raises ValueError where the head has no row for the blank.
        """
        names = {i: token for token, i in self.ids.items()}
        blank = self._blank(num_rows, blank_id)
        unknown = self.row("unk_token")
        if unknown == blank or unknown is None or unknown >= num_rows:
            unknown = None
        rest = [i for i in range(num_rows) if i not in (blank, unknown)]
        delimiter = self.special["word_delimiter_token"]
        ends = {self.special["bos_token"], self.special["eos_token"]} - {delimiter}
        silent = {token for token in (*ends, delimiter if self.joins_words else None) if token}
        texts, mute = symbol_texts({i: names.get(i) for i in rest}, delimiter, silent)
        uppercase = self.uppercase and any(text != text.lower() for text in texts)
        tokenizer = Vocabulary([BLANK, UNKNOWN, *texts], mute, uppercase=uppercase)
        return tokenizer, [blank, unknown, *rest]

    def _blank(self, num_rows: int, config_id: int | None) -> int:
        """The row of the padding token, which is the blank."""
        token, blank = self.special["pad_token"], self.row("pad_token")
        if blank is None:
            raise ValueError(
                "The blank is the padding token, and the vocabulary has no "
                f"{'such token' if token is None else repr(token)}: give the name of the one that "
                "it has as pad_token in tokenizer_config.json."
            )
        if blank >= num_rows:
            raise ValueError(
                f"The blank {token!r} is id {blank}, and the head has {num_rows} rows (from 0): "
                "the vocabulary is of another model."
            )
        if config_id is not None and blank != config_id:
            raise ValueError(
                f"The config says that the blank is id {config_id}, the vocabulary that "
                f"{token!r} is id {blank}: these files do not belong together."
            )
        return blank

    def with_blank(self, blank_id: int | None, num_rows: int) -> "TheirVocabulary":
        """With the padding token at `blank_id`, the config's, where the files give it no row and
        that row has no other token."""
        free = type(blank_id) is int and blank_id in set(range(num_rows)) - {*self.ids.values()}
        if self.row("pad_token") is not None or not free:
            return self
        token = self.special["pad_token"] or _TOKENS["pad_token"]
        assert blank_id is not None
        special = {**self.special, "pad_token": token}
        return replace(self, ids={**self.ids, token: blank_id}, special=special)

    def without_row(self, num_rows: int) -> list[str]:
        """The tokens that no row of the head stands for, or whose row has another name, too."""
        names = {i: token for token, i in self.ids.items()}
        return [t for t, i in self.ids.items() if i >= num_rows or names[i] != t]

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
        data = {"ids": self.ids, "special": self.special, "uppercase": self.uppercase}
        return {**data, "joins_words": True} if self.joins_words else data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "TheirVocabulary":
        """The inverse of :meth:`as_data`."""
        joins = data.get("joins_words", False)
        return cls(data["ids"], data["special"], data["uppercase"], joins)


def _added_tokens(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """Token -> row of ``added_tokens_decoder``, which newer files have in place of
    ``added_tokens.json``."""
    found: dict[str, Any] = {}
    decoder = tokenizer.get("added_tokens_decoder")
    for number, token in (decoder if isinstance(decoder, Mapping) else {}).items():
        content = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(content, str):
            found[content] = int(number) if str(number).isdecimal() else number
    return found


def symbol_texts(
    tokens: Mapping[int, str | None], delimiter: str | None, silent: Collection[str]
) -> tuple[list[str], set[str]]:
    """``(symbols, silent ones)`` for rows of a head: distinct, none of them empty or reserved.

    Args:
        tokens: row -> token, None where it has none.
        delimiter: the token between two words. It and every other token of white space become
            symbols of spaces, however many of them it takes to be distinct.
        silent: tokens that are no text.
    """
    texts: dict[int, str] = {}
    mute: set[str] = set()
    taken, known = {BLANK, UNKNOWN}, {BLANK, UNKNOWN, *tokens.values()}
    for row, token in tokens.items():
        text, is_mute = token, token in silent
        if token and not is_mute and (token == delimiter or token.isspace()):
            text = SPACE
            while text in taken:
                text += SPACE
        if not text or text in taken:
            text, is_mute = f"<unused-{row}>", True
            while text in known:
                text += "-"
        texts[row] = text
        taken.add(text)
        if is_mute:
            mute.add(text)
    return list(texts.values()), mute


def check_tokenizer(settings: Mapping[str, Any]) -> None:
    """ValueError naming what a ``tokenizer_config.json`` asks for that is not known here."""
    known = {
        "tokenizer_class": (None, "Wav2Vec2CTCTokenizer", "Wav2Vec2Tokenizer"),
        "replace_word_delimiter_char": (None, " ", ""),
    }
    wrong = [f"{k} = {settings[k]!r}" for k, only in known.items() if settings.get(k) not in only]
    if wrong:
        raise ValueError(
            f"This model's tokenizer joins its tokens in another way than those known here "
            f"(Wav2Vec2CTCTokenizer, spaces or nothing between words): {', '.join(wrong)}."
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
    # transformers 5 opens a folder with the delimiter "|" in any case (its from_pretrained
    # takes every other ``*_token`` for an added one): a space is one in either case.
    delimiter = "|" if "|" not in tokenizer.symbols else SPACE
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
            "replace_word_delimiter_char": "" if vocabulary.joins_words else " ",
            **vocabulary.special,
        },
        "special_tokens_map.json": {
            k: v for k, v in vocabulary.special.items() if v and k != "word_delimiter_token"
        },
    }


def take_rows(head: Mapping[str, Tensor], rows: list[int | None]) -> dict[str, Tensor]:
    """Their head in our order; a row that they lack is never emitted."""
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
