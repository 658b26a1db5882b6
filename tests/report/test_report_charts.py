import math
import re
from itertools import pairwise

import pytest

from speechssl.report.charts import (
    NUM_COLOURS,
    Axis,
    Line,
    colour_class,
    line_chart,
    log_ticks,
    number_text,
    rate_bar,
    thin,
    tick_text,
    ticks,
)
from speechssl.rng import rng


def chart(*lines: Line, axis: Axis = Axis()) -> str:  # noqa: B008
    return line_chart(lines, axis, x_label="updates", title="Loss")


def places(svg: str) -> list[tuple[float, float]]:
    found = re.findall(r'points="([^"]*)"', svg)
    return [tuple(map(float, p.split(","))) for line in found for p in line.split()]


@pytest.mark.parametrize("trial", range(30))
def test_ticks_enclose_evenly_and_are_told_apart(trial):
    generator = rng(0, "ticks", trial)
    low = float(generator.normal() * 10.0 ** generator.integers(-6, 7))
    high = low + float(generator.uniform(1e-3, 1) * 10.0 ** generator.integers(-4, 7))
    found = ticks(low, high)
    steps = [b - a for a, b in pairwise(found)]
    assert found[0] <= low + 1e-5 * steps[0]
    assert found[-1] >= high - 1e-5 * steps[0]
    assert 1 <= len(steps) <= 7
    assert min(steps) > 0
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 0), (5, 5), (-3, -3), (1e-9, 1e-9), (0, 1e-8), (0, 3e8)]
)
def test_ticks_of_narrow_ranges(low, high):
    found = ticks(low, high)
    assert len(found) >= 2
    assert found[0] <= low <= high <= found[-1] * (1 + 1e-9)


def test_tick_labels():
    assert tick_text([0.5, 0.55, 0.6]) == ["0.50", "0.55", "0.60"]
    assert tick_text([0, 0.25, 0.5], percent=True) == ["0%", "25%", "50%"]
    assert tick_text([0, 2.5e-4, 5e-4]) == ["0", "2.5e-4", "5e-4"]
    assert tick_text([0, 20_000, 40_000]) == ["0", "20k", "40k"]
    assert tick_text([0, 500, 1000]) == ["0", "500", "1000"]


@pytest.mark.parametrize(("low", "high"), [(0.3, 40), (1, 10_000), (2e-5, 3), (10, 1000), (7, 8)])
def test_log_ticks_enclose(low, high):
    found = log_ticks(low, high)
    assert found[0] <= low * 1.001
    assert found[-1] >= high * 0.999
    assert all(b > a for a, b in pairwise(found))
    assert 2 <= len(found) <= 9


def test_numbers_for_people():
    told = {
        0.58: "0.58",
        12_500: "12.5k",
        2.1e-5: "2.1e-5",
        0: "0",
        3.19051: "3.191",
        3e6: "3,000k",
    }
    assert {value: number_text(value) for value in told} == told
    assert number_text(0.5804, percent=True) == "58.0 %"
    assert number_text(5.63, padded=True) == "5.630"
    assert number_text(5.0, padded=True) == "5"
    assert number_text(math.inf) == "inf"


def test_points_lie_within_the_drawing_and_in_order():
    svg = chart(Line("a", [(0, 3.0), (10, 1.0), (20, 2.0)], 0), Line("b", [(40, -5.0)], 1))
    (x0, y0), (x1, y1), (x2, y2), _ = places(svg)
    assert x0 < x1 < x2
    assert y0 < y2 < y1  # upwards is smaller in SVG
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places(svg))


def test_the_x_axis_begins_at_zero():
    (x0, _), (x1, _) = places(chart(Line("a", [(50, 1.0), (100, 2.0)], 0)))
    (z0, _), (z1, _) = places(chart(Line("a", [(0, 1.0), (100, 2.0)], 0)))
    assert x1 == z1
    assert x0 == pytest.approx((z0 + z1) / 2, abs=0.1)


def test_a_wide_range_is_logarithmic_where_that_is_allowed():
    line = Line("a", [(1, 100.0), (2, 10.0), (3, 1.0)], 0)
    svg = chart(line, axis=Axis(may_be_log=True))
    (_, a), (_, b), (_, c) = places(svg)
    assert "logarithmic" in svg
    assert b - a == pytest.approx(c - b, abs=0.2)
    assert "logarithmic" not in chart(line)
    with_zero = Line("a", [*line.points, (4, 0.0)], 0)
    assert "logarithmic" not in chart(with_zero, axis=Axis(may_be_log=True))


def test_training_is_faint_only_beside_validation():
    trained = Line("a", [(1, 1.0), (2, 2.0)], 0)
    measured = Line("a", [(2, 2.0), (4, 1.0)], 0, measured=True, best=(4, 1.0))
    assert "faint" not in chart(trained)
    both = chart(trained, measured)
    assert both.count("faint") == 1
    assert both.count('class="ring') == 1
    assert both.count('class="dot') == 2
    assert "a, 4: 1</title>" in both


def test_a_single_point_can_be_seen():
    assert 'class="dot' in chart(Line("a", [(20, 1.0)], 0))


def test_no_points_no_chart():
    assert chart() == ""
    assert chart(Line("a", [], 0)) == ""


def test_names_are_escaped():
    assert "<b>" not in chart(Line('<b>"', [(1, 1.0)], 0))


def test_thinning_keeps_ends_and_means():
    points = [(float(i), float(i % 2)) for i in range(5000)]
    found = thin(points, 100)
    assert len(found) <= 101
    assert found[-1] == points[-1]
    assert all(b[0] > a[0] for a, b in pairwise(found[:-1]))
    assert found[0][1] == pytest.approx(0.5, abs=0.02)
    assert thin(points[:100], 100) == points[:100]


def test_more_runs_than_colours_differ_by_dashes():
    classes = [colour_class(i) for i in range(2 * NUM_COLOURS)]
    assert len(set(classes)) == len(classes)


def test_bars_stay_within_their_track():
    shares = [float(x) for x in re.findall(r"(?:width|left):([\d.]+)%", rate_bar(2, 1, 9, 4, "c0"))]
    assert shares == [50.0, 25.0, 75.0]
    assert "width:0.00%" in rate_bar(0, 0, 0, 0, "c0")
