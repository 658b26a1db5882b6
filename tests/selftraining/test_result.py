"""When it ends, and the table of the rounds."""

from dataclasses import replace

import pytest

from speechssl.scoring.wer import compare, score
from speechssl.selftraining.result import (
    FILE,
    Rate,
    Round,
    State,
    decide,
    read_state,
    scored,
    table,
    write_state,
)


def rounds(*cers):
    return [Round(i, Rate(c, c, c), Rate(c, c, c)) for i, c in enumerate(cers)]


@pytest.mark.parametrize(
    ("cers", "min_gain", "patience", "best", "why"),
    [
        ([0.5], 0.01, 1, 0, ""),
        ([0.5, 0.4], 0.01, 1, 1, ""),
        ([0.5, 0.4, 0.3], 0.01, 1, 2, ""),
        ([0.5, 0.6], 0.01, 1, 0, "round 1 is worse than its teacher: CER 50.00 % -> 60.00 %"),
        ([0.5, 0.5], 0.01, 1, 0, "gains too little"),
        ([0.5, 0.496], 0.01, 1, 1, "round 1 gains too little over its teacher"),  # better, and kept
        ([0.5, 0.494], 0.01, 1, 1, ""),
        ([0.5, 0.4, 0.45], 0.01, 1, 1, "round 2 is worse than its teacher: CER 40.00 % -> 45.00 %"),
        ([0.5, 0.6], 0.01, 2, 0, ""),
        ([0.5, 0.6, 0.4], 0.01, 2, 2, ""),
        ([0.5, 0.6, 0.7], 0.01, 2, 0, "round 2 is worse"),
        ([0.5, 0.49999], 0.0, 1, 1, ""),
        ([0.5, 0.5], 0.0, 1, 0, "gains too little"),
        ([0.0], 0.01, 1, 0, "makes no error"),
        ([0.5, 0.0], 0.01, 1, 1, "makes no error"),
        ([1.2, 0.9], 0.01, 1, 1, ""),
    ],
)
def test_the_best_round_and_why_it_is_over(cers, min_gain, patience, best, why):
    found, ended = decide(rounds(*cers), min_gain=min_gain, patience=patience)
    assert found == best
    assert why in ended
    assert bool(ended) == bool(why)


def results():
    said = [f"ab cd {'ef ' * i}".strip() for i in range(1, 13)]
    ids = [str(i) for i in range(len(said))]
    worse = [text.replace("a", "x") for text in said]
    better = [text.replace("a", "x") if i % 4 == 0 else text for i, text in enumerate(said)]
    return score(said, worse, ids=ids), score(said, better, ids=ids)


def test_a_round_is_compared_with_its_teacher_pair_by_pair():
    before, after = results()
    made = scored(1, after, before)
    paired = compare(before, after)
    assert made.cer == Rate(after.cer, after.cer_low, after.cer_high)
    assert made.cer_change.difference == paired.cer.difference < 0
    assert (made.cer_change.low, made.cer_change.high) == (
        paired.cer.difference_low,
        paired.cer.difference_high,
    )
    assert made.wer_change.reduction == paired.wer.reduction
    assert scored(0, before).cer_change is None


def test_the_state_is_read_as_it_was_written(tmp_path):
    before, after = results()
    made = (scored(0, before), scored(1, after, before))
    state = State({"model": "x"}, made, best=1, ended="so it is", is_final=True)
    assert read_state(tmp_path) is None
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state


@pytest.mark.parametrize("content", ["", "{", "[]", '{"inputs": {}, "rounds": [{"x": 1}]}', "{}"])
def test_a_damaged_state_is_a_sentence(content, tmp_path):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match=r"selftrain\.json is damaged: give another --out"):
        read_state(tmp_path)


def test_the_table_marks_the_best_and_shows_changes():
    before, after = results()
    second = scored(1, after, before)
    state = State({}, (scored(0, before), second), best=1)
    lines = table(state).splitlines()
    assert lines[0].split()[:3] == ["round", "labels", "confidence"]
    assert lines[1].startswith("0      -")
    assert lines[2].startswith("1 *")
    assert f"{100 * second.cer_change.difference:+.1f}" in lines[2]
    assert "refused" not in lines[0]
    known = replace(second, kept=3, refused={"empty": 2}, kept_cer=0.125, refused_cer=None)
    lines = table(replace(state, rounds=(state.rounds[0], known))).splitlines()
    assert lines[0].endswith("CER of labels: kept  refused")
    assert "3 of 5" in lines[2]
    assert lines[2].split()[-3:] == ["12.5", "%", "-"]
