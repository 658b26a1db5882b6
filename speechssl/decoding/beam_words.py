"""Words in the texts of a beam, as compiled loops (numba); see :mod:`.posteriors`.

T frames, N nodes, W words, K texts that were kept of each frame's beam.
"""

import numpy as np

from speechssl.decoding.beam_loops import Nodes
from speechssl.decoding.beam_scores import Array, Texts, compiled

_FACTOR, _MODULUS = 1_000_003, (1 << 40) - 87


@compiled
def add_letter(number: int, letter: int) -> int:
    """The number of a word's letters and one more; 0 is that of no letter."""
    return (number * _FACTOR + letter + 1) % _MODULUS


@compiled
def holds(nodes: Nodes, texts: Texts, node: int, wanted: int, begin: int, end: int) -> bool:
    """Whether the text of a node has the word `wanted` (its letters from the last to the first, as
    a number) within the frames `begin` to `end`."""
    number, last, first = 0, -1, -1
    while node > 0:
        symbol, frame = nodes.symbol[node], nodes.frame[node]
        for k in range(texts.first[symbol + 1] - 1, texts.first[symbol] - 1, -1):
            letter = texts.letters[k]
            if letter != texts.mark:
                if number == 0:
                    last = frame
                number, first = add_letter(number, letter), frame
                continue
            if number == wanted and first <= end and last >= begin:
                return True
            number = 0
        if number == 0 and frame < begin:
            return False
        node = nodes.parent[node]
    return number == wanted and first <= end and last >= begin


@compiled
def word_of(nodes: Nodes, texts: Texts, path: Array) -> int:
    """The letters of the last word in a path of nodes as a number, from the last to the first."""
    number = 0
    for node in path[::-1]:
        symbol = nodes.symbol[node]
        for k in range(texts.first[symbol + 1] - 1, texts.first[symbol] - 1, -1):
            if texts.letters[k] != texts.mark:
                number = add_letter(number, texts.letters[k])
            elif number:  # a symbol of several letters may hold a space
                return number
    return number


@compiled
def shares(
    nodes: Nodes,
    path: Array,
    words: Array,
    texts: Texts,
    seen: Array,
    seen_scores: Array,
    look_ahead: int,
) -> Array:
    """(W,) float64: for each of the words, given as the places (W, 2) of their first token and
    behind their last in the `path` of nodes, the share of the texts that hold it."""
    found = np.ones(len(words))
    for w in range(len(words)):
        begin, end = nodes.frame[path[words[w, 0]]], nodes.frame[path[words[w, 1] - 1]]
        wanted = word_of(nodes, texts, path[words[w, 0] : words[w, 1]])
        t = min(end + look_ahead, len(seen) - 1)
        top, of_word, of_all = seen_scores[t].max(), 0.0, 0.0
        for k in range(seen.shape[1]):
            if seen[t, k] < 0 or not seen_scores[t, k] > -np.inf:
                continue
            part = np.exp(seen_scores[t, k] - top)
            of_all += part
            if holds(nodes, texts, seen[t, k], wanted, begin, end):
                of_word += part
        found[w] = of_word / of_all if of_all > 0 else 0.0
    return found
