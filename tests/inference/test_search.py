"""Recordings found by texts with a small model that was trained to; what a person gets wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from speechssl import audio
from speechssl.checkpoint import Checkpoint, load_model, save_model
from speechssl.cli import main
from speechssl.data.manifest import write_manifest
from speechssl.inference.recordings import Clip
from speechssl.inference.search import SpeechText, accuracy, best, find_recordings
from speechssl.pretext.speech_text import SpeechTextConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training.pretrain import pretrain
from tests.training.conftest import tone_utterances


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    return tone_utterances(folder, 24, 0), tone_utterances(folder, 8, 1)


CONFIG = SpeechTextConfig(dim=16, text_dim=16, text_kernel=3)


@pytest.fixture(scope="module")
def run(speech, tmp_path_factory):
    """A run of a few updates: nothing is learned, everything is there."""
    from tests.training.conftest import pretrain_config

    config = pretrain_config.__wrapped__()  # the function behind the fixture
    config = replace(
        config,
        tasks=TaskConfigs((CONFIG,)),
        loop=replace(config.loop, max_steps=3, num_validations=1),
    )
    place = tmp_path_factory.mktemp("run") / "run"
    pretrain(config, speech[0], place, valid_set=speech[1])
    return place


@pytest.fixture(scope="module")
def model(run):
    return SpeechText(load_model(run))


def test_the_folder_holds_both_encoders_and_the_alphabet(run):
    checkpoint = load_model(run)
    assert checkpoint.tokenizer.symbols[2:] == (" ", *"abcdef")
    assert checkpoint.meta["heads"]["speech_text"]["config"]["dim"] == 16
    assert checkpoint.meta["heads"]["speech_text"]["layer"] == -1
    assert "text_encoder.embedding.weight" in checkpoint.heads_of("speech_text")
    assert checkpoint.heads_of("speech") == {}  # a prefix of the name is another task


def test_vectors_are_those_of_the_task(model, speech):
    """The search and the validation see the same cosines."""
    clips = [Clip(u.id, u.audio) for u in speech[1]]
    found = np.array(list(model.of_clips(clips)))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    wave = torch.from_numpy(audio.read(speech[1][0].audio))[None]
    output = model.checkpoint.speech(wave, torch.tensor([wave.shape[1]]))
    with torch.no_grad():
        expected = model.task.of_speech(output.context, output.lengths)[0]
    np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-4)


def test_one_text_or_many_have_the_same_vectors(model):
    texts = ["abc", "fade", "a"]
    together = model.of_texts(texts)
    alone = np.concatenate([model.of_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("abc", "abc"),
        ("  ABC, fade! ", "abc fade"),
        ("ABC", "abc"),
        ("abz", "abz"),  # z stays: an unknown symbol among known ones
    ],
)
def test_a_text_is_spelled_in_the_models_alphabet(model, text, spelled):
    assert model.spelled(text) == spelled


@pytest.mark.parametrize("text", ["xyz", "", "   ", "?!", "ЖЖ ж"])
def test_a_text_without_known_characters_is_refused(model, text):
    with pytest.raises(ValueError, match="no character that the model knows: its alphabet is a b"):
        model.spelled(text)


def test_a_model_without_the_task_says_what_to_do(run, tmp_path):
    checkpoint = load_model(run)
    save_model(tmp_path / "bare", Checkpoint(checkpoint.speech))
    with pytest.raises(ValueError, match="pretrain it with --tasks masked_units speech_text"):
        SpeechText(load_model(tmp_path / "bare"))


def test_the_best_are_in_order_and_equal_ones_stay():
    found = best(np.array([0.1, 0.9, 0.9, 0.5]), 3)
    assert [(m.number, m.cosine) for m in found] == [(1, 0.9), (2, 0.9), (3, 0.5)]
    assert len(best(np.array([0.1]), 10)) == 1


def test_accuracy_judges_those_whose_text_is_a_label():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.3], [0.5, 0.4]])
    assert accuracy(scores, ["One", "two"], ["one", "two", "Two!", "other"]) == (2, 3)
    assert accuracy(scores, ["a", "b"], ["", "", "", ""]) == (0, 0)


def test_manifests_folders_and_files(speech, tmp_path):
    write_manifest(tmp_path / "m.jsonl", speech[1][:2])
    found = find_recordings([str(tmp_path / "m.jsonl"), str(speech[1][2].audio)])
    assert [r.text for r in found] == [speech[1][0].text, speech[1][1].text, ""]
    assert found[0].clip.duration_s == speech[1][0].duration_s
    with pytest.raises(ValueError, match="not standard input"):
        find_recordings(["-"])
    with pytest.raises(FileNotFoundError, match=r"nothing\.wav"):
        find_recordings(["nothing.wav"])


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def manifest(speech, tmp_path):
    write_manifest(tmp_path / "m.jsonl", speech[1])
    return tmp_path / "m.jsonl"


def find(*args):
    return main(["find", *map(str, args)])


def test_recordings_by_text(run, manifest, speech, capsys):
    assert find(run, manifest, "--text", "abc", "FADE", "--top", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "abc"
    assert lines[4] == "FADE"
    assert len(lines) == 8
    names = {u.id for u in speech[1]}
    assert all(line.split()[2] in names for line in lines[1:4])


def test_texts_by_recording_from_a_file_as_json(run, manifest, speech, tmp_path, capsys):
    (tmp_path / "texts").write_text("abc\n\nfade\nabc\nbed\n", encoding="utf-8")
    assert find(run, manifest, "--texts", tmp_path / "texts", "--top", "2", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["recording"] for one in found] == [u.id for u in speech[1]]
    for one in found:
        cosines = [text["cosine"] for text in one["texts"]]
        assert len(cosines) == 2
        assert cosines == sorted(cosines, reverse=True)


def test_labels_and_how_many_are_right(run, manifest, speech, capsys):
    labels = [u.text for u in speech[1]]
    assert find(run, manifest, "--labels", *labels) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "of 8 recordings got their own text" in last
    assert "chance 12.5%" in last


def test_recall_is_that_of_the_validation(run, manifest, capsys):
    assert find(run, manifest, "--recall") == 0
    said = capsys.readouterr().out
    valid = load_model(run).meta["valid"]
    for way in ("find_speech", "find_text"):
        for k in (1, 5, 10):
            value = valid[f"speech_text/{way}_at_{k}"]
            chance = valid[f"speech_text/{way}_at_{k}_chance"]
            assert f"{value:.1%} at {k} ({chance:.1%})" in said


def test_a_recording_that_cannot_be_read_is_named_and_the_rest_is_done(
    run, speech, tmp_path, capsys
):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    code = find(run, speech[1][0].audio, tmp_path / "broken.wav", "--text", "abc")
    said = capsys.readouterr()
    assert code == 1
    assert "broken.wav" in said.err
    assert str(speech[1][0].audio) in said.out


def test_unknown_characters_are_named(run, speech, capsys):
    assert find(run, speech[1][0].audio, "--text", "abz") == 0
    assert "'abz' has unknown characters: z" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--text", "xyz"], "no character that the model knows"),
        (["--texts", "missing.txt"], "missing.txt"),
        (["--recall"], "needs manifests with texts"),
        (["--text", "a", "--top", "0"], "at least 1"),
        ([], "one of the arguments --text --labels --texts --recall is required"),
        (["--text", "a", "--recall"], "not allowed with"),
    ],
)
def test_bad_input_is_one_sentence(run, speech, args, match, capsys):
    try:
        code = find(run, speech[1][0].audio, *args)
    except SystemExit as end:
        code = end.code
    assert code == 2
    said = capsys.readouterr().err
    assert match in said
    assert "Traceback" not in said


def test_an_empty_file_of_texts_is_said(run, speech, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("\n \n", encoding="utf-8")
    assert find(run, speech[1][0].audio, "--texts", tmp_path / "t.txt") == 2
    assert "holds no text" in capsys.readouterr().err
