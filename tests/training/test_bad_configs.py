"""Every numeric field of every config refuses what cannot be meant, in a sentence that names it."""

import dataclasses
import json
import types
import typing
from dataclasses import replace

import pytest

from speechssl.cli import main
from speechssl.config.json import from_json, override, to_json
from speechssl.data.distortion import full
from speechssl.model import config as model_config
from speechssl.model.config import ConvEncoderConfig
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training.finetune import FinetuneConfig
from speechssl.training.pretrain import PretrainConfig
from speechssl.training.recipe import load_recipe

CONFIGS = {
    "pretrain": PretrainConfig(distortion=full()),
    "finetune": FinetuneConfig(),
    "conv": PretrainConfig(
        model=model_config.base(), tasks=TaskConfigs((ContrastiveConfig(), ReconstructionConfig()))
    ),
}

SIGNED = {"snr_db", "direct_db", "gain_db", "semitones", "layers"}
"""Decibels, shifts of the pitch, and layers counted from the top."""


def plain(kind) -> typing.Any:
    """int, float, or None for what is no number; of an optional or a list, of what is in it."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union, tuple):
        found = [plain(each) for each in typing.get_args(kind)]
        return next((each for each in found if each), None)
    return kind if kind in (int, float) else None


def numeric_fields(config, path=""):
    """``(dotted name, int or float, value)`` of every number in a config and those in it."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        name, value = f"{path}{field.name}", getattr(config, field.name)
        if isinstance(value, TaskConfigs):
            for task in value:
                yield from numeric_fields(task, f"tasks.{task.name}.")
        elif dataclasses.is_dataclass(value):
            yield from numeric_fields(value, f"{name}.")
        elif kind := plain(hints[field.name]):
            yield name, kind, value


def changed(config, name: str, value):
    """The config with the field of a dotted name replaced, as in Python."""
    first, _, rest = name.partition(".")
    if isinstance(config, TaskConfigs):
        return config.having(changed(config[first], rest, value))
    if rest:
        value = changed(getattr(config, first), rest, value)
    return replace(config, **{first: value})


FINETUNE = ("--train", "a", "--valid", "b", "--out", "r", "--init", "scratch")

FIELDS = [
    pytest.param(run, name, kind, value, id=f"{run}-{name}")
    for run, config in CONFIGS.items()
    for name, kind, value in numeric_fields(config)
    if run != "conv" or name.startswith(("model.", "tasks.contrastive"))
]


def test_there_are_fields():
    assert len(FIELDS) > 120


@pytest.mark.parametrize(("run", "name", "kind", "value"), FIELDS)
def test_every_number_is_checked(run, name, kind, value):
    config, field = CONFIGS[run], name.rsplit(".", 1)[-1]
    flag = name.removeprefix("tasks.").replace("_", "-")
    bad = ["many", float("nan"), float("inf"), True, 10**30, 10**400]
    bad += [] if field in SIGNED else [-1]
    bad += [2.5] if kind is int else []
    assert changed(config, name, value) == config
    for wrong in bad:
        given = (wrong,) * max(len(value), 1) if isinstance(value, tuple) else wrong
        with pytest.raises(ValueError, match=rf"\b{field}\b"):
            changed(config, name, given)
    as_json = json.dumps("many" if not isinstance(value, tuple) else ["many"] * max(len(value), 1))
    with pytest.raises(ValueError, match=rf"\b{field}\b"):
        override(config, [(name, as_json)])
    with pytest.raises(ValueError, match=rf"no setting .*Perhaps .*--{flag}\b"):
        override(config, [(f"{name}x", "1")])


@pytest.mark.parametrize(
    ("config", "name", "value", "said"),
    [
        ("pretrain", "optim.lr", "fast", r"optim\.lr must be a number.*got 'fast'"),
        ("pretrain", "optim.lr", "9" * 400, r"optim\.lr must be a number"),
        ("pretrain", "optim.lr", "9" * 5000, r"optim\.lr must be a number"),
        ("pretrain", "optim.lr", "[" * 200000, r"optim\.lr must be a number"),
        ("pretrain", "optim.beta1", "1", r"optim\.beta1 must be in \[0, 1\)"),
        ("pretrain", "optim.schedule", "cos", r"optim\.schedule must be one of tri_stage, linear"),
        ("pretrain", "loop.max_steps", "1.5", r"loop\.max_steps must be a whole number"),
        ("pretrain", "precision", "fp64", "precision must be one of auto"),
        ("pretrain", "model.context.pos_norm", "1", r"context\.pos_norm must be true or false"),
        ("pretrain", "model.context", "3", "context must be an object of settings, got 3"),
        ("pretrain", "model", "big", "model must be an object of settings, got 'big'"),
        ("pretrain", "loop", "[]", "loop must be an object of settings"),
        (
            "pretrain",
            "reconstruction.features",
            '["pitch"]',
            r"features must be a list, each one of logmel",
        ),
        ("pretrain", "distortion.noise.snr_db", "[3]", r"snr_db must be a list of 2"),
        ("pretrain", "distortion.noise.snr_db", "[9, 3]", r"snr_db"),
        (
            "pretrain",
            "distortion.noise.kinds",
            '["rain"]',
            r"distortion\.noise\.kinds must be a list, each one of white, pink, brown",
        ),
        ("pretrain", "teacher", "7", "teacher must be a string or null"),
        ("finetune", "speeds", "1.1", r"speeds must be a list, got 1.1: write \[1.1\]"),
        ("finetune", "tokenizer", "3", "tokenizer must be a string"),
        ("conv", "model.encoder.dims", "[1, 2]", "dims, kernels and strides must have the same"),
        ("conv", "model.encoder.dims", "512", r"encoder\.dims must be a list"),
    ],
)
def test_what_is_no_number_or_contradicts_itself(config, name, value, said):
    with pytest.raises(ValueError, match=said):
        override(CONFIGS[config], [(name, value)])


def test_a_contradiction_names_both_fields():
    with pytest.raises(ValueError, match=r"tasks must name at least one of contrastive"):
        override(CONFIGS["pretrain"], [("masked_units", "none"), ("reconstruction", "none")])
    with pytest.raises(ValueError, match=r"gumbel_end .* at most contrastive\.gumbel_start"):
        override(CONFIGS["conv"], [("contrastive.gumbel_end", "3")])
    with pytest.raises(ValueError, match=r"max_crop_s must be .* mask\.span \(10\), got 0\.1"):
        override(CONFIGS["conv"], [("mask.span", "10"), ("max_crop_s", "0.1")])
    with pytest.raises(ValueError, match=r"target_dim .* multiple of contrastive\.groups"):
        override(CONFIGS["conv"], [("contrastive.groups", "3")])
    with pytest.raises(ValueError, match=r"keep_every .* multiple of loop\.checkpoint_every"):
        override(CONFIGS["pretrain"], [("loop.keep_every", "700")])
    with pytest.raises(ValueError, match="teacher gives the units of masked_units, which is not"):
        override(CONFIGS["conv"], [("teacher", "m")])
    with pytest.raises(ValueError, match=r"nothing would be learned: contrastive\.weight"):
        override(CONFIGS["conv"], [("contrastive.weight", "0"), ("reconstruction", "none")])
    with pytest.raises(ValueError, match="model must be a ModelConfig"):
        PretrainConfig(model=ConvEncoderConfig())


def misspelt(data, path=()):
    """Each object of a config's JSON, with its first key misspelt; ``(config, key)``."""
    for key, value in data.items():
        if isinstance(value, dict):
            for inner, name in misspelt(value, (*path, key)):
                yield {**data, key: inner}, name
    key = next(k for k in data if k != "kind")
    yield {f"{key}s" if k == key else k: v for k, v in data.items()}, key


@pytest.mark.parametrize("run", ["pretrain", "finetune"])
def test_a_misspelt_key_of_a_json_file_is_reported_with_the_nearest(run, tmp_path):
    kind = type(CONFIGS[run])
    wrong = list(misspelt(to_json(CONFIGS[run])))
    assert len(wrong) > 8
    for data, key in wrong:
        with pytest.raises(ValueError, match=rf"\['{key}s'\].* Perhaps .*{key}"):
            from_json(kind, data)
    path = tmp_path / "config.json"
    path.write_text(json.dumps([1, 2]))
    with pytest.raises(ValueError, match="must be an object of settings"):
        load_recipe(str(path), run, "tiny", kind)
    for damage in (b"\xff\xfe", b"{oops", b"[" * 200000, b"9" * 5000):
        path.write_bytes(damage)
        with pytest.raises(ValueError, match=r"config\.json is not JSON"):
            load_recipe(str(path), run, "tiny", kind)
    with pytest.raises(FileNotFoundError, match=r"no recipe .*gone\.json"):
        load_recipe(str(tmp_path / "gone.json"), run, "tiny", kind)


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("transcribe", "m", "a.wav", "--fromat", "srt"), "--format"),
        (("evaluate", "m", "a.jsonl", "--normalise=none"), "--normalize"),
        (("pretrain", "--train", "a.jsonl", "--out", "r", "--max-stps", "3"), "--max-steps"),
        (("pretrain", "--train", "a.jsonl", "--out", "r", "--optm.lr", "3"), "--optim.lr"),
        (("finetune", *FINETUNE, "--masks_share", "1"), "--mask-"),
    ],
)
def test_a_misspelt_option_is_reported_with_the_nearest(arguments, nearest, capsys):
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    line = capsys.readouterr().err
    assert code == 2
    assert line.count("\n") == 1
    assert nearest in line.split("Perhaps")[1]
