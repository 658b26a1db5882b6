"""What of a reused model learns, and what stays: heads, names that are frozen, adapters."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.config.json import override
from speechssl.interop.vocabulary import NEVER
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.text import CharTokenizer, VocabularyTokenizer
from speechssl.training.finetune import (
    FinetuneConfig,
    build_head,
    build_speech,
    choose_learning,
    finetune,
    learning_parts,
)
from speechssl.training.learning import chosen, freeze
from speechssl.training.optim import build_optimizer
from tests.training.conftest import MICRO

BASE = ModelConfig(
    ConvEncoderConfig((8, 12, 20), (10, 3, 2), (5, 4, 4)),
    ContextConfig(dim=24, num_layers=3, num_heads=4, ffn_dim=40, pos_kernel=16, pos_groups=4),
)
"""A wav2vec 2.0 BASE in small, as imported models are: post-norm, attention in every layer."""


def model_of(config: ModelConfig, symbols: str = "abc") -> Checkpoint:
    torch.manual_seed(5)
    tokenizer = CharTokenizer.train([symbols])
    head = CTCHead(config.context.dim, tokenizer.vocab_size)
    nn.init.normal_(head.linear.bias)
    return Checkpoint(CTCModel(SpeechModel(config), head), tokenizer)


def learning(model: CTCModel) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


# ---- heads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("upsample", [1, 2])
def test_shared_symbols_are_written_as_before(upsample):
    old = model_of(MICRO, "abc")
    old_head = CTCHead(32, old.tokenizer.vocab_size, upsample)
    old = replace(old, model=CTCModel(old.speech, old_head))
    new_tokenizer = CharTokenizer.train(["cxa"])
    config = FinetuneConfig(upsample=upsample)
    head, origin = build_head(config, old.speech, new_tokenizer, old)
    assert origin.kept == ["<blank>", "⁇", " ", "a", "c"]
    assert origin.fresh == ["x"]
    assert "5 of 6 symbols are written as before" in origin.sentence()
    assert origin.sentence().endswith("new: 'x'.")
    context = torch.randn(2, 7, 32)

    def logits(of: CTCHead) -> torch.Tensor:  # up to a constant of each row
        return of(context)[..., 0:1] - of(context)

    before, after = logits(old_head), logits(head)
    assert torch.allclose(before[..., [1, 2, 3, 5]], after[..., [1, 2, 3, 4]], atol=1e-5)
    assert not torch.allclose(before[..., 4], after[..., 5], atol=1e-3)


def test_letters_in_the_other_case_are_shared_and_rows_that_never_write_are_not():
    tokenizer = VocabularyTokenizer(["<blank>", "⁇", " ", "A", "</s>"], ["</s>"])
    old = model_of(MICRO)
    head = CTCHead(32, 5)
    nn.init.constant_(head.linear.bias[1:2], NEVER)
    old = Checkpoint(CTCModel(old.speech, head), tokenizer)
    new, origin = build_head(FinetuneConfig(), old.speech, CharTokenizer.train(["ab"]), old)
    assert origin.kept == ["<blank>", " ", "a"]
    assert torch.equal(new.linear.weight[3], head.linear.weight[3])
    assert new.linear.bias.min() > -1


@pytest.mark.parametrize(
    ("change", "said"),
    [({"fresh_head": True}, "--fresh_head"), ({"upsample": 2}, "writes 1 rows a frame and this")],
)
def test_a_fresh_head_is_said_with_its_reason(change, said):
    old = model_of(MICRO)
    head, origin = build_head(FinetuneConfig(**change), old.speech, old.tokenizer, old)
    assert said in origin.sentence()
    assert origin.kept == []
    assert not head.linear.bias.unflatten(0, (head.upsample, -1))[:, 1:].any()  # nothing is taken


def test_a_run_says_and_records_what_its_head_kept(tones, finetune_config, tmp_path, capsys):
    config = replace(finetune_config, loop=replace(finetune_config.loop, max_steps=1))
    finetune(config, *tones, tmp_path / "run", init=model_of(MICRO, "abcxyz"))
    sentence = "Head: 6 of 9 symbols are written as before (the blank among them); new: 'd'"
    assert sentence in capsys.readouterr().err
    assert load_model(tmp_path / "run").meta["head"] == {
        "kept": ["<blank>", "⁇", " ", "a", "b", "c"],
        "fresh": ["d", "e", "f"],
    }
    finetune(config, *tones, tmp_path / "run", init=model_of(MICRO, "abcxyz"))  # goes on
    assert "Head:" not in capsys.readouterr().err


# ---- freezing -----------------------------------------------------------------------------------


def test_what_is_frozen_by_name_has_no_gradient_and_no_optimizer_state(
    tones, finetune_config, tmp_path
):
    init = model_of(MICRO)
    before = {name: value.clone() for name, value in init.speech.state_dict().items()}
    patterns = ("speech.context.layers.[0-0].*", "speech.project.*")
    config = replace(
        finetune_config,
        freeze=patterns,
        freeze_encoder_share=0.0,
        loop=replace(finetune_config.loop, max_steps=3),
    )
    finetune(config, *tones, tmp_path / "run", init=init)
    after = load_model(tmp_path / "run").speech.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    expected = {n for n in before if n.startswith(("context.layers.0.", "project."))}
    assert expected <= same
    assert not any(name.startswith("context.layers.1.") for name in same)
    model = model_of(MICRO).model
    choose_learning(model, config, pretrained=True)
    optimizer = build_optimizer(config.optim, learning_parts(model, 0.8))
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    frozen = [p for n, p in model.named_parameters() if n.removeprefix("speech.") in expected]
    assert frozen
    assert not any(id(p) in held or p.requires_grad for p in frozen)


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [
        ("speech.encodr.*", "speech.encoder.*"),
        ("speech.context.layers.7.attention.*", "speech.context.layers.0.attention.*"),
        ("head", "head.*"),
    ],
)
def test_a_pattern_that_matches_nothing_names_the_nearest(pattern, nearest):
    with pytest.raises(ValueError, match=r"freeze: .* matches no name in the model") as caught:
        freeze(model_of(MICRO).model, (pattern,))
    assert nearest in str(caught.value)


def test_patterns_are_typed_with_commas():
    config = override(FinetuneConfig(), [("freeze", "a.*,b.?"), ("lora.modules", "*.out")])
    assert (config.freeze, config.lora.modules) == (("a.*", "b.?"), ("*.out",))
    with pytest.raises(ValueError, match="freeze must be a list, got 1"):
        override(config, [("freeze", "1")])


def test_patterns_choose_by_sets_of_characters():
    names = [f"layers.{i}.weight" for i in range(8)]
    assert chosen(("layers.[0-2].*", "*.7.weight"), names, "freeze") == [*names[:3], names[7]]


def test_a_model_that_is_frozen_whole_is_a_sentence():
    with pytest.raises(ValueError, match="nothing is left to learn"):
        choose_learning(model_of(MICRO).model, FinetuneConfig(freeze=("*",)), pretrained=True)


def test_a_part_of_a_model_from_scratch_does_not_learn_alone():
    with pytest.raises(ValueError, match="adapts a pretrained model: give one with --init"):
        choose_learning(model_of(MICRO).model, FinetuneConfig(learns="lora"), pretrained=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learns": "some"}, "learns must be one of all, adapters, lora, got 'some'"),
        ({"learns": "lora", "fresh_layers": 1}, "fresh_layers cannot learn"),
        ({"adapter_dim": 0}, "adapter_dim must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        FinetuneConfig(**change)


def test_the_body_learns_in_the_second_half_at_the_latest(tones, finetune_config, tmp_path):
    init = model_of(MICRO)
    before = init.speech.project.weight.detach().clone()
    loop = replace(finetune_config.loop, max_steps=2, num_validations=1)
    config = replace(finetune_config, head_only_steps=1000, loop=loop)
    finetune(config, *tones, tmp_path / "run", init=init)
    after = load_model(tmp_path / "run").speech.project.weight
    assert not torch.equal(before, after)


# ---- learning rates by layer --------------------------------------------------------------------


@pytest.mark.parametrize("rel_buckets", [0, 8])
def test_learning_rates_fall_by_layer_in_an_imported_transformer(rel_buckets):
    context = replace(BASE.context, rel_buckets=rel_buckets, rel_max_distance=12)
    model = model_of(replace(BASE, context=context)).model
    optimizer = build_optimizer(FinetuneConfig().optim, learning_parts(model, 0.5))
    names = {id(p): name for name, p in model.named_parameters()}
    scales = {
        names[id(p)]: group["lr_scale"] for group in optimizer.param_groups for p in group["params"]
    }
    assert set(names.values()) - scales.keys() == {"speech.mask_embedding"}
    for name, scale in scales.items():
        if name.startswith(("head.", "speech.context.norm.")):
            assert scale == 1
        elif name.startswith("speech.context.layers."):
            assert scale == 0.5 ** (3 - int(name.split(".")[3]))
        else:
            assert scale == 0.5**4


# ---- adapters -----------------------------------------------------------------------------------

WITH_GRU = replace(MICRO, context=replace(MICRO.context, local_layers=1, upper="gru"))


@pytest.mark.parametrize("config", [BASE, MICRO, WITH_GRU], ids=["base", "pre", "gru"])
def test_fresh_adapters_change_nothing_at_first_and_learn_alone(config):
    init = model_of(config)
    asked = FinetuneConfig(learns="adapters", adapter_dim=3, dropout=0.0)
    init.speech.eval()
    waves, lengths = torch.randn(2, 6000), torch.tensor([6000, 4000])
    before = init.speech(waves, lengths).context
    speech = build_speech(asked, init).eval()
    assert torch.allclose(speech(waves, lengths).context, before, atol=1e-6)
    model = CTCModel(speech, init.model.head)
    choose_learning(model, asked, pretrained=True)
    parts = ("norm.weight", "norm.bias", "down.weight", "down.bias", "up.weight", "up.bias")
    layers = range(config.context.num_layers)
    own = {f"speech.context.layers.{i}.adapter.{part}" for i in layers for part in parts}
    assert learning(model) == {"head.linear.weight", "head.linear.bias", *own}
    model(waves, lengths)[0].square().mean().backward()
    assert all(model.get_parameter(name).grad is not None for name in own)


def test_a_model_that_has_adapters_goes_on_with_them():
    config = replace(MICRO, context=replace(MICRO.context, adapter_dim=5))
    init = model_of(config)
    speech = build_speech(FinetuneConfig(learns="adapters", adapter_dim=3, dropout=0.0), init)
    assert speech.config.context.adapter_dim == 5
    name = "context.layers.1.adapter.up.weight"
    assert torch.equal(speech.get_parameter(name), init.speech.get_parameter(name))


def test_adapters_are_saved_and_only_they_have_changed(tones, finetune_config, tmp_path):
    init = model_of(MICRO)
    before = {name: value.clone() for name, value in init.speech.state_dict().items()}
    loop = replace(finetune_config.loop, max_steps=3)
    config = replace(finetune_config, learns="adapters", loop=loop)
    finetune(config, *tones, tmp_path / "run", init=init)
    saved = load_model(tmp_path / "run")
    assert saved.meta["learns"] == "adapters"
    after = saved.speech.state_dict()
    assert {n for n in after if n not in before} == {n for n in after if ".adapter." in n}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert after["context.layers.0.adapter.up.weight"].any()
