"""benchmarks/same_numbers.py: what it calls a difference, and that its commands still run."""

import json
import math

import pytest

from benchmarks.same_numbers import Runner, compare, differences, read_records

CASE = {"records": [{"step": 1, "loss/ctc": 0.1 + 0.2}, {"step": 2, "loss/ctc": math.nan}]}


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (CASE, []),
        ({"records": [{**CASE["records"][0], "loss/new": 1.0}, CASE["records"][1]]}, []),
        (
            {"records": [{"step": 1, "loss/ctc": 0.3}, CASE["records"][1]]},
            ["records[1] loss/ctc: 0.30000000000000004 and 0.3 (1.9e-16 of it)"],
        ),
        ({"records": CASE["records"][:1]}, ["records: 2 and 1 entries"]),
        ({"records": [CASE["records"][0], {"step": 2}]}, ["records[2] loss/ctc: missing"]),
        ({"error": "exit code 2"}, ["records: missing"]),
    ],
)
def test_a_difference_is_told_to_the_last_digit(new, told):
    """NaN is the same as NaN, and a new metric is none; whatever is missing is one."""
    assert list(differences(CASE, new)) == told


@pytest.mark.parametrize(
    ("case", "code"), [(CASE, 0), ({"records": CASE["records"][:1]}, 1), ({"error": "no"}, 1)]
)
def test_files_are_compared_case_by_case(case, code, tmp_path, capsys):
    paths = tmp_path / "old.json", tmp_path / "new.json"
    for path, own in zip(paths, (CASE, case), strict=True):
        cases = {"tiny/fp32/plain": own | {"seconds": 1.0}}
        path.write_text(json.dumps({"conditions": {"machine": {}}, "cases": cases}))
    assert compare(*paths) == code
    assert ("1 of 1 cases are equal" in capsys.readouterr().out) == (code == 0)


def test_what_differs_from_run_to_run_is_left_out(tmp_path):
    line = {"step": 3, "time_s": 1.5, "speed/audio_s_per_s": 9.0, "loss/ctc": 0.1}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert read_records(tmp_path) == [{"step": 3, "loss/ctc": 0.1}]


def test_a_case_that_was_not_run_is_not_called_equal(tmp_path, capsys):
    paths = tmp_path / "old.json", tmp_path / "new.json"
    for path, cases in zip(paths, ({"a": CASE, "b": CASE}, {"a": CASE}), strict=True):
        path.write_text(json.dumps({"conditions": {"machine": {}}, "cases": cases}))
    assert compare(*paths) == 1
    told = capsys.readouterr().out
    assert "1 cases were not run, the first is b" in told
    assert "1 of 2 cases are equal" in told


@pytest.mark.slow
def test_a_case_runs_from_the_speech_to_the_transcripts(tmp_path):
    """By the commands of this version; the model emits something."""
    case = Runner(tmp_path).run("tiny/fp32/transcribe-fp32")
    assert [len(t["text"]) > 3 for t in case["transcripts"]] == [True] * 3
