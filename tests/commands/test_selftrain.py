"""`speechssl selftrain`: its options, and what it says of bad input, before any work."""

import json
from dataclasses import replace

import pytest

from speechssl.checkpoint import load_model, save_model
from speechssl.cli import main
from speechssl.commands.selftrain import _init
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.selftraining import rounds
from speechssl.selftraining.result import Rate, Round, State


@pytest.fixture
def data(record, tmp_path):
    """Three manifests of recordings of noise; of the pool one has a transcript."""
    sets = {"pool": (3, None), "labels": (2, "abc déf"), "dev": (2, "fed cba")}
    for name, (num, text) in sets.items():
        made = []
        for i in range(num):
            path = record(f"{name}{i}.wav", 1.0)
            made.append(Utterance(f"{name}{i}", path, 0.0, 1.0, 16000, None, text))
        write_manifest(tmp_path / f"{name}.jsonl", made)
    return tmp_path


def command(data, model, *more, **other) -> list[str]:
    files = {"unlabeled": "pool", "labeled": "labels", "valid": "dev"} | other
    words = ["selftrain", str(model), "--out", str(data / "run")]
    for option, name in files.items():
        words += [f"--{option}", str(data / f"{name}.jsonl")]
    return [*words, *map(str, more)]


@pytest.fixture
def refused(capsys):
    def check(words) -> str:
        assert main(words) == 2
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith("speechssl: ")
        return said[-1]

    return check


def test_a_model_without_a_head(data, tiny_models, refused):
    assert "has no transcription head" in refused(command(data, tiny_models["speech"]))
    assert "There is no model folder" in refused(command(data, data / "nowhere"))


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"unlabeled": "gone"}, "No such manifest"),
        ({"unlabeled": "dev"}, "2 of the 2 utterances of --unlabeled are recordings of --valid"),
        ({"labeled": "dev"}, "2 of the 2 utterances of --labeled are recordings of --valid"),
        ({"labeled": "pool"}, "No utterance of the labeled set has a transcript"),
        ({"valid": "pool"}, "No utterance of the validation set has a transcript"),
        ({"unlabeled": "labels"}, "there is nothing to add"),
    ],
)
def test_sets_that_do_not_do(other, text, data, tiny_models, refused):
    assert text in refused(command(data, tiny_models["ctc"], **other))
    assert not (data / "run" / "selftrain.json").exists()


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--keep", "0"], "keep must be in (0, 1], got 0"),
        (["--keep", "0.3", "--min-confidence", "0.5"], "min_confidence takes the place of keep"),
        (["--kep", "0.3"], "There is no setting 'kep'. Perhaps --keep?"),
        (["--student.loop.max-stps", "3"], "Perhaps --student.loop.max-steps?"),
        (["--student.model.context.dim", "9"], "--student.model.context.dim: a student has the"),
        (["--score-pool"], "--score-pool needs transcripts"),
        (["--lm-weight", "1"], "lm_weight and bonus are of a language model"),
        (["--lm", "gone.arpa"], "gone.arpa"),
        (["--label-minutes", "-1"], "The minutes of labels must be above 0"),
        (["--init", "gone"], "There is no model folder gone"),
    ],
)
def test_settings_that_do_not_do(more, text, data, tiny_models, refused):
    assert text in refused(command(data, tiny_models["ctc"], *more))


def test_missing_recordings(data, tiny_models, refused):
    for path in data.glob("pool*.wav"):
        path.unlink()
    said = refused(command(data, tiny_models["ctc"]))
    assert "None of the recordings of --unlabeled is there" in said


@pytest.fixture
def called(monkeypatch):
    """What the command gives to the rounds."""
    calls = []

    def begins(*given, **named):
        calls.append((given, named))
        rate = Rate(0.5, 0.4, 0.6)
        return State({}, (Round(0, rate, rate),), ended="nothing was done")

    monkeypatch.setattr(rounds, "selftrain", begins)
    return calls


def test_options_become_settings(data, tiny_models, called, capsys):
    more = ["--max-steps", 7, "--seed", 3, "--rounds", 2, "--student.speeds", "0.8,1.2"]
    more += ["--resume", "never", "--score-pool", "--init", "scratch"]
    assert main(command(data, tiny_models["ctc"], *more)) == 0
    (given, named) = called[0]
    config = given[0]
    assert (config.rounds, config.student.loop.max_steps, config.student.loop.seed) == (2, 7, 3)
    assert config.student.speeds == (0.8, 1.2)
    assert config.student.ema_decay > 0
    assert [len(each) for each in given[2:5]] == [3, 2, 2]
    assert named["init"] is None
    assert named["score_pool"] is True
    assert named["resume"] is False
    said = capsys.readouterr().out
    assert "It is over: nothing was done." in said
    assert (
        f"No round is better than the given model, which is kept: {data / 'run' / 'best'}" in said
    )


def test_a_students_head_is_as_fine_as_its_teachers(data, tiny_models, called):
    checkpoint = load_model(tiny_models["ctc"])
    assert main(command(data, tiny_models["ctc"])) == 0
    assert called[0][0][0].student.upsample == checkpoint.model.head.upsample == 1


def test_minutes_of_labels_and_a_runs_config(data, tiny_models, called):
    assert main(command(data, tiny_models["ctc"], "--label-minutes", 0.01)) == 0
    given, _ = called[0]
    assert len(given[3]) == 1
    from speechssl.config.json import to_json

    (data / "config.json").write_text(json.dumps(to_json(replace(given[0], rounds=8))))
    assert main(command(data, tiny_models["ctc"], "--recipe", data / "config.json")) == 0
    assert called[1][0][0].rounds == 8


def test_students_start_from_what_the_model_was_fine_tuned_from(tiny_models, tmp_path, capsys):
    model = load_model(tiny_models["ctc"])
    assert _init(None, model, []) is model
    assert "names no model" in capsys.readouterr().err
    save_model(tmp_path / "first", load_model(tiny_models["speech"]))
    tuned = replace(model, meta={"init_folder": str(tmp_path / "first")})
    assert _init(None, tuned, []).folder == tmp_path / "first"
    assert f"Students start from {tmp_path / 'first'}." in capsys.readouterr().err
    labels = [Utterance("a", tmp_path / "a.wav", 0.0, 1801.0, 16000, None, "text")]
    assert _init(None, tuned, labels) is tuned
    assert "Students start from MODEL: there are 30 minutes of labels." in capsys.readouterr().err
    untold = replace(labels[0], text=None)
    assert _init(None, tuned, [untold]).folder == tmp_path / "first"
    gone = replace(model, meta={"init_folder": str(tmp_path / "gone")})
    assert _init(None, gone, []) is gone
    assert "Students start from MODEL: There is no model folder" in capsys.readouterr().err
    assert _init("scratch", model, []) is None
    assert _init(str(tiny_models["speech"]), model, []).folder == tiny_models["speech"]


@pytest.mark.parametrize(("beam", "key"), [((), "greedy"), (("--beam", 4), "beam 4")])
def test_how_the_labels_are_decoded_is_a_part_of_the_run(beam, key, data, tiny_models, called):
    assert main(command(data, tiny_models["ctc"], *beam)) == 0
    decoding = called[0][1]["decoding"]
    assert decoding.key == key
    assert callable(decoding.make(load_model(tiny_models["ctc"])))


def test_a_language_model_is_known_by_its_content(data, tiny_models, called):
    from speechssl.decoding.lm import train_lm, write_arpa

    keys = []
    for text in ("abc déf", "abc déf", "fed"):
        write_arpa(train_lm([text], order=2, unit="char"), data / "lm.arpa")
        assert main(command(data, tiny_models["ctc"], "--lm", data / "lm.arpa")) == 0
        keys.append(called[-1][1]["decoding"].key)
    assert keys[0] == keys[1] != keys[2]
    assert "lm.arpa" not in keys[0]
