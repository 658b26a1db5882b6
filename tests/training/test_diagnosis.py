"""What is measured of a validation: whether the output depends on the audio; input levels."""

import random

import numpy as np
import pytest
import torch

from speechssl import shapes
from speechssl.data.dataset import Batch
from speechssl.training.diagnosis import level_db, permuted_errors

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def sentences(num, seed, words=DIGITS, most=6):
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(1, most))) for _ in range(num)]


def garbled(text, share, seed):
    """With a share of the characters replaced."""
    draw = random.Random(seed)
    return "".join(draw.choice("aeio") if draw.random() < share else c for c in text)


@pytest.mark.parametrize("most", [1, 6])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("num", [20, 300])
def test_a_model_that_listens(num, share, most):
    references = sentences(num, 0, most=most)
    found = permuted_errors(references, [garbled(t, share, i) for i, t in enumerate(references)])
    assert found["permuted/z"] > 4
    assert found["permuted/cer"] > 0.4


@pytest.mark.parametrize(
    "hypotheses",
    [
        sentences(300, 1, most=1),  # words, but of no recording
        ["e"] * 300,
        [""] * 300,
        ["zero one two"] * 300,
    ],
    ids=["other words", "a letter", "nothing", "always the same"],
)
def test_a_closed_set_of_words_without_listening(hypotheses):
    found = permuted_errors(sentences(300, 0, most=1), hypotheses)
    assert abs(found["permuted/z"]) < 3


@pytest.mark.parametrize("seed", range(4))
def test_knowing_only_how_long_a_recording_is(seed):
    """The hypotheses have the right number of words, as from the recordings' durations."""
    references, draw = sentences(300, seed, most=12), random.Random(seed + 100)
    hypotheses = [" ".join(draw.choices(DIGITS, k=len(t.split()))) for t in references]
    assert abs(permuted_errors(references, hypotheses)["permuted/z"]) < 4


def test_partly_swapped_transcripts_still_depend_on_the_audio():
    spoken = sentences(300, 0)
    references = spoken[:90][::-1] + spoken[90:]
    assert permuted_errors(references, spoken)["permuted/z"] > 4


@pytest.mark.parametrize(
    "references",
    [[], ["one"], ["one"] * 300, sentences(7, 0), ["one"] * 299 + ["two"]],
    ids=["none", "one", "all the same", "too few", "hardly any other"],
)
def test_where_nothing_can_be_compared(references):
    assert permuted_errors(references, references) == {}


def test_it_is_the_same_each_time():
    references, hypotheses = sentences(50, 0), sentences(50, 1)
    assert permuted_errors(references, hypotheses) == permuted_errors(references, hypotheses)


def test_a_perfect_model_has_a_finite_number():
    references = [f"{a}{b}" for a in "abcd" for b in "efgh"]
    assert permuted_errors(references, references)["permuted/z"] < 1e4


def batch(*waves):
    padded, lengths = shapes.pad_waves([np.asarray(wave, np.float32) for wave in waves])
    return Batch(
        0, ("x",) * len(waves), ("",) * len(waves), torch.ones_like(padded), padded, lengths
    )


def test_the_level_is_of_the_valid_samples():
    sine = np.sin(np.arange(16000) * 0.1)
    assert level_db([batch(sine)]) == pytest.approx(-3.01, abs=0.01)
    assert level_db([batch(0.1 * sine)]) == pytest.approx(-23.01, abs=0.01)
    alone, padded = level_db([batch(sine)]), level_db([batch(sine, sine[:100])])
    assert padded == pytest.approx(alone, abs=0.01)
    assert level_db([batch(sine), batch(0 * sine)]) == pytest.approx(-6.02, abs=0.01)
    assert level_db([batch(np.zeros(10))]) == level_db([]) == -120
