"""Benchmarks against a peer: the options and the JSON that people's scripts rely on."""

import importlib
import json
import sys

import pytest

COMMANDS = {
    "pretrain_step": "--size tiny --dtype fp32 --seconds 1 1 --padded --turns 1 --threads 1",
    "transcribe": "--size tiny --dtype fp32 --files 1 --long-minutes 0.05 --turns 1 --threads 1",
    "loading": "--size tiny",
}


@pytest.mark.slow
@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_comparison_is_written_as_promised(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    benchmark = importlib.import_module(f"benchmarks.{name}")
    arguments = [*COMMANDS[name].split(), "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", *arguments])
    benchmark.main()
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found.keys() == {"ratio", "ours", "peer", "unit", "conditions", "rows"}
    assert min(found["ratio"], found["ours"], found["peer"]) > 0
    assert {"size", "cpu", "cores", "torch"} <= found["conditions"].keys()
    assert found["conditions"]["size"] == "tiny-conv"
    assert capsys.readouterr().out
