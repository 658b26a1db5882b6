"""Tuning of language models' weights, and the weights that are kept."""

import json
from dataclasses import replace

import numpy as np
import pytest

import speechssl
from speechssl.checkpoint import load_model
from speechssl.cli import main
from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.decoding.lm import train_lm, write_arpa
from speechssl.inference.decoders import choose_decoder
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import transcribe_all
from speechssl.inference.tune_lm import Rates, _within, log_prob_rows, tune_lm
from speechssl.inference.tuned import _digest, model_digest, read_tuned, tuned_file
from speechssl.model.fast.accelerate import accelerate


@pytest.fixture
def model(tiny_models):
    return load_model(tiny_models["ctc"])


@pytest.fixture
def manifest(model, record, tmp_path):
    """Recordings and nearly what the model makes of them."""
    utterances = []
    for i, seconds in enumerate((1.0, 0.6)):
        path = record(f"{i}.wav", seconds)
        text = speechssl.transcribe(model, path).text[1:]
        utterances.append(Utterance(f"u{i}", path, 0.0, seconds, 16000, None, text))
    write_manifest(tmp_path / "test.jsonl", utterances)
    return tmp_path / "test.jsonl"


@pytest.fixture
def lm(manifest, tmp_path):
    path = tmp_path / "lm.arpa"
    texts = [u.text for u in read_manifest(manifest)]
    write_arpa(train_lm(texts, order=3, unit="char"), path)
    return path


def test_the_rows_are_those_that_transcribing_decodes(model, manifest):
    utterances = read_manifest(manifest)
    rows = log_prob_rows(model, utterances, "fp32")
    decoder = BeamDecoder(model.require_ctc()[1], BeamConfig(width=4))
    clips = [Clip(u.id, u.audio, u.start_s, u.duration_s) for u in utterances]
    for parts, result in zip(
        rows, transcribe_all(model, clips, decode=decoder, precision="fp32"), strict=True
    ):
        texts = [decoder.decode(part).text(model.require_ctc()[1]) for part in parts]
        assert " ".join(filter(None, texts)) == result.text


def test_tuning_is_never_worse_than_before(model, manifest, lm):
    decoder = choose_decoder(model, lm=lm, beam=4)
    found = tune_lm(model, read_manifest(manifest), decoder, precision="fp32")
    assert not found.before < found.rates
    assert found.tried > 25
    again = tune_lm(
        model, read_manifest(manifest), decoder.rescaled(found.config), precision="fp32"
    )
    assert again.before == found.rates  # what is said of the best is what decoding with it gives
    words = train_lm([u.text for u in read_manifest(manifest)], order=1, unit="word")
    tokenizer = model.require_ctc()[1]
    both = BeamDecoder(
        tokenizer, BeamConfig(2), train_lm(["ab"], order=1, unit="char"), word_lm=words
    )
    assert both.tunable == [("lm_weight", "bonus"), ("word_weight", "word_bonus")]
    assert BeamDecoder(tokenizer, lm=words).tunable == [("lm_weight", "bonus")]
    assert BeamDecoder(tokenizer, word_lm=words).tunable == [("word_weight", "word_bonus")]
    with pytest.raises(ValueError, match="no weight to tune: give a language model"):
        tune_lm(model, read_manifest(manifest), BeamDecoder(tokenizer))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (Rates(0.893, 0.437), Rates(0.838, 0.468)),  # fewer words are wrong, more are left out
        (Rates(0.893, 0.434), Rates(0.893, 0.437)),
        (Rates(0.838, 0.437), Rates(0.893, 0.437)),
        (Rates(0.0, 0.0), Rates(0.01, 0.001)),
        (Rates(0.1, 0.0), Rates(0.1, 0.2)),
    ],
)
def test_neither_rate_is_bought_with_the_other(better, worse):
    assert better < worse
    assert not worse < better


def test_nothing_to_tune_on(model, manifest, lm):
    utterances = [replace(u, text="") for u in read_manifest(manifest)]
    with pytest.raises(ValueError, match=r"None of the .* utterances to tune on has a transcript"):
        tune_lm(model, utterances, choose_decoder(model, lm=lm))


def test_an_hour_of_a_longer_set(manifest):
    utterances = read_manifest(manifest)[:1] * 40
    utterances = [replace(u, duration_s=300.0, id=str(i)) for i, u in enumerate(utterances)]
    chosen = _within(utterances, 3600.0)
    assert len(chosen) == 12
    assert (chosen[0].id, chosen[-1].id) == ("0", "39")
    assert _within(utterances[:5], 3600.0) == utterances[:5]


def test_from_the_command_line(tiny_models, manifest, lm, tmp_path, capsys):
    ctc, out = str(tiny_models["ctc"]), tmp_path / "scores.json"
    command = ["evaluate", ctc, str(manifest), "--lm", str(lm), "--beam", "3", "--out", str(out)]
    assert main([*command, "--tune-lm", str(manifest)]) == 0
    said = capsys.readouterr().err
    assert "--lm-weight" in said
    assert f"Kept in {lm}.tuned.json" in said
    kept = json.loads(tuned_file(lm).read_text())
    first = json.loads(out.read_text())
    assert first["wer"] == pytest.approx(kept["wer"])
    assert f"weight {kept['lm_weight']}, bonus {kept['bonus']}" in first["decoding"]
    assert main(command) == 0  # found again, and said
    assert f"{lm}.tuned.json: lm_weight" in capsys.readouterr().err
    assert json.loads(out.read_text())["utterances"] == first["utterances"]
    assert main([*command, "--lm-weight", "0.1"]) == 0  # what is given counts
    assert "tuned.json" not in capsys.readouterr().err
    assert json.loads(out.read_text())["decoding"].endswith("weight 0.1")
    assert main(["evaluate", ctc, str(manifest), "--tune-lm", str(manifest)]) == 2
    assert "--tune-lm is of a language model: give one with --lm" in capsys.readouterr().err


def test_weights_that_cannot_be_kept_are_said(tiny_models, manifest, lm, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("speechssl.inference.tuned.write_tuned", refuse)
    command = ["transcribe", str(tiny_models["ctc"]), str(manifest.parent / "0.wav"), "--beam", "2"]
    assert main([*command, "--lm", str(lm), "--tune-lm", str(manifest)]) == 0
    said = capsys.readouterr().err
    assert "--lm-weight" in said
    assert f"cannot be kept beside {lm} (Permission denied): give them next time" in said


def test_weights_for_another_model_are_not_used(model, lm):
    data = {"lm_weight": 2.0, "bonus": 0.25, "valid": "dev.jsonl"}
    right = {"model": "0", "lm": "0", "word_lm": None}

    def read(**changed):
        tuned_file(lm).write_text(json.dumps(right | data | changed))
        return read_tuned(model, lm, None)

    assert read_tuned(model, lm, None) == ({}, [])
    (note,) = read()[1]
    assert "was tuned for another model: the usual weights are used" in note
    right["model"] = model_digest(model)
    assert "another language model" in read()[1][0]
    right["lm"] = _digest(lm)
    assert read()[0] == {"lm_weight": 2.0, "bonus": 0.25}
    assert "another pair of language models" in read(word_lm="0")[1][0]
    for damage in ({"lm_weight": "much"}, {"lm_weight": -1}, {"lm_weight": float("nan")}):
        assert "is damaged" in read(**damage)[1][0]
    tuned_file(lm).write_text("[")
    assert "is damaged" in read_tuned(model, lm, None)[1][0]
    read()
    accelerate(model.model)  # the same model in its fast form
    assert choose_decoder(model, lm=lm).config.lm_weight == 2.0
    assert choose_decoder(model, lm=lm, bonus=3.0).config == BeamConfig(bonus=3.0)
    lm.write_text(lm.read_text() + "\n")
    assert choose_decoder(model, lm=lm).config.lm_weight == 0.5


def test_settings_that_nothing_would_use(model, lm):
    for given, message in (
        ({"word_weight": 1.0, "lm": lm}, "of a second language model"),
        ({"known_words": True, "beam": 4}, "keeps to the words of a language model"),
        ({"bonus": 1.0, "beam": 4}, "lm_weight and bonus are of a language model"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_decoder(model, **given)
    with pytest.raises(TypeError, match="no setting weigth"):
        choose_decoder(model, lm=lm, weigth=1.0)
    assert choose_decoder(model, num_best=40).config.width == 40


def test_hotwords_and_alternatives_from_the_command_line(tiny_models, record, tmp_path, capsys):
    wave, hot = str(record("a.wav", 0.5)), tmp_path / "hot.txt"
    ctc = str(tiny_models["ctc"])
    letters = load_model(tiny_models["ctc"]).require_ctc()[1].symbols[3:]
    hot.write_text(f"{letters[0]}{letters[1]}\t20\nqqxqq\n", encoding="utf-8")
    command = ["transcribe", ctc, wave, "--format", "json", "--hotwords", str(hot)]
    assert main([*command, "--n-best", "3"]) == 0
    output = capsys.readouterr()
    assert "1 hotword is not used, as the model cannot spell it: 'qqxqq'" in output.err
    (stretch,) = (data := json.loads(output.out))["alternatives"]
    assert stretch["texts"][0]["text"] == data["text"]
    assert 1 < len(stretch["texts"]) <= 3
    assert all("posterior" in w for s in data["segments"] for w in s["words"])
    for arguments, message in (
        ((*command[:3], "--n-best", "3"), "only --format json"),
        ((*command[:3], "--hotwords", str(tmp_path / "gone")), "no file of hotwords"),
        ((*command[:3], "--known-words"), "keeps to the words"),
        ((*command, "--n-best", "0"), "0 best texts"),
        ((*command, "--n-best", "9", "--beam", "4"), "9 best texts need a beam of as many"),
    ):
        assert main([str(each) for each in arguments]) == 2
        assert message in capsys.readouterr().err
    hot.write_text("qqxqq\t-3\n", encoding="utf-8")
    assert main(command) == 2
    assert "line 1: the weight of a hotword is a number above 0" in capsys.readouterr().err


def test_hotwords_in_python(model, record):
    letters = model.require_ctc()[1].symbols[3:]
    found = speechssl.transcribe(model, record("a.wav", 0.5), hotwords=[letters[0]], num_best=2)
    assert 1 <= len(found.alternatives[0].texts) <= 2
    with pytest.warns(UserWarning, match="1 hotword is not used"):
        speechssl.transcribe(
            model, np.zeros(8000, np.float32), hotwords={letters[0]: 1.0, "qqxqq": 2.0}
        )
