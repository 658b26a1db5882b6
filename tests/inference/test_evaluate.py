"""Scoring a model on manifests."""

import json
from dataclasses import replace

import jiwer
import pytest

from speechssl.checkpoint import load_model
from speechssl.data.manifest import Utterance
from speechssl.inference.evaluate import Evaluation, describe, evaluate, infer, write_result
from speechssl.inference.transcribe import transcribe


@pytest.fixture
def checkpoint(tiny_models):
    return load_model(tiny_models["ctc"])


@pytest.fixture
def utterances(checkpoint, record):
    """What the model outputs, except in the last one."""
    made = []
    for i, seconds in enumerate((1.0, 2.0, 0.7)):
        path = record(f"{i}.wav", seconds)
        text = transcribe(checkpoint, path).text
        made.append(Utterance(f"u{i}", path, 0.0, seconds, 16000, f"s{i}", text))
    made[2] = replace(made[2], text=made[2].text + " Missing")
    return made


def test_rates_are_those_of_jiwer(checkpoint, utterances):
    result = evaluate(checkpoint, utterances)
    heard = [transcribe(checkpoint, u.audio).text for u in utterances]
    said = [u.text for u in utterances]
    assert result.wer == pytest.approx(jiwer.wer(said, heard))
    assert result.cer == pytest.approx(jiwer.cer(said, heard))
    assert (result.substitutions, result.deletions, result.insertions) == (0, 1, 0)
    assert result.wer_low <= result.wer <= result.wer_high


def test_parts_of_a_recording(checkpoint, utterances, record):
    from speechssl import audio

    path = record("long.wav", 3.0)
    part = replace(utterances[0], audio=path, start_s=1.0, duration_s=0.8)
    evaluation = infer(checkpoint, [part])
    wave = audio.read(path, start_s=1.0, duration_s=0.8)
    assert evaluation.hypotheses == (transcribe(checkpoint, wave).text,)
    assert evaluation.audio_s == 0.8


def test_utterances_without_a_transcript_are_counted(checkpoint, utterances):
    evaluation = infer(checkpoint, [replace(utterances[0], text=None), *utterances[1:]])
    assert [u.id for u in evaluation.utterances] == ["u1", "u2"]
    assert "Left out: 1 utterances without a transcript" in describe(
        evaluation, [evaluation.score()]
    )
    with pytest.raises(ValueError, match="None of the 1 utterances has a transcript"):
        infer(checkpoint, [replace(utterances[0], text=None)])


@pytest.mark.parametrize("text", ["", "  ", "\u200b", "\ufeff\u00a0"])
def test_a_blank_transcript_is_not_scored_as_silence(checkpoint, utterances, text):
    evaluation = infer(checkpoint, [replace(utterances[0], text=text), *utterances[1:]])
    assert [u.id for u in evaluation.utterances] == ["u1", "u2"]
    assert evaluation.num_untranscribed == 1
    assert evaluation.score() == evaluate(checkpoint, utterances[1:])
    with pytest.raises(ValueError, match="None of the 1 utterances has a transcript"):
        infer(checkpoint, [replace(utterances[0], text=text)])


def test_what_the_normaliser_leaves_nothing_of_is_left_out_and_said(utterances):
    heard = [replace(u, text=t) for u, t in zip(utterances, ("a b", "...", "♪ -"), strict=True)]
    evaluation = Evaluation(tuple(heard), ("a", "x", "y"), 0, 1.0)
    raw, basic = evaluation.score("none"), evaluation.score("basic")
    assert (raw.num_utterances, basic.num_utterances) == (3, 1)
    assert basic.wer == 0.5  # nothing is inserted where nothing was written down
    shown = describe(evaluation, [raw, basic])
    assert "Left out of basic: 2 utterances (the first: u1), as the normaliser leaves" in shown
    assert "Left out of raw" not in shown
    twice = Evaluation(  # ids of two manifests may be the same
        (heard[0], replace(heard[1], id=heard[0].id)), ("a", "x"), 0, 1.0
    )
    assert twice.score("basic").num_utterances == 1
    with pytest.raises(ValueError, match="leaves nothing of any of the 2 transcripts"):
        Evaluation(tuple(heard[1:]), ("x", "y"), 0, 1.0).score("basic")


def test_speakers_are_resampled_in_whatever_spelling(utterances):
    names = ["Zoé", "Zoe\u0301", "a", "b", "c", "d"]
    heard = [replace(utterances[0], id=f"u{i}", speaker=n) for i, n in enumerate(names)]
    result = Evaluation(tuple(heard), ("x",) * 6, 0, 1.0).score()
    assert "over 5 speakers" in describe(Evaluation(tuple(heard), ("x",) * 6, 0, 1.0), [result])


def test_a_missing_recording_is_an_error(checkpoint, utterances, tmp_path):
    gone = replace(utterances[1], audio=tmp_path / "gone.wav")
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        evaluate(checkpoint, [utterances[0], gone])


def test_the_table_shows_raw_and_normalised_and_the_worst(checkpoint, utterances):
    evaluation = infer(checkpoint, utterances)
    shown = describe(evaluation, [evaluation.score("none"), evaluation.score("basic")])
    lines = shown.splitlines()
    assert lines[0].startswith("3 utterances, 0.1 minutes")
    assert any(line.lstrip().startswith("raw") for line in lines)
    assert any(line.lstrip().startswith("basic") for line in lines)
    assert "Intervals: bootstrap over 3 utterances." in lines
    assert next(line for line in lines if line.startswith("u")).startswith("u2 (WER")
    assert lines[-3].endswith("missing")  # normalised
    assert lines[-1].endswith("D")


def test_the_json(checkpoint, utterances, tmp_path):
    evaluation = infer(checkpoint, utterances)
    result = evaluation.score("lower")
    write_result(tmp_path / "new" / "a.json", result, evaluation, ["test.jsonl"])
    data = json.loads((tmp_path / "new" / "a.json").read_text(encoding="utf-8"))
    assert set(data) == {
        *("manifest", "normalizer", "num_utterances", "num_words", "wer", "wer_low", "wer_high"),
        *("cer", "cer_low", "cer_high", "substitutions", "deletions", "insertions", "audio_s"),
        *("elapsed_s", "utterances", "decoding", "confidence"),
    }
    assert data["manifest"] == "test.jsonl"
    assert data["normalizer"] == "lower"
    assert data["audio_s"] == pytest.approx(3.7)
    assert [u["id"] for u in data["utterances"]] == ["u0", "u1", "u2"]
    assert data["utterances"][2]["reference"].endswith("missing")
    write_result(tmp_path / "b.json", result, evaluation, ["a.jsonl", "b.jsonl"])
    assert json.loads((tmp_path / "b.json").read_text())["manifest"] == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("text", "normalizer", "unknown"),
    [
        ("ABC", "none", "A B C"),
        ("ABC", "basic", ""),
        ("abc, déf.", "basic", ""),
        ("abc 12", "basic", "1 2"),
        ("абв", "basic", "а б в"),
    ],
)
def test_characters_that_the_model_does_not_know_are_said_first(
    text, normalizer, unknown, checkpoint, utterances
):
    odd = [replace(utterances[0], text=text), *(replace(u, text="abc") for u in utterances[1:])]
    said: list[str] = []
    infer(checkpoint, odd, normalizer=normalizer, say=said.append)
    assert len(said) == bool(unknown)
    if unknown:
        assert said[0].startswith("1 of 3 transcripts (u0) hold")
        assert f"({unknown})" in said[0]
        assert "upsample" not in said[0]
