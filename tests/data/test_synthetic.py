"""The embedded corpus: what is said and by whom, and that it is the same samples every time."""

import collections
import hashlib
import json
import platform
import re
import sys
import wave as wave_file
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from speechssl.data.manifest import read_manifest
from speechssl.data.synthetic import (
    SAMPLE_RATE,
    SPLITS,
    CorpusPaths,
    Script,
    espeak,
    grammar,
    make_corpus,
    scripts,
    speakers,
)
from speechssl.data.synthetic import corpus as made
from speechssl.data.synthetic.voices import ACCENTS
from speechssl.rng import rng

SCRIPT = Script("x", "en_m1", "the old farmer", "en+m1", 160, 50, 0.0, 0.1, 0.05)


def first_scripts(split: str, number: int, seed: int = 0) -> list[Script]:
    return list(islice(scripts(split, seed), number))


# -- sentences and voices -------------------------------------------------------------------------


def test_every_symbol_of_the_grammar_is_defined_and_used():
    named = {
        name
        for entries in grammar.GRAMMAR.values()
        for entry in entries
        for name in re.findall(r"<(\w+)>", entry)
    }
    assert named | {"sentence"} == set(grammar.GRAMMAR)


def test_sentences_are_lower_case_words_of_the_lexicon():
    words = grammar.lexicon()
    generator = rng(0)
    sentences = [grammar.make_sentence(generator) for _ in range(2000)]
    assert all(set(sentence.split(" ")) <= words for sentence in sentences)
    assert all(re.fullmatch(r"[a-z]+", word) for word in words)
    assert 300 < len(words) < 600
    assert len(set(sentences)) > 1800
    lengths = [len(sentence.split()) for sentence in sentences]
    assert min(lengths) >= 4
    assert max(lengths) <= 16


@pytest.mark.parametrize(
    "sound", ["two to too", "four for", "eight ate", "one won", "no know", "by buy", "hour our"]
)
def test_no_two_words_sound_alike(sound):
    assert len(grammar.lexicon() & set(sound.split())) <= 1


def test_no_sentence_is_said_twice_or_in_two_splits():
    said = {split: [s.text for s in first_scripts(split, 400)] for split in SPLITS}
    assert all(len(set(texts)) == 400 for texts in said.values())
    for split in ("dev", "test"):
        for other in set(SPLITS) - {split}:
            assert not set(said[split]) & set(said[other])


def test_words_of_the_test_set_occur_in_training():
    count = collections.Counter(
        word for script in first_scripts("train", 200) for word in script.text.split()
    )
    words = [word for script in first_scripts("test", 200) for word in script.text.split()]
    assert np.mean([word in count for word in words]) > 0.9


def test_dev_and_test_speakers_are_never_trained_on():
    variants = {split: {s.variant for s in speakers(split)} for split in SPLITS}
    assert variants["train"] == variants["unlabeled"]
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not variants[a] & variants[b]
    for split in SPLITS:
        assert len({s.name for s in speakers(split)}) == len(speakers(split))
        assert {s.accent for s in speakers(split)} == set(ACCENTS)


def test_every_voice_speaks_equally_often():
    number = len(speakers("test"))
    count = collections.Counter(s.speaker for s in first_scripts("test", 3 * number))
    assert set(count.values()) == {3}
    assert len(count) == number


def test_a_longer_list_begins_with_the_shorter_and_depends_on_the_seed():
    assert first_scripts("train", 30)[:10] == first_scripts("train", 10)
    assert first_scripts("train", 10) != first_scripts("train", 10, seed=1)


# -- the wave -------------------------------------------------------------------------------------


def buzz(rate: int = 22_050, amplitude: float = 8000) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * 200 * np.arange(rate) / rate)).astype(np.int16)


def test_wave_is_resampled_padded_and_levelled():
    quiet = espeak.finish_wave(buzz(amplitude=2000), 22_050, SCRIPT)
    loud = espeak.finish_wave(buzz(), 22_050, SCRIPT)
    assert loud.dtype == np.dtype("<i2")
    assert len(loud) == 16_000 + 1600 + 800
    assert not loud[:1600].any()
    assert not loud[-800:].any()
    assert np.abs(loud - quiet).max() < 30
    spectrum = np.abs(np.fft.rfft(loud[1600:-800]))
    assert np.argmax(spectrum) == 200
    softer = espeak.finish_wave(buzz(), 22_050, replace(SCRIPT, gain_db=-6.02))
    assert np.abs(softer).max() == pytest.approx(np.abs(loud).max() / 2, rel=0.01)


def test_wave_is_never_clipped():
    spiky = buzz() // 10
    spiky[5000:5004] = 32767
    wave = espeak.finish_wave(spiky, 22_050, SCRIPT)
    assert np.abs(wave).max() == pytest.approx(0.98 * 32767, abs=1)
    assert np.argmax(wave) == np.argmax(np.abs(wave))  # int16 has not wrapped around


@pytest.mark.parametrize("spoken", [np.zeros(22_050, np.int16), buzz()[:5000]])
def test_silence_is_noticed(spoken):
    with pytest.raises(ValueError, match=r"en\+m1 stayed silent at: the old farmer"):
        espeak.finish_wave(spoken, 22_050, SCRIPT)


# -- settings -------------------------------------------------------------------------------------

MINUTES = {
    "unlabeled_minutes": 0.3,
    "labeled_minutes": 0.2,
    "dev_minutes": 0.2,
    "test_minutes": 0.2,
}


@pytest.mark.parametrize("name", MINUTES)
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), 1e9])
def test_impossible_minutes_are_refused(tmp_path, name, value):
    with pytest.raises(ValueError, match="minutes are"):
        make_corpus(tmp_path, **{**MINUTES, name: value})
    assert not list(tmp_path.iterdir())


def test_impossible_workers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_workers is 0"):
        make_corpus(tmp_path, **MINUTES, num_workers=0)


def test_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ValueError, match=r"pip install 'speechssl\[demo\]'"):
        make_corpus(tmp_path, **MINUTES)


# -- the corpus -----------------------------------------------------------------------------------

needs_espeak = pytest.mark.extras


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    pytest.importorskip("espeakng_loader")
    out = tmp_path_factory.mktemp("corpus")
    return out, make_corpus(out, **MINUTES)


def manifests(paths: CorpusPaths) -> dict:
    return {split: read_manifest(getattr(paths, split)) for split in SPLITS}


def samples(path) -> np.ndarray:
    with wave_file.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert file.getframerate() == SAMPLE_RATE
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


@needs_espeak
def test_manifests_fit_the_files(corpus):
    out, paths = corpus
    listed = set()
    for split, utterances in manifests(paths).items():
        minutes = MINUTES["labeled_minutes" if split == "train" else f"{split}_minutes"]
        total_s = sum(u.duration_s for u in utterances)
        assert 60 * minutes <= total_s < 60 * minutes + utterances[-1].duration_s + 1e-3
        for utterance in utterances:
            wave = samples(utterance.audio)
            assert len(wave) / SAMPLE_RATE == pytest.approx(utterance.duration_s, abs=1e-6)
            assert 1 < utterance.duration_s < 8
            assert (utterance.text is None) == (split == "unlabeled")
            listed.add(utterance.audio)
    assert listed == set((out / "wav").rglob("*.wav"))
    first_line = json.loads(paths.test.read_text(encoding="utf-8").splitlines()[0])
    assert first_line["audio"] == "wav/test/test_00000.wav"


@needs_espeak
def test_speech_is_neither_silent_nor_cut_off(corpus):
    for utterances in manifests(corpus[1]).values():
        for utterance in utterances:
            wave = samples(utterance.audio) / 32768
            assert not wave[:800].any()  # 50 ms, the shortest silence at either end
            assert not wave[-800:].any()
            assert 0.03 < np.sqrt(np.mean(wave**2)) < 0.2
            assert np.abs(wave).max() < 0.99


@needs_espeak
def test_the_same_samples_in_another_folder_and_order(corpus, tmp_path):
    again = make_corpus(tmp_path, **MINUTES, num_workers=1)
    assert again.sha256 == corpus[1].sha256
    for a, b in zip(
        sorted((corpus[0] / "wav").rglob("*.wav")),
        sorted((tmp_path / "wav").rglob("*.wav")),
        strict=True,
    ):
        assert a.read_bytes() == b.read_bytes()
    for split in SPLITS:
        ours, theirs = getattr(corpus[1], split), getattr(again, split)
        assert ours.read_bytes() == theirs.read_bytes()


@needs_espeak
def test_the_digest_is_that_of_the_samples(corpus):
    digests = [
        hashlib.sha256(samples(utterance.audio).tobytes()).hexdigest()
        for utterances in manifests(corpus[1]).values()
        for utterance in utterances
    ]
    assert hashlib.sha256("".join(digests).encode()).hexdigest() == corpus[1].sha256


@needs_espeak
@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the reference audio was made on Linux x86_64",
)
def test_the_audio_is_the_reference_audio(corpus):
    if espeak.espeak_loader()[2] != made.REFERENCE_VERSION:
        pytest.skip("another espeakng-loader than that of the reference audio")
    assert corpus[1].note is None


@needs_espeak
def test_other_audio_gives_a_note(corpus):
    utterances = manifests(corpus[1])
    spoken = {
        split: [
            made.Spoken(script, 1, hashlib.sha256(samples(u.audio).tobytes()).hexdigest())
            for script, u in zip(first_scripts(split, 4), utterances[split][:4], strict=True)
        ]
        for split in SPLITS
    }
    version = espeak.espeak_loader()[2]
    assert made.compare(spoken, 0, version) == corpus[1].note
    spoken["dev"][3] = replace(spoken["dev"][3], sha256="0")
    assert "not sample for sample" in made.compare(spoken, 0, made.REFERENCE_VERSION)
    assert "espeakng-loader 9.9 is installed" in made.compare(spoken, 0, "9.9")
    assert made.compare(spoken, 1, version) is None  # no reference for other seeds
    assert made.compare({**spoken, "dev": spoken["dev"][:3]}, 0, version) is None


@needs_espeak
def test_a_finished_corpus_is_used_again_and_others_are_replaced(tmp_path, monkeypatch):
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(made, "SHARD_UTTERANCES", 4)
    minutes = dict.fromkeys(MINUTES, 0.01)
    mine = tmp_path / "wav" / "mine.wav"
    mine.parent.mkdir()
    mine.write_text("not ours, so it is left alone")
    first = make_corpus(tmp_path, **minutes)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    with monkeypatch.context() as patch:
        patch.setattr(made, "speak_splits", None)  # would fail if called
        assert make_corpus(tmp_path, **minutes) == first
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}

    (tmp_path / "wav" / "test" / "test_00000.wav").unlink()
    assert make_corpus(tmp_path, **minutes) == first

    other = make_corpus(tmp_path, **minutes, seed=1)
    assert other.sha256 != first.sha256
    listed = {u.audio for utterances in manifests(other).values() for u in utterances}
    assert listed == set((tmp_path / "wav").glob("*/*.wav"))
    assert mine.exists()


@needs_espeak
def test_failed_speech_is_one_sentence(tmp_path):
    pytest.importorskip("espeakng_loader")
    with pytest.raises(ValueError, match=r"could not speak x to x: espeak-ng has no voice nowhere"):
        made.speak_shard(tmp_path, [replace(SCRIPT, voice="nowhere")])
