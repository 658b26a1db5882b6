"""LoRA through peft: nothing changes at first, little learns, what is saved is plain."""

import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import kill_resume
from speechssl.checkpoint import load_model
from speechssl.training.finetune import FinetuneConfig, FinetuneWork, choose_learning, finetune
from speechssl.training.loop import InterruptedRunError
from speechssl.training.lora import LoraConfig, add_lora, without_lora
from tests.training.conftest import MICRO
from tests.training.test_learning import BASE, WITH_GRU, learning, model_of

pytestmark = pytest.mark.extras


@pytest.fixture(autouse=True)
def _peft():
    pytest.importorskip("peft")


def disturb(model: torch.nn.Module) -> None:
    """Let the LoRA weights add something."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.2)


@pytest.mark.parametrize("config", [BASE, MICRO, WITH_GRU], ids=["base", "pre", "gru"])
def test_it_adds_nothing_at_first_and_its_sum_is_a_plain_model(config):
    model = model_of(config).model.eval()
    waves, lengths = torch.randn(2, 6000), torch.tensor([6000, 4000])
    before, _ = model(waves, lengths)
    plain_names = model.state_dict().keys()
    add_lora(model, LoraConfig(rank=2))
    model.eval()
    # Not equal: on an AMD a product depends on where in memory its factors lie.
    torch.testing.assert_close(model(waves, lengths)[0], before, rtol=0, atol=1e-5)
    assert all(".lora_" in n or n.startswith("head.") for n in learning(model))
    disturb(model)
    after, _ = model(waves, lengths)
    assert (after - before).abs().max() > 1e-3
    plain = without_lora(model)
    assert plain.state_dict().keys() == plain_names
    assert torch.allclose(plain(waves, lengths)[0], after, atol=1e-4)
    torch.testing.assert_close(model(waves, lengths)[0], after, rtol=0, atol=1e-5)  # as it was


@pytest.mark.parametrize("config", [BASE, MICRO, WITH_GRU], ids=["base", "pre", "gru"])
def test_in_training_all_that_learns_has_a_gradient_and_nothing_else(config):
    config = replace(config, context=replace(config.context, dropout=0.0, layerdrop=0.0))
    model = model_of(config).model
    add_lora(model, LoraConfig(rank=2))
    disturb(model)
    model.train()
    model(torch.randn(2, 6000), torch.tensor([6000, 4000]))[0].square().mean().backward()
    moved = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == learning(model)


def test_every_linear_of_the_layers_is_adapted_unless_others_are_named_or_frozen():
    def adapted(config: FinetuneConfig) -> set[str]:
        model = model_of(BASE).model
        choose_learning(model, config, pretrained=True)
        return {n.split(".lora_")[0] for n in learning(model) if ".lora_" in n}

    attention = ("attention.query", "attention.key", "attention.value", "attention.out")
    parts = (*attention, "ffn_in", "ffn_out")
    every = {f"speech.context.layers.{i}.{part}" for i in range(3) for part in parts}
    asked = FinetuneConfig(learns="lora")
    assert adapted(asked) == every
    queries = LoraConfig(modules=("*.attention.query",))
    frozen = ("speech.context.layers.[01].*",)
    assert adapted(replace(asked, lora=queries, freeze=frozen)) == {
        "speech.context.layers.2.attention.query"
    }


def test_a_module_that_is_not_there_or_frozen_is_a_sentence():
    with pytest.raises(ValueError, match=r"lora.modules: '\*.atention.\*' matches no name"):
        add_lora(model_of(BASE).model, LoraConfig(modules=("*.atention.*",)))
    config = FinetuneConfig(learns="lora", freeze=("speech.*",))
    with pytest.raises(ValueError, match="every Linear that it names is frozen"):
        choose_learning(model_of(BASE).model, config, pretrained=True)


@pytest.mark.parametrize(
    "change", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"modules": ()}], ids=str
)
def test_a_bad_field_is_named(change):
    with pytest.raises(ValueError, match=f"lora.{next(iter(change))}"):
        LoraConfig(**change)


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'speechssl\[lora\]'"):
        add_lora(model_of(BASE).model, LoraConfig())


@pytest.fixture
def lora_config(finetune_config) -> FinetuneConfig:
    loop = replace(finetune_config.loop, max_steps=8, num_validations=2, checkpoint_every=3)
    return replace(finetune_config, learns="lora", lora=LoraConfig(rank=4, dropout=0.1), loop=loop)


def test_a_run_writes_a_plain_model_and_goes_on_exactly(tones, lora_config, tmp_path, monkeypatch):
    before = model_of(MICRO).speech.state_dict()
    finetune(lora_config, *tones, tmp_path / "whole", init=model_of(MICRO))
    after = load_model(tmp_path / "whole").speech.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(n.startswith("context.layers.") and n.endswith("weight") for n in changed)
    real = FinetuneWork.backward

    def stopped(self, step, max_steps, batches):
        if step == 5:
            raise InterruptedRunError("killed")
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(FinetuneWork, "backward", stopped)
    with pytest.raises(InterruptedRunError):
        finetune(lora_config, *tones, tmp_path / "stopped", init=model_of(MICRO))
    monkeypatch.setattr(FinetuneWork, "backward", real)
    finetune(lora_config, *tones, tmp_path / "stopped", init=model_of(MICRO))
    whole, resumed = (kill_resume.result(tmp_path / name) for name in ("whole", "stopped"))
    assert whole == resumed
