"""Cuts of a stream: at pauses, else those of a file; never a matter of how it was sliced."""

import numpy as np
import pytest

from speechssl.inference.live_cuts import Cut, Cutter, Levels, Recent
from speechssl.inference.recordings import as_clip, chunks
from speechssl.rng import rng

RATE, GRID = 8000, 160


def noise(*parts: tuple[float, float]) -> np.ndarray:
    """(S,) float32: seconds and level in dB of each part."""
    generator = rng(0, "cuts")
    return np.concatenate(
        [generator.normal(0, 10 ** (db / 20), round(s * RATE)) for s, db in parts]
    ).astype(np.float32)


def cut(wave: np.ndarray, slices=1000, *, pause_s=0.5, max_s=4.0, keep: int = 0) -> list[Cut]:
    """All cuts; with `keep` what lies so far before the open segment is dropped."""
    recent = Recent()
    cutter = Cutter(recent, RATE, grid=GRID, pause_s=pause_s, max_s=max_s)
    found = []

    def take(following) -> None:
        while (made := following()) is not None:
            found.append(made)
            cutter.open_at(made.end)
            if keep:
                recent.drop_before(max(made.end - keep, 0))

    for number, at in enumerate(range(0, len(wave), slices)):
        recent.add(wave[at : at + slices])
        take(cutter.next_cut)
        if keep and number > 10:
            assert len(recent.wave) <= keep + slices + (max_s + 1) * RATE
    take(cutter.last_cut)
    return found


SPEECH = noise(
    (0.6, -60), (1.5, -20), (0.8, -60), (2.4, -26), (0.3, -60), (1, -20), (9, -20), (1, -60)
)


@pytest.mark.parametrize("slices", [11, 80, 799, 10**6])
@pytest.mark.parametrize("pause_s", [0.5, None])
def test_slices_change_nothing(slices, pause_s):
    part = SPEECH[: 6 * RATE] if slices == 11 else SPEECH
    assert cut(part, slices, pause_s=pause_s) == cut(part, 1000, pause_s=pause_s)
    assert cut(part, slices, pause_s=pause_s, keep=400) == cut(part, pause_s=pause_s)


def test_segments_follow_each_other_on_the_grid():
    found = cut(SPEECH)
    assert [c.start for c in found] == [0, *(c.end for c in found[:-1])]
    assert found[-1].end == len(SPEECH)
    assert all(c.end % GRID == 0 for c in found[:-1])
    assert all(c.start < c.end <= c.seen for c in found)


def test_a_pause_ends_a_segment_as_soon_as_it_is_one():
    first, second, *_ = cut(SPEECH)
    assert first.kind == "pause"
    assert 2.1 <= first.end / RATE <= 2.9  # within the pause
    assert first.seen / RATE == pytest.approx(2.1 + 0.5, abs=0.07)
    assert second.kind == "full"  # 0.3 s are no pause
    assert 5.3 <= second.end / RATE <= 5.6  # but the quietest place


@pytest.mark.parametrize("duration_s", [0.5, 3.0, 4.0, 4.5, 5.2, 9.0, 23.0])
def test_without_pauses_the_cuts_are_those_of_a_file(duration_s):
    parts = [(0.2, db) for db in rng(1, "db").uniform(-40, -10, round(duration_s * 5))]
    wave = noise(*parts)
    wave = np.clip(wave, -1, 1)[: round(duration_s * RATE)]
    spare = RATE  # as here, a file decides when so much of the next chunk is there
    made = list(chunks(as_clip(wave), RATE, grid=GRID, max_chunk_s=4.0, ahead=spare))
    assert [c.end for c in cut(wave, pause_s=None)] == [c.end for c in made]


@pytest.mark.parametrize("background_db", [-100, -60, -45, -35])
def test_pauses_are_found_in_front_of_any_background(background_db):
    speech = noise((1, background_db), *[(1.2, -15), (0.8, background_db)] * 4)
    kinds = [c.kind for c in cut(speech)]
    assert kinds[:4] == ["pause"] * 4


def test_the_background_may_become_louder():
    wave = noise(*[(1.2, -15), (0.8, -70)] * 3, *[(1.2, -15), (0.8, -40)] * 12)
    assert [c.kind for c in cut(wave)][-6:-1] == ["pause"] * 5


@pytest.mark.parametrize("db", [-200, -60, -10])
def test_sound_that_never_changes_has_no_pauses(db):
    found = cut(noise((14, db)))
    assert {c.kind for c in found} == {"full", "last"}
    assert all(c.end - c.start <= 4 * RATE for c in found)


def test_a_click_is_no_speech():
    wave = noise((3.5, -60), (0.02, -10), (3, -60))
    assert "pause" not in [c.kind for c in cut(wave)]


def test_memory_is_bounded_by_the_longest_segment():
    """In silence, in noise, in speech."""
    for wave in (np.zeros(20 * RATE, np.float32), noise((20, -20)), SPEECH):
        cut(wave, 4000, keep=800)


def test_the_threshold_lies_between_background_and_speech():
    levels = Levels()
    for frame in noise((1, -60), (1, -20), (0.2, -60)).reshape(-1, 80):
        levels.is_speech(frame)
    assert levels.floor < -55
    assert -24 < levels.peak < -15
