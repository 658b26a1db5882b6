"""Calibrated transcripts: what they say, what an older model says, and how a model gets there."""

import json
import shutil

import numpy as np
import pytest

from speechssl.checkpoint import add_to_meta, load_model
from speechssl.cli import main
from speechssl.data.dataset import Waves
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.decoding.align import Word
from speechssl.inference.confidence import calibrated, calibration_of, whole_words
from speechssl.inference.decoders import choose_decoder
from speechssl.inference.transcribe import transcribe
from speechssl.inference.transcript import Transcript, to_segments
from speechssl.inference.writers import WRITERS
from speechssl.rng import rng
from speechssl.scoring.calibration import Calibration, Quality
from speechssl.training import calibrate

QUALITY = Quality(200, 50, "utterances", 0.3, 0.02, 0.3, 0.4, 0.8)
HALVED = Calibration(0.0, 0.5, 0.0, "greedy", QUALITY)
UNSURE = Calibration(-1.0, 0.1, 0.0, "beam 16", QUALITY)


@pytest.fixture
def model(tiny_models, tmp_path):
    return shutil.copytree(tiny_models["ctc"], tmp_path / "model")


@pytest.fixture
def calibrated_model(model):
    stored = {"greedy": HALVED.to_json(), "lm": UNSURE.to_json()}
    add_to_meta(model, "calibration", stored)
    return model


def test_words_have_both_confidences(calibrated_model, record, tiny_models):
    path = record("a.wav", 2.0)
    raw = transcribe(load_model(tiny_models["ctc"]), path)
    found = transcribe(load_model(calibrated_model), path)
    assert (raw.calibrated, found.calibrated) == (False, True)
    assert found.text == raw.text
    assert len(found.words) > 2
    for before, after in zip(raw.words, found.words, strict=True):
        assert (after.start_s, after.end_s) == (before.start_s, before.end_s)
        assert after.raw_confidence == before.confidence
        assert before.raw_confidence is None
        assert after.confidence == HALVED(before.confidence, before.text)
    mean = np.mean([word.confidence for word in found.words])
    assert found.confidence == pytest.approx(mean)  # the share of them that is probably right
    data = json.loads(WRITERS["json"](found))
    assert data["calibrated"] is True
    word = data["segments"][0]["words"][0]
    assert word["raw_confidence"] == round(raw.words[0].confidence, 4)
    assert "calibrated" not in json.loads(WRITERS["json"](raw))


def test_each_way_of_decoding_has_its_own(calibrated_model, tmp_path):
    checkpoint = load_model(calibrated_model)
    assert main(["lm", str(text_file(tmp_path)), "--out", str(tmp_path / "lm.arpa")]) == 0
    greedy, beam = choose_decoder(checkpoint), choose_decoder(checkpoint, beam=2)
    with_lm = choose_decoder(checkpoint, lm=tmp_path / "lm.arpa")
    found = [calibration_of(checkpoint, decode) for decode in (greedy, beam, with_lm)]
    assert found == [HALVED, HALVED, UNSURE]


def text_file(folder):
    (folder / "text.txt").write_text("abc déf\nabc\ndéf abc\n" * 5, encoding="utf-8")
    return folder / "text.txt"


@pytest.mark.parametrize("fmt", ["json", "tsv"])
def test_that_a_model_is_not_calibrated_is_said(fmt, model, record, capsys):
    path = str(record("a.wav", 0.5))
    assert main(["transcribe", str(model), path, "--format", fmt]) == 0
    assert "Confidences are not calibrated: they rank words" in capsys.readouterr().err
    add_to_meta(model, "calibration", {"note": "Confidences are not calibrated: 3 words."})
    assert main(["transcribe", str(model), path, "--format", fmt]) == 0
    assert capsys.readouterr().err == "speechssl: Confidences are not calibrated: 3 words.\n"
    add_to_meta(model, "calibration", {"greedy": HALVED.to_json()})
    assert main(["transcribe", str(model), path, "--format", fmt]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("stored", [[], "yes", {"greedy": {"intercept": None}}, {"greedy": 1}])
def test_a_damaged_calibration_is_a_sentence(stored, model, record, capsys):
    add_to_meta(model, "calibration", stored)
    assert main(["transcribe", str(model), str(record("a.wav", 0.5))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "calibration of the model's confidence is damaged" in line


def test_a_word_that_is_cut_keeps_its_confidence():
    parts = tuple(Word(c, i, i + 1.0, 0.9 if i < 10 else 0.1) for i, c in enumerate("abcd" * 5))
    (word,) = calibrated([Word("abcd" * 5, 0, 20.0, 0.3, True, parts)], HALVED)
    pieces = [w for segment in to_segments([word]) for w in segment.words]
    assert len(pieces) > 2
    assert {piece.confidence for piece in pieces} == {word.confidence}
    assert pieces[0].raw_confidence == pytest.approx(0.9)
    (whole,) = whole_words(pieces)
    assert whole == ("abcd" * 5, pytest.approx(0.3))
    assert calibrated([word], None) == [word]


def test_without_words_a_transcript_is_as_sure_as_it_was():
    silent = Transcript("a", 1.0, (), 0.9, calibrated=True)
    assert json.loads(WRITERS["json"](silent))["confidence"] == 0.9


@pytest.fixture
def spoken(model, record, tmp_path):
    """Utterances with what the model gives, its least sure words and a few others replaced;
    speakers in turns."""
    paths = [record(f"{i}.wav", 12.0) for i in range(12)]
    found = [transcribe(load_model(model), path).words for path in paths]
    limit = np.quantile([word.confidence for words in found for word in words], 0.4)
    made = []
    for i, (path, words) in enumerate(zip(paths, found, strict=True)):
        drawn = rng(0, "wrong", i).uniform(size=len(words))
        is_right = [w.confidence > limit and p < 0.9 for w, p in zip(words, drawn, strict=True)]
        text = " ".join(w.text if r else "déf" for w, r in zip(words, is_right, strict=True))
        made.append(Utterance(f"u{i}", path, 0.0, 12.0, 16000, f"s{i % 2}", text))
    write_manifest(tmp_path / "dev.jsonl", made)
    return made


@pytest.mark.usefixtures("spoken")
def test_evaluate_adds_a_calibration(model, tmp_path, capsys):
    manifest, out = str(tmp_path / "dev.jsonl"), tmp_path / "scores.json"
    assert main(["evaluate", str(model), manifest, "--out", str(out)]) == 0
    assert "(not calibrated: --calibrate" in capsys.readouterr().out
    before = json.loads(out.read_text())["confidence"]
    assert before["calibrated"] is False
    assert before["num_words"] >= 100
    weights = (model / "model.safetensors").read_bytes()
    assert main(["evaluate", str(model), manifest, "--calibrate"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("Calibrated for greedy: expected calibration error 0.")
    assert "fitted on one half of the speakers" in said
    assert (model / "model.safetensors").read_bytes() == weights
    assert main(["evaluate", str(model), manifest, "--out", str(out)]) == 0
    after = json.loads(out.read_text())["confidence"]
    assert after["calibrated"] is True
    assert after["raw_calibration_error"] == before["calibration_error"]
    assert after["calibration_error"] < before["calibration_error"]
    assert "before calibration)" in capsys.readouterr().out


def test_few_words_are_said_after_the_scores(model, spoken, tmp_path, capsys):
    write_manifest(tmp_path / "dev.jsonl", spoken[:1])
    assert main(["evaluate", str(model), str(tmp_path / "dev.jsonl"), "--calibrate"]) == 2
    said = capsys.readouterr()
    assert "WER [95 %]" in said.out
    assert "and 100 are needed" in said.err.splitlines()[-1]
    assert "calibration" not in load_model(model).meta


@pytest.mark.usefixtures("spoken")
def test_models_of_others_cannot_keep_one(model, tmp_path, capsys):
    (model / "meta.json").unlink()
    assert main(["evaluate", str(model), str(tmp_path / "dev.jsonl"), "--calibrate"]) == 2
    said = capsys.readouterr()
    assert said.out == ""  # before any work
    assert "make one of it with `speechssl import`" in said.err


def test_fine_tuning_ends_with_it(model, spoken, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(calibrate, "_MOST_LM_WORDS", 110)
    waves = Waves.open(spoken, None, 16000, False)
    texts = [u.text or "" for u in spoken]
    calibrate.calibrate_best(model, waves, texts, torch.device("cpu"))
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == [
        "Confidence, greedy",
        "Confidence, with a language model",
    ]
    stored = load_model(model).meta["calibration"]
    assert set(stored) == {"greedy", "lm"}
    assert stored["lm"]["decoding"].startswith("beam 16, 6-gram of the training transcripts")
    quality = stored["greedy"]["quality"]
    assert quality["num_words"] >= 100
    assert 0 < quality["error_after"] < 0.3
    calibrate.calibrate_best(model, waves, texts, torch.device("cpu"))  # a run that is gone on with
    assert capsys.readouterr().err == ""
    assert load_model(model).meta["calibration"] == stored


def test_fine_tuning_on_few_words_says_so(model, spoken, capsys):
    import torch

    waves = Waves.open(spoken[:1], None, 16000, False)
    calibrate.calibrate_best(model, waves, ["abc"], torch.device("cpu"))
    said = capsys.readouterr().err
    assert said.startswith("Confidences are not calibrated: there are ")
    assert load_model(model).meta["calibration"] == {"note": said.strip()}
    assert not transcribe(load_model(model), spoken[0].audio).calibrated
