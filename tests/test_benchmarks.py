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


def test_eight_cores_on_paper():
    """0.5 s in one process, 0.28 s in two: 0.25 s of each, 0.01 s for the gradients, and 0.02 s
    that more processes do not divide."""
    from benchmarks.processes import on_paper

    found = on_paper(60.0, 30 / 0.28, processes=2, audio_s=30.0, reduce_s=0.01)
    assert found == pytest.approx(30 / (0.5 / 8 + 0.02 + 0.0175))
