"""Pretraining that goes on from a Wav2Vec2 of transformers, with its quantizer and projections."""

import json
from dataclasses import replace

import pytest
import torch

from speechssl.checkpoint import load_model
from speechssl.interop import huggingface as hf
from speechssl.interop.export import export_model
from speechssl.interop.sources import open_model
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.runlog import read_metrics
from speechssl.training.pretrain import PretrainConfig, going_on, preset, pretrain

transformers = pytest.importorskip("transformers")

PUBLISHED = ModelConfig(
    ConvEncoderConfig((8,) * 7),
    ContextConfig(dim=24, num_layers=2, num_heads=2, ffn_dim=40, pos_kernel=16, pos_groups=4),
)
HEADS = {
    "quantizer": "gumbel",
    "target_dim": 16,
    "num_negatives": 5,
    "temperature": 0.2,
    "groups": 2,
    "entries": 6,
    "diversity_weight": 0.3,
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """The folder that ``save_pretrained`` of a random Wav2Vec2ForPreTraining leaves."""
    folder = tmp_path_factory.mktemp("theirs")
    fields = hf.hf_config(PUBLISHED, contrastive=HEADS)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**fields)
    transformers.Wav2Vec2ForPreTraining(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(hf.hf_preprocessor(PUBLISHED)))
    return folder


@pytest.fixture
def short(pretrain_config) -> PretrainConfig:
    """BASE's run, short."""
    loop = replace(pretrain_config.loop, max_steps=3, num_validations=1)
    return replace(preset("tiny-conv"), batch_s=6.0, loop=loop, precision="fp32")


def test_it_goes_on_with_their_quantizer_and_projections(theirs, short, tones, tmp_path, capsys):
    init = open_model(theirs)
    config = going_on(short, init)
    told = config.tasks["contrastive"]
    shape = ("target_dim", "groups", "entries", "temperature")
    assert all(getattr(told, name) == HEADS[name] for name in shape)
    assert told.num_negatives == short.tasks["contrastive"].num_negatives  # what was asked for
    assert told.weight == short.tasks["contrastive"].weight
    assert told.gumbel_start == told.gumbel_end
    assert told.feature_penalty == short.tasks["contrastive"].feature_penalty
    still = replace(config, optim=replace(config.optim, lr=1e-12, weight_decay=0.0))
    pretrain(still, tones[0], tmp_path / "still", valid_set=tones[1], init=init)
    assert "the model's weights, its quantizer and its projections" in capsys.readouterr().err
    after = load_model(tmp_path / "still")
    assert after.pretraining.keys() == init.pretraining.keys()
    for mine, its in (
        (after.pretraining, init.pretraining),
        (after.speech.state_dict(), init.speech.state_dict()),
    ):
        assert all(torch.allclose(mine[n], its[n], atol=1e-6) for n in its)


def test_what_was_pretrained_on_opens_there_and_goes_on_again(theirs, short, tones, tmp_path):
    init = open_model(theirs)
    pretrain(going_on(short, init), tones[0], tmp_path / "run", valid_set=tones[1], init=init)
    assert all("loss/contrastive" in m for m in read_metrics(tmp_path / "run") if "lr" in m)
    after = load_model(tmp_path / "run")
    name = "quantizer.logits.weight"
    assert not torch.equal(after.pretraining[name], init.pretraining[name])
    proof = export_model(after, tmp_path / "hf", "hf")
    assert all(gap.largest <= gap.bound for gap in proof.gaps)
    opened = transformers.Wav2Vec2ForPreTraining.from_pretrained(tmp_path / "hf")
    assert torch.equal(opened.project_q.weight, after.pretraining["project_target.weight"])
    again = going_on(short, after)
    assert again.tasks["contrastive"].entries == HEADS["entries"]
    assert again.tasks["contrastive"].gumbel_start == pytest.approx(0.5)


def test_heads_that_do_not_fit_are_fresh_and_it_is_said(theirs, short, tones, tmp_path, capsys):
    init = open_model(theirs)
    config = going_on(short, init)
    fewer = replace(config.tasks["contrastive"], entries=7)
    config = replace(config, tasks=config.tasks.having(fewer))
    config = replace(config, loop=replace(config.loop, max_steps=1))
    pretrain(config, tones[0], tmp_path / "a", valid_set=tones[1], init=init)
    assert "a fresh quantizer and projections of other sizes" in capsys.readouterr().err
    bare = replace(init, pretraining={})
    pretrain(config, tones[0], tmp_path / "b", valid_set=tones[1], init=bare)
    assert "as it has none" in capsys.readouterr().err
    assert load_model(tmp_path / "b").meta["heads"].endswith("as it has none")


def test_a_run_with_other_targets_keeps_them(theirs):
    config = PretrainConfig()
    assert "contrastive" not in config.tasks
    assert going_on(config, open_model(theirs)).tasks == config.tasks
