"""How good confidences are: against definitions written out, and against worked examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.scoring.alignment import right_words
from speechssl.scoring.confidence import (
    calibration_error,
    errors_found,
    judge,
    most_found,
    num_characters,
)
from speechssl.scoring.edits import align_texts, count_edits


@pytest.mark.parametrize(
    ("reference", "words", "normalizer", "right", "missing"),
    [
        ("a b c", ["a", "b", "c"], "none", [True, True, True], 0),
        ("a b c", ["a", "x", "c"], "none", [True, False, True], 0),
        ("a c", ["a", "b", "c"], "none", [True, False, True], 0),  # inserted
        ("a b c", ["a", "c"], "none", [True, True], 1),
        ("a b c", [], "none", [], 3),
        ("", ["a"], "none", [False], 0),
        ("", [], "none", [], 0),
        ("A, b!", ["a", "B"], "none", [False, False], 0),
        ("A, b!", ["a", "B"], "basic", [True, True], 0),
        ("a b", ["a", "...", "b"], "basic", [True, None, True], 0),  # nothing is left of it
        ("a b c", ["a", "b/c"], "basic", [True, True], 0),  # one word there, two here
        ("a b x", ["a", "b/c"], "basic", [True, False], 0),
        ("e\u0301", ["\u00e9"], "none", [True], 0),  # one letter in two forms
        ("ɛ\u0301 wó", ["ɛ", "wó"], "none", [False, True], 0),  # a tone is a part of the word
    ],
)
def test_a_word_is_right_where_the_alignment_has_it_equal(
    reference, words, normalizer, right, missing
):
    assert right_words(reference, words, normalizer) == (right, missing)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_wrong_and_missing_words_are_the_errors_of_the_word_error_rate(reference, words):
    said, given = " ".join(reference), " ".join(words)
    right, missing = right_words(said, words)
    (edits,) = align_texts([said], [given], "words")
    counts = count_edits(edits)
    assert right.count(False) == counts.substitutions + counts.insertions
    assert missing == counts.deletions


def test_words_of_several_utterances():
    words = judge(
        ["a b", "c d"], [[("a", 0.9), ("x", 0.2)], [("c", 0.5)]], ["s1", None], normalizer="none"
    )
    assert words.confidences.tolist() == [0.9, 0.2, 0.5]
    assert words.right.tolist() == [True, False, True]
    assert words.utterances.tolist() == [0, 0, 1]
    assert (words.speakers, words.num_missing, words.num_wrong) == (("s1", None), 1, 1)
    empty = judge(["a"], [[]], [None])
    assert (len(empty), empty.num_missing) == (0, 1)
    with pytest.raises(ValueError, match="zip"):
        judge(["a"], [[]], [])


@pytest.mark.parametrize(
    ("word", "num"), [("abc", 3), ("e\u0301", 1), ("ɛ\u0301", 2), ("", 1), ("你好", 2)]
)
def test_characters_of_a_word(word, num):
    assert num_characters(word) == num


@pytest.mark.parametrize(
    ("confidences", "right", "error"),
    [
        ([], [], 0.0),
        ([1.0, 1.0], [1, 1], 0.0),
        ([1.0, 1.0], [0, 0], 1.0),
        ([0.5, 0.5], [1, 0], 0.0),
        ([0.05, 0.95], [0, 1], 0.05),
        ([0.0, 0.1, 0.1], [0, 1, 0], (0.0 + 0.4 * 2) / 3),  # 0.1 begins the second bin
        ([0.91, 0.99], [0, 1], (0.95 - 0.5)),  # one bin: errors of both signs cancel
    ],
)
def test_calibration_error_by_hand(confidences, right, error):
    found = calibration_error(np.array(confidences), np.array(right, dtype=bool))
    assert found == pytest.approx(error)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_its_definition(pairs):
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, is_right in pairs:
        bins.setdefault(min(int(confidence * 10), 9), []).append((confidence, is_right))
    expected = sum(
        len(b) / len(pairs) * abs(sum(c for c, _ in b) / len(b) - sum(ok for _, ok in b) / len(b))
        for b in bins.values()
    )
    confidences, right = (np.array(column) for column in zip(*pairs, strict=True))
    assert calibration_error(confidences, right) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("confidences", "right", "found", "most"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, 1, 1, 1], 1.0, 1.0),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [1, 1, 1, 1, 0], 0.0, 1.0),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [0, 0, 1, 1, 1], 0.5, 0.5),
        ([0.3] * 5, [0, 1, 1, 1, 1], 0.2, 1.0),  # nothing is told apart: what chance gives
        ([0.3] * 5, [0, 0, 0, 0, 0], 0.2, 0.2),
        ([0.9, 0.1], [1, 0], 0.4, 0.4),  # a fifth of two words is a part of one
        ([0.9, 0.1], [1, 1], None, None),
    ],
)
def test_errors_among_the_least_confident_words(confidences, right, found, most):
    right = np.array(right, dtype=bool)
    assert errors_found(np.array(confidences), right) == (found and pytest.approx(found))
    assert most_found(right) == (most and pytest.approx(most))
