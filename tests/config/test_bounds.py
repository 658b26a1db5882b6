"""Bounds: a value is checked by its annotation, in a sentence that says what is allowed."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest

from speechssl.config.bounds import (
    Above,
    AtLeast,
    AtMost,
    Between,
    Count,
    Even,
    Interval,
    NotEmpty,
    Odd,
    Positive,
    Probability,
    Share,
    Weight,
    Whole,
    check_fields,
    field_types,
)


@dataclass(frozen=True)
class Inner:
    seed: Whole = 0

    def __post_init__(self) -> None:
        check_fields(self, "toy.inner")


@dataclass(frozen=True)
class Toy:
    lr: Positive = 1e-3
    share: Share = 1.0
    dropout: Probability = 0.0
    decay: Annotated[float, Between(0, 1, "(]")] = 1.0
    weight: Weight = 0.0
    layers: Annotated[int, AtLeast(1), AtMost(24)] = 12
    count: Count = 1
    kernel: Annotated[int, Odd()] = 3
    hop: Annotated[int, Even()] = 2
    minutes: Positive | None = None
    processes: Count | Literal["auto"] = "auto"
    speeds: Annotated[tuple[Annotated[float, Between(0.5, 2)], ...], NotEmpty()] = (1.0,)
    names: Annotated[tuple[Literal["a", "b"], ...], NotEmpty(distinct=True)] = ("a",)
    snr_db: Annotated[tuple[float, float], Interval(-60, 100)] = (0.0, 20.0)
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        check_fields(self, "toy")


@pytest.mark.parametrize(
    ("field", "value", "must"),
    [
        ("lr", 0, "be above 0, got 0"),
        ("lr", float("nan"), "be a number below 1e15, got nan"),
        ("lr", "fast", "be a number below 1e15, got 'fast'"),
        ("share", 1.01, "be in [0, 1], got 1.01"),
        ("share", -1e-9, "be in [0, 1], got -1e-09"),
        ("dropout", 1, "be in [0, 1), got 1"),
        ("decay", 0.0, "be in (0, 1], got 0.0"),
        ("weight", -0.5, "not be negative, got -0.5"),
        ("layers", 0, "be at least 1, got 0"),
        ("layers", 25, "be at most 24, got 25"),
        ("layers", 2.0, "be a whole number below 1e15, got 2.0"),
        ("layers", True, "be a whole number below 1e15, got True"),
        ("kernel", 4, "be odd, got 4"),
        ("hop", 3, "be even, got 3"),
        ("minutes", -3.0, "be above 0 or null, got -3.0"),
        ("processes", 0, "be at least 1 or one of auto, got 0"),
        ("speeds", (), "be one or more, got ()"),
        ("speeds", (1.0, 3.0), "be a list, each in [0.5, 2], got (1.0, 3.0)"),
        ("speeds", 1.0, "be a list, got 1.0"),
        ("names", ("a", "a"), "be one or more, each once, got ('a', 'a')"),
        ("names", ("c",), "be a list, each one of a, b, got ('c',)"),
        ("snr_db", (9.0, 3.0), "be two numbers in [-60, 100], the smaller one first, got"),
        ("snr_db", (0.0, 101.0), "be two numbers in [-60, 100], the smaller one first, got"),
        ("snr_db", (3.0,), "be a list of 2, got (3.0,)"),
        ("inner", 3, "be a Inner, got 3"),
    ],
)
def test_a_value_that_is_not_allowed_is_a_sentence(field, value, must):
    with pytest.raises(ValueError, match=rf"toy\.{field} must ") as refused:
        replace(Toy(), **{field: value})
    assert str(refused.value).startswith(f"toy.{field} must {must}")
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 1e-300),
        ("share", 0),
        ("share", 1),
        ("dropout", 0),
        ("decay", 1),
        ("weight", 0),
        ("layers", 24),
        ("minutes", None),
        ("minutes", 0.1),
        ("processes", 4),
        ("speeds", (0.5, 2)),
        ("names", ("b", "a")),
        ("snr_db", (-60, -60)),
    ],
)
def test_the_ends_of_a_range_are_allowed_where_they_are_closed(field, value):
    assert getattr(replace(Toy(), **{field: value}), field) == value


def test_annotations_keep_their_bounds():
    assert field_types(Toy)["lr"] == Annotated[float, Above(0)]
    assert list(field_types(Inner)) == ["seed"]
