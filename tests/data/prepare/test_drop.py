"""speechssl.data.prepare: what is dropped and why."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl.data.layouts import Recording
from speechssl.data.prepare import (
    PrepareConfig,
    ctc_frames,
    ctc_frames_needed,
    prepare,
)
from tests.data.prepare.recordings import RATE, dropped, everything, manifests, many, record, speech


def bad_recordings(folder: Path) -> Iterator[tuple[Recording, str]]:
    """A recording with one thing wrong, and the start of the reason that must be given."""
    nan = speech(0.5)
    nan[100] = np.nan
    yield Recording("missing", folder / "missing.wav"), "missing: there is no such file"
    yield record(folder, "nothing", np.zeros(0)), "unreadable: .*holds no samples"
    yield record(folder, "three", speech(0.5)[:3]), r"too short: 0\.000 s, at least 0\.1 s"
    yield record(folder, "zeros", np.zeros(8000)), "silent: all samples are zero"
    yield record(folder, "faint", 0.0015 * speech(0.5)), "silent: the peak is -6[23] dBFS"
    yield record(folder, "nan", nan), "unreadable: .*NaN"
    yield record(folder, "loud", np.clip(20 * speech(0.5), -1, 1)), r"clipped: 9\d\.\d % of"
    for name, content in (("text", b"not sound " * 99), ("bytes", b"")):
        (folder / f"{name}.wav").write_bytes(content)
        yield Recording(name, folder / f"{name}.wav"), f"unreadable: .*{name}.wav"
    yield (
        record(folder, "much", speech(0.5, seed=2), text="aa" + "ab" * 12),
        "transcript too long: 26 characters need 28 frames of 20 ms, 0.50 s have 24",
    )
    yield (
        replace(record(folder, "part", speech(0.5, seed=3)), start_s=0.2, duration_s=0.5),
        r"unreadable: .*ends at 0\.500 s, before 0\.700 s",
    )


def test_what_is_unusable_is_dropped_and_named(tmp_path: Path) -> None:
    bad = list(bad_recordings(tmp_path))
    good = [record(tmp_path, f"good{i}", speech(0.5, seed=9 + i), text=f"a{i}") for i in range(3)]
    out = tmp_path / "out"
    summary = prepare([recording for recording, _ in bad] + good, out)
    reasons = dropped(out)
    assert set(reasons) == {recording.id for recording, _ in bad}
    for recording, words in bad:
        assert re.match(words, reasons[recording.id]), (recording.id, words)
    assert {u.id for u in everything(out)} == {"good0", "good1", "good2"}
    assert sum(summary.dropped.values()) == len(bad)
    assert summary.dropped["unreadable"] == 5
    assert summary.utterances == 3
    assert "dropped 2: silent" in summary.describe()
    row = json.loads((out / "dropped.jsonl").read_text().splitlines()[0])
    assert row["audio"] == "../missing.wav"


@pytest.mark.parametrize(
    ("coding", "rate", "channels"),
    [
        ("PCM_U8", 16000, 1),
        ("PCM_24", 44100, 2),
        ("PCM_16", 8000, 1),
        ("FLOAT", 96000, 1),
        ("DOUBLE", 22050, 3),
    ],
)
def test_every_width_rate_and_number_of_channels_is_kept(
    tmp_path: Path, coding: str, rate: int, channels: int
) -> None:
    wave = np.stack([speech(0.5, rate, seed=i) for i in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype=coding)
    summary = prepare([Recording("a", tmp_path / "a.wav")], tmp_path / "out")
    (found,) = everything(tmp_path / "out")
    assert (found.sample_rate, found.duration_s) == (rate, 0.5)
    assert summary.sample_rates == {str(rate): 1}
    assert summary.warnings == ({"low_rate": 1} if rate < 16000 else {})


@pytest.mark.parametrize("text", ["", " \n", "\ufeff", "\u200b\u00a0", "\u3164"])
def test_a_blank_transcript_says_nothing(tmp_path: Path, text: str) -> None:
    """Such a recording is pretrained on, not scored, and counted."""
    records = [record(tmp_path, f"r{i}", speech(0.5, seed=i), text=f"a{i}") for i in range(9)]
    records.append(record(tmp_path, "blank", speech(0.5, seed=9), text=text))
    summary = prepare(records, tmp_path / "out")
    found = {u.id: u for u in manifests(tmp_path / "out")["train"]}
    assert found["blank"].text is None
    assert summary.dropped == {}
    assert sum(s.labeled_utterances for s in summary.splits.values()) == 9
    assert summary.warnings == {"blank_transcripts": 1}
    assert summary.named == {"blank_transcripts": ["blank"]}
    assert "note: 1 transcripts are blank" in summary.describe()


def test_a_long_recording_with_a_blank_transcript_is_cut(tmp_path: Path) -> None:
    long = record(tmp_path, "long", speech(5.0), text="\u200b ")
    summary = prepare([long], tmp_path / "out", PrepareConfig(max_duration_s=2.0))
    assert summary.sliced_recordings == 1
    assert {u.text for u in everything(tmp_path / "out")} == {None}


def test_nothing_usable_is_an_error_that_counts(tmp_path: Path) -> None:
    bad = [record(tmp_path, "zeros", np.zeros(8000)), Recording("gone", tmp_path / "gone.wav")]
    with pytest.raises(ValueError, match=r"No recording can be used \(missing 1, silent 1\)"):
        prepare(bad, tmp_path / "out")
    assert set(dropped(tmp_path / "out")) == {"zeros", "gone"}
    with pytest.raises(ValueError, match="no recordings in the source"):
        prepare([], tmp_path / "out")


def test_long_with_a_transcript_is_dropped_above_its_own_limit(tmp_path: Path) -> None:
    config = PrepareConfig(max_duration_s=0.5, max_labeled_duration_s=1.0)
    records = [
        record(tmp_path, "whole", speech(0.9), text="whole"),
        record(tmp_path, "long", speech(1.1), text="long"),
    ]
    prepare(records, tmp_path / "out", config)
    assert [u.id for u in everything(tmp_path / "out")] == ["whole"]
    assert dropped(tmp_path / "out")["long"].startswith("too long: 1.1 s with a transcript")


def test_equal_sound_is_kept_once(tmp_path: Path) -> None:
    wave = np.round(speech(0.5) * 2**15) / 2**15
    soundfile.write(tmp_path / "b.flac", wave, RATE, subtype="PCM_16")
    records = [
        record(tmp_path, "a", wave),
        Recording("b", tmp_path / "b.flac", text="yes"),
        record(tmp_path, "c", wave, RATE // 2, text="yes"),  # other sound: half as fast
        record(tmp_path, "d", wave[:-1]),
    ]
    prepare(records, tmp_path / "out")
    assert {u.id for u in everything(tmp_path / "out")} == {"b", "c", "d"}  # b has a transcript
    assert dropped(tmp_path / "out") == {"a": "duplicate: the same sound as b"}


def test_a_duplicate_stays_where_it_is_held_out(tmp_path: Path) -> None:
    records = [
        record(tmp_path, "a", speech(0.5), split="train", text="x"),
        record(tmp_path, "b", speech(0.5), split="test", text="x"),
        record(tmp_path, "c", speech(0.5), split="dev", text="x"),
    ]
    prepare(records, tmp_path / "out")
    assert [u.id for u in manifests(tmp_path / "out")["test"]] == ["b"]
    assert set(dropped(tmp_path / "out")) == {"a", "c"}


@pytest.mark.parametrize(
    ("text", "frames"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("aaa b", 7), ("hello", 6)]
)
def test_frames_that_ctc_needs(text: str, frames: int) -> None:
    assert ctc_frames_needed(text) == frames


@pytest.mark.parametrize(("duration_s", "frames"), [(0.0, 0), (0.024, 0), (0.025, 1), (1.0, 49)])
def test_frames_of_the_encoder(duration_s: float, frames: int) -> None:
    assert ctc_frames(duration_s) == frames


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may read everything")
def test_a_recording_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    a, b = many(tmp_path, 2)
    b.audio.chmod(0)
    prepare([a, b], tmp_path / "out")
    assert dropped(tmp_path / "out")["r1"].startswith("unreadable")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("yes", "duplicate: the same sound as a"),
        (None, "duplicate: the same sound as a"),
        ("no", "duplicate with another transcript: the same sound as a"),
    ],
)
def test_another_transcript_of_equal_sound_is_said(tmp_path: Path, text, reason) -> None:
    wave = speech(0.5)
    records = [record(tmp_path, "a", wave, text="yes"), record(tmp_path, "b", wave, text=text)]
    summary = prepare(records, tmp_path / "out")
    assert dropped(tmp_path / "out") == {"b": reason}
    assert f"dropped 1: {reason.split(':')[0]}\n" in summary.describe() + "\n"
