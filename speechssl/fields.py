"""The fields of a config: their types, checked, and the name that a person meant.

A frozen dataclass that calls :func:`check_fields` first of all holds what its annotations say, so
that its own checks of ranges and contradictions compare numbers with numbers.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

_HUGE = 1e15
"""Above any step, second, hertz or weight that is meant."""
_MANY = 30
"""Names are not all told."""


def check_fields(config: Any, room: str = "") -> None:
    """ValueError naming the first field of a dataclass that does not hold what its annotation says.

    Numbers must be finite and below 1e15. `room` is the config's name in a larger one, for the
    message: ``loop`` for ``loop.max_steps``.
    """
    for name, kind in _hints(config.__class__).items():
        value = getattr(config, name)
        if wanted := _missing(kind, value):
            where = f"{room}.{name}" if room else name
            raise ValueError(f"{where} must be {wanted}, got {value!r}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence with the known names that are most like `name`, or with all of them, or where
    they are many with what they begin with."""
    import difflib

    known = list(known)
    short = {k.rsplit(".", 1)[-1]: k for k in known}
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    ends = difflib.get_close_matches(name.rsplit(".", 1)[-1], short, n=3, cutoff=0.6)
    found = list(dict.fromkeys([*close, *(short[end] for end in ends)]))[:3]
    if found:
        return f"Perhaps {' or '.join(found)}?"
    if len(known) > _MANY:
        known = list(dict.fromkeys(k.split(".")[0] + ".…" * ("." in k) for k in known))
    return f"Known: {', '.join(known)}."


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _missing(kind: Any, value: Any) -> str:
    """What a value should have been; empty where it is."""
    if kind in _PLAIN:
        wanted, fits = _PLAIN[kind]
        return "" if fits(value) else wanted
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "" if value in inner else f"one of {', '.join(map(str, inner))}"
    if origin in (types.UnionType, typing.Union):
        missing = [_missing(each, value) for each in inner]
        return " or ".join(missing) if all(missing) else ""
    if origin is tuple:
        return _missing_in(inner, value)
    if dataclasses.is_dataclass(kind) and not isinstance(value, typing.cast(type, kind)):
        return f"a {getattr(kind, '__name__', kind)}"
    return ""


def _missing_in(inner: tuple[Any, ...], values: Any) -> str:
    """The same of a tuple, whose annotation is ``tuple[inner]``."""
    if not isinstance(values, tuple):
        return "a list"
    kinds = (inner[0],) * len(values) if inner[-1] is Ellipsis else inner
    if len(values) != len(kinds):
        return f"a list of {len(kinds)}"
    wrong = [_missing(kind, value) for kind, value in zip(kinds, values, strict=True)]
    return next((f"a list, each {wanted}" for wanted in wrong if wanted), "")


def _is_number(value: Any, kind: type) -> bool:
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    return -_HUGE < value < _HUGE  # type: ignore[operator]  # NaN is not


_PLAIN: dict[Any, tuple[str, Any]] = {
    int: ("a whole number below 1e15", lambda value: _is_number(value, Integral)),
    float: ("a number below 1e15", lambda value: _is_number(value, Real)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    str: ("a string", lambda value: isinstance(value, str)),
    type(None): ("null", lambda value: value is None),
}
