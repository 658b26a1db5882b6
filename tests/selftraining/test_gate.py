"""Which pseudo-labels are learned from, and with which weight."""

from pathlib import Path

import pytest

from speechssl.data.manifest import Utterance
from speechssl.selftraining import gate as gates
from speechssl.selftraining.config import SelfTrainConfig
from speechssl.selftraining.gate import (
    LEAST_WEIGHT,
    Gated,
    Label,
    Range,
    gate,
    implausible,
    most_repeats,
    weight_of,
)
from speechssl.selftraining.rounds import nothing_kept
from speechssl.text import UNKNOWN

USUAL = Range(slowest=4.0, fastest=12.0, repeats=2)


def label(text="hello there", confidence=0.9, seconds=1.0, error="", name="u"):
    utterance = Utterance(name, Path("u.wav"), 0.0, seconds, 16000)
    return Label(utterance, text, confidence, error)


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("", 1),
        ("a", 1),
        ("abc", 1),
        ("hello", 2),
        ("na na na", 3),
        ("the the the the the", 5),
        ("ababababab", 5),
        ("aab aab aab", 3),
        ("xaaaaaa", 6),
        ("one two one two", 2),
        ("ε\u0301ε\u0301ε\u0301", 3),
        ("a" * 500, 500),
        ("abcdefghijklmnopqrstuvwxyz12345678" * 3, 1),  # longer than what is looked for
    ],
)
def test_what_stands_in_a_row(text, times):
    assert most_repeats(text) == times


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (label(), ""),
        (label(""), gates.EMPTY),
        (label(" \u200b"), gates.EMPTY),
        (label("hel" + UNKNOWN), gates.UNKNOWN_SYMBOL),
        (label("na na na na na na"), gates.LOOP),
        (label("na na na na", seconds=2.0), ""),  # four are allowed
        (label("abc def"), ""),
        (label("abc", seconds=1.0), gates.TOO_SLOW),
        (label("abcd", seconds=1.19), ""),  # 3.4 a second, the slowest is 4 / 1.2
        (label("abcdefghijklmno", seconds=1.0), gates.TOO_FAST),
        (label("abcdefghijklmn", seconds=1.0), ""),
        (label("abcdef", seconds=0.0), gates.TOO_FAST),
        (label("abcdef" * 50, seconds=31.0), gates.TOO_LONG),
        (label("", error="gone"), gates.UNREADABLE),
    ],
)
def test_what_cannot_be_right_has_a_reason(given, reason):
    assert implausible(given, SelfTrainConfig(), USUAL) == reason


def test_as_many_repeats_as_people_wrote_are_no_loop():
    long = label("na na na na na na", seconds=2.0)
    often = Range(4.0, 12.0, repeats=6)
    assert implausible(long, SelfTrainConfig(), often) == ""
    assert implausible(long, SelfTrainConfig(max_repeats=6), USUAL) == ""


def test_the_usual_range_is_that_of_the_transcripts():
    said = [
        Utterance("a", Path("a"), 0.0, 2.0, 16000, None, "abcdefgh"),
        Utterance("b", Path("b"), 0.0, 1.0, 16000, None, "no no no go"),
        Utterance("c", Path("c"), 0.0, 0.0, 16000, None, "x"),
    ]
    assert Range.of(said) == Range(4.0, 11.0, 3)


def pool(*confidences):
    return [label(confidence=c, name=str(i)) for i, c in enumerate(confidences)]


def names(gated: Gated) -> list[str]:
    return [each.utterance.id for each in gated.kept]


def test_a_share_of_the_pool_grows_from_round_to_round():
    labels = pool(0.1, 0.9, 0.5, 0.7, 0.8, 0.2, 0.6, 0.3)
    config = SelfTrainConfig(keep=0.25, keep_growth=0.375)
    assert [names(gate(labels, config, USUAL, n)) for n in (1, 2, 3)] == [
        ["1", "4"],
        ["1", "2", "3", "4", "6"],
        ["0", "1", "2", "3", "4", "5", "6", "7"],
    ]
    first = gate(labels, config, USUAL, 1)
    assert first.threshold == 0.8
    assert first.reasons() == {gates.UNSURE: 6}
    assert gate(labels, config, USUAL, 9) == gate(labels, config, USUAL, 3)


def test_the_share_is_of_the_whole_pool_and_of_the_plausible_only():
    labels = [label("", 0.0), label("", 0.0), *pool(0.1, 0.2)]
    assert names(gate(labels, SelfTrainConfig(keep=0.5), USUAL, 1)) == ["0", "1"]
    assert names(gate(labels, SelfTrainConfig(keep=0.25), USUAL, 1)) == ["1"]


def test_of_equals_the_first_is_kept():
    assert names(gate(pool(0.5, 0.5, 0.5), SelfTrainConfig(keep=0.34), USUAL, 1)) == ["0"]


def test_a_fixed_confidence_takes_the_place_of_the_share():
    config = SelfTrainConfig(min_confidence=0.7)
    assert names(gate(pool(0.1, 0.7, 0.69999, 0.9), config, USUAL, 1)) == ["1", "3"]
    assert names(gate(pool(0.1, 0.7, 0.69999, 0.9), config, USUAL, 5)) == ["1", "3"]
    with pytest.raises(ValueError, match="min_confidence takes the place of keep"):
        SelfTrainConfig(min_confidence=0.7, keep=0.1)


def test_a_gate_that_keeps_nothing_says_why():
    config = SelfTrainConfig(min_confidence=0.99)
    gated = gate([*pool(0.1, 0.75), label("", 0.0)], config, USUAL, 1)
    assert not gated.kept
    assert gated.threshold == 1
    said = nothing_kept(gated, 1)
    assert "the gate of round 1 keeps no label (refused: confidence 2, empty 1)" in said
    assert "the surest label has 0.750: lower --min-confidence" in said
    assert "refused.jsonl" in nothing_kept(gate([label("")], config, USUAL, 2), 2)


@pytest.mark.parametrize(
    ("confidence", "power", "weight"),
    [(0.81, 1.0, 0.81), (0.81, 0.5, 0.9), (0.81, 0.0, 1.0), (1e-9, 1.0, LEAST_WEIGHT), (1, 2, 1)],
)
def test_the_weight_is_a_power_of_the_confidence(confidence, power, weight):
    given = label(confidence=confidence)
    assert weight_of(given, SelfTrainConfig(weight_power=power)) == pytest.approx(weight)


@pytest.mark.parametrize(
    "change",
    [
        {"keep": 0.0},
        {"keep": 1.5},
        {"rounds": 0},
        {"min_confidence": 2.0},
        {"labeled_share": 1.0},
        {"rate_margin": 0.5},
        {"patience": 0},
        {"max_repeats": 0},
    ],
)
def test_settings_out_of_range_are_named(change):
    with pytest.raises(ValueError, match=f"^{next(iter(change))} must"):
        SelfTrainConfig(**change)
