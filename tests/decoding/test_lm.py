"""N-gram models: probabilities that sum to one, and the formula."""

import math
from collections import Counter

import pytest

from speechssl.decoding.lm import (
    BEGIN,
    END,
    UNKNOWN_WORD,
    _discounts,
    tokens,
    train_lm,
)

TEXTS = [
    "wa adí obεngέ bεngε",
    "wa adí ngá",
    "kώ émibonga ngá",
    "ngá wa adí obεngέ",
    "",
    "bána bo báatúsá ambángé",
    "wa  adí\tngá",
]


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_what_follows_sums_to_one(unit, order):
    lm = train_lm(TEXTS, order=order, unit=unit)
    vocabulary = [g[0] for g in lm.entries if len(g) == 1 and g[0] != BEGIN]
    assert {END, UNKNOWN_WORD} <= set(vocabulary)
    contexts = [lm.start, (vocabulary[0],), ("never", "seen"), tuple(vocabulary[:4])]
    contexts += [gram for gram in lm.entries if END not in gram][:200]
    for context in contexts:
        before = context[-(order - 1) :] if order > 1 else ()
        total = sum(math.exp(lm.log_prob(before, token)) for token in vocabulary)
        assert total == pytest.approx(1, abs=1e-6), context


def test_a_bigram_by_hand():
    """Three sentences of one word each: a, a, b; too few for discounts of their own."""
    lm = train_lm(["a", "a", "b"], order=2, unit="word")
    # Unigrams count what they follow: a behind <s>, b behind <s>, </s> behind a and b. Discounts
    # 0.5 (count 1) and 1 (count 2) free 2 of 4, spread over a, b, </s>, <unk>.
    unigram = {"a": (0.5 + 2 / 4) / 4, "b": (0.5 + 2 / 4) / 4, END: (1 + 2 / 4) / 4}
    unigram[UNKNOWN_WORD] = 2 / 4 / 4
    for token, prob in unigram.items():
        assert math.exp(lm.log_prob((), token)) == pytest.approx(prob)
    # Behind <s>: a twice (1 is taken), b once (0.5 is taken), 1.5 of 3 freed.
    first = {"a": (1 + 1.5 * unigram["a"]) / 3, "b": (0.5 + 1.5 * unigram["b"]) / 3}
    for token, prob in first.items():
        assert math.exp(lm.log_prob((BEGIN,), token)) == pytest.approx(prob)
    unknown = 1.5 / 3 * unigram[UNKNOWN_WORD]
    assert math.exp(lm.log_prob((BEGIN,), "zzz")) == pytest.approx(unknown)


def test_discounts_come_from_the_counts_of_counts():
    """Chen and Goodman 1999, equation 26."""
    once, twice, thrice, more = 8, 4, 3, 2
    counts = [1] * once + [2] * twice + [3] * thrice + [4] * more + [9]
    y = once / (once + 2 * twice)
    expected = (0, 1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * more / thrice)
    found = _discounts(Counter({(str(i),): n for i, n in enumerate(counts)}))
    assert found == pytest.approx(expected)
    assert _discounts(Counter({("a",): 1, ("b",): 2})) == (0.0, 0.5, 1.0, 1.5)  # too few


def test_seen_text_is_more_probable_and_longer_context_helps():
    perplexities = [train_lm(TEXTS, order=n, unit="char").perplexity(TEXTS) for n in (1, 2, 3, 6)]
    assert perplexities == sorted(perplexities, reverse=True)
    lm = train_lm(TEXTS, order=3, unit="word")
    assert lm.perplexity(["wa adí ngá"]) < lm.perplexity(["ngá adí wa"])


def test_tokens():
    assert tokens(" ó  ba ", "char") == ["ó", "▁", "b", "a"]
    assert tokens(" ó  ba ", "word") == ["ó", "ba"]


def test_impossible_settings_are_named():
    with pytest.raises(ValueError, match="order must be between 1 and 16, got 0"):
        train_lm(TEXTS, order=0, unit="char")
    with pytest.raises(ValueError, match="unit must be one of char, word, got 'phone'"):
        train_lm(TEXTS, order=2, unit="phone")  # type: ignore[arg-type]
    for nothing in ([], [" ", ""]):
        with pytest.raises(ValueError, match="no text"):
            train_lm(nothing, order=2, unit="word")
