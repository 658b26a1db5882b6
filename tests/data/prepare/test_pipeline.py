"""speechssl.data.prepare: what is written, and what is read again from the cache."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.data.layouts import read_layout
from speechssl.data.prepare import (
    PrepareConfig,
    PrepareSummary,
    inspection,
    prepare,
)
from tests.data.prepare.recordings import everything, many, record, speech


def mixed_folder(folder: Path) -> Path:
    """As people have them: formats, rates, channels, a long one, some transcripts, a bad one."""
    rates = {"wav": 44100, "flac": 16000, "ogg": 22050, "opus": 48000, "mp3": 16000}
    for number, (suffix, rate) in enumerate(rates.items()):
        wave = np.stack([speech(0.4, rate, seed=number)] * (1 + number % 2), axis=1)
        path = folder / f"{number}" / f"x.{suffix}"
        path.parent.mkdir(parents=True)
        kind = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
        soundfile.write(path, wave, rate, **kind)
        path.with_suffix(".txt").write_text(f"Number  {number}\n")
    soundfile.write(folder / "0" / "long.wav", speech(31.0, 8000, seed=9), 8000)
    (folder / "1" / "bad.wav").write_text("no sound")
    return folder


def bytes_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_mixed_folder_and_again_the_same_bytes_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = mixed_folder(tmp_path / "in"), tmp_path / "out"
    summary = prepare(read_layout(source), out)
    assert summary.dropped == {"unreadable": 1}
    assert summary.split_by == "speaker"
    assert summary.sliced_recordings == 1
    assert {u.text for u in everything(out)} == {None, *(f"Number {i}" for i in range(5))}
    found = bytes_of(out)
    seen = []
    monkeypatch.setattr(
        inspection, "stream", lambda path, **_: seen.append(path) or audio.stream(path)
    )
    prepare(read_layout(source), out)
    assert bytes_of(out) == found
    assert [path.name for path in seen] == ["bad.wav"]  # what failed is tried again
    prepare(read_layout(source), tmp_path / "other", num_threads=1)
    monkeypatch.undo()
    assert {k: v for k, v in bytes_of(tmp_path / "other").items() if k != "probe_cache.jsonl"} == {
        k: v for k, v in found.items() if k != "probe_cache.jsonl"
    }


def test_a_changed_recording_is_looked_at_again(tmp_path: Path) -> None:
    recording = record(tmp_path, "a", speech(0.5))
    prepare([recording], tmp_path / "out")
    record(tmp_path, "a", speech(0.7))
    prepare([recording], tmp_path / "out")
    assert everything(tmp_path / "out")[0].duration_s == 0.7
    config = PrepareConfig(max_duration_s=0.4)  # what was seen before does not say where to cut
    assert prepare([recording], tmp_path / "out", config).utterances == 2


@pytest.mark.parametrize("damage", ["torn", "other version", "not utf-8"])
def test_a_damaged_cache_is_no_trouble(tmp_path: Path, damage: str) -> None:
    records, out = many(tmp_path, 5), tmp_path / "out"
    prepare(records, out)
    found, cache = bytes_of(out), out / "probe_cache.jsonl"
    content = cache.read_bytes()
    if damage == "torn":
        cache.write_bytes(content[:-30])
    elif damage == "other version":
        cache.write_bytes(content.replace(b'"version": 1', b'"version": 0'))
    else:
        cache.write_bytes(content[:200] + b"\xff\n" + content[200:])
    prepare(records, out)
    assert bytes_of(out) == found


def test_the_summary_says_what_is_in_the_manifests(tmp_path: Path) -> None:
    records = [
        replace(recording, speaker=f"s{i}", text="e\u0301 a  a")
        for i, recording in enumerate(many(tmp_path, 2))
    ]
    summary = prepare(records, tmp_path / "out")
    assert isinstance(summary, PrepareSummary)
    written = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert list(written["characters"].items()) == [(" ", 4), ("a", 4), ("é", 2)]
    assert written["utterances"] == 2
    assert written["hours"] == pytest.approx(1 / 3600, abs=1e-4)
    assert written["splits"]["train"]["speakers"] == 2
    assert written["config"]["max_duration_s"] == 30.0
    assert {u.text for u in everything(tmp_path / "out")} == {"é a a"}
    assert "by text" in summary.describe()


def test_a_split_that_is_gone_leaves_no_old_manifest(tmp_path: Path) -> None:
    records = many(tmp_path, 10)
    prepare(records, tmp_path / "out")
    assert (tmp_path / "out" / "test.jsonl").exists()
    prepare(records, tmp_path / "out", PrepareConfig(test_share=0.0))
    assert not (tmp_path / "out" / "test.jsonl").exists()


def test_repeated_ids_become_different(tmp_path: Path) -> None:
    a, b, c, d = many(tmp_path, 4)
    records = [a, replace(b, id="r0"), replace(c, id="r0_2"), replace(d, id="r0")]
    prepare(records, tmp_path / "out", PrepareConfig(dev_share=0, test_share=0))
    assert [u.id for u in everything(tmp_path / "out")] == ["r0", "r0_3", "r0_2", "r0_4"]


def test_the_bar_is_shown_when_it_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = many(tmp_path, 2)
    prepare(records, tmp_path / "out")
    assert capsys.readouterr().err == ""
    prepare(records, tmp_path / "out", progress=True)
    assert "2/2" in capsys.readouterr().err


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in (
        {"dev_share": 0.6, "test_share": 0.5},
        {"dev_share": -0.1},
        {"max_duration_s": 0.05},
        {"max_labeled_duration_s": 10.0},
    ):
        with pytest.raises(ValueError, match="must be"):
            PrepareConfig(**wrong)  # type: ignore[arg-type]
