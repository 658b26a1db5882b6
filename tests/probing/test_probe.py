"""Probes: the linear maps against oracles, the tasks on frames that are known, the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from speechssl.checkpoint import load_model
from speechssl.cli import main
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.probing.characters import Characters, Frames
from speechssl.probing.classify import fit_softmax, pooled
from speechssl.probing.probe import make_task
from speechssl.probing.representation import Representation, log_mels, of_model, untrained
from speechssl.probing.result import Rate, Result, Row, page, row_text
from speechssl.rng import rng

LETTERS = " abc"


def utterance(name: str, text: str | None = None, speaker: str | None = None) -> Utterance:
    return Utterance(name, Path("no.wav"), 0.0, 1.0, 16000, speaker, text)


def make_known(utterances, *, num_layers=2):
    """Layer 0 is noise, layer 1 tells text (a letter's two frames, and a gap) and speaker."""
    for u in utterances:
        frames = rng(0, u.id).normal(size=(4 * len(u.text or "a"), num_layers, 8)) * 0.3
        for i, letter in enumerate(u.text or ""):
            frames[4 * i : 4 * i + 2, 1, LETTERS.index(letter)] += 3
        frames[:, 1, 4 + int(u.speaker or 0)] += 3
        yield frames.astype(np.float32)


KNOWN = Representation("known", 2, make_known)


def test_the_softmax_is_that_of_scikit_learn():
    generator = rng(0, "oracle")
    vectors, truth = generator.normal(size=(60, 5)), generator.integers(3, size=60)
    probe = fit_softmax(torch.from_numpy(vectors), torch.from_numpy(truth), 3)
    oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(vectors, truth)
    expected = oracle.predict_log_proba(vectors)
    found = probe(torch.from_numpy(vectors)).log_softmax(1).detach().numpy()
    assert np.allclose(found, expected, atol=1e-3)


def test_digits():
    made = [utterance(f"u{i}", "abc"[i % 3], str(i % 2)) for i in range(60)]
    task = make_task("digit", made[:30], made[30:])
    noise, told = task.judge(KNOWN)
    assert told == Rate(1.0, 1.0, 1.0)
    assert noise.value < 0.7
    assert noise.low < noise.value < noise.high
    assert task.describe() == "3 digits; 30 utterances to learn from, 30 to judge"


def test_speakers():
    made = [utterance(f"u{i}", None, str(i % 3)) for i in range(60)]
    task = make_task("speaker", [*made[:30], utterance("nobody")], made[30:])
    noise, told = task.judge(KNOWN)
    assert told.value == 1.0
    assert noise.value < 0.7


def test_what_cannot_be_told_apart():
    made = [utterance(f"u{i}", "abc"[i % 3], str(i % 3)) for i in range(6)]
    with pytest.raises(ValueError, match=r"1 speakers that training has not \(2\)"):
        make_task("speaker", [u for u in made if u.speaker != "2"], made)
    with pytest.raises(ValueError, match="with a transcript for training and test"):
        make_task("digit", [replace(u, text=None) for u in made], made)
    with pytest.raises(ValueError, match="at least two different ones; found 1 and 3"):
        make_task("digit", made[:1], made)
    sentences = [utterance(f"s{i}", f"sentence {i}") for i in range(101)]
    with pytest.raises(ValueError, match=r"101 different transcripts\. For running speech"):
        make_task("digit", sentences, sentences[:3])
    with pytest.raises(ValueError, match="transcribed utterances for training and test; found 0"):
        make_task("character", [utterance("a")], made)
    with pytest.raises(ValueError, match="not for --task speaker"):
        make_task("speaker", made, made, label_minutes=1.0)


def test_characters():
    generator = rng(0, "texts")
    texts = ["".join(generator.choice(list("abc"), 5)) for _ in range(40)]
    made = [utterance(f"u{i}", text) for i, text in enumerate(texts)]
    noise, told = make_task("character", made[:30], made[30:], steps=200).judge(KNOWN)
    assert told.value < 0.35
    assert noise.value > 0.6
    runs = [make_task("character", made[:30], made[30:], steps=5) for _ in range(2)]
    assert list(runs[0].judge(KNOWN)) == list(runs[1].judge(KNOWN))
    fewer = make_task("character", made, made, label_minutes=0.1)
    assert len(fewer.train) == 6


def test_transcripts_that_do_not_fit_teach_nothing():
    made = [utterance("a", "abcabcabcabc" * 9), utterance("b", "abc")]
    cut = Representation("cut", 2, lambda us: (f[:12] for f in make_known(us)))
    assert len(list(make_task("character", made, made, steps=2).judge(cut))) == 2
    with pytest.raises(ValueError, match="as many frames as its transcript"):
        list(make_task("character", made[:1], made, steps=2).judge(cut))


def test_frames_come_back_from_the_file(tmp_path):
    made = [utterance(f"u{i}", "abc"[: i + 1]) for i in range(3)]
    with (tmp_path / "frames").open("w+b") as file:
        frames = Frames(file, KNOWN, made)
        for layer in range(2):
            expected = [f[:, layer] for f in make_known(made)]
            for one, other in zip(frames.layer(layer), expected, strict=True):
                assert np.array_equal(one.numpy(), other)


# ---- real representations -----------------------------------------------------------------------


@pytest.fixture
def digits(record) -> list[Utterance]:
    """Two people, two words, each said three times."""
    return [
        Utterance(f"{who}{word}{i}", record(f"{who}{word}{i}.wav", 0.3), 0.0, 0.3, 16000, who, word)
        for who in ("anna", "bert")
        for word in ("one", "two")
        for i in range(3)
    ]


def test_layers_of_a_model_and_of_a_fresh_one(tiny_models, digits):
    checkpoint = load_model(tiny_models["speech"])
    model = of_model("m", checkpoint)
    found = list(model.frames_of(digits[:2]))
    assert [frames.shape for frames in found] == [(15, 3, 16)] * 2
    wave = torch.from_numpy(speech_of(digits[0]))[None]
    with torch.no_grad():
        out = checkpoint.speech(wave, torch.tensor([wave.shape[1]]), keep_hidden=True)
    expected = torch.stack(out.hidden, 2)[0].numpy()
    assert np.allclose(found[0], expected, atol=1e-5)
    assert np.allclose(pooled(model, digits[:1])[0], expected.mean(0), atol=1e-5)
    state = torch.get_rng_state()
    fresh = [next(untrained("f", checkpoint, seed).frames_of(digits)) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(fresh[0], fresh[1])
    assert not np.allclose(fresh[0], fresh[2], atol=1e-3)
    assert not np.allclose(fresh[0], found[0], atol=1e-3)


def speech_of(u: Utterance) -> np.ndarray:
    from speechssl import audio

    return audio.read(u.audio)


def test_log_mel(digits):
    (raw,) = log_mels(0.04, normalize=False).frames_of(digits[:1])
    (even,) = log_mels(0.04, normalize=True).frames_of(digits[:1])
    assert raw.shape == even.shape == (7, 1, 320)
    hops = even.reshape(28, 80)
    assert np.allclose(hops.mean(0), 0, atol=1e-4)
    assert np.allclose(hops.std(0), 1, atol=0.05)
    assert abs(raw.mean()) > 1


# ---- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["digit", "speaker", "character"])
def test_the_command(tiny_models, digits, tmp_path, capsys, task):
    write_manifest(tmp_path / "train.jsonl", [u for u in digits if not u.id.endswith("0")])
    write_manifest(tmp_path / "test.jsonl", [u for u in digits if u.id.endswith("0")])
    models = [str(tiny_models["speech"]), str(tiny_models["conv"])]
    found = []
    for out in (tmp_path / "a", tmp_path / "b"):
        options = ["--task", task, "--steps", "3", "--untrained", "--out", str(out)]
        data = ["--train", str(tmp_path / "train.jsonl"), "--test", str(tmp_path / "test.jsonl")]
        assert main(["probe", *models, *options, *data]) == 0
        found.append(json.loads((out / "probe.json").read_text(encoding="utf-8")))
        assert found[-1].pop("elapsed_s") > 0
    assert found[0] == found[1]
    rows = found[0]["rows"]
    names = [f"{m}{kind}" for m in models for kind in ("", ", untrained")]
    expected = [("log-mel", 0), *((name, layer) for name in names for layer in range(3))]
    assert [(row["model"], row["layer"]) for row in rows] == expected
    assert all(0 <= row["low"] <= row["value"] <= row["high"] for row in rows)
    said = capsys.readouterr().out
    assert said.count("log-mel") == 4  # a row and the best of it, twice
    text = (tmp_path / "a" / "probe.html").read_text(encoding="utf-8")
    assert text.count("<polyline") == 5
    assert "http" not in text


def test_the_page_and_the_line():
    rows = (Row("log-mel", 0, Rate(0.5, 0.4, 0.6)), Row("<m>", 0, Rate(0.7, 0.6, 0.8)))
    rows += (Row("<m>", 1, Rate(0.9, 0.8, 1.0)), Row("<m>", 2, Rate(0.9, 0.8, 1.0)))
    result = Result("digit", "accuracy", True, "3 digits", {}, rows, 1.0)
    assert result.best("<m>") == rows[2]
    assert replace(result, higher_is_better=False).best("<m>") == rows[1]
    assert row_text(rows[1], 8) == "<m>           0   70.0 %  [60.0, 80.0]"
    text = page(result)
    assert "<m>" not in text
    assert text.count("&lt;m&gt;") > 3
    assert "Higher is better" in text


def test_characters_that_only_the_test_has_are_said():
    train, test = [utterance("a", "abc")], [utterance("b", "abc"), utterance("c", "ABC 1")]
    told = Characters(train, test, 0, 10).describe()
    assert "1 of 2 test transcripts (c) holds characters that the model does not know" in told
    assert "know" not in Characters(train, train, 0, 10).describe()
