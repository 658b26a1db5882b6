"""The choice of a precision: from times, measured or kept."""

import json
from contextlib import contextmanager

import pytest
import torch

from speechssl import precision
from speechssl.precision import choose, find, kept_choices, measure

CPU = torch.device("cpu")


class Machine:
    """A device whose passes take what a test says: a fixed cost and one for each second."""

    def __init__(self, **costs: tuple[float, float]) -> None:
        self.costs, self.passes = costs, []

    def run(self, name: str, audio_s: float) -> float:
        if name not in self.costs:
            raise RuntimeError("not for this device")
        self.passes.append((name, audio_s))
        fixed, each = self.costs[name]
        return fixed + each * audio_s

    @contextmanager
    def open(self):
        yield self.run


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "precision"


def found(machine: Machine, names=("fp32", "bf16"), longest_s=30.0, **what):
    return find(machine.open, names, longest_s, {"label": "a test", **what}, CPU)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"fp32": 1.0}, "fp32"),
        ({"fp32": 1.0, "bf16": 0.5}, "bf16"),
        ({"fp32": 0.5, "bf16": 1.0}, "fp32"),
        ({"fp32": 1.0, "bf16": 0.96}, "fp32"),  # within 5 %
        ({"fp32": 1.0, "bf16": 0.94}, "bf16"),
        ({"fp32": 3.0, "bf16": 1.0, "int8": 0.96}, "bf16"),
        ({"fp32": 3.0, "bf16": 2.9, "int8": 1.0}, "int8"),
        ({"int8": 1.0, "bf16": 1.0, "fp32": 1.0}, "fp32"),
    ],
)
def test_the_most_exact_of_the_fastest_is_chosen(seconds, expected):
    assert choose(seconds) == expected


def test_short_runs_are_timed_as_they_are():
    machine = Machine(fp32=(0, 0.001), bf16=(0, 0.0005))
    timing = measure(machine.run, ("fp32", "bf16"), 30.0)
    assert timing.audio_s == 30.0
    assert timing.from_s == ()
    assert timing.seconds == pytest.approx({"fp32": 0.03, "bf16": 0.015})
    assert [name for name, _ in machine.passes[-4:]] == ["fp32", "bf16"] * 2  # in turns


def test_long_ones_follow_from_two_lengths():
    """Where the cost of a pass hides at short lengths what is faster at long ones."""
    machine = Machine(fp32=(0.05, 0.2), bf16=(0.15, 0.1))
    timing = measure(machine.run, ("fp32", "bf16"), 80.0)
    assert timing.seconds == pytest.approx({"fp32": 16.05, "bf16": 8.15})
    assert timing.audio_s == 80.0
    assert len(timing.from_s) == 2
    assert max(audio_s for _, audio_s in machine.passes) < 3.0


@pytest.mark.parametrize("each", [1e-4, 1e-2, 0.2, 1.0, 20.0])
def test_it_takes_about_a_second(each):
    machine = Machine(fp32=(0, each), bf16=(0, each))
    spent = 0.0

    def run(name, audio_s):
        nonlocal spent
        took = machine.run(name, audio_s)
        spent += took
        return took

    measure(run, ("fp32", "bf16"), 87.5)
    first_pass = 2 * each * 0.25
    assert spent <= max(3.1 * precision.BUDGET_S, 2 * first_pass)
    assert each < 20.0 or len(machine.passes) == 4


def test_what_a_device_cannot_compute_is_left_out():
    assert found(Machine(fp32=(0, 0.1))).precision == "fp32"
    with pytest.raises(RuntimeError, match="not for this device"):
        found(Machine(bf16=(0, 0.1)), kind="no float32")


def test_a_hopeless_one_is_not_timed_at_length():
    machine = Machine(fp32=(0, 0.01), bf16=(0, 1.0))
    choice = found(machine)
    assert choice.precision == "fp32"
    assert max(audio_s for name, audio_s in machine.passes if name == "bf16") == 0.25
    assert choice.timing.seconds["bf16"] > choice.timing.seconds["fp32"]


def test_an_answer_is_kept_by_what_it_depends_on(monkeypatch):
    fast, slow = Machine(fp32=(0, 0.02), bf16=(0, 0.01)), Machine(fp32=(0, 0.01), bf16=(0, 0.02))
    first = found(fast, model="a")
    assert (first.precision, first.is_kept) == ("bf16", False)
    again = found(slow, model="a")
    assert (again.precision, again.is_kept) == ("bf16", True)
    assert slow.passes == []
    assert again.sentence().replace(f"on {first.day}", "now") == first.sentence()
    assert found(slow, model="b").precision == "fp32"
    assert found(slow, longest_s=4.0, model="a").precision == "fp32"
    assert [found(slow, names=("fp32",), model="a").precision for _ in "12"] == ["fp32"] * 2
    others = {
        "threads": (torch, "get_num_threads", 77),
        "machine": (precision, "machine_name", "another"),
        "version": (precision, "__version__", "9.9"),
    }
    for where, name, value in others.values():
        with monkeypatch.context() as patch:
            changed = value if name.startswith("__") else (lambda *_, v=value: v)
            patch.setattr(where, name, changed)
            assert found(slow, model="a").precision == "fp32"
    assert found(slow, model="a").precision == "bf16"


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '"bf16"',
        "{}",
        '{"choice": 3}',
        '{"choice": {"precision": "bf16"}}',
        '{"choice": {"precision": "fp8", "day": "", "timing": {"seconds": {"fp8": 1}, '
        '"audio_s": 1, "turns": 1, "from_s": []}}}',
        '{"choice": {"precision": "bf16", "day": "", "timing": {"seconds": {"fp32": 1}, '
        '"audio_s": 1, "turns": 1, "from_s": []}}}',
        '{"choice": {"precision": "bf16", "day": "", "timing": {"seconds": {"bf16": 0, "fp32": 1}, '
        '"audio_s": 1, "turns": 1, "from_s": []}}}',
        '{"choice": {"precision": "bf16", "day": "", "timing": {"seconds": {"bf16": "x"}, '
        '"audio_s": 1, "turns": 1, "from_s": []}}}',
        '{"choice": {"precision": "bf16", "day": "", "timing": {"seconds": {"bf16": 1}, '
        '"audio_s": "long", "turns": 1, "from_s": []}}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_answer_is_measured_anew(cache, damage):
    machine = Machine(fp32=(0, 0.01), bf16=(0, 0.005))
    found(machine)
    (path,) = cache.glob("*.json")
    path.write_text(damage, encoding="utf-8")
    assert not found(machine).is_kept
    assert found(machine).is_kept
    assert [label for label, _ in kept_choices(CPU)] == ["a test"]


def test_a_folder_that_cannot_be_written_is_no_error(cache, monkeypatch):
    cache.parent.parent.joinpath("cache").write_text("a file, not a folder", encoding="utf-8")
    machine = Machine(fp32=(0, 0.01), bf16=(0, 0.005))
    assert [found(machine).is_kept for _ in range(2)] == [False, False]
    assert list(kept_choices(CPU)) == []
    monkeypatch.setattr(precision, "cache_folder", lambda: None)  # no home
    assert found(machine).precision == "bf16"
    assert list(kept_choices(CPU)) == []


def test_commands_at_the_same_time_take_the_same():
    """The second one measured something else while the first one wrote its answer."""
    first, second = Machine(fp32=(0, 0.02), bf16=(0, 0.01)), Machine(fp32=(0, 0.01), bf16=(0, 0.02))

    @contextmanager
    def late():
        yield second.run
        found(first)

    choice = find(late, ("fp32", "bf16"), 30.0, {"label": "a test"}, CPU)
    assert (choice.precision, choice.is_kept) == ("bf16", True)


def test_answers_of_other_versions_are_not_shown(monkeypatch):
    found(Machine(fp32=(0, 0.01)), label="old")
    monkeypatch.setattr(precision, "__version__", "9.9")
    assert list(kept_choices(CPU)) == []
    found(Machine(fp32=(0, 0.01)), label="new")
    assert [label for label, _ in kept_choices(CPU)] == ["new"]


def test_the_sentence_says_what_and_why(cache):
    sentence = found(Machine(fp32=(0, 0.4), bf16=(0, 0.1)), longest_s=20.0).sentence()
    assert sentence == (
        "Precision: bf16, 4 times as fast as fp32 here (2 s in bf16, 8 s in fp32 for 20 s of "
        "audio, estimated from 0.25 s and 1.8 s; measured now)."
    )
    close = found(Machine(fp32=(0, 0.0101), bf16=(0, 0.01)), kind="close").sentence()
    assert close.startswith("Precision: fp32, as fast as bf16 within 5 % here, and more exact (")
    alone = found(Machine(fp32=(0, 1.0)), names=("fp32",), kind="alone").sentence()
    assert alone == "Precision: fp32, the only one that this device has."
    (path,) = [p for p in cache.glob("*.json") if "close" in p.read_text(encoding="utf-8")]
    assert json.loads(path.read_text(encoding="utf-8"))["choice"]["precision"] == "fp32"
