"""Hotwords: words and phrases that are expected, and are to be preferred where they may be meant.

While a text spells the beginning of a phrase it is lent a share of the phrase's weight for each
letter, or the beam would lose it before its end; the loan is given back where the phrase does not
go on (the idea of contextual biasing, arXiv:1808.02480, section 3). The whole weight stays where
the phrase ends: at the end of a word, as it begins at the beginning of one. In writing without
spaces a phrase may stand anywhere. Of phrases within phrases each is paid.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechssl.decoding.tries import build_trie, by_length
from speechssl.text import WORD_MARK, Tokenizer, normalize

DEFAULT_WEIGHT = 4.0
"""Added to the score (nats) of a text for each time a phrase is in it."""
MOST_WEIGHT = 100.0
MOST_HOTWORDS = 10_000

Hotwords = Mapping[str, float]
"""Phrases and their weights."""


def read_hotwords(path: Path) -> tuple[dict[str, float], list[str]]:
    """A word or phrase a line, perhaps a tab and a weight; and what a person should know of it.

    Raises FileNotFoundError, or ValueError that names the line.
    """
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder: name the file of hotwords in it.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of hotwords {path}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text: the byte 0x{error.object[error.start]:02x} at place "
            f"{error.start}; convert it, with iconv -t utf-8."
        ) from None
    found: dict[str, float] = {}
    lines: dict[str, int] = {}
    twice: list[str] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        phrase, weight = _entry(line, f"{path}, line {number}")
        if phrase in found and found[phrase] != weight:
            raise ValueError(
                f"{path} gives {phrase!r} the weight {found[phrase]:g} in line {lines[phrase]} and "
                f"{weight:g} in line {number}: keep one of them."
            )
        if phrase in found:
            twice.append(phrase)
        found[phrase], lines[phrase] = weight, lines.get(phrase, number)
    if not found:
        raise ValueError(f"{path} holds no hotword: write a word or phrase on each line.")
    notes = []
    if twice:
        twice = list(dict.fromkeys(twice))
        notes.append(
            f"{path}: {_some(twice)} {'is' if len(twice) == 1 else 'are'} given more than once, "
            "and counted once."
        )
    return _checked(found), notes


def as_hotwords(given: Hotwords | Iterable[str]) -> dict[str, float]:
    """Phrases with their weights, or with the usual one; ValueError for a blank one or a weight
    that is no number above 0."""
    if isinstance(given, str):
        raise TypeError(
            "hotwords are a list of words or phrases, or a dict with their weights, and not one "
            f"string: give [{given!r}]."
        )
    pairs = given.items() if isinstance(given, Mapping) else ((p, DEFAULT_WEIGHT) for p in given)
    found: dict[str, float] = {}
    for phrase, weight in pairs:
        cleaned = normalize(str(phrase), "none")
        if not cleaned:
            raise ValueError("A hotword is blank: give words or phrases.")
        found[cleaned] = _checked_weight(weight, repr(cleaned))
    if not found:
        raise ValueError("hotwords holds no word: give at least one, or none at all.")
    return _checked(found)


def _entry(line: str, place: str) -> tuple[str, float]:
    text, *rest = line.strip("\r\n").split("\t")
    phrase = normalize(text, "none")
    rest = [field for field in rest if field.strip()]
    if not phrase or len(rest) > 1:
        raise ValueError(
            f"{place} is no hotword: a line is a word or phrase, and perhaps a tab and its weight."
        )
    if not rest:
        return phrase, DEFAULT_WEIGHT
    weight: object = rest[0].strip()
    with suppress(ValueError):
        weight = float(rest[0])
    return phrase, _checked_weight(weight, place)


def _checked_weight(weight: object, place: str) -> float:
    if not isinstance(weight, int | float) or not 0 < weight <= MOST_WEIGHT:
        shown = f"{weight:g}" if isinstance(weight, int | float) else repr(weight)
        raise ValueError(
            f"{place}: the weight of a hotword is a number above 0 and at most {MOST_WEIGHT:g} "
            f"({DEFAULT_WEIGHT:g} is usual), and not {shown}."
        )
    return float(weight)


def _checked(found: dict[str, float]) -> dict[str, float]:
    if len(found) > MOST_HOTWORDS:
        raise ValueError(
            f"{len(found):,} hotwords are more than the {MOST_HOTWORDS:,} that can be given: make "
            "a language model of such a list (speechssl lm)."
        )
    return found


def spell(tokenizer: Tokenizer, hotwords: Hotwords) -> tuple[dict[str, float], list[str]]:
    """The letters of each phrase as transcripts of the model have them, with
    :data:`speechssl.text.WORD_MARK` for spaces; and the phrases that its alphabet cannot spell."""
    spelled: dict[str, float] = {}
    without: list[str] = []
    for phrase, weight in hotwords.items():
        forms = [normalize(phrase, name) for name in ("none", "lower")]
        known = [form for form in forms if form and not tokenizer.unknown_characters(form)]
        letters = ""
        if known:
            ids = tokenizer.encode(known[0])
            letters = "".join(tokenizer.spellings[i] for i in ids).strip(WORD_MARK)
        if letters:
            spelled[letters] = max(weight, spelled.get(letters, 0.0))
        else:
            without.append(phrase)
    return spelled, without


def unspelled_note(tokenizer: Tokenizer, without: list[str]) -> str:
    """Says which phrases are not used, and why."""
    unknown = dict.fromkeys(c for p in without for c in tokenizer.unknown_characters(p))
    letters = " ".join(list(unknown)[:8])
    return (
        f"{len(without)} {'hotword is' if len(without) == 1 else 'hotwords are'} not used, as the "
        f"model cannot spell {'it' if len(without) == 1 else 'them'}: {_some(without)} (its "
        f"alphabet lacks {letters})."
    )


def _some(phrases: list[str], most: int = 10) -> str:
    shown = ", ".join(repr(p) for p in phrases[:most])
    return shown if len(phrases) <= most else f"{shown} and {len(phrases) - most} more"


@dataclass(frozen=True)
class Automaton:
    """The arrays of :class:`speechssl.decoding.beam_scores.Phrases`, and what a letter adds at
    best (A,) float64, of A letters."""

    first: np.ndarray
    token: np.ndarray
    fail: np.ndarray
    paid: np.ndarray
    ahead: np.ndarray
    gap: np.ndarray
    most: np.ndarray


def automaton(phrases: Hotwords, letters: Mapping[str, int], *, at_words: bool) -> Automaton:
    """Of spelled phrases (:func:`spell`); `letters` number the characters (Aho and Corasick 1975).

    Where phrases are `at_words`, each ends with the mark behind it, and only what begins a word
    begins a phrase.
    """
    mark = letters.get(WORD_MARK, -1)
    end = [mark] if at_words else []
    rows = [[letters[c] for c in phrase] + end for phrase in phrases]
    arrays, places = by_length(rows)
    trie, nodes = build_trie(arrays, len(letters))
    num = len(trie.token)
    weights = list(phrases.values())
    paid, ahead = np.zeros(num), np.zeros(num)
    for where, members in zip(nodes, places, strict=True):
        for node, k in zip(where.tolist(), members, strict=True):
            paid[node] = weights[k]
            above, left = int(trie.parent[node]), len(rows[k]) - 1
            while above > 0:
                ahead[above] = max(ahead[above], weights[k] * left / len(rows[k]))
                above, left = int(trie.parent[above]), left - 1
    fail = np.full(num, -1, np.int32)
    for node in range(1, num):
        fail[node] = _fail(trie.first, trie.token, fail, trie.parent, node, mark, at_words)
        if fail[node] > 0:
            paid[node] += paid[fail[node]]
            ahead[node] = max(ahead[node], ahead[fail[node]])
    gains = paid[1:] + ahead[1:] - ahead[trie.parent[1:]]
    most = np.zeros(len(letters))
    np.maximum.at(most, trie.token[1:], gains)
    gap = (trie.token == mark) & (mark >= 0)
    return Automaton(trie.first, trie.token, fail, paid, ahead, gap, most)


def _fail(
    first: np.ndarray,
    token: np.ndarray,
    fail: np.ndarray,
    parent: np.ndarray,
    node: int,
    mark: int,
    at_words: bool,
) -> int:
    """The node of the longest proper end of a node's letters that begins a phrase; the root where
    a phrase may begin behind them; -1 where none may."""
    place = int(fail[parent[node]]) if parent[node] > 0 else -1
    while place >= 0:
        children = token[first[place] : first[place + 1]]
        found = int(np.searchsorted(children, token[node]))
        if found < len(children) and children[found] == token[node]:
            return int(first[place]) + found
        place = int(fail[place])
    return 0 if not at_words or token[node] == mark else -1
