"""The allowed ranges of a config's fields, declared in their annotations and checked in one place.

A frozen dataclass states the range beside the type, and checks all of its fields at once::

    @dataclass(frozen=True)
    class OptimConfig:
        lr: Positive = 5e-4                                   # above 0
        beta1: Annotated[float, Between(0, 1, "[)")] = 0.9    # in [0, 1)
        hold_share: Share = 0.4                               # in [0, 1]
        warmup_steps: Annotated[int, AtLeast(0)] = 300
        budget_minutes: Positive | None = None                # None is allowed beside it
        speeds: Annotated[tuple[Annotated[float, Between(0.5, 2)], ...], NotEmpty()] = (1.0,)
        snr_db: Annotated[tuple[float, float], Interval(-60, 100)] = (0.0, 20.0)

        def __post_init__(self) -> None:
            check_fields(self, "optim")   # first of all: what follows compares numbers with numbers
            ...                           # contradictions between fields stay written by hand

The same annotations give the ranges that ``--help-all`` shows (`speechssl.config.flags`).

:func:`check_fields` raises ValueError in one sentence with the field's dotted name, what is allowed
and what was given: ``optim.lr must be above 0, got -1.0.``
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal

_HUGE = 1e15
"""Above any step, second, hertz or weight that is meant."""


class Bound:
    """One condition on a value of the right type."""

    @property
    def text(self) -> str:
        """For help: ``at least 1``."""
        raise NotImplementedError

    def holds(self, value: Any) -> bool:
        """Whether the value is allowed."""
        raise NotImplementedError

    @property
    def demand(self) -> str:
        """What stands behind "must" in an error."""
        return f"be {self.text}"


@dataclass(frozen=True)
class Above(Bound):
    """A number greater than `low`."""

    low: float

    @property
    def text(self) -> str:
        return f"above {self.low:g}"

    def holds(self, value: Any) -> bool:
        return bool(value > self.low)


@dataclass(frozen=True)
class AtLeast(Bound):
    """A number of `low` or more."""

    low: float

    @property
    def text(self) -> str:
        return f"at least {self.low:.15g}"

    def holds(self, value: Any) -> bool:
        return bool(value >= self.low)


@dataclass(frozen=True)
class AtMost(Bound):
    """A number of `high` or less."""

    high: float

    @property
    def text(self) -> str:
        return f"at most {self.high:.15g}"

    def holds(self, value: Any) -> bool:
        return bool(value <= self.high)


@dataclass(frozen=True)
class NotNegative(Bound):
    """A number of 0 or more: a weight, a duration."""

    text = "0 or more"
    demand = "not be negative"

    def holds(self, value: Any) -> bool:
        return bool(value >= 0)


@dataclass(frozen=True)
class Between(Bound):
    """A number of an interval: closed, or open at an end: ``"[)"`` leaves `high` out."""

    low: float
    high: float
    ends: Literal["[]", "[)", "(]", "()"] = "[]"

    @property
    def text(self) -> str:
        return f"in {self.ends[0]}{self.low:.15g}, {self.high:.15g}{self.ends[1]}"

    def holds(self, value: Any) -> bool:
        above = value > self.low if self.ends[0] == "(" else value >= self.low
        below = value < self.high if self.ends[1] == ")" else value <= self.high
        return bool(above and below)


@dataclass(frozen=True)
class Even(Bound):
    """An even whole number."""

    text = "even"

    def holds(self, value: Any) -> bool:
        return bool(value % 2 == 0)


@dataclass(frozen=True)
class Odd(Bound):
    """An odd whole number."""

    text = "odd"

    def holds(self, value: Any) -> bool:
        return bool(value % 2 == 1)


@dataclass(frozen=True)
class NotEmpty(Bound):
    """A list of one or more; with `distinct`, each once."""

    distinct: bool = False

    @property
    def text(self) -> str:
        return "one or more" + (", each once" if self.distinct else "")

    def holds(self, value: Any) -> bool:
        return len(value) > 0 and not (self.distinct and len(set(value)) < len(value))


@dataclass(frozen=True)
class Interval(Bound):
    """Two numbers within [low, high], the smaller one first: a value is drawn between them."""

    low: float
    high: float

    @property
    def text(self) -> str:
        return f"two numbers in [{self.low:.15g}, {self.high:.15g}], the smaller one first"

    def holds(self, value: Any) -> bool:
        return bool(self.low <= value[0] <= value[1] <= self.high)


Positive = Annotated[float, Above(0)]
Share = Annotated[float, Between(0, 1)]
"""A part of something: both ends are meant."""
Probability = Annotated[float, Between(0, 1, "[)")]
"""Of dropping something: 1 would drop everything."""
Weight = Annotated[float, NotNegative()]
Count = Annotated[int, AtLeast(1)]
Whole = Annotated[int, AtLeast(0)]


def check_fields(config: Any, group: str = "") -> None:
    """ValueError naming the first field of a dataclass that is not what its annotation allows.

    Numbers must also be finite and below 1e15. `group` is the config's name in a larger one, for
    the message: ``loop`` for ``loop.max_steps``.
    """
    for name, kind in field_types(config.__class__).items():
        value = getattr(config, name)
        if demand := _unmet(kind, value):
            where = f"{group}.{name}" if group else name
            raise ValueError(f"{where} must {demand}, got {value!r}.")


@functools.cache
def field_types(cls: Any) -> dict[str, Any]:
    """The annotation of each field of a dataclass, bounds included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def split(kind: Any) -> tuple[Any, Sequence[Bound]]:
    """An annotation without its bounds, and these."""
    if typing.get_origin(kind) is not Annotated:
        return kind, ()
    inner, *bounds = typing.get_args(kind)
    return inner, [bound for bound in bounds if isinstance(bound, Bound)]


def _unmet(kind: Any, value: Any) -> str:
    """What a value must do and does not; empty where it is allowed."""
    kind, bounds = split(kind)
    if unmet := _wrong_type(kind, value):
        return unmet
    return next((bound.demand for bound in bounds if not bound.holds(value)), "")


def _wrong_type(kind: Any, value: Any) -> str:
    if kind in _PLAIN:
        wanted, fits = _PLAIN[kind]
        return "" if fits(value) else f"be {wanted}"
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "" if value in inner else f"be one of {', '.join(map(str, inner))}"
    if origin in (types.UnionType, typing.Union):
        unmet = [_unmet(each, value) for each in inner]
        return " or ".join([unmet[0], *(u.removeprefix("be ") for u in unmet[1:])]) * all(unmet)
    if origin is tuple:
        return _wrong_tuple(inner, value)
    if dataclasses.is_dataclass(kind) and not isinstance(value, typing.cast(type, kind)):
        return f"be a {getattr(kind, '__name__', kind)}"
    return ""


def _wrong_tuple(inner: tuple[Any, ...], values: Any) -> str:
    """The same of a tuple, whose annotation is ``tuple[inner]``."""
    if not isinstance(values, tuple):
        return "be a list"
    kinds = (inner[0],) * len(values) if inner[-1] is Ellipsis else inner
    if len(values) != len(kinds):
        return f"be a list of {len(kinds)}"
    unmet = [_unmet(kind, value) for kind, value in zip(kinds, values, strict=True)]
    return next((f"be a list, each {u.removeprefix('be ')}" for u in unmet if u), "")


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
