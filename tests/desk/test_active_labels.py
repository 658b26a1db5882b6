"""The benchmark of `next`: what it computes beside the training."""

import argparse

import pytest

from benchmarks.active_labels import choose, describe, over_seeds, read_sets
from speechssl.checkpoint import load_model
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.scoring.wer import compare, score

IDS = [f"u{i}" for i in range(40)]
TEXTS = ["abcd efgh"] * 40


def result(num_wrong: int):
    """40 utterances, of which the first ones have one error."""
    given = ["abcd efgx" if i < num_wrong else text for i, text in enumerate(TEXTS)]
    return score(TEXTS, given, ids=IDS)


def test_of_one_seed_the_change_is_that_of_the_scores():
    a, b = result(30), result(10)
    found = over_seeds([a], [b])
    cer = compare(a, b).cer
    assert (found["random"], found["next"]) == (a.cer, b.cer)
    assert found["difference"] == pytest.approx(cer.difference)
    assert found["low"] == pytest.approx(cer.difference_low, abs=2e-3)
    assert found["high"] == pytest.approx(cer.difference_high, abs=2e-3)
    assert found["high"] < 0


def test_seeds_that_disagree_are_not_clear():
    found = over_seeds([result(20), result(10)], [result(10), result(20)])
    assert found["difference"] == 0
    assert found["low"] <= 0 <= found["high"]


def test_the_true_transcripts_of_what_was_chosen(tiny_models, record, tmp_path):
    pool = [
        Utterance(f"u{i}", record(f"{i}.wav", 1.0), 0.0, 1.0, 16000, "ada", f"t{i}")
        for i in range(4)
    ]
    chosen = choose(load_model(tiny_models["ctc"]), pool, tmp_path / "desk", 2.0 / 60)
    assert len(chosen) == 2
    assert all(u in pool for u in chosen)
    facts = describe(chosen)
    assert (facts["utterances"], facts["minutes"], facts["characters"]) == (2, 0.03, 4)
    assert facts["minutes_of_speakers"] == {"ada": 0.0}


def test_validation_and_test_share_nothing(tmp_path):
    rows = [Utterance(f"u{i}", tmp_path / "x.wav", i, 1.0, 16000, None, "x") for i in range(9)]
    write_manifest(tmp_path / "m.jsonl", rows)
    given = {"train": tmp_path / "m.jsonl", "valid": tmp_path / "m.jsonl", "test": None}
    sets = read_sets(argparse.Namespace(**given, max_train=None, max_test=None))
    assert [u.id for u in sets.valid] == ["u0", "u3", "u6"]
    assert len(sets.test) == 6
    assert not {u.id for u in sets.valid} & {u.id for u in sets.test}
