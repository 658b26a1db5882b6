"""Which precision the matrix products take where nobody names one: the fastest, found by timing.

A pass of the model itself (a training step, a chunk of a recording) is timed in each precision that
the device has, for about a second. Of the precisions whose time is within 5 % of the least, the
most exact one is taken, so float32 where another gains nothing. The answer is kept in the user's
cache folder, by machine, threads, model, shape of the batches, and versions.

A pass costs something of its own (weights are cast) and something for each second of audio. Where
the run's batches are too long for the time, two shorter ones are timed, and the time of the long
ones follows from both.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from speechssl import __version__
from speechssl.caches import cache_folder, kept_object
from speechssl.device import finished_s, has_bf16_units, machine_name
from speechssl.files import writing

EXACT_FIRST = ("fp32", "bf16", "int8")
PREFERENCE = 1.05
"""A less exact precision must be faster than a more exact one by this factor."""
BUDGET_S = 1.0
"""Seconds of timing in all, but for the first pass in each precision, which loads code, and the
last passes of a large model."""

_SHORT_S, _LONGER = 0.25, 4.0
"""Seconds of audio of the first passes, and how many times longer further ones are at least."""
_HOPELESS = 4.0
"""A precision that takes so many times the least time of the first passes is not timed further."""
_MOST_TURNS = 6
_PATIENCE = 2.0
"""How many times the budget may be used for a second turn: the fastest of two tells more."""

Pass = Callable[[str, float], float]
"""``run(precision, audio_s)``: one pass over so many seconds of audio; the seconds that it took."""


@dataclass(frozen=True)
class Timing:
    """How long passes took."""

    seconds: dict[str, float]
    """By precision, of a pass over `audio_s`."""
    audio_s: float
    """Seconds of audio in a pass."""
    turns: int
    """Passes in each precision, of which the fastest counts."""
    from_s: tuple[float, ...] = ()
    """Seconds of audio of the passes from which longer ones were estimated; empty where passes
    were as long as `audio_s`."""


@dataclass(frozen=True)
class Choice:
    """A precision, and why it is taken."""

    precision: str
    timing: Timing
    day: str
    """On which it was measured, ``YYYY-MM-DD``."""
    is_kept: bool = False
    """Whether it was measured earlier."""

    def sentence(self) -> str:
        """For a person: what is taken, and why."""
        times = self.timing.seconds
        own, others = times[self.precision], {n: t for n, t in times.items() if n != self.precision}
        if not others:
            return f"Precision: {self.precision}, the only one that this device has."
        rival = min(others, key=lambda name: others[name])
        ratio = others[rival] / own
        if ratio >= 1:
            why = f"{ratio:.2g} times as fast as {rival} here"
        else:
            why = f"as fast as {rival} within {100 * (PREFERENCE - 1):.0f} % here, and more exact"
        listed = ", ".join(f"{_seconds(t)} in {n}" for n, t in sorted(times.items(), key=_second))
        of = f"{self.timing.audio_s:.2g} s of audio"
        if self.timing.from_s:
            of += f", estimated from {' and '.join(f'{s:.2g} s' for s in self.timing.from_s)}"
        when = f"measured on {self.day}" if self.is_kept else "measured now"
        return f"Precision: {self.precision}, {why} ({listed} for {of}; {when})."


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _seconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def choose(seconds: Mapping[str, float]) -> str:
    """The most exact precision of those within 5 % of the fastest."""
    least = min(seconds.values())
    return next(p for p in EXACT_FIRST if p in seconds and seconds[p] <= PREFERENCE * least)


def measure(
    run: Pass, precisions: Sequence[str], longest_s: float, budget_s: float = BUDGET_S
) -> Timing:
    """Time passes in each precision, in turns.

    Args:
        run: does one pass. One that raises RuntimeError in another precision than fp32 leaves that
            precision out: the device cannot compute in it.
        precisions: which, names of :data:`EXACT_FIRST`.
        longest_s: seconds of audio of the passes that are meant; shorter ones are timed where these
            would take longer than the budget.
        budget_s: seconds, of the passes that count.
    """
    short_s = min(_SHORT_S, longest_s)
    names = [name for name in precisions if _works(run, name, short_s)]
    first = {name: run(name, short_s) for name in names}
    spent = sum(first.values())
    slow = [n for n in names if first[n] > _HOPELESS * min(first.values())]
    names = [n for n in names if n not in slow]
    if spent > budget_s:
        return Timing(first, short_s, 1)
    a_second = sum(first[n] for n in names) / short_s  # more than that: it has the fixed cost too
    audio_s = min(longest_s, max(_LONGER * short_s, (budget_s - spent) / a_second))
    times: dict[str, float] = {}
    turns, last = 0, 0.0
    while turns < _MOST_TURNS and spent + last <= budget_s * (1 if turns > 1 else _PATIENCE):
        turn = {name: run(name, audio_s) for name in names}
        times = {n: min(t, times.get(n, t)) for n, t in turn.items()}
        last = sum(turn.values())
        spent += last
        turns += 1
    about = {n: first[n] / short_s for n in slow}  # a second of audio
    if audio_s > longest_s / 2:
        return Timing(times | {n: t * audio_s for n, t in about.items()}, audio_s, turns)
    far = {n: _further(first[n], times[n], short_s, audio_s, longest_s) for n in names}
    far |= {n: t * longest_s for n, t in about.items()}
    return Timing(far, longest_s, turns, (short_s, audio_s))


def _works(run: Pass, precision: str, audio_s: float) -> bool:
    """Whether the device computes in it; what is loaded for the first pass is there afterwards."""
    if precision == "fp32":
        run(precision, audio_s)
        return True
    try:
        run(precision, audio_s)
    except RuntimeError:
        return False
    return True


def _further(short: float, long: float, short_s: float, long_s: float, at_s: float) -> float:
    """Seconds of a pass over `at_s`, on the line through two others; in proportion to the longer
    one where noise makes that line fall."""
    slope = (long - short) / (long_s - short_s)
    return long + (at_s - long_s) * (slope if slope > 0 else long / long_s)


def clock(device: torch.device) -> float:
    """Seconds, read when the device has done what it was given. With one thread on a CPU those of
    the processor, to which other programs add little; with several, idle ones count too."""
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return time.process_time()
    return finished_s(device)


def find(
    run: Callable[[], contextlib.AbstractContextManager[Pass]],
    precisions: Sequence[str],
    longest_s: float,
    what: Mapping[str, Any],
    device: torch.device,
) -> Choice:
    """The choice of an earlier time, or one that is measured now and kept.

    Args:
        run: gives the passes, as a context; asked for where there is something to measure.
        precisions: which may be taken.
        longest_s: as in :func:`measure`.
        what: of the passes, all on which their speed depends beside the machine and the precision,
            as JSON; ``label`` is for a person.
        device: where.
    """
    rounded_s = 2.0 ** round(torch.tensor(longest_s).log2().item())
    key = {**what, "audio_s": rounded_s, "precisions": list(precisions), **surroundings(device)}
    if (kept := _read(_place(key), precisions)) is not None:
        return kept
    with run() as passes:
        timing = measure(passes, precisions, longest_s)
    found = Choice(choose(timing.seconds), timing, date.today().isoformat())
    # Of commands that measured at the same time all take what the first one wrote.
    if (kept := _read(_place(key), precisions)) is not None:
        return kept
    _write(_place(key), key, found)
    return found


def surroundings(device: torch.device) -> dict[str, Any]:
    """What the speed depends on beside the model: the machine, its threads, and versions."""
    return {
        "machine": machine_name(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": sys.platform,
        "torch": torch.__version__,
        "speechssl": __version__,
    }


def kept_choices(device: torch.device) -> Iterator[tuple[str, Choice]]:
    """``(label, choice)`` of all that was measured on this machine with these versions."""
    folder = _folder()
    here = surroundings(device)
    for path in sorted(folder.glob("*.json")) if folder else []:
        key = kept_object(path).get("key")
        if not isinstance(key, dict) or any(key.get(n) != value for n, value in here.items()):
            continue
        if (kept := _read(path, key.get("precisions", ()))) is not None:
            yield str(key.get("label")), kept


def _folder() -> Path | None:
    own = cache_folder()
    return own and own / "precision"


def _place(key: Mapping[str, Any]) -> Path | None:
    folder = _folder()
    text = json.dumps(key, sort_keys=True)
    return folder and folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _read(path: Path | None, precisions: Sequence[str]) -> Choice | None:
    """The choice in a file; None where there is none that can be used."""
    if path is None:
        return None
    try:
        data = dict(kept_object(path)["choice"])
        timing = dict(data.pop("timing"))
        timing["seconds"] = {str(n): float(t) for n, t in timing["seconds"].items()}
        timing["from_s"] = tuple(map(float, timing["from_s"]))
        timing["audio_s"], timing["turns"] = float(timing["audio_s"]), int(timing["turns"])
        found = replace(Choice(timing=Timing(**timing), **data), is_kept=True)
        usable = found.precision in precisions and found.precision in timing["seconds"]
        return found if usable and min(timing["seconds"].values()) > 0 else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _write(path: Path | None, key: Mapping[str, Any], choice: Choice) -> None:
    """Keep a choice; where that is not possible it is measured again the next time."""
    if path is None:
        return
    with contextlib.suppress(OSError), writing(path) as file:
        file.write(json.dumps({"key": key, "choice": asdict(choice)}, indent=1) + "\n")


def offered(device: torch.device) -> tuple[str, ...]:
    """The precisions for training on a device, the most exact first."""
    if device.type == "cuda" and not has_bf16_units(device):
        return ("fp32",)
    return ("fp32", "bf16")
