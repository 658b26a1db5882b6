"""How a task is seen to learn, or not to: what the doctor judges and the report draws. No torch.

A task names its signals; a run writes them to ``signals.json``, so that the doctor and the report
judge and draw a run without knowing its tasks.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from speechssl.files import writing

SIGNALS_FILE = "signals.json"


@dataclass(frozen=True)
class Signal:
    """One metric of a task, and how it is to be read."""

    metric: str
    """Its name in validation, without ``valid/``."""
    title: str
    """What it is, for a person: a noun phrase."""
    hint: str = ""
    """A sentence below its chart."""
    unit: Literal["nats", "share", "distance", "count"] = "nats"
    """``share`` is drawn in percent from zero; ``nats`` and ``distance`` may be drawn on a
    logarithmic axis."""
    better: Literal["lower", "higher"] = "lower"
    training: str = ""
    """The name of the same quantity in training: where it falls far below chance while validation
    stays at chance, the task is learned by heart."""
    chance: str = ""
    """The metric that holds the chance line: the value of a model that ignores its input."""
    chance_of: str = ""
    """Whose value that is: completes "..., which {chance_of} reaches too"."""
    worst_ratio: float | None = None
    """Above this multiple of the chance line the training has diverged."""
    collapsed_below: float | None = None
    """Below this value the task has collapsed."""
    alarm_from: float | None = None
    """From this value on something is wrong."""
    finding: str = ""
    """The name of what is wrong where it has collapsed or gives an alarm."""
    evidence: str = ""
    """The sentence for that finding; ``{NAME}`` is replaced by the value of metric NAME in
    validation, ``{NAME:%}`` by percent."""
    advice: str = ""
    """What to change then; ``{SETTING}`` is replaced by the run's value."""
    moving: bool = False
    """Whether values of different updates cannot be compared: the targets move with the model."""
    in_overview: bool = True
    """Whether the doctor lists it among what was measured."""
    task: str = ""
    """The task that it belongs to; '': what stands before the first slash of `metric`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", self.task or self.metric.split("/")[0])


def write_signals(run: Path, signals: Sequence[Signal]) -> None:
    """Write ``signals.json`` into a run's folder."""
    with writing(run / SIGNALS_FILE) as file:
        file.write(json.dumps([asdict(one) for one in signals], indent=1) + "\n")


def read_signals(run: Path) -> tuple[Signal, ...]:
    """The signals of a run; none where the file is missing or damaged, so that what can be shown is
    shown. Fields of a later version are left out."""
    try:
        data: Any = json.loads((run / SIGNALS_FILE).read_text(encoding="utf-8"))
        known = {field.name for field in fields(Signal)}
        return tuple(Signal(**{k: v for k, v in one.items() if k in known}) for one in data)
    except (OSError, ValueError, TypeError, AttributeError):
        return ()
