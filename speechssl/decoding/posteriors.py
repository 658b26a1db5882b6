"""How sure a beam search is of each word: the share of the texts in the beam that hold it.

The beam some frames after a word's last letter is asked (fixed-lag smoothing): texts with the same
word at the same time count for it, whatever else they hold. What hotwords add does not count.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from speechssl.text import Tokenizer


def word_posteriors(
    found: Any, ids: Sequence[int], tokenizer: Tokenizer, texts: Any, look_ahead: int
) -> tuple[float, ...]:
    """For each word of `ids`, the best text of the search `found`
    (:func:`speechssl.decoding.beam_loops.search`), a number in [0, 1].

    `texts` are the letters of the symbols; the beam is asked `look_ahead` frames after a word.
    """
    from speechssl.decoding.beam_words import shares

    words = tokenizer.words(ids)
    nodes, beam, *_, seen, seen_scores = found
    if not words or not len(seen):
        return ()
    path = np.zeros(len(ids), np.int32)
    node = int(beam[0])
    for place in range(len(ids) - 1, -1, -1):
        path[place] = node
        node = int(nodes.parent[node])
    ends = np.array([(word.start, word.end) for word in words])
    return tuple(shares(nodes, path, ends, texts, seen, seen_scores, look_ahead).tolist())
