"""Which decoder: greedy, or beam search with language models and hotwords from files."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path

from torch import Tensor

from speechssl.checkpoint import Checkpoint
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.greedy import Hypothesis, greedy_decode
from speechssl.decoding.hotwords import read_hotwords
from speechssl.decoding.lm import NgramLM, read_arpa
from speechssl.inference.tuned import WEIGHTS, read_tuned

Decoder = Callable[[Tensor, Tensor], list[Hypothesis]]
"""Log-probabilities (B, T, V) and lengths (B,) to what was said."""


def choose_decoder(
    checkpoint: Checkpoint,
    *,
    beam: int | None = None,
    lm: str | Path | None = None,
    word_lm: str | Path | None = None,
    hotwords: str | Path | Mapping[str, float] | Iterable[str] | None = None,
    num_best: int | None = None,
    **weights: float | None,
) -> Decoder:
    """Greedy, or a beam search where any of these is given.

    Args:
        checkpoint: a fine-tuned model.
        beam: prefixes to follow (16).
        lm: an ARPA file of characters or words.
        word_lm: a second one, of words, beside one of characters.
        hotwords: a file (:func:`speechssl.decoding.hotwords.read_hotwords`), or words and phrases,
            perhaps with weights.
        num_best: texts of each stretch of speech.
        weights: `lm_weight`, `bonus`, `word_weight`, `word_bonus` and `known_words` of
            :class:`speechssl.decoding.beam.BeamConfig`. Without any, those that were tuned for
            this model and these files (:mod:`speechssl.inference.tuned`), where there are such.

    Raises ValueError for settings out of range or without what they are for, and for a damaged
    file; FileNotFoundError where there is none.
    """
    given = {name: value for name, value in weights.items() if value is not None}
    _check_needs(given, lm, word_lm)
    asked = (beam, lm, word_lm, hotwords, num_best)
    if all(each is None for each in asked):
        return greedy_decode
    _, tokenizer = checkpoint.require_ctc()
    notes: list[str] = []
    if not given.keys() & set(WEIGHTS) and lm is not None:
        tuned, notes = read_tuned(checkpoint, Path(lm), Path(word_lm) if word_lm else None)
        given |= tuned
    width = beam if beam is not None else max(BeamConfig.width, num_best or 1)
    config = BeamConfig(width=width, num_best=1 if num_best is None else num_best)
    config = replace(config, **given)  # type: ignore[arg-type]
    phrases, more = _phrases(hotwords)
    decoder = BeamDecoder(
        tokenizer,
        config,
        None if lm is None else language_model(Path(lm)),
        word_lm=None if word_lm is None else language_model(Path(word_lm)),
        hotwords=phrases,
    )
    decoder.notes += [*notes, *more]
    return decoder


def _check_needs(
    given: Mapping[str, float], lm: str | Path | None, word_lm: str | Path | None
) -> None:
    """ValueError for a setting that nothing given would use."""
    if unknown := given.keys() - {field.name for field in fields(BeamConfig)}:
        raise TypeError(f"There is no setting {', '.join(sorted(unknown))} of a beam search.")
    if lm is None and {"lm_weight", "bonus"} & given.keys():
        raise ValueError("lm_weight and bonus are of a language model: give one with lm.")
    if word_lm is None and {"word_weight", "word_bonus"} & given.keys():
        raise ValueError(
            "word_weight and word_bonus are of a second language model: give one with word_lm."
        )
    if lm is None and word_lm is None and given.get("known_words"):
        raise ValueError(
            "known_words keeps to the words of a language model: give one with lm or word_lm."
        )


def _phrases(
    hotwords: str | Path | Mapping[str, float] | Iterable[str] | None,
) -> tuple[Mapping[str, float] | Iterable[str] | None, list[str]]:
    """Those of a file, or as they are given; and what is to be said of the file."""
    if isinstance(hotwords, str | Path):
        return read_hotwords(Path(hotwords))
    return hotwords, []


def language_model(path: Path) -> NgramLM:
    """Read once for many recordings, and again when the file changes."""
    try:
        status = path.stat()
    except OSError:
        return read_arpa(path)  # which says what is wrong
    return _read_once(path.absolute(), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _read_once(path: Path, _mtime_ns: int, _size: int) -> NgramLM:
    return read_arpa(path)
