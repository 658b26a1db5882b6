"""The logged numbers of a run by name, and what several findings compute from them. Needs no
torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from speechssl.pretext.signal import Signal

MOST_OF_CHANCE = 0.98
"""A loss above this share of the chance line is at chance."""

CHANCE_ADVICE = (
    "Give it more updates; if the loss does not move at all, raise the learning rate. Check that "
    "targets and recordings belong together"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    name: str
    evidence: tuple[str, ...]
    """Sentences with the numbers."""
    advice: str
    """What to change."""


class Curves:
    """The logged numbers by name, and the settings they were logged under."""

    def __init__(
        self,
        records: Sequence[Mapping[str, Any]],
        config: Mapping[str, Any],
        signals: Sequence[Signal] = (),
    ) -> None:
        """`signals`: those of the run's pretext tasks."""
        self.config, self.signals = config, signals
        self._series: dict[str, list[tuple[int, float]]] = {}
        for record in records:
            for name, value in record.items():
                is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
                if is_number and name not in ("step", "time_s"):
                    self._series.setdefault(name, []).append((int(record["step"]), float(value)))

    @property
    def is_finetuning(self) -> bool:
        """Pretraining may have a task ctc too, and logs the sum of all tasks."""
        if "tokenizer" in self.config:
            return True
        return "loss/ctc" in self._series and "loss/total" not in self._series

    @property
    def loss(self) -> str:
        """The name of what is minimised."""
        return "loss/ctc" if self.is_finetuning else "loss/total"

    def names(self, prefix: str) -> list[str]:
        return [name for name in self._series if name.startswith(prefix)]

    def points(self, name: str) -> list[tuple[int, float]]:
        """``(step, value)``; empty where it was not logged."""
        return self._series.get(name, [])

    def values(self, name: str) -> list[float]:
        return [value for _, value in self.points(name)]

    def last(self, name: str) -> float | None:
        values = self.values(name)
        return values[-1] if values else None

    def late(self, name: str) -> float | None:
        """Median of the last fifth."""
        values = self.values(name)
        return median(values[-max(len(values) // 5, 1) :]) if values else None

    def early(self, name: str) -> float | None:
        """Median of the first tenth."""
        values = self.values(name)
        return median(values[: max(len(values) // 10, 1)]) if values else None

    def lowest(self, name: str) -> float | None:
        """The smallest median of a tenth of the run."""
        values = self.values(name)
        size = max(len(values) // 10, 1)
        starts = range(0, len(values) - size + 1)
        return min((median(values[i : i + size]) for i in starts), default=None)

    def near(self, name: str, step: int) -> float | None:
        """The median of the few values logged closest to a step."""
        points = sorted(self.points(name), key=lambda point: abs(point[0] - step))[:5]
        return median(value for _, value in points) if points else None

    def setting(self, name: str) -> Any:
        """A setting by its dotted name, of a task by ``TASK.FIELD``; None where it is not there."""
        place: Any = self.config
        tasks = self.config.get("tasks")
        if isinstance(tasks, Mapping) and name.split(".")[0] in tasks:
            place = tasks
        for part in name.split("."):
            place = place.get(part) if isinstance(place, Mapping) else None
        return place


def late_change(curves: Curves, name: str) -> float | None:
    """Relative change of the median from the middle third to the last one."""
    values = curves.values(name)
    third = len(values) // 3
    if third < 2:
        return None
    middle, last = median(values[third : 2 * third]), median(values[-third:])
    return (last - middle) / max(abs(middle), 1e-9)


def lr_note(curves: Curves) -> str:
    lr = curves.setting("optim.lr")
    return f" (optim.lr is {lr:g})" if isinstance(lr, (int, float)) else ""


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def levels_text(curves: Curves) -> str:
    levels = {"training": curves.late("data/level_db")}
    levels["validation"] = curves.last("valid/data/level_db")
    return ", ".join(f"{what} {db:.0f} dB" for what, db in levels.items() if db is not None) + (
        " of full scale (speech is between -40 and -15)"
    )
