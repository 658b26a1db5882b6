"""A frozen config as JSON and back, and changed by dotted names as on the command line.

A field whose type is one of several dataclasses is written with its ``kind``, a class attribute of
each: ``{"kind": "conv", "dims": [...]}``. Without one the first of them is meant.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from speechssl.config.names import nearest

Config = TypeVar("Config")


def to_json(config: Any) -> Any:
    """A frozen config as plain JSON types."""
    if isinstance(config, (list, tuple)):
        return [to_json(item) for item in config]
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    kind = {"kind": config.kind} if hasattr(config, "kind") else {}
    return kind | {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_json(kind: type[Config], data: Any, name: str = "") -> Config:
    """The config of class `kind` that :func:`to_json` wrote; missing fields take their defaults.

    `name` is the config's dotted name in a larger one, for the message. Raises ValueError naming an
    unknown field and those that exist.
    """
    return typing.cast(Config, _read(kind, data, name))


def differences(old: Any, new: Any, name: str = "") -> str:
    """The names and values of the fields of two configs as JSON that differ, comma separated."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
        return ", ".join(
            differences(old.get(k), new.get(k), f"{name}.{k}".strip(".")) for k in keys
        )
    return f"{name} {old} there, {new} now"


def override(
    config: Config, settings: Sequence[tuple[str, str | None]], options: Iterable[str] = ()
) -> Config:
    """Change fields by dotted name, e.g. ``("optim.lr", "1e-4")``, with dashes or underscores.

    A value is JSON where it can be read so (``0.1``, ``null``, ``[1, 2]``), else a string; None
    means true, of a setting that is true or false. Raises ValueError for a name that does not
    exist, with the nearest ones, which may be `options` of the command instead.
    """
    data = to_json(config)
    for name, value in settings:
        *path, last = name.replace("-", "_").split(".")
        place = data
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
            if place is None:
                break
        if not isinstance(place, dict) or last not in place:
            known = [*options, *(flag.replace("_", "-") for flag in setting_names(data))]
            hint = nearest(name.replace("_", "-"), known, prefix="--")
            raise ValueError(f"There is no setting {name!r}. {hint}")
        if value is None and not isinstance(place[last], bool):
            raise ValueError(f"The setting --{name} needs a value.")
        place[last] = True if value is None else _parse(value)
    return from_json(type(config), data)


def setting_names(data: dict[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of all settings of a config as JSON."""
    names: list[str] = []
    for key, value in data.items():
        inner = isinstance(value, dict)
        names += setting_names(value, f"{prefix}{key}.") if inner else [prefix + key]
    return names


def _parse(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # not JSON, or what nobody means
        return value


def _read(kind: Any, data: Any, name: str) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if data is None or data == "none":  # as a person types it
            return None
        return _read(_choose(kind, data, name), data, name)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(data, dict):
            raise ValueError(f"{name or 'The config'} must be an object of settings, got {data!r}.")
        hints = typing.get_type_hints(kind)
        known = [field.name for field in dataclasses.fields(kind)]
        unknown = sorted(set(data) - set(known) - ({"kind"} if hasattr(kind, "kind") else set()))
        if unknown:
            where = f"{name} config" if name else "The config"
            raise ValueError(
                f"{where} has unknown fields {unknown}. {nearest(unknown[0], sorted(known))}"
            )
        values = {k: v for k, v in data.items() if k in known}
        return kind(**{k: _read(hints[k], v, f"{name}.{k}".strip(".")) for k, v in values.items()})
    return _read_plain(kind, data, name)


def _choose(union: Any, data: Any, name: str) -> Any:
    """Which class of several the data mean, by their kind."""
    inner = [each for each in typing.get_args(union) if each is not type(None)]
    kinds = {each.kind: each for each in inner if hasattr(each, "kind")}
    if len(inner) == 1 or not isinstance(data, dict) or "kind" not in data:
        return inner[0]
    if data["kind"] not in tuple(kinds):  # it may be anything that JSON holds
        raise ValueError(f"{name}.kind must be one of {', '.join(kinds)}, got {data['kind']!r}.")
    return kinds[data["kind"]]


def _read_plain(kind: Any, data: Any, name: str) -> Any:
    if typing.get_origin(kind) is tuple:
        if isinstance(data, str):  # as a person types it
            inner = typing.get_args(kind)[0]
            data = [part if inner is str else _parse(part) for part in data.split(",")]
        if not isinstance(data, (list, tuple)):
            raise ValueError(f"{name} must be a list, got {data!r}.")
        return tuple(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data) if abs(data) < 1 << 53 else data  # a larger one is refused as it is
    return data
