"""Kinds of start, and the fine-tuning settings that each has where none are given."""

import json
from dataclasses import replace
from typing import get_args

import pytest
import torch

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.cli import main
from speechssl.config.json import to_json
from speechssl.model.speech_model import SpeechModel
from speechssl.runlog import read_metrics
from speechssl.selftraining.config import SelfTrainConfig
from speechssl.selftraining.rounds import resolved
from speechssl.training.finetune import FinetuneConfig, finetune, preset
from speechssl.training.pretrain import PretrainConfig, pretrain, with_own_units
from speechssl.training.start_kinds import (
    CHOSEN,
    IN_WORDS,
    SETTINGS,
    StartKind,
    after_finetuning,
    after_pretraining,
    describe_choice,
    kind_of,
    with_start_settings,
)
from tests.seed.seeds import put_seed
from tests.training.conftest import MICRO


def start(meta: dict | None) -> Checkpoint | None:
    """A model whose folder says this of itself; None is from scratch."""
    return None if meta is None else Checkpoint(SpeechModel(MICRO), meta=meta)


SUPERVISED = {"start": "supervised"}
CONTINUED = {"start": "supervised_continued"}


@pytest.mark.parametrize(
    ("meta", "kind"),
    [
        (None, "scratch"),
        ({}, "self_supervised"),
        ({"task": "pretrain"}, "self_supervised"),
        ({"task": "import", "model_type": "wav2vec2"}, "self_supervised"),
        ({"task": "finetune"}, "fine_tuned"),
        (SUPERVISED, "supervised"),
        (CONTINUED, "supervised_continued"),
        ({"task": "finetune", "start": "supervised"}, "supervised"),
        ({"start": "nonsense"}, "self_supervised"),
        ({"start": ["supervised"]}, "self_supervised"),
        ({"start": "scratch"}, "self_supervised"),
    ],
)
def test_the_kind_of_a_start_is_what_its_folder_says_or_was_made_by(meta, kind):
    assert kind_of(start(meta)) == kind


@pytest.mark.parametrize(
    ("meta", "pretrained", "tuned"),
    [
        (None, "self_supervised", "fine_tuned"),
        ({}, "self_supervised", "fine_tuned"),
        ({"task": "finetune"}, "self_supervised", "fine_tuned"),
        (SUPERVISED, "supervised_continued", "supervised"),
        (CONTINUED, "supervised_continued", "supervised"),
    ],
)
def test_what_a_run_makes_of_a_start(meta, pretrained, tuned):
    assert after_pretraining(start(meta)) == pretrained
    assert after_finetuning(start(meta)) == tuned


@pytest.mark.parametrize(
    ("meta", "minutes", "settings"),
    [
        (None, 10, (None, 0.8, 1.0)),
        ({}, 10, (0.4, 0.8, 1.0)),
        ({}, 60, (0.2, 0.8, 1.0)),
        ({}, 200, (None, 0.8, 1.0)),
        ({"task": "finetune"}, 10, (0.4, 0.8, 1.0)),
        (SUPERVISED, 10, (0.2, 1.0, 0.0)),
        (SUPERVISED, 200, (0.2, 1.0, 0.0)),
        (CONTINUED, 60, (0.2, 0.9, 0.0)),
    ],
)
def test_the_settings_of_a_kind(meta, minutes, settings):
    """Those of starts that there were before are what they were."""
    found = with_start_settings(FinetuneConfig(), start(meta), minutes)
    assert tuple(getattr(found, name) for name in CHOSEN) == settings


def test_every_kind_has_settings_and_words():
    assert set(SETTINGS) == set(IN_WORDS) == set(get_args(StartKind))


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize("meta", [None, {}, SUPERVISED, CONTINUED])
def test_what_is_given_wins(name, meta):
    config = replace(FinetuneConfig(), **{name: 0.35})
    assert getattr(with_start_settings(config, start(meta), 10), name) == 0.35


@pytest.mark.parametrize("size", ["base", "large"])
def test_what_a_size_states_wins(size):
    assert with_start_settings(preset(size), start(SUPERVISED), 10).layer_lr_decay == 1.0
    assert with_start_settings(preset(size), start({}), 10).layer_lr_decay == 1.0


@pytest.mark.parametrize(
    ("config", "meta", "said"),
    [
        (
            FinetuneConfig(),
            SUPERVISED,
            "Start: a model that learned with transcripts; so --dropout 0.2, --layer-lr-decay 1, "
            "--freeze-encoder-share 0, where nothing else is given.",
        ),
        (
            FinetuneConfig(dropout=0.1, layer_lr_decay=0.5),
            CONTINUED,
            "Start: a model that learned with transcripts, then from further recordings; so "
            "--freeze-encoder-share 0, where nothing else is given.",
        ),
        (
            FinetuneConfig(),
            {},
            "Start: a model that learned without transcripts; so --dropout 0.4, "
            "--layer-lr-decay 0.8, --freeze-encoder-share 1, where nothing else is given.",
        ),
        (FinetuneConfig(dropout=0.1, layer_lr_decay=1, freeze_encoder_share=0), SUPERVISED, ""),
        (FinetuneConfig(), None, ""),
    ],
)
def test_what_was_chosen_is_said(config, meta, said):
    chosen = with_start_settings(config, start(meta), 10)
    assert describe_choice(config, chosen, start(meta)) == said


@pytest.mark.parametrize(("meta", "decay"), [({}, 0.8), (SUPERVISED, 1.0), (CONTINUED, 0.9)])
def test_students_have_the_settings_of_their_start(meta, decay):
    student = resolved(SelfTrainConfig(), start(meta)).student
    assert (student.dropout, student.layer_lr_decay) == (0.2, decay)


# ---- in runs -------------------------------------------------------------------------------------


@pytest.fixture
def place(monkeypatch, tmp_path):
    return put_seed(monkeypatch, tmp_path / "package", MICRO)


@pytest.fixture
def manifests(tones, tmp_path):
    from speechssl.data.manifest import write_manifest

    for name, part in zip(("train", "valid"), tones, strict=True):
        write_manifest(tmp_path / f"{name}.jsonl", part[:12])
    sets = f"--train {tmp_path}/train.jsonl --valid {tmp_path}/valid.jsonl".split()
    return [*sets, "--max-steps", "2", "--processes", "1", "--precision", "fp32"]


SHORT = ["--loop.num-workers", "0", "--loop.num-validations", "1", "--batch-s", "6"]


def test_a_fine_tuning_from_the_seed_has_its_settings(place, manifests, tmp_path, capsys):
    given = ["finetune", "--init", "seed", *manifests, "--out", str(tmp_path / "run"), *SHORT]
    assert main([*given, "--layer-lr-decay", "0.7"]) == 0
    said = capsys.readouterr().err
    assert "Start: a model that learned with transcripts; so --dropout 0.2, --freeze-enc" in said
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [config[name] for name in CHOSEN] == [0.2, 0.7, 0.0]
    after, before = load_model(tmp_path / "run"), load_model(place)
    moved = [
        n
        for n, v in before.speech.encoder.state_dict().items()
        if not torch.equal(v, after.speech.encoder.state_dict()[n])
    ]
    assert moved  # the encoder learns
    assert after.meta["start"] == "supervised"
    assert after.meta["init_folder"] == "seed"  # on another machine it lies elsewhere
    assert main([*given, "--layer-lr-decay", "0.7"]) == 0  # goes on
    assert "Start:" not in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_pretraining_from_the_seed_predicts_its_units_too(manifests, tmp_path, capsys):
    out = tmp_path / "run"
    small = ["--masked-units.num-units", "8", "--masked-units.target-dim", "8"]
    given = ["pretrain", "--init", "seed", *manifests, "--out", str(out), *SHORT, *small]
    assert main(given) == 0
    said = capsys.readouterr().err
    assert "Targets: beside the units of features those of layer 1 of seed (--teacher none" in said
    config = json.loads((out / "config.json").read_text())
    assert (config["teacher"], config["teacher_layer"], config["teacher_beside"]) == (
        "seed",
        1,
        True,
    )
    last = [line for line in read_metrics(out) if "valid/loss" in line][-1]
    assert {"valid/masked_units", "valid/masked_units_mfcc"} <= set(last)
    meta = load_model(out).meta
    assert meta["start"] == "supervised_continued"
    units = meta["units"]
    assert (units["masked_units/teacher"]["layer"], units["masked_units/mfcc"]["made_of"]) == (
        1,
        "mfcc",
    )
    assert "layer" not in units["masked_units/mfcc"]
    assert main(given) == 0  # goes on


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("command", "settings", "said"),
    [
        ("finetune", "--size small", "the seed that --init seed names is a model of the size tiny"),
        (
            "pretrain",
            "--size base",
            r"Leave --size out, name another model, or give --init scratch",
        ),
        ("finetune", "--model.context.dim 64", "the model of --init seed is as it is"),
        ("pretrain", "--model.context.dim 64", "The weights of --init do not fit the model of the"),
    ],
)
def test_another_size_or_form_than_the_seeds_is_one_sentence(
    command, settings, said, manifests, tmp_path, capsys
):
    given = [command, "--init", "seed", *manifests, "--out", str(tmp_path / "run")]
    assert main([*given, *settings.split()]) == 2
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line
    assert not (tmp_path / "run" / "config.json").exists()


def seed_like(layer: object = 1) -> Checkpoint:
    return Checkpoint(SpeechModel(MICRO), meta={"start": "supervised", "best_layer": layer})


def test_the_units_of_the_seed_are_a_default():
    config = PretrainConfig()
    found = with_own_units(config, "seed", seed_like(2))
    assert (found.teacher, found.teacher_layer, found.teacher_beside) == ("seed", 2, True)
    assert to_json(replace(found, teacher=None, teacher_layer=4, teacher_beside=False)) == to_json(
        config
    )


@pytest.mark.parametrize(
    ("config", "init", "given"),
    [
        (PretrainConfig(), seed_like(), ["teacher"]),  # --teacher none, or another one
        (PretrainConfig(teacher="runs/a"), seed_like(), []),  # of a recipe
        (PretrainConfig(), seed_like(None), []),
        (PretrainConfig(), Checkpoint(SpeechModel(MICRO)), []),
        (
            replace(PretrainConfig(), tasks=PretrainConfig().tasks.chosen(["reconstruction"], {})),
            seed_like(),
            [],
        ),
    ],
)
def test_where_no_units_of_the_seed_are_predicted(config, init, given):
    assert with_own_units(config, "seed", init, given) is config


def test_a_teacher_alone_takes_the_place_of_features_as_before(
    tones, pretrain_config, place, tmp_path
):
    units = {}
    for beside in (False, True):
        config = replace(
            pretrain_config,
            teacher=str(place),
            teacher_layer=2,
            teacher_beside=beside,
            loop=replace(pretrain_config.loop, max_steps=1, num_validations=1),
        )
        pretrain(config, tones[0][:8], tmp_path / f"{beside}", valid_set=tones[1][:2])
        units[beside] = set(load_model(tmp_path / f"{beside}").meta["units"])
    assert units == {
        False: {"masked_units/teacher"},
        True: {"masked_units/teacher", "masked_units/mfcc"},
    }


def test_a_run_of_before_goes_on_with_the_settings_that_it_had(finetune_config, tones, tmp_path):
    """Its config states the values that were defaults then."""
    config = replace(
        finetune_config, loop=replace(finetune_config.loop, max_steps=2, num_validations=1)
    )
    init = Checkpoint(SpeechModel(MICRO))
    finetune(config, tones[0][:8], tones[1][:2], tmp_path, init=init)
    then = json.loads((tmp_path / "config.json").read_text())
    assert (then["layer_lr_decay"], then["freeze_encoder_share"]) == (0.8, 1.0)
    given = replace(config, layer_lr_decay=0.8, freeze_encoder_share=1.0, dropout=0.4)
    finetune(given, tones[0][:8], tones[1][:2], tmp_path, init=init)  # is the same run
    other = replace(given, layer_lr_decay=0.9)
    with pytest.raises(ValueError, match="other settings"):
        finetune(other, tones[0][:8], tones[1][:2], tmp_path, init=init)
