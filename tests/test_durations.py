"""Durations as a person says them."""

import pytest

from speechssl.durations import duration_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.1, "1 s"),
        (40, "40 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5000, "83 min"),
        (11_400, "3 h 10 min"),
        (7200, "2 h"),
    ],
)
def test_durations(seconds, text):
    assert duration_text(seconds) == text
