"""speechssl.data.prepare: what decoding a recording tells, and where it is cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.data.prepare import (
    PrepareConfig,
    inspect,
    prepare,
)
from tests.data.prepare.recordings import RATE, dropped, everything, manifests, record, speech


def test_a_narrow_band_recording_is_counted(tmp_path: Path) -> None:
    import soxr

    narrow = soxr.resample(speech(0.5, 8000), 8000, RATE)
    records = [record(tmp_path, "a", narrow), record(tmp_path, "b", speech(0.5))]
    summary = prepare(records, tmp_path / "out")
    assert summary.warnings == {"narrow_band": 1}
    assert "1 utterances hold nothing above 4 kHz" in summary.describe()


def test_a_recording_that_begins_with_silence_is_looked_at_where_it_has_sound(
    tmp_path: Path,
) -> None:
    wave = np.concatenate([np.zeros(17 * RATE), speech(3.0)])
    assert not prepare([record(tmp_path, "a", wave)], tmp_path / "out").warnings


def test_a_long_recording_becomes_parts_that_can_be_read(tmp_path: Path) -> None:
    wave = speech(5.0, 44100)
    for pause_s in (1.5, 3.0, 4.3):
        wave[round(pause_s * 44100) : round((pause_s + 0.2) * 44100)] *= 0.001
    config = PrepareConfig(max_duration_s=2.0)
    summary = prepare([record(tmp_path, "long", wave, 44100)], tmp_path / "out", config)
    parts = manifests(tmp_path / "out")["train"]
    assert [part.id for part in parts] == ["long-000", "long-001", "long-002"]
    assert summary.sliced_recordings == 1
    assert [part.start_s for part in parts[1:]] == pytest.approx([1.6, 3.1], abs=0.11)
    whole = audio.read(parts[0].audio, sample_rate=44100)
    found = [
        audio.read(p.audio, sample_rate=44100, start_s=p.start_s, duration_s=p.duration_s)
        for p in parts
    ]
    assert np.array_equal(np.concatenate(found), whole)


def test_silent_parts_are_dropped(tmp_path: Path) -> None:
    wave = np.concatenate([speech(2.0), np.zeros(RATE * 6), speech(2.0)])
    prepare([record(tmp_path, "x", wave)], tmp_path / "out", PrepareConfig(max_duration_s=2.0))
    assert sum(u.duration_s for u in everything(tmp_path / "out")) < 8.0
    assert any(r.startswith("silent: the part from") for r in dropped(tmp_path / "out").values())


def test_cuts_of_a_part_start_at_the_part(tmp_path: Path) -> None:
    whole = record(tmp_path, "x", speech(5.0))
    config = PrepareConfig(max_duration_s=2.0)
    cuts = inspect(replace(whole, start_s=1.0, duration_s=3.5), config).cuts
    assert cuts[0][0] == 1.0
    assert cuts[-1][0] + cuts[-1][1] == pytest.approx(4.5)
    assert all(not silent for _, _, silent in cuts)


def test_blocks_do_not_change_what_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = record(tmp_path, "x", speech(5.0, 22050), 22050)
    config = PrepareConfig(max_duration_s=2.0)
    whole = inspect(recording, config)
    monkeypatch.setattr(audio.opening, "BLOCK_SAMPLES", 10007)
    blocks = inspect(recording, config)
    assert (blocks.cuts, blocks.digest, blocks.peak) == (whole.cuts, whole.digest, whole.peak)
