"""RESULTS.md and the table in README.md are what results/*.json give, and every number says whence
it is."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import render_results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
SUBJECTS = sorted(p for p in RESULTS.glob("*.json") if p.name != "machines.json")


def test_what_is_committed_is_what_is_rendered(capsys: pytest.CaptureFixture[str]) -> None:
    assert render_results.main(["--check"]) == 0, capsys.readouterr().err
    assert render_results.num_table_lines((ROOT / "RESULTS.md").read_text(encoding="utf-8")) <= 150


def test_a_changed_number_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    for path in RESULTS.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        (tmp_path / "results" / path.name).write_text(text.replace("0.467", "0.400"), "utf-8")
    for name in ("README.md", "RESULTS.md"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), "utf-8")
    monkeypatch.setattr(render_results, "ROOT", tmp_path)
    assert render_results.main(["--check"]) == 1
    assert capsys.readouterr().err.startswith("RESULTS.md and README.md differ from results/")
    assert render_results.main([]) == 0
    assert render_results.main(["--check"]) == 0
    assert "0.400 [0.457, 0.478]" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")


def test_too_many_lines_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(render_results, "MAX_TABLE_LINES", 20)
    assert render_results.main(["--check"]) == 1
    assert "20 are allowed" in capsys.readouterr().err


@pytest.mark.parametrize("path", SUBJECTS, ids=lambda path: path.stem)
def test_every_number_has_its_conditions(path: Path) -> None:
    subject = json.loads(path.read_text(encoding="utf-8"))
    machines = render_results.machines(RESULTS)
    used = {row["conditions"] for row in subject["rows"]}
    assert used == set(subject["conditions"])
    for key, one in subject["conditions"].items():
        assert all(one.get(field) for field in ("date", "commit", "command")), key
    for row in subject["rows"]:
        machine = row.get("machine") or subject["conditions"][row["conditions"]]["machine"]
        assert machine == "any" or re.split("[,;]", machine)[0] in machines
    for table in subject["tables"]:
        rows = render_results.chosen(subject, table)
        fields = {f for row in rows for f in (*row, *subject["conditions"][row["conditions"]])}
        for column in table["columns"].values():
            assert set(re.findall(r"\{(\w+)", column)) <= fields, column
        assert table["log"]


@pytest.mark.parametrize("path", SUBJECTS, ids=lambda path: path.stem)
def test_intervals_hold_their_value(path: Path) -> None:
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        for value in row.values():
            if isinstance(value, dict):
                assert value["low"] <= value["value"] <= value["high"], row


def test_mended_and_unmended_baselines_are_not_in_one_table() -> None:
    subject = json.loads((RESULTS / "label_efficiency.json").read_text(encoding="utf-8"))
    for table in subject["tables"]:
        rows = render_results.chosen(subject, table)
        assert len({row["initialisation"] for row in rows}) == 1
        assert rows[0]["initialisation"] in table["title"]


def test_cells() -> None:
    cell = render_results.Cells().format
    interval = {"value": 0.5, "low": 0.45, "high": 0.551}
    assert cell("{x:.2f}", x=interval) == "0.50 [0.45, 0.55]"
    assert cell("{x:.3f}", x=[0.1, 0.25]) == "0.100, 0.250"
    assert cell("{x:.3f}|{y:.1f}|{z}", x=7, y="all") == "7|all|"
