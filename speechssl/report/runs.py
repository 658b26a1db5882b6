"""What a run folder holds, read for the page without loading the model."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechssl.config.json import from_json
from speechssl.model import config as model_config
from speechssl.model.config import ContextConfig
from speechssl.pretext.signal import Signal, read_signals
from speechssl.pretext.tasks import TASKS, TaskConfigs
from speechssl.runlog import check_record, read_metrics
from speechssl.training.verdict import Verdict, judge
from speechssl.training.version_0_1 import upgraded_config, upgraded_records

_MOST_NAMED = 6
"""Runs that an error names."""


@dataclass(frozen=True)
class Run:
    """One run, as far as it has come."""

    name: str
    """Its folder's name, with the parent's where two runs would have the same."""
    folder: Path
    series: dict[str, list[tuple[float, float]]]
    """``(step, value)`` of each logged name, finite numbers only."""
    counts: dict[str, list[tuple[int, list[int]]]]
    """``(step, how often each code was seen)`` by kind: ``targets``, ``predicted``, ``group_0``."""
    verdict: Verdict
    """What its curves say."""
    damaged_from: int | None
    """The line of its log from which on nothing can be read."""
    steps: int
    elapsed_s: float
    config: dict[str, Any]
    """The settings of the run."""
    meta: dict[str, Any]
    """What its best (else latest) model says about itself; empty before the first validation."""
    model: dict[str, Any]
    """The config of that model, else the one in the settings."""
    num_parameters: int | None
    signals: tuple[Signal, ...] = ()
    """Of its pretext tasks: how their metrics are to be read."""

    @property
    def has_codes(self) -> bool:
        """Whether one of its pretext tasks has codes."""
        names = self.config.get("tasks") or {}
        return any(name in TASKS and TASKS[name].has_codes for name in names)

    @property
    def task(self) -> str:
        """``pretrain``, ``finetune``, or "" where the folder does not tell."""
        if task := self.meta.get("task"):
            return str(task)
        if "tasks" in self.config or "loss/total" in self.series:
            return "pretrain"
        return "finetune" if "tokenizer" in self.config or "loss/ctc" in self.series else ""

    @property
    def valid_cer(self) -> float | None:
        """Character error rate of the best model in validation."""
        valid = self.meta.get("valid")
        cer = valid.get("cer") if isinstance(valid, dict) else None
        return cer if isinstance(cer, (int, float)) else None

    @property
    def size(self) -> str:
        """The name of the size that the model has the shape of, or ""."""
        if not self.model:
            return ""
        try:
            model = model_config.from_dict(self.model)
        except (ValueError, TypeError):  # written by another version
            return ""
        for name, make in model_config.SIZES.items():
            known = make()
            if known.encoder == model.encoder and _shape(known.context) == _shape(model.context):
                return name
        return ""


def read_runs(folders: Sequence[Path], names: Sequence[str] | None = None) -> list[Run]:
    """The runs of several folders, called `names` where they are given; raises as
    :func:`read_run`."""
    if names is not None:
        return [read_run(*each) for each in zip(folders, names, strict=True)]
    names = [folder.resolve().name for folder in folders]
    runs = []
    for folder, name in zip(folders, names, strict=True):
        whole = folder.resolve()
        unique = name if names.count(name) == 1 else f"{whole.parent.name}/{name}"
        runs.append(read_run(folder, unique))
    return runs


def read_run(folder: Path, name: str) -> Run:
    """Read one run; nothing logged yet, or a last line that was cut off, is no error.

    Raises FileNotFoundError where there is no folder, ValueError where it holds no run.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no run folder {folder}.")
    config = upgraded_config(_read_json(folder / "config.json"))
    if not (folder / "metrics.jsonl").exists() and "loop" not in config:
        raise ValueError(_not_a_run(folder))
    lines, damaged_from = _read_lines(folder)
    records = upgraded_records([m for m in lines if "step" in m], config)
    signals = read_signals(folder) or _signals_of(config)
    place = next((p for p in ("best", "model") if (folder / p / "meta.json").exists()), "model")
    return Run(
        name=name,
        folder=folder,
        series=_series(records),
        counts=_counts(records),
        verdict=judge(records, config, signals),
        damaged_from=damaged_from,
        steps=int(max((m["step"] for m in records), default=0)),
        elapsed_s=float(max((m.get("time_s", 0.0) for m in records), default=0.0)),
        config=config,
        meta=_read_json(folder / place / "meta.json"),
        model=_read_json(folder / place / "config.json").get("model") or config.get("model") or {},
        num_parameters=_count_parameters(folder / place / "model.safetensors"),
        signals=signals,
    )


def _signals_of(config: dict[str, Any]) -> tuple[Signal, ...]:
    """Of a run that has no file of them, from its tasks; none where they are not known here."""
    try:
        return from_json(TaskConfigs, config["tasks"], "tasks").signals
    except (KeyError, ValueError, TypeError):
        return ()


def _read_lines(folder: Path) -> tuple[list[dict[str, Any]], int | None]:
    """What the log says, and the line from which on it is damaged; ValueError where that is the
    first one, or where a line has a text for its step or time."""
    path = folder / "metrics.jsonl"
    lines = read_metrics(folder)
    num_whole = path.read_bytes().count(b"\n") if path.exists() else 0
    if num_whole and not lines:
        raise ValueError(f"{path} is damaged: its first line is not JSON.")
    for number, record in enumerate(lines, 1):
        check_record(record, path, number)
    return lines, len(lines) + 1 if len(lines) < num_whole else None


def _series(records: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        for name, value in record.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if name not in ("step", "time_s") and is_number and math.isfinite(value):
                series.setdefault(name, []).append((float(record["step"]), float(value)))
    return series


def _counts(records: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, list[int]]]]:
    counts: dict[str, list[tuple[int, list[int]]]] = {}
    for record in records:
        for name, value in record.items():
            is_counts = isinstance(value, list) and all(isinstance(n, int) for n in value)
            if name.startswith("codes/") and is_counts and any(value):
                kind = name.removeprefix("codes/")
                counts.setdefault(kind, []).append((int(record["step"]), value))
    return counts


def _not_a_run(folder: Path) -> str:
    levels = ("*", "*/*", "*/*/*")  # of run, selftrain (round-1/student) and compare
    found = [path.parent for each in levels for path in folder.glob(f"{each}/metrics.jsonl")]
    names = [run.relative_to(folder).as_posix() for run in sorted(found)]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    hint = (
        f"It holds the runs {', '.join(names[:_MOST_NAMED])}{more}: give those."
        if names
        else "A run folder is what `--out` of `speechssl pretrain` or `finetune` names."
    )
    return f"{folder} is not a run folder: it has no metrics.jsonl. {hint}"


def _shape(context: ContextConfig) -> tuple[int, ...]:
    return context.dim, context.num_layers, context.local_layers, context.ffn_dim


def _count_parameters(path: Path) -> int | None:
    """From the header of a safetensors file: a little-endian uint64 length, then JSON."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return sum(math.prod(t["shape"]) for k, t in header.items() if k != "__metadata__")
    except (OSError, ValueError, OverflowError, MemoryError, KeyError, TypeError, AttributeError):
        return None  # the page has no number then


def _read_json(path: Path) -> dict[str, Any]:
    """An empty object where there is no file or it is damaged: the page shows what there is."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
