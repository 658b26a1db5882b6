"""What scores texts in the search, in the arrays that its compiled loops follow.

V symbols, A letters: the characters of which the symbols' texts are made.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from speechssl.decoding.hotwords import Automaton, automaton
from speechssl.decoding.ngram import BEGIN, END, UNKNOWN_WORD, NgramLM
from speechssl.decoding.tries import FlatLM, build_trie, by_length, flatten, no_lm
from speechssl.text import WORD_MARK

if TYPE_CHECKING:
    from speechssl.decoding.beam_scores import Guide, Spelling, Texts


class Guiding:
    """Language models for the symbols of one tokenizer, to which hotwords can be added."""

    def __init__(
        self,
        texts: Sequence[str],
        chars: NgramLM | None,
        words: NgramLM | None,
        *,
        char_scale: tuple[float, float],
        word_scale: tuple[float, float],
        known_words: bool,
    ) -> None:
        """Of V symbols' `texts`, a model of characters and one of words, each with its weight and
        the bonus for a token; `known_words` forbids others."""
        self._texts, self._known_words = texts, known_words
        letters = sorted({letter for text in texts for letter in text})
        self._letters = {letter: i for i, letter in enumerate(letters)}
        self._at_words = WORD_MARK in self._letters
        char_ids: dict[str, int] = {}
        word_ids: dict[str, int] = {}
        self._chars = self._words = no_lm()
        if chars is not None:
            self._chars, char_ids = flatten(chars, scale=char_scale[0], bonus=char_scale[1])
        if words is not None:
            self._words, word_ids = flatten(words, scale=word_scale[0], bonus=word_scale[1])
        self._word_ids = {
            word: i
            for word, i in word_ids.items()
            if word not in (BEGIN, END, UNKNOWN_WORD) and self._letters.keys() >= set(word)
        }
        self._symbols = self._of_symbols(char_ids, chars is not None and chars.has_space)
        self._spelling = self._of_words({})

    @property
    def has_chars(self) -> bool:
        """Whether there is a model of characters."""
        return self._chars.used

    @property
    def has_words(self) -> bool:
        """Whether there is a model of words."""
        return self._words.used

    def scaled(self, char_scale: tuple[float, float], word_scale: tuple[float, float]) -> "Guiding":
        """The same models with other weights and bonuses."""
        other = object.__new__(Guiding)
        other.__dict__.update(
            self.__dict__,
            _chars=self._chars._replace(scale=char_scale[0], bonus=char_scale[1]),
            _words=self._words._replace(scale=word_scale[0], bonus=word_scale[1]),
        )
        return other

    def guide(self, hotwords: Mapping[str, float]) -> tuple["Guide", np.ndarray, np.ndarray]:
        """For the search, with phrases as the symbols spell them; what each symbol can add to a
        score at best (V,) float64; and the state of the empty text."""
        from speechssl.decoding.beam_scores import STATE, Guide, Phrases

        found = automaton(hotwords, self._letters, at_words=self._at_words)
        phrases = Phrases(
            found.first,
            found.token,
            found.fail,
            found.paid,
            found.ahead,
            found.gap,
            self._at_words,
            bool(hotwords),
        )
        spelling = self._of_words(hotwords) if self._known_words else self._spelling
        guide = Guide(self._symbols, self._chars, self._words, spelling, phrases)
        start = np.zeros(STATE, np.int32)
        start[:] = self._chars.start, 1, 0, self._words.start, 0
        return guide, self._most(found), start

    def _of_symbols(self, char_ids: Mapping[str, int], has_space: bool) -> "Texts":
        from speechssl.decoding.beam_scores import SILENT, Texts

        mark = self._letters.get(WORD_MARK, -1)
        tokens = [char_ids.get(c, self._chars.unknown) for c in self._letters]
        if mark >= 0 and not has_space:
            tokens[mark] = SILENT
        flat = [self._letters[c] for text in self._texts for c in text]
        first = np.cumsum([0, *map(len, self._texts)])
        return Texts(_int32(first), _int32(flat), mark, _int32(tokens))

    def _of_words(self, hotwords: Mapping[str, float]) -> "Spelling":
        """The spelling of the words of the language model, and of those of hotwords."""
        from speechssl.decoding.beam_scores import Spelling

        ids = dict(self._word_ids)
        for phrase in hotwords:
            for word in phrase.split(WORD_MARK):
                ids.setdefault(word, -1)
        ids.pop("", None)
        arrays, places = by_length([[self._letters[c] for c in word] for word in ids])
        trie, nodes = build_trie(arrays, max(len(self._letters), 1))
        tokens = np.fromiter(ids.values(), np.int64, len(ids))
        ends = np.full(len(trie.token), -1, np.int32)
        listed = np.zeros(len(trie.token), np.bool_)
        for where, members in zip(nodes, places, strict=True):
            ends[where], listed[where] = tokens[members], True
        return Spelling(trie.first, trie.token, ends, listed, self._known_words)

    def _most(self, phrases: Automaton) -> np.ndarray:
        by_letter = [text.count(WORD_MARK) for text in self._texts]
        most = np.array([len(text) for text in self._texts]) * _most_of(self._chars)
        most += np.array(by_letter) * _most_of(self._words)
        if len(phrases.most):
            most += [sum(phrases.most[self._letters[c]] for c in text) for text in self._texts]
        return most


def _most_of(lm: FlatLM) -> float:
    """What one token can add to a score at best."""
    return max(0.0, lm.scale * lm.best + lm.bonus) if lm.used else 0.0


def _int32(values: Any) -> np.ndarray:
    return np.array(values, np.int32).reshape(-1)
