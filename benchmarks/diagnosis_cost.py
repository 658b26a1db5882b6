"""What diagnosis costs a pretraining run: updates with and without what is measured in each,
and the health of the model at each validation.

    python benchmarks/diagnosis_cost.py --size tiny --json cost.json

`share` is all of it over the time of the updates, with a logged line every `--log-every` updates
and a validation every `--valid-every`. `ratio` is the speed with the numbers and norms of every
update over that without any.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.checkpoint_cost import Training
from speechssl.model.config import SIZES
from speechssl.pretext import contrastive, units
from speechssl.training.diagnosis import gradient_norms
from speechssl.training.loop import LoopConfig

_NUMBERS = ((contrastive, "code_numbers"), (units, "unit_numbers"))
"""What these tasks count beside their loss, in every update."""


class Stopwatch:
    """Adds up the seconds of the functions that it wraps."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def on(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any) -> Any:
            _wait()
            begun = time.monotonic()
            found = function(*args)
            _wait()
            self.spent_s += time.monotonic() - begun
            return found

        return timed

    def take(self) -> float:
        """The seconds since it was last asked."""
        spent_s, self.spent_s = self.spent_s, 0.0
        return spent_s


def measure(training: Training, turns: int) -> dict[str, float]:
    """Updates without and with diagnosis, in turns, then the health of the model."""
    numbers, norms = Stopwatch(), Stopwatch()
    bare, full, numbers_s, norms_s = [], [], [], []
    for turn in range(turns + 1):
        with counting(lambda _: lambda *_: ({}, {})):
            bare_s = training.update_s()
        with counting(numbers.on):
            full_s = training.update_s(norms.on(gradient_norms))
        spent = numbers.take(), norms.take()
        if turn:  # the first ones compile and fill caches
            bare.append(bare_s)
            full.append(full_s)
            numbers_s.append(spent[0])
            norms_s.append(spent[1])
    return {
        "update_s": statistics.median(bare),
        "diagnosed_update_s": statistics.median(full),
        "ratio": statistics.median(b / f for b, f in zip(bare, full, strict=True)),
        "numbers_s": statistics.median(numbers_s),
        "norms_s": statistics.median(norms_s),
        "health_s": _health_s(training),
    }


def share(facts: dict[str, float], log_every: int, valid_every: int) -> float:
    """Of the time of the updates: numbers in each, norms where a line is logged, health where it is
    validated."""
    per_update_s = facts["numbers_s"] + facts["norms_s"] / log_every
    return (per_update_s + facts["health_s"] / valid_every) / facts["update_s"]


def _health_s(training: Training) -> float:
    work = training.work
    work.modules.eval()
    watch, spent = Stopwatch(), []
    timed = watch.on(work.health)
    for _ in range(4):
        with torch.no_grad():
            timed(0)
        spent.append(watch.take())
    work.modules.train()
    return statistics.median(spent[1:])


@contextmanager
def counting(change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """The functions that count, changed."""
    real = [(module, name, getattr(module, name)) for module, name in _NUMBERS]
    for module, name, function in real:
        setattr(module, name, change(function))
    try:
        yield
    finally:
        for module, name, function in real:
            setattr(module, name, function)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> int:
    """Run it as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--batch-s", type=float, default=30.0)
    parser.add_argument("--turns", type=int, default=20, help="updates of each kind")
    parser.add_argument("--log-every", type=int, default=LoopConfig().log_every)
    parser.add_argument("--valid-every", type=int, default=500, help="updates between validations")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        training = Training(args.size, args.batch_s, Path(name), args.device)
        found = measure(training, args.turns)
    facts: dict[str, Any] = {"share": share(found, args.log_every, args.valid_every), **found}
    facts |= {
        "unit": "speed with over speed without the measures of every update",
        "size": args.size,
        "batch_s": args.batch_s,
        "turns": args.turns,
        "log_every": args.log_every,
        "valid_every": args.valid_every,
        "device": str(training.device),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(facts, indent=2))
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
