"""Calibration: it finds what it was made to find, on words that it was not fitted on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from speechssl.rng import rng
from speechssl.scoring import calibration as module
from speechssl.scoring.calibration import (
    Calibration,
    NotCalibratedError,
    calibration_sentences,
    confidence_json,
    describe_confidence,
    fit_calibration,
    stored_calibration,
)
from speechssl.scoring.confidence import JudgedWords


def words(num: int = 4000, speakers: int = 4, seed: int = 0, law=None) -> JudgedWords:
    """Words whose confidence says too much, as CTC's does: right by a law of it and the length."""
    generator = rng(seed, "words")
    confidences = generator.uniform(0.2, 1.0, num)
    lengths = generator.integers(1, 12, num)
    law = law or (lambda c, n: 1 / (1 + np.exp(1.0 - np.log(c / (1 - c)) + 0.2 * n)))
    right = generator.uniform(size=num) < law(confidences, lengths)
    utterances = np.arange(num) // 5
    names = tuple(f"s{i % speakers}" for i in range(num // 5 + 1))
    return JudgedWords(confidences, lengths, right, utterances, names)


def constant(share: float):
    return lambda c, _n: np.full(len(c), share)


def test_confidence_becomes_the_share_of_right_words():
    found = fit_calibration(words(), "greedy")
    assert found.quality.error_before > 0.2
    assert found.quality.error_after < 0.03
    fresh = words(seed=1)
    assert confidence_json(fresh, found)["calibration_error"] < 0.03
    for short in (True, False):  # also among words of one length
        chosen = fresh.lengths <= 3 if short else fresh.lengths >= 8
        assert found.of(fresh)[chosen].mean() == pytest.approx(fresh.right[chosen].mean(), abs=0.04)


def test_wrong_words_are_found_better_where_length_matters():
    quality = fit_calibration(words(), "greedy").quality
    assert quality.found_before is not None
    assert quality.found_before < quality.found_after <= quality.most_found


def test_the_quality_is_of_words_that_were_not_fitted_on(monkeypatch):
    """A map that learns its words by heart must look bad."""
    given = words(200, law=constant(0.5))
    fitted = []
    monkeypatch.setattr(
        module, "_fit", lambda inputs, right: fitted.append((inputs, right)) or np.zeros(3)
    )
    seen = []
    monkeypatch.setattr(
        module,
        "_probabilities",
        lambda inputs, _weights: seen.append(inputs) or np.full(len(inputs), 0.5),
    )
    fit_calibration(given, "greedy")
    (first, _), (second, _), (whole, _) = fitted
    assert len(first) + len(second) == len(whole) == 200
    for fit_on, measured_on in zip((first, second), seen, strict=True):
        rows = {tuple(row) for row in fit_on}
        assert not rows & {tuple(row) for row in measured_on}


@pytest.mark.parametrize(
    ("speakers", "halves"),
    [
        (["a"] * 40, "utterances"),
        ([None] * 40, "utterances"),
        (["a"] * 20 + [None] * 20, "utterances"),
        (["a"] * 36 + ["b"] * 4, "utterances"),  # too uneven
        (["a"] * 25 + ["b"] * 15, "speakers"),
        (["a"] * 20 + ["b"] * 12 + ["c"] * 8, "speakers"),
    ],
)
def test_halves_are_of_speakers_where_they_can_be(speakers, halves):
    given = replace(words(200), speakers=tuple(speakers))
    second, found = module._second_half(given)
    assert found == halves
    assert 0.25 <= second.mean() <= 0.75
    of_utterance = {}
    for utterance, half in zip(given.utterances.tolist(), second.tolist(), strict=True):
        key = speakers[utterance] if halves == "speakers" else utterance
        assert of_utterance.setdefault(key, half) == half  # nobody is on both sides


@pytest.mark.parametrize("num", [0, 1, 99])
def test_few_words_are_no_ground(num):
    with pytest.raises(NotCalibratedError, match=f"there are {num} words .* 100 are needed"):
        fit_calibration(words(num), "greedy")
    fit_calibration(words(100), "greedy")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_right_or_all_wrong_is_not_certainty(share):
    found = fit_calibration(words(150, law=constant(share)), "greedy")
    for confidence in (0.0, 0.5, 1.0):
        value = found(confidence, "word")
        assert 0 < value < 1
        assert abs(value - share) < 0.1
    assert describe_confidence(words(150), found)


@pytest.mark.parametrize("num", [120, 300, 1000])
def test_what_is_no_better_than_none_is_not_kept(num):
    """The halves teach the opposite of each other; the confidence itself is right on average."""
    given = words(num, speakers=2)
    in_first = np.array([given.speakers[u] == "s0" for u in given.utterances])
    opposite = replace(given, confidences=np.full(num, 0.5), right=in_first)
    with pytest.raises(NotCalibratedError, match=r"no better .* \(Brier score 0\.\d+, .* 0\.250\)"):
        fit_calibration(opposite, "greedy")


@pytest.mark.parametrize("num", [120, 300, 1000])
def test_what_helps_is_kept(num):
    quality = fit_calibration(words(num), "greedy").quality
    assert quality.error_after < quality.error_before


def test_more_confidence_never_becomes_less():
    """Also where the data say so."""
    found = fit_calibration(words(law=lambda c, _n: 1.0 - c), "greedy")
    values = [found(c, "word") for c in np.linspace(0, 1, 101)]
    assert values == sorted(values)
    assert found.confidence_weight >= 0


@pytest.mark.parametrize("confidence", [0.0, 1e-320, 1e-9, 0.3, 1.0])
def test_one_word_is_as_in_an_array(confidence):
    found = fit_calibration(words(300), "greedy")
    one = JudgedWords(
        np.array([confidence]), np.array([4]), np.array([True]), np.array([0]), ("s",)
    )
    assert found(confidence, "wórd") == pytest.approx(found.of(one)[0], rel=1e-12)


def test_it_is_the_same_every_time():
    assert fit_calibration(words(), "greedy") == fit_calibration(words(), "greedy")


def test_it_is_kept_as_json():
    found = fit_calibration(words(300), "beam 16")
    data = json.loads(json.dumps(found.to_json()))
    assert Calibration.from_json(data) == found
    meta = {"calibration": {"greedy": data}}
    assert stored_calibration(meta, "greedy") == found
    assert stored_calibration(meta, "lm") is None
    assert stored_calibration({}, "greedy") is None  # a model of an earlier version
    assert stored_calibration({"calibration": {"note": "few words"}}, "greedy") is None
    (sentence,) = calibration_sentences(meta)
    assert "on 300 words (10 bins; fitted on one half of the speakers" in sentence
    assert calibration_sentences({"calibration": {"note": "few words"}}) == ["few words"]


def damaged(**changes) -> dict:
    data = fit_calibration(words(300), "greedy").to_json()
    return {**data, **changes}


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        "x",
        3,
        {"intercept": 1},
        damaged(intercept="1"),
        damaged(intercept=float("nan")),
        damaged(length_weight=float("inf")),
        damaged(confidence_weight=-1.0),
        damaged(quality=None),
        damaged(quality={}),
        damaged(extra=1),
    ],
    ids=str,
)
def test_a_damaged_one_is_a_sentence(data):
    with pytest.raises(ValueError, match=r"calibration .* is damaged: fit it again"):
        stored_calibration({"calibration": {"greedy": data}}, "greedy")
    assert calibration_sentences({"calibration": {"greedy": data}}) == []


def test_what_is_said_of_an_evaluation():
    given = words(500)
    found = fit_calibration(given, "greedy")
    assert "before calibration), 10 bins; the least confident 20 %" in describe_confidence(
        given, found
    )
    assert "not calibrated" in describe_confidence(given, None)
    data = confidence_json(given, None)
    assert data["calibrated"] is False
    assert data["calibration_error"] == data["raw_calibration_error"]
    json.dumps(data, allow_nan=False)
    assert describe_confidence(words(0), None) == ""
