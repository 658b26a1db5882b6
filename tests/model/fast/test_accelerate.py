"""Every fast form computes the numbers and gradients of the plain one, with the same weights."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from speechssl.model import config as sizes
from speechssl.model.attention import SelfAttention
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.dropout import Dropout
from speechssl.model.encoder import ConvEncoder
from speechssl.model.fast.accelerate import FAST, PLAIN, accelerate, in_8_bits, plain
from speechssl.model.layers import GRULayer, TransformerLayer
from speechssl.model.position import PositionalConv
from speechssl.model.speech_model import SpeechModel

CONTEXT = ContextConfig(
    dim=16,
    num_layers=3,
    num_heads=2,
    ffn_dim=24,
    pos_kernel=64,
    pos_groups=4,
    dropout=0.0,
    attention_dropout=0.0,
    layerdrop=0.0,
)
GRU = replace(CONTEXT, upper="gru", norm_order="pre", local_layers=1)
CAUSAL = {"causal": True}
FRAMES, LENGTHS = 150, torch.tensor([150, 70, 1])
VALID = torch.arange(FRAMES) < LENGTHS[:, None]  # (B, T)


def encoder(**changes) -> ConvEncoder:
    running = changes.pop("running_norm", False)
    return ConvEncoder(
        replace(ConvEncoderConfig((8,) * 4, (10, 3, 3, 2), (5, 2, 2, 1)), **changes), running
    )


def wave() -> list[torch.Tensor]:
    lengths = torch.tensor([2100, 900, 400])
    return [torch.randn(3, 2100) * (torch.arange(2100) < lengths[:, None]), lengths]


def frames(*others) -> list[torch.Tensor]:
    return [torch.randn(3, FRAMES, 16), *others]


PARTS = {
    "encoder": (encoder, wave),
    "encoder with layer norms": (lambda: encoder(norm="layer", bias=True), wave),
    "encoder with a running norm": (lambda: encoder(running_norm=True), wave),
    "encoder of one layer": (lambda: encoder(dims=(8,), kernels=(10,), strides=(5,)), wave),
    "position": (lambda: PositionalConv(CONTEXT), frames),
    "causal position": (lambda: PositionalConv(replace(CONTEXT, **CAUSAL)), frames),
    "short position": (lambda: PositionalConv(replace(CONTEXT, pos_kernel=5)), frames),
    "GRU": (lambda: GRULayer(GRU), lambda: frames(VALID)),
    "GRU without padding": (lambda: GRULayer(GRU), lambda: frames(None)),
    "causal GRU": (lambda: GRULayer(replace(GRU, **CAUSAL)), lambda: frames(VALID)),
    "transformer": (lambda: TransformerLayer(CONTEXT), lambda: frames(VALID)),
    "pre-norm transformer": (
        lambda: TransformerLayer(replace(CONTEXT, norm_order="pre")),
        lambda: frames(None),
    ),
    "attention": (lambda: SelfAttention(CONTEXT), lambda: frames(VALID)),
    "causal attention": (
        lambda: SelfAttention(replace(CONTEXT, **CAUSAL)),
        lambda: frames(VALID),
    ),
    "attention with distances": (
        lambda: SelfAttention(replace(CONTEXT, rel_buckets=8, rel_max_distance=20)),
        lambda: frames(VALID, torch.randn(2, FRAMES, FRAMES)),
    ),
    "no dropout": (lambda: Dropout(0.0), frames),
    "dropout in evaluation": (lambda: Dropout(0.5), frames),
}


def outcome(module: nn.Module, inputs) -> list[torch.Tensor]:
    """The output and the gradient of each input and weight."""
    leaves = [
        x.clone().requires_grad_() if torch.is_tensor(x) and x.is_floating_point() else x
        for x in inputs
    ]
    module.zero_grad()
    out = module(*leaves)
    out = out[0] if isinstance(out, tuple) else out
    torch.manual_seed(1)
    out.backward(torch.randn(out.shape))
    grads = [x.grad for x in leaves if torch.is_tensor(x) and x.is_floating_point()]
    return [out.detach(), *grads, *(p.grad.clone() for p in module.parameters())]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", PARTS)
def test_a_part_computes_the_same_in_both_forms(name, training):
    make, inputs = PARTS[name]
    torch.manual_seed(0)
    module, given = make(), inputs()
    module.train(training and name != "dropout in evaluation")
    before = type(module)
    expected = outcome(module, given)
    assert type(accelerate(module)) is FAST[before]
    got = outcome(module, given)
    assert type(plain(module)) is before
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        size = float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 + 2e-5 * size)


def test_every_fast_form_is_tested():
    assert {type(make()) for make, _ in PARTS.values()} == FAST.keys()


def shrunken(size: str) -> ModelConfig:
    config = sizes.size(size)
    narrow = {"dim": 32, "ffn_dim": 48, "num_heads": 4, "num_layers": 2, "local_layers": 0}
    narrow["local_layers"] = min(config.context.local_layers, 1)
    still = {"dropout": 0.0, "attention_dropout": 0.0, "layerdrop": 0.0}
    context = replace(config.context, **narrow, **still)
    encoder = config.encoder
    if isinstance(encoder, ConvEncoderConfig):
        encoder = replace(encoder, dims=(16,) * len(encoder.dims))
    return replace(config, context=context, encoder=encoder, latent_dropout=0.0)


@pytest.mark.parametrize("size", sizes.SIZES)
def test_a_model_of_each_size_computes_the_same_in_both_forms(size):
    torch.manual_seed(0)
    model = SpeechModel(shrunken(size)).train()
    lengths = torch.tensor([48000, 20000])
    given = 0.1 * torch.randn(2, 48000) * (torch.arange(48000) < lengths[:, None])

    def run() -> list[torch.Tensor]:
        model.zero_grad()
        context = model(given, lengths).context
        torch.manual_seed(1)
        context.backward(torch.randn(context.shape))
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        return [context.detach(), *(grad.clone() for grad in grads)]

    names = list(model.state_dict())
    expected, got = run(), (accelerate(model), run())[1]
    assert list(model.state_dict()) == names
    assert any(type(module) in PLAIN for module in model.modules())
    for one, other in zip(got, expected, strict=True):
        size_of = float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 + 1e-4 * size_of)


def test_it_may_be_asked_for_twice_and_survives_copies():
    model = accelerate(accelerate(SpeechModel(shrunken("base"))))
    types = [type(module) for module in model.modules()]
    assert [type(m) for m in copy.deepcopy(model).modules()] == types
    layer = pickle.loads(pickle.dumps(model.context.layers[0]))
    assert type(layer) in PLAIN
    assert not {type(m) for m in plain(model).modules()} & PLAIN.keys()


def test_a_wrapped_weight_is_not_passed_by():
    """As that of LoRA, which replaces a Linear by another module."""

    class Wrapped(nn.Module):
        def __init__(self, linear):
            super().__init__()
            self.linear, self.weight, self.bias = linear, linear.weight, linear.bias

        def forward(self, x):
            return 2 * self.linear(x)

    torch.manual_seed(0)
    layer, x = TransformerLayer(CONTEXT).train(), torch.randn(2, 9, 16)
    layer.ffn_out = Wrapped(layer.ffn_out)
    expected = layer(x, None)
    torch.testing.assert_close(accelerate(layer)(x, None), expected)


def test_8_bits_are_a_copy_that_is_kept():
    model = SpeechModel(shrunken("base")).eval()
    rough = in_8_bits(model)
    assert rough is in_8_bits(model)
    assert rough is not model
    assert all(type(m) in FAST.values() or type(m) not in FAST for m in model.modules())
