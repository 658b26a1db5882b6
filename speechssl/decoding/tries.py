"""Tries in flat arrays, which compiled loops follow: of n-grams, of words' letters, of phrases.

Node 0 is the root; nodes are numbered level by level, within a level by parent and token, so that
the children of a node lie side by side in the order of their tokens: those of node n are
``first[n]`` to ``first[n + 1] - 1``.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from speechssl.decoding.ngram import BEGIN, END, UNKNOWN_WORD, NgramLM

Array = np.ndarray


class Trie(NamedTuple):
    """N nodes."""

    first: Array
    """(N + 1,) int32, the first child of each node."""
    token: Array
    """(N,) int32, what leads to each node from its parent; -1 at the root."""
    parent: Array
    """(N,) int32; -1 at the root."""


def build_trie(sequences: Sequence[Array], num_tokens: int) -> tuple[Trie, list[Array]]:
    """All sequences and their beginnings; the node of each sequence.

    `sequences` are int arrays, one for each length that occurs: (N_k, k), of tokens below
    `num_tokens`. The nodes are one (N_k,) int64 array for each of them.
    """
    nodes: list[Array] = [np.zeros(len(each), np.int64) for each in sequences]
    tokens, parents, counts = [np.array([-1])], [np.array([-1])], [1]
    depth, base = 0, 1
    while True:
        longer = [i for i, each in enumerate(sequences) if each.shape[1] > depth and len(each)]
        if not longer:
            break
        keys = np.concatenate(
            [nodes[i] * num_tokens + sequences[i][:, depth].astype(np.int64) for i in longer]
        )
        found, places = np.unique(keys, return_inverse=True)
        ends = np.cumsum([len(sequences[i]) for i in longer])
        for i, part in zip(longer, np.split(places, ends[:-1]), strict=True):
            nodes[i] = part + base
        tokens.append(found % num_tokens)
        parents.append(found // num_tokens)
        counts.append(len(found))
        depth, base = depth + 1, base + len(found)
    parent = np.concatenate(parents)
    # Parents never decrease from one node to the next.
    first = np.searchsorted(parent[1:], np.arange(base + 1)) + 1
    return Trie(
        first.astype(np.int32),
        np.concatenate(tokens).astype(np.int32),
        parent.astype(np.int32),
    ), nodes


def by_length(sequences: Iterable[Sequence[int]]) -> tuple[list[Array], list[list[int]]]:
    """Sequences of one length in one array each, and the places where they stood."""
    groups: dict[int, list[int]] = {}
    kept: dict[int, list[Sequence[int]]] = {}
    for place, sequence in enumerate(sequences):
        groups.setdefault(len(sequence), []).append(place)
        kept.setdefault(len(sequence), []).append(sequence)
    arrays = [np.array(kept[n], np.int64).reshape(-1, n) for n in groups]
    return arrays, list(groups.values())


class FlatLM(NamedTuple):
    """An n-gram model as a trie: N nodes, of which each is an n-gram or the beginning of one."""

    first: Array
    """(N + 1,) int32 as in :class:`Trie`; that of token t alone is node t + 1."""
    token: Array
    """(N,) int32."""
    log_prob: Array
    """(N,) float64, natural logarithm; NaN for what is only the beginning of n-grams."""
    weight: Array
    """(N,) float64 of lower orders behind the node, natural logarithm."""
    suffix: Array
    """(N,) int32, the node of the longest proper end of the node's tokens that has one."""
    context: Array
    """(N,) int32, what the next token follows once these tokens have come: the longest of the node
    and its ends of which something is known."""
    start: int
    """The context of a sentence's first token."""
    end: int
    """The token for the end of a text, or that of the unknown word."""
    unknown: int
    """The token for the unknown word; -1 where the model has none."""
    best: float
    """No token is more probable anywhere: natural logarithm."""
    scale: float
    """Factor on the log-probabilities."""
    bonus: float
    """Added for each token."""
    used: bool


def flatten(lm: NgramLM, *, scale: float, bonus: float) -> tuple[FlatLM, dict[str, int]]:
    """The same probabilities in flat arrays, made once for each model; and the number of each of
    its tokens."""
    if _KEPT not in lm.__dict__:
        lm.__dict__[_KEPT] = _flatten(lm)
    flat, ids = lm.__dict__[_KEPT]
    return flat._replace(scale=scale, bonus=bonus), ids


_KEPT = "_flat"


def _flatten(lm: NgramLM) -> tuple[FlatLM, dict[str, int]]:
    from speechssl.decoding.beam_scores import link

    vocabulary = sorted({token for gram in lm.entries for token in gram})
    ids = {token: i for i, token in enumerate(vocabulary)}
    # Every token has a node, at its place, also where a damaged file has no 1-gram for it.
    sequences = [np.arange(len(vocabulary))[:, None]]
    grams: dict[int, list[tuple[str, ...]]] = {}
    for gram in lm.entries:
        grams.setdefault(len(gram), []).append(gram)
    for size, rows in grams.items():
        flat = np.fromiter(map(ids.__getitem__, chain.from_iterable(rows)), np.int64)
        sequences.append(flat.reshape(-1, size))
    trie, nodes = build_trie(sequences, max(len(vocabulary), 1))
    num = len(trie.token)
    log_prob, weight = np.full(num, np.nan), np.zeros(num)
    for where, rows in zip(nodes[1:], grams.values(), strict=True):
        values = np.array([lm.entries[gram] for gram in rows])
        log_prob[where], weight[where] = values[:, 0], values[:, 1]
    suffix, context, best = link(*trie, log_prob, weight, lm.order)
    known = {gram[0] for gram in grams.get(1, [])}
    unknown = ids[UNKNOWN_WORD] if UNKNOWN_WORD in known else -1
    start = 0
    if lm.order > 1 and BEGIN in ids:
        start = int(context[1 + ids[BEGIN]])
    end = ids[END] if END in known else unknown
    return FlatLM(
        trie.first,
        trie.token,
        log_prob,
        weight,
        suffix,
        context,
        start,
        end,
        unknown,
        best,
        1.0,
        0.0,
        True,
    ), {token: ids[token] for token in known}


def no_lm() -> FlatLM:
    """In place of a language model where there is none."""
    nodes, numbers = np.zeros(1, np.int32), np.zeros(1)
    return FlatLM(
        np.ones(2, np.int32), nodes, numbers, numbers, nodes, nodes, 0, -1, -1, 0.0, 0.0, 0.0, False
    )
