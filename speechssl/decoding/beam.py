"""CTC prefix beam search, with n-gram language models and hotwords (Hannun et al. 2014,
arXiv:1408.2873, algorithm 1).

Greedy decoding takes the best path; here the paths that spell the same text are summed, and a
language model says which texts are probable. It scores a prefix at each new character, or at the
end of each word, as the model counts; one of each kind may be used together.

The search is compiled (:mod:`.beam_loops`); ``tests/decoding/plain_beam.py`` is the same search in
a page of Python, to which it is compared.

Shapes: B batch, T frames, V vocabulary.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np
from torch import Tensor

from speechssl.decoding import hotwords as hot
from speechssl.decoding.align import align, mean_confidence
from speechssl.decoding.greedy import Alternative, Hypothesis, check_rows
from speechssl.decoding.guides import Guiding
from speechssl.decoding.ngram import NgramLM
from speechssl.decoding.posteriors import word_posteriors
from speechssl.text import BLANK_ID, WORD_MARK, Tokenizer, lower_case

_MOST = 10_000
_LOOK_AHEAD = 25
"""Frames after the last of a word, at which the beam is asked whether it holds the word."""
_KEPT = 64
"""Prefixes of each frame that are asked at most."""


@dataclass(frozen=True)
class BeamConfig:
    """How to search."""

    width: int = 16
    """Prefixes that are followed at a time."""
    lm_weight: float = 0.5
    """Factor on the log-probabilities of the language model."""
    bonus: float = 1.0
    """Added for each of the language model's tokens in a text, or it would prefer short ones."""
    word_weight: float = 0.5
    """As `lm_weight`, of a second language model, of words."""
    word_bonus: float = 1.0
    """As `bonus`, of the second language model."""
    known_words: bool = False
    """Only words of the language model of words, and those of hotwords, may come."""
    num_best: int = 1
    """Texts of each stretch of speech, the best first (n-best)."""

    def __post_init__(self) -> None:
        if not 1 <= self.width <= _MOST:
            raise ValueError(f"beam must be between 1 and {_MOST}, got {self.width}.")
        for name in ("lm_weight", "word_weight"):
            weight = getattr(self, name)
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"{name} must not be negative, got {weight}.")
        for name in ("bonus", "word_bonus"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a number, got {getattr(self, name)}.")
        if not 1 <= self.num_best <= self.width:
            raise ValueError(
                f"{self.num_best} best texts need a beam of as many prefixes or more: it has "
                f"{self.width}."
            )


class Candidate(NamedTuple):
    """One of the texts that a search ends with."""

    ids: tuple[int, ...]
    """Without blanks."""
    score: float
    """`sound` and what language models and hotwords add."""
    sound: float
    """Log-probability (nats) of the paths that spell it, as far as the beam kept them."""


class BeamDecoder:
    """Decodes for one tokenizer, perhaps with language models and hotwords.

    It holds nothing that changes: several threads may use one.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: BeamConfig = BeamConfig(),
        lm: NgramLM | None = None,
        *,
        word_lm: NgramLM | None = None,
        hotwords: Mapping[str, float] | Iterable[str] | None = None,
    ) -> None:
        """
        Args:
            tokenizer: of the model whose log-probabilities are decoded.
            config: how to search.
            lm: of characters or words.
            word_lm: a second one, of words, beside one of characters.
            hotwords: words or phrases, perhaps with weights (:mod:`.hotwords`).

        Raises ValueError for a language model that does not fit the tokenizer: of another
        alphabet, case or Unicode form, or of words where the tokenizer has no space; for two of
        one kind; and where no hotword can be spelled.
        """
        self.config = config
        self.uses_lm = lm is not None
        self.notes: list[str] = []
        """What a person should know of how language models and hotwords are used: sentences."""
        self._tokenizer = tokenizer
        self._texts = tokenizer.spellings
        self._has_space = any(WORD_MARK in text for text in self._texts)
        chars, words = self._sorted_models(lm, word_lm)
        self._hotwords = self._phrases(hotwords)
        self._guiding = Guiding(
            self._texts,
            chars,
            words,
            char_scale=(config.lm_weight, config.bonus),
            word_scale=self._word_scale(config),
            known_words=config.known_words,
        )
        self._guide = self._guiding.guide(self._hotwords)

    def with_hotwords(self, hotwords: Mapping[str, float] | Iterable[str] | None) -> "BeamDecoder":
        """The same with other hotwords; the language models are shared, and `notes` are those of
        the hotwords."""
        other = object.__new__(BeamDecoder)
        other.__dict__.update(self.__dict__, notes=[])
        other._hotwords = other._phrases(hotwords)
        other._guide = self._guiding.guide(other._hotwords)
        return other

    @property
    def tunable(self) -> list[tuple[str, str]]:
        """The settings of each language model: its weight and its bonus."""
        models = self._guiding.has_chars, self._guiding.has_words
        if self._one_model or not any(models):
            return [("lm_weight", "bonus")] if any(models) else []
        pairs = [("lm_weight", "bonus"), ("word_weight", "word_bonus")]
        return [pair for pair, there in zip(pairs, models, strict=True) if there]

    def rescaled(self, config: BeamConfig) -> "BeamDecoder":
        """The same with other weights, bonuses and width; the language models are shared."""
        other = object.__new__(BeamDecoder)
        other.__dict__.update(self.__dict__, config=config)
        scales = (config.lm_weight, config.bonus), self._word_scale(config)
        other._guiding = self._guiding.scaled(*scales)
        other._guide = other._guiding.guide(self._hotwords)
        return other

    def _sorted_models(
        self, lm: NgramLM | None, word_lm: NgramLM | None
    ) -> tuple[NgramLM | None, NgramLM | None]:
        """The model of characters and that of words."""
        for each in (lm, word_lm):
            if each is not None:
                _check_letters(each, self._texts)
                self.notes += each.notes
        if word_lm is not None and word_lm.unit != "word":
            raise ValueError(
                "The second language model is of words, and the given one counts characters: give "
                "that as the first."
            )
        if lm is not None and word_lm is not None and lm.unit == "word":
            raise ValueError(
                "Both language models count words: give one of characters and one of words."
            )
        words = word_lm if word_lm is not None or lm is None or lm.unit == "char" else lm
        chars = lm if lm is not None and lm.unit == "char" else None
        if words is not None and not self._has_space:
            raise ValueError(
                "The language model counts words, and the model emits no spaces, so that no word "
                "would ever end: make one of characters (speechssl lm --unit char)."
            )
        if self.config.known_words and words is None:
            raise ValueError(
                "known_words keeps to the words of a language model: give one that counts words."
            )
        if chars is not None and self._has_space and not chars.has_space:
            self.notes.append(
                "The language model has no token for the space: where words end is decided by "
                "the sound alone."
            )
        self._one_model = words is lm and lm is not None
        return chars, words

    def _word_scale(self, config: BeamConfig) -> tuple[float, float]:
        """Weight and bonus of the model of words, where it is the only one those of `lm`."""
        if self._one_model:
            return config.lm_weight, config.bonus
        return config.word_weight, config.word_bonus

    def _phrases(self, hotwords: Mapping[str, float] | Iterable[str] | None) -> dict[str, float]:
        """As they are spelled."""
        if hotwords is None:
            return {}
        spelled, without = hot.spell(self._tokenizer, hot.as_hotwords(hotwords))
        if without:
            note = hot.unspelled_note(self._tokenizer, without)
            if not spelled:
                raise ValueError(note)
            self.notes.append(note)
        return spelled

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[Hypothesis]:
        """(B, T, V) float log-probabilities on any device, (B,) int frames -> B hypotheses.

        Each holds the frames of the best path that spells its text, by the sound alone: so are its
        confidences. Raises ValueError as :func:`.greedy.greedy_decode` does.
        """
        counts = check_rows(log_probs, lengths)
        rows = log_probs.detach().float().cpu().numpy()
        return [self.decode(rows[b, :n]) for b, n in enumerate(counts)]

    def decode(self, rows: np.ndarray) -> Hypothesis:
        """(T, V) float32 log-probabilities of one utterance."""
        found = self._search(rows, keep=min(self.config.width, _KEPT))
        candidates = self._candidates(found, self.config.num_best)
        ids = list(candidates[0].ids)
        tokens = align(rows, ids).tokens if ids else ()
        num_blank = len(rows) - sum(token.end_frame - token.start_frame for token in tokens)
        silence = float(np.exp(rows[:, BLANK_ID].mean())) if len(rows) else 0.0
        return Hypothesis(
            tokens,
            len(rows),
            num_blank,
            mean_confidence(tokens) if tokens else silence,
            word_posteriors(found, ids, self._tokenizer, self._guide[0].texts, _LOOK_AHEAD),
            self._alternatives(candidates) if self.config.num_best > 1 else (),
        )

    def search(self, rows: np.ndarray) -> list[int]:
        """(T, V) log-probabilities -> the ids of the best text, without blanks."""
        return list(self.n_best(rows, 1)[0].ids)

    def n_best(self, rows: np.ndarray, num: int) -> list[Candidate]:
        """(T, V) log-probabilities -> up to `num` texts, the best first, each at least once: two
        that differ in symbols only (two spaces in a row) are two here."""
        return self._candidates(self._search(rows, keep=0), num)

    def _search(self, rows: np.ndarray, keep: int) -> Any:
        from speechssl.decoding.beam_loops import search

        if rows.ndim != 2 or rows.shape[1] != len(self._texts):
            raise ValueError(
                f"log_probs must be (frames, {len(self._texts)} symbols), and has shape "
                f"{rows.shape}."
            )
        if np.isnan(rows).any():
            raise ValueError(
                "log_probs holds NaN: the model's output is broken, so no text is best."
            )
        rows = np.ascontiguousarray(rows, np.float32)
        guide, most, start = self._guide
        return search(rows, self.config.width, guide, most, start, keep)

    def _candidates(self, found: Any, num: int) -> list[Candidate]:
        nodes, beam, scores, sounds = found[:4]
        return [
            Candidate(tuple(_ids(nodes, int(node))), float(score), float(sound))
            for node, score, sound in zip(beam[:num], scores, sounds, strict=False)
        ]

    def _alternatives(self, candidates: Sequence[Candidate]) -> tuple[Alternative, ...]:
        """Each text once, without those that a vocabulary forbids."""
        found: dict[str, Alternative] = {}
        for each in candidates:
            if each.score == -math.inf:
                continue
            text = self._tokenizer.decode(each.ids)
            found.setdefault(text, Alternative(text, each.score))
        return tuple(found.values())


def _ids(nodes: Any, node: int) -> list[int]:
    """Of a text's symbols, the first one first."""
    found = []
    while node > 0:
        found.append(int(nodes.symbol[node]))
        node = int(nodes.parent[node])
    return found[::-1]


def _check_letters(lm: NgramLM, texts: Sequence[str]) -> None:
    """ValueError where the language model knows the letters of `texts` not at all, only in the
    other case, or only taken apart."""
    emitted = {c for text in texts for c in text if c.isalpha()}
    letters = lm.letters()
    known = emitted & letters
    in_any_case = set(map(lower_case, emitted)) & set(map(lower_case, letters))
    some = " ".join(sorted(emitted - known)[:5])
    if emitted and (not known or 2 * len(known) < len(in_any_case)):
        case = "in another case" if in_any_case else "of another alphabet"
        raise ValueError(
            f"The language model is {case}: it knows {len(known)} of the {len(emitted)} letters "
            f"that the model emits ({some} are unknown to it)."
        )
    apart = [c for c in sorted(emitted - known) if letters.issuperset(normalize("NFD", c))]
    if lm.unit == "char" and apart:
        raise ValueError(
            f"The language model counts letters and their marks apart (Unicode NFD): it does not "
            f"know {' '.join(apart[:5])} as one character; make it of text in NFC."
        )
