"""What scores the texts of a beam search, as compiled loops (numba).

Letters are numbers here: what a symbol adds to a text is a stretch of them, and one is the mark
between words. What scores a text (language models, phrases) goes through it letter by letter; where
it has come to is a row of five int32, its state: the context in the model of characters, whether a
space has just been, the node of the word that has begun (-1: no listed one), the context in the
model of words, and the node in the phrases (-1: none can begin before the next word).

V symbols, N nodes of a trie.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from speechssl.compiled import njit
from speechssl.decoding.tries import FlatLM

Array = np.ndarray[Any, Any]
NEVER = -99.0 * math.log(10)
STATE = 5
SILENT = -2
"""In place of a token: it says nothing to the model of characters."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at the first call, keep the code on disk, let other threads run beside it."""
    return njit(function, nogil=True, error_model="numpy")


class Texts(NamedTuple):
    """What each of V symbols adds to a text: letters ``first[v]`` to ``first[v + 1] - 1``."""

    first: Array
    letters: Array
    mark: int
    """The letter between words; -1 where there is none."""
    tokens: Array
    """Of each letter in the model of characters; -1 for one that says nothing there."""


class Spelling(NamedTuple):
    """A trie of the letters of words."""

    first: Array
    token: Array
    word: Array
    """(N,) int32, the token of the word that ends at each node."""
    listed: Array
    """(N,) bool, whether one does."""
    only: bool
    """No other words may come."""


class Phrases(NamedTuple):
    """A trie of the letters of phrases, with what each node is worth."""

    first: Array
    token: Array
    fail: Array
    """(N,) int32, the longest end of the node's letters that begins a phrase; -1 without one."""
    paid: Array
    """(N,) float64, of the phrases that end here."""
    ahead: Array
    """(N,) float64, lent for the phrase that may go on, and given back where it does not."""
    gap: Array
    """(N,) bool, whether a word ends here."""
    at_words: bool
    """Phrases begin and end where words do."""
    used: bool


class Guide(NamedTuple):
    """What scores texts."""

    texts: Texts
    chars: FlatLM
    words: FlatLM
    spelling: Spelling
    phrases: Phrases


@compiled
def link(
    first: Array, token: Array, parent: Array, log_prob: Array, weight: Array, order: int
) -> tuple[Array, Array, float]:
    """`suffix`, `context` and `best` of :class:`speechssl.decoding.tries.FlatLM`."""
    num = len(token)
    suffix, context = np.zeros(num, np.int32), np.zeros(num, np.int32)
    depth = np.zeros(num, np.int32)
    top = np.full(num, NEVER)
    for n in range(num):
        if n:
            depth[n] = depth[parent[n]] + 1
        if depth[n] > 1:
            place = parent[n]
            found = -1
            while found < 0 and place > 0:
                place = suffix[place]
                found = child_of(first, token, place, token[n])
            suffix[n] = max(found, 0)
        goes_on = first[n + 1] > first[n] or weight[n] != 0.0
        if n and depth[n] < order and goes_on:
            context[n] = n
        elif n:
            context[n] = context[suffix[n]]
        if n:
            top[n] = weight[n] + top[suffix[n]]
        for c in range(first[n], first[n + 1]):
            if log_prob[c] > top[n]:
                top[n] = log_prob[c]
    return suffix, context, top.max()


@compiled
def child_of(first: Array, token: Array, node: int, wanted: int) -> int:
    """The child that a token leads to; -1 where none does."""
    low, high = first[node], first[node + 1]
    while low < high:
        middle = (low + high) >> 1
        if token[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < first[node + 1] and token[low] == wanted else -1


@compiled
def follow(lm: FlatLM, context: int, token: int) -> tuple[int, float]:
    """What comes after `token`, and its log-probability after `context`."""
    backed_off = 0.0
    after = -1
    while token >= 0:
        # Of one token alone the place is known.
        found = child_of(lm.first, lm.token, context, token) if context else token + 1
        if found >= 0:
            if after < 0:
                after = lm.context[found]
            if not np.isnan(lm.log_prob[found]):
                return after, backed_off + lm.log_prob[found]
        if context == 0:
            break
        backed_off += lm.weight[context]
        context = lm.suffix[context]
    if token < 0:
        while context:
            backed_off += lm.weight[context]
            context = lm.suffix[context]
    return max(after, 0), backed_off + NEVER


@compiled
def follow_phrase(p: Phrases, node: int, letter: int, is_mark: bool) -> tuple[int, float]:
    """The node after one more letter, and what that adds to the score."""
    if node < 0:
        return (0, 0.0) if is_mark else (-1, 0.0)
    if is_mark and (node == 0 or p.gap[node]):
        return node, 0.0
    place, found = node, -1
    while place >= 0 and found < 0:
        found = child_of(p.first, p.token, place, letter)
        place = p.fail[place]
    if found >= 0:
        return found, p.paid[found] + p.ahead[found] - p.ahead[node]
    return (0 if is_mark or not p.at_words else -1), -p.ahead[node]


@compiled
def end_phrase(p: Phrases, node: int, mark: int) -> float:
    """What the end of the text adds: it ends a word."""
    if node < 0:
        return 0.0
    if not p.at_words or node == 0 or p.gap[node]:
        return -p.ahead[node]
    after, added = follow_phrase(p, node, mark, True)
    return added - p.ahead[after]


@compiled
def end_word(g: Guide, spelled: int, context: int) -> tuple[int, float]:
    """The context after a word that ends at a node of the spelling, and its score."""
    token = g.words.unknown
    if spelled > 0 and g.spelling.word[spelled] >= 0:
        token = g.spelling.word[spelled]
    if g.spelling.only and (spelled < 0 or not g.spelling.listed[spelled]):
        return context, -np.inf
    after, log_prob = follow(g.words, context, token)
    return after, g.words.scale * log_prob + g.words.bonus


@compiled
def extend(g: Guide, before: Array, symbol: int, state: Array) -> tuple[float, float]:
    """What `symbol` adds to a text with the state `before`, and the part of it from phrases; the
    new state is written to `state`."""
    chars, gap, spelled, words, phrase = before[0], before[1], before[2], before[3], before[4]
    by_chars = by_words = by_phrases = 0.0
    for k in range(g.texts.first[symbol], g.texts.first[symbol + 1]):
        letter = g.texts.letters[k]
        is_mark = letter == g.texts.mark
        if g.chars.used and not (is_mark and (gap == 1 or g.texts.tokens[letter] == SILENT)):
            chars, log_prob = follow(g.chars, chars, g.texts.tokens[letter])
            by_chars += g.chars.scale * log_prob + g.chars.bonus
            gap = 1 if is_mark else 0
        if g.words.used:
            if not is_mark:
                if spelled >= 0:
                    spelled = child_of(g.spelling.first, g.spelling.token, spelled, letter)
                if spelled < 0 and g.spelling.only:
                    by_words = -np.inf
            elif spelled != 0:
                words, score = end_word(g, spelled, words)
                by_words += score
                spelled = 0
        if g.phrases.used:
            phrase, score = follow_phrase(g.phrases, phrase, letter, is_mark)
            by_phrases += score
    state[0], state[1], state[2], state[3], state[4] = chars, gap, spelled, words, phrase
    return by_chars + by_words + by_phrases, by_phrases


@compiled
def finish(g: Guide, state: Array) -> tuple[float, float]:
    """What the end of a text adds to its score, and the part of it from phrases."""
    by_chars = by_words = by_phrases = 0.0
    if g.chars.used:
        _, log_prob = follow(g.chars, state[0], g.chars.end)
        by_chars = g.chars.scale * log_prob
    if g.words.used:
        context = state[3]
        if state[2] != 0:
            context, by_words = end_word(g, state[2], context)
        _, log_prob = follow(g.words, context, g.words.end)
        by_words += g.words.scale * log_prob
    if g.phrases.used:
        by_phrases = end_phrase(g.phrases, state[4], g.texts.mark)
    return by_chars + by_words + by_phrases, by_phrases


@compiled
def log_add(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    if a <= b:
        a, b = b, a
    return a if b == -np.inf else a + math.log1p(math.exp(b - a))
