"""`speechssl doctor --speed`: figures of this machine, and those of known ones."""

import json
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from speechssl import speed
from speechssl.cli import main
from speechssl.precision import Timing
from speechssl.speed import Speed, describe_speed, known_speeds, measure_all, training_passes
from tests.training.conftest import MICRO

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def result_of(figure: dict) -> float:
    """The number of the row of results/ that a figure names."""
    data = json.loads((ROOT / "results" / figure["file"]).read_text(encoding="utf-8"))
    wanted = {
        "conditions": figure["conditions"],
        "machine": figure["machine"],
        "size": figure["size"],
        "dtype": figure["precision"],
    }
    fitting = []
    for row in data["rows"]:
        own = {"machine": data["conditions"][row["conditions"]].get("machine"), **row}
        named = {name: own.get(name, value) for name, value in wanted.items()}
        is_way = figure.get("way") in (None, row.get("way"))
        if named == wanted and is_way and figure["field"] in row:
            fitting.append(row[figure["field"]])
    return fitting[0]


FIGURES = json.loads((ROOT / "speechssl/known_speeds.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "figure", FIGURES["figures"], ids=lambda f: f"{f['machine']}-{f['size']}-{f['work']}"
)
def test_a_known_speed_is_that_of_the_results(figure):
    assert result_of(figure) == figure["audio_s_per_s"]


def test_known_machines_are_those_of_the_results():
    made = json.loads((ROOT / "results/machines.json").read_text(encoding="utf-8"))["machines"]
    for name, description in FIGURES["machines"].items():
        assert made[name].startswith(description)
    assert known_speeds()["amx"][1][-1] == ("base, transcription", {"bf16": 28.6, "fp32": 17.3})


@pytest.fixture
def timed(monkeypatch):
    """Passes that take no time: a clock that goes on by `each` with everything that is measured."""
    times = iter(range(10**6))
    asked = []

    def fake(size, device, budget_s):  # noqa: ARG001
        asked.append((size, round(budget_s, 2)))
        for _ in range(10):
            next(times)
        return Speed(size, "", Timing({"fp32": 0.5, "bf16": 0.25}, 5.0, 1), "bf16")

    monkeypatch.setattr(speed, "_training", fake)
    monkeypatch.setattr(speed, "_transcription", fake)
    return asked, lambda: float(next(times))


@pytest.mark.parametrize(("seconds", "num"), [(0.01, 1), (15, 2), (25, 3), (1000, 4)])
def test_it_ends_with_its_seconds(timed, seconds, num):
    asked, now = timed
    assert len(list(measure_all(CPU, seconds, now))) == num
    assert [size for size, _ in asked] == ["tiny", "tiny", "base", "base"][:num]
    assert all(0 <= budget_s <= 0.4 * seconds for _, budget_s in asked)


def test_with_a_tiny_budget_it_measures_something_and_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(speed, "training_passes", quick_passes)
    assert main(["doctor", "--speed", "--seconds", "1e-9", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "tiny, training                 8       4       -    fp32" in text
    assert "tiny, training: one pass over 0.25 s of audio." in text
    assert "Not measured, as the 1e-09 s were used up: tiny, transcription; base, training;" in (
        " ".join(text.split())
    )
    assert "h200: one H200" in text


def quick_passes(size, device):  # noqa: ARG001
    @contextmanager
    def opened():
        yield lambda name, audio_s: audio_s / {"fp32": 8, "bf16": 4}[name]

    return opened()


def test_an_update_is_a_whole_one(monkeypatch):
    """Of a preset cut down: its weights move, and no random number of the process is drawn."""
    config = replace(speed.preset("tiny"), model=MICRO)
    monkeypatch.setattr(speed, "preset", lambda _: config)
    drawn = torch.get_rng_state()
    with training_passes("tiny", CPU) as run:
        assert all(run(name, audio_s) > 0 for name in ("fp32", "bf16") for audio_s in (0.25, 7.0))
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seconds", "3"], "--seconds change nothing without --speed"),
        (["--device", "cpu"], "--device change nothing without --speed"),
        (["--speed", "runs/a"], "--speed measures the machine and no run"),
        (["--speed", "--seconds", "0"], "--seconds must be above 0 and at most 3600, got 0."),
        (["--speed", "--seconds", "nan"], "--seconds must be above 0 and at most 3600, got nan."),
        (["--speed", "--device", "tpu"], "device must be one of"),
    ],
)
def test_what_does_not_fit_is_a_sentence(arguments, sentence, capsys):
    assert main(["doctor", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_an_estimate_and_one_thread_are_told(monkeypatch):
    timing = Timing({"fp32": 4.0, "bf16": 2.0}, 30.0, 2, (0.25, 1.0))
    monkeypatch.setattr(
        speed, "measure_all", lambda *_: [Speed("base", "training", timing, "bf16")]
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    text = " ".join(describe_speed("cpu", 30.0).split())
    assert "base, training 7.5 15 - bf16" in text
    assert (
        "base, training: estimated for 30 s of audio from one pass over 0.25 s and the fastest of "
        "2 passes over 1 s."
    ) in text
    assert "With one thread a second is one of processor time." in text


def test_doctor_lists_what_auto_chose(tmp_path, monkeypatch, capsys):
    from speechssl import precision

    monkeypatch.setattr(precision, "cache_folder", lambda: tmp_path)
    assert main(["doctor"]) == 0
    assert "nothing yet: a run that begins measures it" in capsys.readouterr().out
    with quick_passes("tiny", CPU) as run:
        what = {"label": "pretraining, tiny (30 s a batch)"}
        precision.find(lambda: nullcontext(run), ("fp32", "bf16"), 30.0, what, torch.device("cpu"))
    assert main(["doctor"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "pretraining, tiny (30 s a batch) Precision: fp32, 2 times as fast as bf16 here" in text
    assert "measured on 2" in text
