"""N-gram models: probabilities that sum to one, and the formula."""

import math

import numpy as np
import pytest

from speechssl.decoding.kneser_ney import _discounts
from speechssl.decoding.lm import (
    BEGIN,
    END,
    UNKNOWN_WORD,
    estimate,
    read_arpa,
    tokens,
    train_lm,
    write_arpa,
)
from tests.decoding import plain_kneser_ney

TEXTS = [
    "wa adí obεngέ bεngε",
    "wa adí ngá",
    "kώ émibonga ngá",
    "ngá wa adí obεngέ",
    "",
    "bána bo báatúsá ambángé",
    "wa  adí\tngá",
]


MORE = [
    *TEXTS,
    "ngá wa adí ngá",
    "wa wa wa adí",
    "bo adí bo ngá wa",
    "a",
    "wa adí",
    "ngá ngá wa adí",
]


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize(
    ("order", "prune"),
    [(1, ()), (2, ()), (3, ()), (5, ()), (2, (0, 1)), (3, (0, 1)), (5, (0, 0, 1, 2)), (3, (0, 99))],
)
def test_what_follows_sums_to_one(unit, order, prune):
    lm = train_lm(MORE, order=order, unit=unit, prune=prune)
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
    assert _discounts(np.array(counts)) == pytest.approx(expected)
    assert _discounts(np.array([1, 2])) == (0.0, 0.5, 1.0, 1.5)  # too few


@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize(
    ("order", "prune"),
    [(1, ()), (2, ()), (3, (0, 0, 1)), (4, (0, 1)), (6, ()), (6, (0, 0, 0, 1, 1, 2)), (9, (0, 2))],
)
def test_the_estimates_are_those_of_lmplz(unit, order, prune):
    """Enough text for discounts of its own at some orders, too little at others."""
    texts = MORE * 2 + [text[::-1] for text in MORE] + [text[3:] for text in MORE]
    found = train_lm(texts, order=order, unit=unit, prune=prune).entries
    wanted = plain_kneser_ney.train_lm(texts, order=order, unit=unit, prune=prune).entries
    assert found.keys() == wanted.keys()
    for gram, numbers in wanted.items():
        assert found[gram] == pytest.approx(numbers, abs=1e-9), gram


def test_pruning_leaves_out_what_is_rare():
    whole, cut = (estimate(MORE, order=3, unit="word", prune=p) for p in ((), (0, 1, 1)))
    assert cut.sizes()[0] == whole.sizes()[0]
    assert 0 < cut.sizes()[1] < whole.sizes()[1]
    assert 0 < cut.sizes()[2] < whole.sizes()[2]
    kept = cut.to_lm().entries
    assert ("wa", "adí") in kept
    assert ("bána", "bo") not in kept
    for gram in kept:  # whatever is kept, its beginning and its end are
        assert len(gram) == 1 or (gram[:-1] in kept and gram[1:] in kept)


@pytest.mark.extras
@pytest.mark.parametrize("unit", ["char", "word"])
@pytest.mark.parametrize(("order", "prune"), [(2, ()), (4, (0, 0, 1)), (6, ())])
def test_perplexity_is_that_of_kenlm(unit, order, prune, tmp_path):
    kenlm = pytest.importorskip("kenlm")
    path = tmp_path / "lm.arpa"
    write_arpa(estimate(MORE, order=order, unit=unit, prune=prune), path)
    config = kenlm.Config()
    config.show_progress = False
    theirs = kenlm.Model(str(path), config)
    texts = ["wa adí", "ngá bo zzz", "bεngε wa ngá ngá", "q"]
    rows = [tokens(text, unit) for text in texts]
    log10 = sum(theirs.score(" ".join(row)) for row in rows)
    expected = 10 ** (-log10 / sum(len(row) + 1 for row in rows))
    assert read_arpa(path).perplexity(texts) == pytest.approx(expected, rel=1e-5)


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
    for prune, message in (
        ((1,), "begin with 0"),
        ((0, 2, 1), "not decrease"),
        ((0, -1), "whole numbers from 0"),
        ((0, 0.5), "whole numbers from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            train_lm(TEXTS, order=3, unit="word", prune=prune)
    with pytest.raises(ValueError, match=r"Text 2 has <s> or </s> as a word"):
        train_lm(["wa", "<s> wa </s>"], order=2, unit="word")
    for nothing in ([], [" ", ""]):
        with pytest.raises(ValueError, match="no text"):
            train_lm(nothing, order=2, unit="word")
