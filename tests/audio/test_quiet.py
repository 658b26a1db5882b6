"""Where long recordings are cut."""

import numpy as np
import pytest

from speechssl.audio import cut_times, quiet_place
from speechssl.rng import rng


def test_cuts_are_where_it_is_quiet():
    wave = np.ones(16000, np.float32)
    wave[9000:13000] = 0.01
    assert quiet_place(wave, 4000, 16000, 10, 3200) in range(10600, 11401)


def test_a_cut_does_not_look_at_what_lies_far_behind_it():
    """Else a long wave would take time by the square of its length."""
    wave = rng(0, "quiet").uniform(-1, 1, 50000)
    wave[11000:11400] *= 0.01
    near = quiet_place(wave, 4000, 16000, 10, 400)
    wave[16200:] = wave[:3800] = np.nan
    assert quiet_place(wave, 4000, 16000, 10, 400) == near == 11200


@pytest.mark.parametrize("duration_s", [10.0, 10.01, 14.9, 25.0, 1234.5])
def test_cuts_cover_everything_and_no_part_is_too_long(duration_s: float) -> None:
    rms = np.random.default_rng(0).uniform(size=int(duration_s * 100))
    edges = [0.0, *cut_times(rms, 0.01, duration_s, 10.0), duration_s]
    lengths = np.diff(edges)
    assert lengths.max() <= 10.0
    assert lengths.min() >= 2.5
    assert sum(lengths) == pytest.approx(duration_s)
    assert (len(edges) == 2) == (duration_s <= 10.0)


def test_cuts_are_made_where_it_is_quiet() -> None:
    rms = np.ones(2500)
    rms[780:820] = 0.01  # 7.8 s to 8.2 s
    rms[1600:1700] = 0.2
    first, second = cut_times(rms, 0.01, 25.0, 10.0)
    assert 7.8 < first < 8.2
    assert 16.0 < second < 17.0
