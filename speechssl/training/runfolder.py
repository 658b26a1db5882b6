"""What lies beside a run: its config, as JSON that can be run again, and what it wrote last."""

import dataclasses
import errno
import json
import sys
import time
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from speechssl import distributed
from speechssl.fields import nearest
from speechssl.files import writing
from speechssl.model import config as model_config
from speechssl.model.config import ModelConfig
from speechssl.pretext.tasks import TASKS, TaskConfigs, task_class
from speechssl.scoring.wer import EvalResult
from speechssl.training.version_0_1 import upgraded_config

Config = TypeVar("Config")
VALID_SET = "valid.jsonl"
"""Manifest, in the run folder, of what the run validates on."""
HYPOTHESES = "hypotheses.jsonl"
"""In the model folder: ``{"id", "reference", "hypothesis"}`` of each utterance, a line."""

_LOCK = ".lock"
_WAIT_S = 10.0
"""For a command that was told to stop and is still saving."""


class BusyRunError(RuntimeError):
    """Another command is at work in the run's folder."""


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Keep other commands out of a run's folder, in which both would write the same files.

    The lock of a killed process is gone, also where processes that it forked live on. Raises
    BusyRunError, in every process of a job, where the folder is not free after ten seconds.
    """
    if sys.platform == "win32":
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run / _LOCK).open("a") as file:
        if not distributed.from_first(lambda: _take(file.fileno(), time.monotonic() + _WAIT_S)):
            raise BusyRunError(
                f"Another command is at work in {run}: wait for its end or stop it, or give "
                "another --out."
            )
        yield


def _take(number: int, deadline: float) -> bool:
    """Lock an open file; False where another process still has it at the deadline."""
    import fcntl

    while True:
        try:
            fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return True  # a disk that knows no locks
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def to_json(config: Any) -> Any:
    """A frozen config as plain JSON types."""
    if isinstance(config, ModelConfig):
        return model_config.to_dict(config)
    if isinstance(config, TaskConfigs):
        return {task.name: to_json(task) for task in config}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [to_json(item) for item in config]
    return config


def from_json(kind: type[Config], data: Any, name: str = "") -> Config:
    """The config of class `kind` that :func:`to_json` wrote; missing fields take their defaults.

    Raises ValueError naming an unknown field and those that exist.
    """
    return typing.cast(Config, _read(kind, upgraded_config(data) if not name else data, name))


def differences(old: Any, new: Any, name: str = "") -> str:
    """The names and values of the fields of two configs as JSON that differ, comma separated."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
        return ", ".join(
            differences(old.get(k), new.get(k), f"{name}.{k}".strip(".")) for k in keys
        )
    return f"{name} {old} there, {new} now"


def write_config(run: Path, config: dict[str, Any]) -> None:
    """Write `run/config.json`."""
    with writing(run / "config.json") as file:
        file.write(json.dumps(config, indent=2) + "\n")


def write_hypotheses(model: Path, result: EvalResult) -> None:
    """Write what a model wrote in its validation to ``hypotheses.jsonl`` in its folder."""
    lines = (
        {"id": u.id, "reference": u.reference, "hypothesis": u.hypothesis}
        for u in result.utterances
    )
    with writing(model / HYPOTHESES) as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def override(
    config: Config, settings: Sequence[tuple[str, str]], options: Iterable[str] = ()
) -> Config:
    """Change fields by dotted name, e.g. ``("optim.lr", "1e-4")``.

    A value is JSON where it can be read so (``0.1``, ``null``, ``[1, 2]``), else a string. Raises
    ValueError for a name that does not exist, giving the nearest ones, which may be `options` of
    the command instead.
    """
    data = to_json(config)
    for name, value in settings:
        *path, last = _whole_name(name.replace("-", "_"), data).split(".")
        place = data
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
            if place is None:
                break
        if not isinstance(place, dict) or last not in place:
            known = nearest(name.replace("-", "_"), [*options, *_names(data, "")])
            raise ValueError(f"There is no setting {name!r}. {known}")
        try:
            place[last] = json.loads(value)
        except (ValueError, RecursionError):  # not JSON, or what nobody means
            place[last] = value
    return from_json(type(config), data)


def _whole_name(name: str, data: dict[str, Any]) -> str:
    """``masked_units.weight`` is short for ``tasks.masked_units.weight``; ValueError where the run
    does not have that task."""
    tasks, first = data.get("tasks"), name.split(".")[0]
    if not isinstance(tasks, dict):
        return name
    if first in tasks:
        return f"tasks.{name}"
    if first in TASKS:
        raise ValueError(
            f"{name}: {first} is not a task of this run ({', '.join(tasks)}); name it with --tasks."
        )
    return name


def _names(data: dict[str, Any], prefix: str) -> list[str]:
    names: list[str] = []
    for key, value in data.items():
        names += _names(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return names


def _read(kind: Any, data: Any, name: str) -> Any:
    if kind is ModelConfig:
        return model_config.from_dict(data)
    if kind is TaskConfigs:
        return _read_tasks(data, name)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if data is None or data == "none":  # as a person types it
            return None
        inner = [a for a in typing.get_args(kind) if a is not type(None)]
        return _read(inner[0], data, name)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(data, dict):
            raise ValueError(f"{name or 'The config'} must be an object of settings, got {data!r}.")
        unknown = sorted(set(data) - set(hints))
        if unknown:
            raise ValueError(
                f"Unknown settings {unknown} in {name or 'the config'}. "
                f"{nearest(unknown[0], sorted(hints))}"
            )
        return kind(**{k: _read(hints[k], v, f"{name}.{k}".strip(".")) for k, v in data.items()})
    return _read_plain(kind, data, name)


def _read_tasks(data: Any, name: str) -> TaskConfigs:
    """Tasks by name; one that is null or ``none`` is left out."""
    if not isinstance(data, dict):
        raise ValueError(f"{name} must be an object of tasks by name, got {data!r}.")
    if unknown := sorted(set(data) - set(TASKS)):
        raise ValueError(f"Unknown settings {unknown} in {name}. {nearest(unknown[0], TASKS)}")
    return TaskConfigs(
        tuple(
            _read(task_class(task), fields, f"{name}.{task}")
            for task, fields in data.items()
            if fields not in (None, "none")
        )
    )


def _read_plain(kind: Any, data: Any, name: str) -> Any:
    if typing.get_origin(kind) is tuple:
        if isinstance(data, str) and typing.get_args(kind)[0] is str:  # as a person types it
            data = data.split(",")
        if not isinstance(data, (list, tuple)):
            raise ValueError(f"{name} must be a list, got {data!r}.")
        return tuple(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data) if abs(data) < 1 << 53 else data  # a larger one is refused as it is
    return data
