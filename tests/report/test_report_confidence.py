"""The table of confidence: a row for each way of decoding that was calibrated."""

from types import SimpleNamespace

import numpy as np

from speechssl.report.recognition import confidence_table
from speechssl.report.results import table_section
from speechssl.scoring.calibration import fit_calibration
from speechssl.scoring.confidence import JudgedWords


def calibration(share: float) -> dict:
    confidences = np.linspace(0.1, 0.9, 200)
    right = np.arange(200) % 10 < 10 * share
    words = JudgedWords(confidences, np.full(200, 4), right, np.arange(200), (None,) * 200)
    return fit_calibration(words, "greedy").to_json()


def run(name: str, stored: object) -> SimpleNamespace:
    return SimpleNamespace(name=name, meta={"calibration": stored})


def test_each_way_of_decoding_has_a_row():
    stored = {"greedy": calibration(0.3), "lm": calibration(1.0)}
    table = confidence_table([run("a", stored), run("b", {"note": "few words"})])
    assert [row[:2] for row in table.rows] == [("a", "greedy"), ("a", "language model")]
    greedy, with_lm = table.rows
    assert float(greedy[3]) < float(greedy[2])
    assert greedy[4].endswith(" % of 28.6 %")
    assert with_lm[4] == ""  # no word is wrong
    assert "0.256" in table_section(table, lambda _: "neutral")


def test_older_and_damaged_models_have_none():
    runs = [run("a", None), run("b", {"greedy": {}}), run("c", "x"), run("d", {"greedy": 3})]
    assert confidence_table(runs) is None
    assert confidence_table([]) is None
