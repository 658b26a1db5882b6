"""Names of version 0.1 under those of today."""

import json

import pytest

from speechssl.config.json import from_json, to_json
from speechssl.training import start
from speechssl.training.finetune import FinetuneConfig
from speechssl.training.pretrain import PretrainConfig
from speechssl.training.states import Progress
from speechssl.training.version_0_1 import (
    renamed_weights,
    upgraded_config,
    upgraded_records,
    values_of_before,
    with_later_settings,
)


def test_a_run_with_fixed_codes_has_masked_units():
    old = {
        "contrastive": {"quantizer": "random", "features": ["prosody"], "entries": 7, "groups": 2},
        "reconstruction": {"features": ["mfcc"], "masked_weight": 0.5},
        "mask_share": 0.4,
        "mask_span": 3,
        "batch_s": 8.0,
    }
    config = from_json(PretrainConfig, old)
    assert [task.name for task in config.tasks] == ["masked_units", "reconstruction"]
    units = config.tasks["masked_units"]
    assert (units.quantizer, units.features, units.num_units) == ("random", ("prosody",), 7)
    assert config.tasks["reconstruction"].masked_weight == 0.5
    assert (config.mask.share, config.mask.span, config.batch_s) == (0.4, 3, 8.0)
    assert "contrastive" in old  # is not changed


def test_a_run_with_learned_codes_is_contrastive():
    old = {"contrastive": {"quantizer": "gumbel", "features": ["mfcc"], "entries": 7}}
    config = from_json(PretrainConfig, {**old, "reconstruction": None})
    assert [task.name for task in config.tasks] == ["contrastive"]
    assert config.tasks["contrastive"].entries == 7


@pytest.mark.parametrize(
    "config", [{"tokenizer": "char", "mask_share": 0.2}, {"tasks": {}, "mask_share": 1}, {}, [], 3]
)
def test_other_configs_stay_as_they_are(config):
    assert upgraded_config(config) == config


def test_settings_that_came_later_have_the_values_of_before():
    config = {"loop": {"seed": 1}, "model": {"context": {"dim": 8}}}
    found = with_later_settings(config)
    assert found["loop"] == {"seed": 1, "select_by": "", "budget_clock": "wall"}
    assert found["model"] == {"context": {"dim": 8, "causal": False}, "running_norm": False}
    assert config["loop"] == {"seed": 1}
    later = with_later_settings({"loop": {"select_by": "cer"}})["loop"]
    assert later == {"select_by": "cer", "budget_clock": "wall"}


def test_a_run_from_before_a_setting_is_one_with_its_default():
    now = to_json(PretrainConfig())
    later = ("voice", "balance", "ema")
    now |= {"keep_features": False, "length_grid": "off"}  # see values_of_before
    before = {name: value for name, value in now.items() if name not in later}
    before["distortion"] = {k: v for k, v in now["distortion"].items() if k != "pitch"}
    assert with_later_settings(before) == with_later_settings(json.loads(json.dumps(now)))


@pytest.mark.parametrize(
    ("begun", "now", "found"),
    [
        ({}, {"keep_features": True, "lr": 1}, {"keep_features": False}),
        ({}, {"keep_features": False}, {}),
        ({"keep_features": True}, {"keep_features": True}, {}),
        ({"length_grid": "on"}, {"length_grid": "auto", "ema": {"start": 1}}, {}),
        ({"lr": 1}, {"length_grid": "auto", "balance": "none"}, {"length_grid": "off"}),
    ],
)
def test_settings_whose_default_is_new(begun, now, found):
    assert values_of_before(begun, now) == found


@pytest.mark.parametrize("kind", [PretrainConfig, FinetuneConfig])
def test_a_run_from_before_a_setting_goes_on_as_it_began(kind, monkeypatch, tmp_path):
    """With the command of then; where a new setting is given, it is another run."""
    names = ("keep_features", "length_grid")
    begun = {name: value for name, value in to_json(kind()).items() if name not in names}
    monkeypatch.setattr(start, "newest_progress", lambda _: Progress(config=begun))
    config = start.as_begun(kind(), tmp_path, resume=True)
    assert config.length_grid == "off"
    assert not getattr(config, "keep_features", False)
    start.starting_point(tmp_path, config.loop, to_json(config), {}, resume=True)
    assert start.as_begun(kind(), tmp_path, resume=False) == kind()
    given = start.as_begun(kind(length_grid="on"), tmp_path, resume=True)
    assert given.length_grid == "on"
    with pytest.raises(ValueError, match=r"with other settings \(length_grid"):
        start.starting_point(tmp_path, given.loop, to_json(given), {}, resume=True)
    monkeypatch.setattr(start, "newest_progress", lambda _: Progress(config=to_json(kind())))
    assert start.as_begun(kind(), tmp_path, resume=True) == kind()
    monkeypatch.setattr(start, "newest_progress", lambda _: None)
    assert start.as_begun(kind(), tmp_path, resume=True) == kind()


def test_weights_of_fixed_codes_belong_to_masked_units():
    names = ["model.project.weight", "contrastive.codebooks.0.codebook", "contrastive.quantizer.x"]
    assert renamed_weights(names) == {
        names[0]: names[0],
        names[1]: "masked_units.codebooks.0.codebook",
        names[2]: names[2],
    }


@pytest.mark.parametrize(
    ("task", "old", "new"),
    [
        ("masked_units", "loss/contrastive", "loss/masked_units"),
        ("masked_units", "valid/contrastive_prosody", "valid/masked_units_prosody"),
        ("masked_units", "valid/contrastive/chance", "valid/masked_units/chance"),
        ("masked_units", "quantizer/predicted_perplexity", "masked_units/predicted_perplexity"),
        ("masked_units", "codes/targets", "codes/masked_units/targets"),
        ("masked_units", "grad_norm/contrastive", "grad_norm/masked_units"),
        ("contrastive", "loss/contrastive", "loss/contrastive"),
        ("contrastive", "loss/diversity", "loss/contrastive_diversity"),
        ("contrastive", "valid/feature_penalty", "valid/contrastive_feature_penalty"),
        ("contrastive", "valid/quantizer/used_group_1", "valid/contrastive/used_group_1"),
        ("contrastive", "codes/group_0", "codes/contrastive/group_0"),
        (
            "masked_units",
            "valid/reconstruction/logmel_masked",
            "valid/reconstruction/logmel_masked",
        ),
        ("masked_units", "loss/masked_units", "loss/masked_units"),
        ("masked_units", "step", "step"),
    ],
)
def test_metrics_have_their_names_of_today(task, old, new):
    config = {"tasks": {task: {}}}
    assert upgraded_records([{old: 1}], config) == [{new: 1}]
    assert upgraded_records([{old: 1}], config | {"tokenizer": "char"}) == [{old: 1}]


def test_copying_is_computed_from_old_distances():
    stem = "valid/reconstruction/logmel_"
    distances = {"unmasked_mean": 1.0, "masked_mean": 1.0, "unmasked": 0.2, "masked": 0.6}
    distances |= {"copy": 0.2, "to_heard": 0.1}
    (record,) = upgraded_records([{stem + k: v for k, v in distances.items()}], {"tasks": {}})
    assert record[f"{stem}to_input"] == 0.1
    assert record[f"{stem}copying"] == pytest.approx(0.5)
