"""speechssl.data.prepare: what is odd about recordings and transcripts is counted and named, and
identity does not depend on how a name is spelt in Unicode."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.data.layouts import Recording
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.prepare import PrepareConfig, prepare, sentence_key

RATE = 16000
WHOLE = PrepareConfig(dev_share=0, test_share=0)


def speech(duration_s: float, seed: int = 0) -> np.ndarray:
    """Noise with the rhythm of syllables: (S,) float, peak 0.5."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(duration_s * RATE)) / RATE
    wave = generator.standard_normal(len(times)) * np.sin(2 * np.pi * 2 * times) ** 8
    return 0.5 * wave / np.abs(wave).max()


def record(folder: Path, name: str, wave: np.ndarray, **known: object) -> Recording:
    path = folder / f"{name}.wav"
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    return Recording(name, path, **known)  # type: ignore[arg-type]


def many(folder: Path, num: int, **known: object) -> list[Recording]:
    return [record(folder, f"r{i}", speech(0.5, i), **known) for i in range(num)]


def everything(out: Path) -> dict[str, Utterance]:
    paths = [out / f"{name}.jsonl" for name in ("train", "dev", "test")]
    return {u.id: u for path in paths if path.exists() for u in read_manifest(path)}


# ---- sound --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "named"),
    [
        (lambda w: [w, -w], True),
        (lambda w: [w, -0.9 * w], True),
        (lambda w: [w, -w, 0 * w, 0 * w], True),
        (lambda w: [w, w], False),
        (lambda w: [w, 0 * w], False),  # a silent channel takes nothing away
        (lambda w: [w, *[0 * w] * 15], False),
        (lambda w: [w, speech(len(w) / RATE, 99)], False),
        (lambda w: [w], False),
    ],
)
def test_channels_that_cancel_are_named(tmp_path, channels, named):
    wave = np.stack(channels(speech(0.5)), axis=1)
    summary = prepare([record(tmp_path, "a", wave)], tmp_path / "out")
    assert summary.warnings == ({"cancelled_channels": 1} if named else {})
    assert summary.named == ({"cancelled_channels": ["a"]} if named else {})


def test_floats_beyond_full_scale_are_no_clipping(tmp_path):
    loud = [record(tmp_path, f"x{gain}", gain * speech(0.5)) for gain in (2.5, 65536.0)]
    summary = prepare([*loud, record(tmp_path, "a", speech(0.5, 1))], tmp_path / "out", WHOLE)
    assert summary.dropped == {}
    assert summary.warnings == {"beyond_full_scale": 2}
    assert summary.named == {"beyond_full_scale": ["x2.5", "x65536.0"]}
    assert "2 recordings have samples beyond full scale: they are divided by their peak (x2.5" in (
        summary.describe()
    )


@pytest.mark.parametrize("suffix", ["flac", "mp3", "wav"])
def test_what_is_left_of_a_recording_is_kept_and_said(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, speech(3.0), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    records = [Recording("cut", path), record(tmp_path, "a", speech(0.5, 1))]
    summary = prepare(records, tmp_path / "out", WHOLE)
    assert 0.5 < everything(tmp_path / "out")["cut"].duration_s < 2.5
    assert summary.named == {"incomplete": ["cut"]}
    assert "1 recordings lack sound that their headers state" in summary.describe()
    assert f"cut.{suffix}" in summary.missing[0]
    assert summary.missing[0] in summary.describe()
    again = prepare(records, tmp_path / "out", WHOLE)  # from the cache
    assert again == summary


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_what_is_clipped_at_full_scale_is_still_dropped(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", np.clip(40 * speech(0.5), -1, 1), RATE, subtype=subtype)
    with pytest.raises(ValueError, match="clipped 1"):
        prepare([Recording("a", tmp_path / "a.wav")], tmp_path / "out")


@pytest.mark.parametrize(
    ("peak", "subtype", "reason"),
    [
        (0.02, "PCM_16", None),
        (0.009, "PCM_16", "quiet"),
        (0.0009, "PCM_16", "quiet"),  # -61 dBFS, and still speech
        (0.0005, "FLOAT", "quiet"),  # 60 dB too quiet
        (0.00005, "FLOAT", "too quiet"),  # nothing of it is left in 16 bits
    ],
)
def test_quiet_speech_is_not_silence(tmp_path, peak, subtype, reason):
    soundfile.write(tmp_path / "q.wav", 2 * peak * speech(2.0), RATE, subtype=subtype)
    records = [Recording("q", tmp_path / "q.wav"), record(tmp_path, "a", speech(0.5, 1))]
    summary = prepare(records, tmp_path / "out", WHOLE)
    assert ("q" in everything(tmp_path / "out")) == (reason != "too quiet")
    assert summary.warnings == ({"quiet": 1} if reason == "quiet" else {})
    assert summary.dropped == ({"too quiet": 1} if reason == "too quiet" else {})


@pytest.mark.parametrize("kind", ["white", "hum", "click"])
def test_faint_noise_is_silence(tmp_path, kind):
    times = np.arange(2 * RATE) / RATE
    noise = np.random.default_rng(0).standard_normal(len(times)) / 6
    wave = {"white": noise, "hum": np.sin(2 * np.pi * 50 * times), "click": 0.01 * noise}[kind]
    wave[RATE] = 1.0
    records = [record(tmp_path, "n", 0.0009 * wave), record(tmp_path, "a", speech(0.5, 1))]
    assert prepare(records, tmp_path / "out", WHOLE).dropped == {"silent": 1}


def test_parts_of_a_long_quiet_recording_are_kept(tmp_path):
    long = record(tmp_path, "long", 0.002 * speech(7.0))
    summary = prepare([long], tmp_path / "out", replace(WHOLE, max_duration_s=2.0))
    assert summary.dropped == {}
    assert summary.warnings == {"quiet": 1}
    assert sum(u.duration_s for u in everything(tmp_path / "out").values()) == pytest.approx(7.0)


# ---- transcripts --------------------------------------------------------------------------------


def test_invisible_characters_are_counted_and_named(tmp_path):
    texts = ["a\u200bb", "c\u00a0d \u200b", "\u202ae\u202c", "plain text", "\ufefff"]
    records = [replace(r, text=t) for r, t in zip(many(tmp_path, 5), texts, strict=True)]
    summary = prepare(records, tmp_path / "out", WHOLE)
    assert summary.warnings == {"invisible_characters": 4}
    assert summary.invisible_characters == {
        "U+200B ZERO WIDTH SPACE": 2,
        "U+00A0 NO-BREAK SPACE": 1,
        "U+202A LEFT-TO-RIGHT EMBEDDING": 1,
        "U+202C POP DIRECTIONAL FORMATTING": 1,
        "U+FEFF ZERO WIDTH NO-BREAK SPACE (byte order mark)": 1,
    }
    assert (
        "note: 4 transcripts hold characters that nobody sees (r0, r1, r2, ...)\n    2 x U+200B"
        in (summary.describe())
    )
    written = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert written["named"]["invisible_characters"] == ["r0", "r1", "r2", "r4"]


def test_transcripts_without_letters_are_counted(tmp_path):
    texts = ["...", "-", "42", "ok", "♪"]
    records = [replace(r, text=t) for r, t in zip(many(tmp_path, 5), texts, strict=True)]
    assert prepare(records, tmp_path / "out", WHOLE).named == {"no_letters": ["r0", "r1", "r4"]}


# ---- identity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    ["Zoe\u0301", " Zoé", "Zoé\u200b", "\ufeffZoé\u00a0"],
    ids=["NFD", "space", "zwsp", "bom"],
)
def test_a_speaker_in_two_spellings_is_in_one_split(tmp_path, other):
    names = ["Zoé", other, "Ann", "Bob", "Cem", "Dao"]
    records = [
        replace(r, speaker=names[i % 6], text=f"number {i}")
        for i, r in enumerate(many(tmp_path, 24))
    ]
    for seed in range(4):
        summary = prepare(records, tmp_path / "out", PrepareConfig(seed=seed))
        assert summary.speakers == 5
        assert summary.warnings == {}
        speakers = [u.speaker for u in everything(tmp_path / "out").values()]
        assert set(speakers) == {"Zoé", "Ann", "Bob", "Cem", "Dao"}


def test_two_spellings_are_not_three_speakers(tmp_path):
    names = ["Zoé", "Zoe\u0301", "Ann"]
    records = [replace(r, speaker=names[i % 3]) for i, r in enumerate(many(tmp_path, 9))]
    assert prepare(records, tmp_path / "out").split_by == "recording"


def test_a_speaker_in_two_published_splits_is_counted_in_any_spelling(tmp_path):
    a, b = many(tmp_path, 2)
    records = [
        replace(a, speaker="Zoé", split="train"),
        replace(b, speaker="Zoe\u0301", split="test"),
    ]
    assert prepare(records, tmp_path / "out").warnings == {"shared_speakers": 1}


def test_a_speaker_of_white_space_is_unknown(tmp_path):
    summary = prepare([record(tmp_path, "a", speech(0.5), speaker=" \u200b")], tmp_path / "out")
    assert summary.speakers == 0


def test_ids_in_two_spellings_become_different(tmp_path):
    a, b, c = many(tmp_path, 3)
    records = [replace(a, id="é"), replace(b, id="e\u0301"), replace(c, id="é ")]
    prepare(records, tmp_path / "out", WHOLE)
    assert list(everything(tmp_path / "out")) == ["é", "e\u0301_2", "é _2"]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("Zoé va", "Zoe\u0301 va", True),
        ("ab", "a\u00adb", True),  # a soft hyphen
        ("ab", "a\u200bb", True),
        ("ＡＢＣ １", "abc 1", True),  # full width
        ("İstanbul", "i\u0307stanbul", True),
        ("ﬁn", "fin", True),
        ("ab", "a b", False),
        ("ɔ\u0301", "ɔ\u0300", False),
    ],
)
def test_sentences_are_compared_in_one_form(one, two, same):
    assert (sentence_key(one) == sentence_key(two)) is same


@pytest.mark.parametrize("moved", [False, True])
def test_what_was_held_out_under_another_spelling_stays_so(tmp_path, moved):
    """As where a disk or an archive has changed the Unicode form of file names."""
    here, there = tmp_path / "é", tmp_path / ("é-moved" if moved else "e\u0301")
    here.mkdir()
    records = [replace(r, id=f"é{r.id}", text=f"number {i}") for i, r in enumerate(many(here, 30))]
    prepare(records, tmp_path / "out")
    names = ("train", "dev", "test")
    earlier = {name: read_manifest(tmp_path / "out" / f"{name}.jsonl") for name in names}
    here.rename(there)
    found = [
        replace(r, id=r.id.replace("é", "e\u0301"), audio=there / r.audio.name) for r in records
    ]
    prepare(found, tmp_path / "out", PrepareConfig(seed=1), earlier=earlier)
    for name in names:
        now = read_manifest(tmp_path / "out" / f"{name}.jsonl")
        assert [u.audio.name for u in now] == [u.audio.name for u in earlier[name]]
        assert all(audio.probe(u.audio) for u in now)  # what is opened stays as it is on the disk


@pytest.mark.parametrize(
    ("text", "named"),
    [("NA", True), ("NaN", True), ("null", True), (" #N/A ", True), ("na", False), ("Nan", False)],
)
def test_what_programs_write_for_an_empty_cell_is_named(tmp_path, text, named):
    records = [record(tmp_path, "a", speech(0.5), text=text), *many(tmp_path, 1, text="yes")]
    summary = prepare(records, tmp_path / "out", WHOLE)
    assert summary.named.get("placeholders", []) == ["a"] * named
    assert ("for an empty cell (NA, NaN, null)" in summary.describe()) == named
    assert everything(tmp_path / "out")["a"].text is not None  # it may be what was said
