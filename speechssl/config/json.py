"""A frozen config as JSON and back, and changed by dotted names as on the command line.

Three things a class can say of itself, beside its fields:

- ``kind``: a field whose type is one of several dataclasses is written with the kind of its value,
  ``{"kind": "conv", "dims": [...]}``. Without one the first of them is meant.
- ``members``: the class is a collection of configs of different classes, by name. It has one field
  ``configs``, a tuple, and ``members: ClassVar[dict[str, type]]`` says which there are; each config
  has its ``name``. As JSON it is ``{name: config, ...}``, and the settings of a member can be given
  without the collection's name: ``masked_units.weight`` for ``tasks.masked_units.weight``.
- ``upgrade``: a static method that takes the JSON of an earlier version to that of this one.
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
    if hasattr(config, "members"):
        return {each.name: to_json(each) for each in typing.cast(Any, config).configs}
    kind = {"kind": config.kind} if hasattr(config, "kind") else {}
    return kind | {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_json(kind: type[Config], data: Any, name: str = "") -> Config:
    """The config of class `kind` that :func:`to_json` wrote; missing fields take their defaults.

    `name` is the config's dotted name in a larger one, for the message. Raises ValueError naming an
    unknown field and those that exist.
    """
    upgrade = getattr(kind, "upgrade", None) if isinstance(data, dict) and not name else None
    return typing.cast(Config, _read(kind, upgrade(data) if upgrade else data, name))


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
    groups = collections(type(config))
    for name, value in settings:
        *path, last = _whole(name.replace("-", "_"), data, groups).split(".")
        place = data
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
            if place is None:
                break
        if not isinstance(place, dict) or last not in place:
            names = [_short(known, groups) for known in setting_names(data)]
            known = [*options, *(known.replace("_", "-") for known in names)]
            hint = nearest(name.replace("_", "-"), known, prefix="--")
            raise ValueError(f"There is no setting {name!r}. {hint}")
        if value is None and not isinstance(place[last], bool):
            raise ValueError(f"The setting --{name} needs a value.")
        place[last] = True if value is None else _parse(value)
    return from_json(type(config), data)


def collections(kind: Any) -> dict[str, Any]:
    """The fields of a config class that are collections of named members, and their classes."""
    hints = typing.get_type_hints(kind)
    return {name: each for name, each in hints.items() if hasattr(each, "members")}


def _whole(name: str, data: dict[str, Any], groups: dict[str, Any]) -> str:
    """A member's setting with the collection's name before it; any other name as it is.

    Raises ValueError where the member is not in the collection.
    """
    first = name.split(".")[0]
    for group, kind in groups.items():
        if first in kind.members and first not in data:
            if first not in data[group]:
                raise ValueError(
                    f"--{name}: {first} is not a {group.removesuffix('s')} of this run "
                    f"({', '.join(data[group])}): name it with --{group}."
                )
            return f"{group}.{name}"
    return name


def _short(name: str, groups: dict[str, Any]) -> str:
    """The reverse: without the collection's name."""
    first, _, rest = name.partition(".")
    return rest if first in groups and rest else name


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
        if hasattr(kind, "members"):
            return _read_members(kind, data, name)
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


def _read_members(kind: Any, data: Any, name: str) -> Any:
    """A collection; a member that is null or ``none`` is left out."""
    if not isinstance(data, dict):
        raise ValueError(f"{name} must be an object of configs by name, got {data!r}.")
    if unknown := sorted(set(data) - set(kind.members)):
        raise ValueError(
            f"{name} config has unknown fields {unknown}. {nearest(unknown[0], kind.members)}"
        )
    chosen = {each: fields for each, fields in data.items() if fields not in (None, "none")}
    return kind(
        tuple(_read(kind.members[n], fields, f"{name}.{n}") for n, fields in chosen.items())
    )


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
            hint = f": write [{data}]" if isinstance(data, int | float) else ""
            raise ValueError(f"{name} must be a list, got {data!r}{hint}.")
        return tuple(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data) if abs(data) < 1 << 53 else data  # a larger one is refused as it is
    return data
