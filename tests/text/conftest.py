"""The transcripts that tokenizers are trained on here."""

import pytest

from speechssl.text import SentencePieceTokenizer

TEXTS = [
    "wó twεrε ya poo",
    "á-ba la mwǎsi",
    "moro wa di o mbóka",
    "ngá nyεi mbóka",
    "wa lá o mbóka",
]


@pytest.fixture(scope="module")
def spm() -> SentencePieceTokenizer:
    return SentencePieceTokenizer.train(TEXTS, 28)
