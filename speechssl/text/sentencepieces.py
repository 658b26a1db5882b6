"""Sub-word units of SentencePiece."""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechssl.files import replacing
from speechssl.text.normalize import normalize
from speechssl.text.tokenizer import (
    BLANK,
    BLANK_ID,
    MODEL_FILE,
    NO_TEXT,
    SPACE,
    UNKNOWN,
    UNKNOWN_ID,
    WORD_MARK,
    Tokenizer,
    TokenWord,
    group,
    write_info,
)


class SentencePieceTokenizer(Tokenizer):
    """Sub-word units of a unigram language model (Kudo 2018, arXiv:1804.10959)."""

    def __init__(self, model: bytes) -> None:
        """`model` is a serialized SentencePiece model whose piece 0 is the blank, 1 the unknown."""
        import sentencepiece

        self._model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError("these bytes are not a SentencePiece model") from error
        size = self._processor.get_piece_size()
        super().__init__([self._processor.id_to_piece(i) for i in range(size)])
        self._characters = {s for s in self._symbols[2:] if len(s) == 1} | {SPACE}

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, *, allow_smaller: bool = False
    ) -> "SentencePieceTokenizer":
        """Train on `texts`; equal texts in equal order give an equal model.

        Every character of `texts` becomes a symbol, so nothing seen in training is unknown later.
        Pieces may mix scripts, because orthographies do (Mboshi writes Latin letters and ε in one
        word). A `vocab_size` larger than the texts can fill raises ValueError naming the largest
        possible, or takes that one if `allow_smaller`; one too small for the characters raises.
        """
        lines = [line for text in texts if (line := normalize(text.replace(UNKNOWN, ""), "none"))]
        if not lines:
            raise ValueError(NO_TEXT)
        smallest = len({WORD_MARK, *(c for line in lines for c in line if c != SPACE)}) + 2
        if vocab_size < smallest:
            raise ValueError(
                f"A SentencePiece vocabulary of {vocab_size} cannot hold these transcripts: their "
                f"characters, the blank and the unknown symbol need at least {smallest}."
            )
        tokenizer = cls(_train_sentencepiece(lines, vocab_size))
        if tokenizer.vocab_size < vocab_size and not allow_smaller:
            raise ValueError(
                f"A SentencePiece vocabulary of {vocab_size} is more than these transcripts can "
                f"fill: the largest possible is {tokenizer.vocab_size}."
            )
        return tokenizer

    def encode(self, text: str) -> list[int]:
        return [int(i) for i in self._processor.encode(normalize(text, "none"))]

    def words(self, ids: Sequence[int]) -> list[TokenWord]:
        pieces = self._pieces(ids)
        starts = [piece.startswith(WORD_MARK) for piece in pieces]
        return list(group(pieces, starts, gaps=[piece == WORD_MARK for piece in pieces]))

    def unknown_characters(self, text: str) -> list[str]:
        return [char for char in normalize(text, "none") if char not in self._characters]

    def save(self, folder: str | os.PathLike[str]) -> None:
        digest = hashlib.sha256(self._model).hexdigest()
        with replacing(Path(folder) / MODEL_FILE) as part:
            part.write_bytes(self._model)
        write_info(Path(folder), {"type": "spm", "sha256": digest})

    def __reduce__(self) -> tuple[type["SentencePieceTokenizer"], tuple[bytes]]:
        return type(self), (self._model,)  # worker processes get the model, not the C++ object


def _train_sentencepiece(lines: Sequence[str], vocab_size: int) -> bytes:
    """At most `vocab_size` pieces; fewer where the lines do not give more."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=vocab_size,
        hard_vocab_limit=False,  # fewer pieces are an answer: the caller compares and says so
        character_coverage=1.0,
        split_by_unicode_script=False,
        normalization_rule_name="identity",  # the text is NFC already
        max_sentence_length=max(4192, *(len(line.encode()) + 1 for line in lines)),  # drop none
        num_threads=1,  # sums over threads would depend on the machine
        pad_id=BLANK_ID,
        pad_piece=BLANK,
        unk_id=UNKNOWN_ID,
        unk_piece=UNKNOWN,
        unk_surface=UNKNOWN,
        bos_id=-1,
        eos_id=-1,
        minloglevel=3,
    )
    return model.getvalue()
