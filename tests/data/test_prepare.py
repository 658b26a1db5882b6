"""speechssl.data.prepare: what is dropped and why, where it is cut, what is held out."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.data import prepare as module
from speechssl.data.layouts import Recording, Split, read_layout
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.prepare import (
    PrepareConfig,
    PrepareSummary,
    ctc_frames,
    ctc_frames_needed,
    hold_out,
    inspect,
    prepare,
    sentence_key,
)

RATE = 16000


def speech(duration_s: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise that stands for speech: (S,) float, within half of full scale, all bands."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(duration_s * rate))


def record(folder: Path, name: str, wave: np.ndarray, rate: int = RATE, **known: str) -> Recording:
    path = folder / f"{name}.wav"
    soundfile.write(path, wave, rate, subtype="FLOAT")
    return Recording(name, path, **known)  # type: ignore[arg-type]


def many(folder: Path, count: int, seed: int = 0) -> list[Recording]:
    return [record(folder, f"r{i}", speech(0.5, seed=seed + i)) for i in range(count)]


def dropped(out: Path) -> dict[str, str]:
    lines = (out / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, lines)}


def manifests(out: Path) -> dict[str, list[Utterance]]:
    return {
        name: read_manifest(out / f"{name}.jsonl")
        for name in ("train", "dev", "test")
        if (out / f"{name}.jsonl").exists()
    }


def everything(out: Path) -> list[Utterance]:
    return [utterance for utterances in manifests(out).values() for utterance in utterances]


# ---- dropping -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("text", "frames"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("aaa b", 7), ("hello", 6)]
)
def test_frames_that_ctc_needs(text: str, frames: int) -> None:
    assert ctc_frames_needed(text) == frames


@pytest.mark.parametrize(("duration_s", "frames"), [(0.0, 0), (0.024, 0), (0.025, 1), (1.0, 49)])
def test_frames_of_the_encoder(duration_s: float, frames: int) -> None:
    assert ctc_frames(duration_s) == frames


# ---- cutting ------------------------------------------------------------------------------------


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


# ---- splitting ----------------------------------------------------------------------------------


def speakers(out: Path) -> dict[str, set[str | None]]:
    return {name: {u.speaker for u in us} for name, us in manifests(out).items()}


def texts(out: Path) -> dict[str, set[str]]:
    return {name: {sentence_key(u.text or "") for u in us} for name, us in manifests(out).items()}


def disjoint(sets: dict[str, set[str]] | dict[str, set[str | None]]) -> bool:
    return sum(map(len, sets.values())) == len(set().union(*sets.values()))


def test_three_speakers_are_held_apart(tmp_path: Path) -> None:
    records = [
        replace(recording, speaker=f"s{i % 7}", text=f"number {i}")
        for i, recording in enumerate(many(tmp_path, 70))
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.split_by == "speaker"
    assert {name: len(s) for name, s in speakers(tmp_path / "out").items()} == {
        "train": 5,
        "dev": 1,
        "test": 1,
    }
    assert disjoint(speakers(tmp_path / "out"))
    assert summary.warnings == {}


def test_sentences_of_held_out_speakers_leave_train(tmp_path: Path) -> None:
    records = [
        replace(recording, speaker=f"s{i // 10}", text=f"number {i}")
        for i, recording in enumerate(many(tmp_path, 50))
    ]
    for first in range(0, 50, 10):  # one sentence is said by all
        records[first] = replace(records[first], text="Yes!" if first % 20 else "yes")
    summary = prepare(records, tmp_path / "out")
    assert summary.dropped == {"shared sentence": 4}
    assert summary.splits["test"].utterances == 10
    assert disjoint(texts(tmp_path / "out"))


def test_digits_keep_their_sentences_and_are_counted(tmp_path: Path) -> None:
    records = [
        replace(recording, speaker=f"s{i // 4}", text=f"{i % 4}")
        for i, recording in enumerate(many(tmp_path, 20))
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.dropped == {}
    assert summary.warnings == {"shared_sentences": 4}


def test_fewer_speakers_are_split_by_sentence(tmp_path: Path) -> None:
    words = ["One, two.", "one two", "ONE TWO!", "three", "four", "five", "six", "seven", "x", "y"]
    records = [
        replace(recording, speaker=f"s{i % 2}", text=words[i % 10])
        for i, recording in enumerate(many(tmp_path, 40))
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.split_by == "text"
    assert set(summary.splits) == {"train", "dev", "test"}
    assert disjoint(texts(tmp_path / "out"))


def test_without_transcripts_recordings_stay_whole_and_apart(tmp_path: Path) -> None:
    records = [record(tmp_path, f"r{i}", speech(2.5, seed=i)) for i in range(10)]
    summary = prepare(records, tmp_path / "out", PrepareConfig(max_duration_s=1.0))
    assert summary.split_by == "recording"
    files = {name: {u.audio for u in us} for name, us in manifests(tmp_path / "out").items()}
    assert {name: len(f) for name, f in files.items()} == {"train": 8, "dev": 1, "test": 1}
    assert sum(map(len, files.values())) == len(set().union(*files.values()))
    assert summary.utterances >= 30


def test_unlabeled_recordings_go_to_train_where_others_have_transcripts(tmp_path: Path) -> None:
    records = [
        replace(recording, text=f"number {i}" if i < 10 else None)
        for i, recording in enumerate(many(tmp_path, 40))
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.splits["train"].utterances == 38
    assert summary.splits["train"].labeled_utterances == 8
    assert summary.splits["test"].labeled_utterances == 1


def test_the_split_of_the_source_is_kept(tmp_path: Path) -> None:
    splits = ["test", "dev", None, "train"]
    records = [
        replace(r, split=s, speaker="s", text="x")  # type: ignore[arg-type]
        for r, s in zip(many(tmp_path, 4), splits, strict=True)
    ]
    summary = prepare(records, tmp_path / "out")
    assert summary.split_by == "source"
    assert {n: [u.id for u in us] for n, us in manifests(tmp_path / "out").items()} == {
        "train": ["r2", "r3"],
        "dev": ["r1"],
        "test": ["r0"],
    }
    assert summary.warnings == {"shared_speakers": 1, "shared_sentences": 1}


def test_what_was_held_out_stays_so_and_what_was_trained_on_too(tmp_path: Path) -> None:
    records = [
        replace(recording, text=f"number {i}" if i < 10 else None)
        for i, recording in enumerate(many(tmp_path, 40))
    ]
    prepare(records, tmp_path / "out")
    earlier = manifests(tmp_path / "out")
    more = [replace(r, text=f"number {i}") for i, r in enumerate(records)]
    more[11] = replace(more[11], text=earlier["test"][0].text)  # stays with its sentence
    prepare(more, tmp_path / "out", earlier=earlier)  # type: ignore[arg-type]
    now = {split: {u.id for u in us} for split, us in manifests(tmp_path / "out").items()}
    assert now["dev"] == {u.id for u in earlier["dev"]}
    assert now["test"] == {u.id for u in earlier["test"]} | {"r11"}
    (tmp_path / "new").mkdir()
    fresh = [
        replace(r, id=f"new {r.id}", text=f"new {r.id}") for r in many(tmp_path / "new", 40, 90)
    ]
    prepare([*more, *fresh], tmp_path / "out", earlier=manifests(tmp_path / "out"))  # type: ignore[arg-type]
    grown = {split: {u.id for u in us} for split, us in manifests(tmp_path / "out").items()}
    assert all(now[split] < grown[split] for split in now)
    assert len(grown["dev"]) == len(grown["test"]) == 8


def same_ids(folder: Path) -> list[Recording]:
    """Three names for forty recordings, of which the manifests make forty."""
    records = [record(folder, f"r{i}", speech(0.5 + i / 50, seed=i)) for i in range(40)]
    return [replace(r, id=f"x{i % 3}") for i, r in enumerate(records)]


@pytest.mark.parametrize("make", [lambda folder: many(folder, 40), same_ids])
@pytest.mark.parametrize("link", [False, True])
def test_recordings_that_are_reached_in_another_way_keep_their_splits(tmp_path, make, link) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    records = [replace(r, text=f"number {i}") for i, r in enumerate(make(here))]
    prepare(records, tmp_path / "out")
    earlier = manifests(tmp_path / "out")
    if link:
        there.symlink_to(here)
    else:
        here.rename(there)
    found = [replace(r, audio=there / r.audio.name) for r in records]
    prepare(found, tmp_path / "out", PrepareConfig(seed=1), earlier=earlier)  # type: ignore[arg-type]
    now = manifests(tmp_path / "out")
    names = {split: [u.id for u in us] for split, us in now.items()}
    assert names == {split: [u.id for u in us] for split, us in earlier.items()}


@pytest.mark.parametrize("link", [False, True])
def test_recordings_that_are_named_anew_keep_their_splits(tmp_path: Path, link: bool) -> None:
    """Also where each gets the name of another one, and is reached in another way."""
    records = [replace(r, text=f"number {i}") for i, r in enumerate(many(tmp_path, 40))]
    prepare(records, tmp_path / "out")
    earlier = manifests(tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path)
    folder = tmp_path / "link" if link else tmp_path
    named = [replace(r, id=f"r{i + 1}", audio=folder / r.audio.name) for i, r in enumerate(records)]
    prepare(named, tmp_path / "out", PrepareConfig(seed=1), earlier=earlier)  # type: ignore[arg-type]
    now = manifests(tmp_path / "out")
    files = {split: {u.audio.name for u in us} for split, us in now.items()}
    assert files == {split: {u.audio.name for u in us} for split, us in earlier.items()}


def test_speakers_that_become_known_are_split_anew(tmp_path: Path) -> None:
    """Each was in several splits: nothing is known of them."""
    records = [replace(r, text=f"number {i}") for i, r in enumerate(many(tmp_path, 30))]
    prepare(records, tmp_path / "out")
    earlier = manifests(tmp_path / "out")
    named = [replace(r, speaker=f"s{i % 3}") for i, r in enumerate(records)]
    summary = prepare(named, tmp_path / "out", earlier=earlier)  # type: ignore[arg-type]
    assert summary.split_by == "speaker"
    assert disjoint(speakers(tmp_path / "out"))
    assert set(summary.splits) == {"train", "dev", "test"}


def test_known_groups_keep_their_split_and_count_for_its_share() -> None:
    sizes = {f"g{i}": 1.0 for i in range(20)}
    before = hold_out(sizes, 0.1, 0.1, seed=0)
    known: dict[str, Split] = dict.fromkeys(sizes, "train")
    known |= before
    assert hold_out(sizes, 0.1, 0.1, seed=1, known=known) == before
    more = sizes | {f"h{i}": 1.0 for i in range(20)}
    grown = hold_out(more, 0.1, 0.1, seed=0, known=known)
    assert sorted(grown.values()) == ["dev"] * 4 + ["test"] * 4
    assert all(name[0] == "h" for name in grown.keys() - before.keys())


def test_shares_and_seed() -> None:
    sizes = {f"g{i}": 1.0 for i in range(100)}
    chosen = hold_out(sizes, 0.2, 0.3, seed=0)
    assert sorted(chosen.values()).count("dev") == 20
    assert sorted(chosen.values()).count("test") == 30
    assert hold_out(dict(reversed(sizes.items())), 0.2, 0.3, seed=0) == chosen
    assert hold_out(sizes, 0.2, 0.3, seed=1) != chosen
    assert hold_out(sizes, 0.0, 0.0, seed=0) == {}


@pytest.mark.parametrize(
    ("sizes", "held"),
    [
        ([], []),
        ([1.0], []),
        ([1.0, 2.0], ["dev"]),
        ([1.0, 2.0, 3.0], ["dev", "test"]),
        ([100.0, 1.0, 1.0, 1.0], ["dev", "test"]),
    ],
)
def test_few_groups_leave_one_for_train(sizes: list[float], held: list[str]) -> None:
    chosen = hold_out({str(i): size for i, size in enumerate(sizes)}, 0.1, 0.1, seed=0)
    assert sorted(set(chosen.values())) == held
    assert len(chosen) < max(len(sizes), 1)
    assert "0" not in chosen or len(sizes) < 4  # the large group stays for train


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        ("Yes, sir!", "yes sir", True),
        ("ɛ\u0301", "ɛ", False),  # a tone mark is a letter
        ("कि", "की", False),
        ("don't", "don t", True),
        ("?!", "...", False),
    ],
)
def test_which_sentences_are_the_same(one: str, two: str, equal: bool) -> None:
    assert (sentence_key(one) == sentence_key(two)) == equal


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in (
        {"dev_share": 0.6, "test_share": 0.5},
        {"dev_share": -0.1},
        {"max_duration_s": 0.05},
        {"max_labeled_duration_s": 10.0},
    ):
        with pytest.raises(ValueError, match="must be"):
            PrepareConfig(**wrong)  # type: ignore[arg-type]


# ---- files --------------------------------------------------------------------------------------


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
    monkeypatch.setattr(module, "stream", lambda path, **_: seen.append(path) or audio.stream(path))
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


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may read everything")
def test_a_recording_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    a, b = many(tmp_path, 2)
    b.audio.chmod(0)
    prepare([a, b], tmp_path / "out")
    assert dropped(tmp_path / "out")["r1"].startswith("unreadable")
