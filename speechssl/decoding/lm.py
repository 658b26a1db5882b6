"""N-gram language models: trained, read and written."""

from collections.abc import Iterable, Sequence

from speechssl.decoding.arpa import read_arpa, write_arpa
from speechssl.decoding.kneser_ney import MOST_ORDER, estimate
from speechssl.decoding.ngram import (
    BEGIN,
    END,
    UNKNOWN_WORD,
    Ngram,
    NgramLM,
    NgramTable,
    Unit,
    tokens,
)

__all__ = [
    "BEGIN",
    "CHARACTER_ORDER",
    "END",
    "MOST_ORDER",
    "UNKNOWN_WORD",
    "Ngram",
    "NgramLM",
    "NgramTable",
    "Unit",
    "estimate",
    "read_arpa",
    "tokens",
    "train_lm",
    "write_arpa",
]

CHARACTER_ORDER = 6
"""Of a language model of the characters of labelled transcripts."""


def train_lm(texts: Iterable[str], *, order: int, unit: Unit, prune: Sequence[int] = ()) -> NgramLM:
    """As :func:`speechssl.decoding.kneser_ney.estimate`, in a dict."""
    return estimate(texts, order=order, unit=unit, prune=prune).to_lm()
