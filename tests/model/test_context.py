"""The context network: independence of padding, what each part sees, layers left out."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from speechssl.model.attention import SelfAttention
from speechssl.model.config import ContextConfig
from speechssl.model.context import ContextNetwork
from speechssl.model.layers import LocalConvLayer
from speechssl.model.position import PositionalConv

POST = ContextConfig(
    dim=16,
    num_layers=3,
    num_heads=4,
    ffn_dim=32,
    norm_order="post",
    pos_kernel=8,
    pos_groups=2,
    dropout=0.0,
    attention_dropout=0.0,
    layerdrop=0.0,
)
PRE = replace(POST, norm_order="pre")
CONFIGS = {
    "post": POST,
    "pre": PRE,
    "pre-odd-kernel": replace(PRE, pos_kernel=7),
    "pre-pos-norm": replace(PRE, pos_norm=True),
    "post-pos-norm": replace(POST, pos_norm=True),
    "pre-local": replace(PRE, local_layers=2, pos_norm=True),
    "all-local": replace(PRE, local_layers=3, local_kernel=3),
    "pre-gru": replace(PRE, upper="gru"),
    "pre-local-gru": replace(PRE, local_layers=1, upper="gru", pos_norm=True),
}
EVERY = pytest.mark.parametrize("name", CONFIGS)
LENGTHS = torch.tensor([30, 7, 1])


def context(config: ContextConfig) -> ContextNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ContextNetwork(config).eval()


def frames(num=30, rows=3):
    return torch.randn(rows, num, 16, generator=torch.Generator().manual_seed(1))


@EVERY
def test_a_row_of_a_batch_equals_the_row_alone(name):
    model = context(CONFIGS[name])
    x = frames()
    batch = model(x, LENGTHS, keep_hidden=True)
    for row, num in enumerate(LENGTHS.tolist()):
        alone = model(x[row : row + 1, :num], LENGTHS[row : row + 1], keep_hidden=True)
        for ours, other in zip(batch.hidden, alone.hidden, strict=True):
            torch.testing.assert_close(ours[row, :num], other[0], rtol=1e-4, atol=1e-5)


@EVERY
def test_what_lies_in_the_padding_is_not_seen(name):
    model = context(CONFIGS[name])
    x = frames()
    other = x.clone()
    other[1, 7:] = float("nan")
    one, two = model(x, LENGTHS).context, model(other, LENGTHS).context
    assert torch.equal(one[1, :7], two[1, :7])


@EVERY
def test_hidden_states_are_the_input_and_every_layer(name):
    config = CONFIGS[name]
    out = context(config)(frames(), LENGTHS, keep_hidden=True)
    assert len(out.hidden) == config.num_layers + 1
    assert all(h.shape == (3, 30, 16) for h in out.hidden)
    assert torch.equal(out.hidden[-1], out.context)
    assert context(config)(frames(), LENGTHS).hidden == ()


@EVERY
def test_every_parameter_has_a_gradient(name):
    model = context(CONFIGS[name]).train()
    model(frames(), LENGTHS).context[:, :, ::2].square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if not key.endswith("key.bias"):  # a constant added to every key changes no attention
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["post", "pre", "pre-gru"])
def test_an_upper_layer_sees_the_whole_utterance(name):
    model = context(replace(CONFIGS[name], num_layers=1))
    x = frames(rows=1)
    other = x.clone()
    other[0, 0] += 1
    gap = model(x, torch.tensor([30])).context - model(other, torch.tensor([30])).context
    assert (gap.abs().amax(2) > 0).all()


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_local_layer_sees_its_kernel_and_no_more(kernel):
    torch.manual_seed(0)
    layer = LocalConvLayer(replace(PRE, local_layers=1, local_kernel=kernel)).eval()
    x = frames(rows=1)
    other = x.clone()
    other[0, 15] += 1
    gap = (layer(x, None) - layer(other, None)).abs().amax(2)[0]
    seen = gap.nonzero().flatten().tolist()
    assert seen == list(range(15 - kernel // 2, 15 + kernel // 2 + 1))


def test_a_local_layer_is_a_convolution():
    torch.manual_seed(0)
    layer = LocalConvLayer(PRE).eval()
    x = frames()
    weight = layer.conv.weight.unflatten(1, (PRE.local_kernel, 16)).transpose(1, 2)  # (O, C, K)
    y = F.conv1d(layer.norm(x).transpose(1, 2), weight, layer.conv.bias, padding=2)
    expected = x + layer.out(F.gelu(y).transpose(1, 2))
    torch.testing.assert_close(layer(x, None), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 2, 7, 8, 31, 128])
@pytest.mark.parametrize("num", [1, 5, 40])
def test_the_positional_convolution_keeps_the_number_of_frames(kernel, num):
    conv = PositionalConv(replace(POST, pos_kernel=kernel))
    assert conv(frames(num)).shape == (3, num, 16)


def test_attention_against_the_formula():
    torch.manual_seed(0)
    attention = SelfAttention(POST).eval()
    x = frames()
    mask = torch.arange(30) < LENGTHS[:, None]  # (B, T)
    query, key, value = (
        layer(x).unflatten(2, (4, 4)) for layer in (attention.query, attention.key, attention.value)
    )
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / 2
    weights = scores.masked_fill(~mask[:, None, None, :], float("-inf")).softmax(3)
    expected = attention.out(torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2))
    torch.testing.assert_close(attention(x, mask), expected, rtol=1e-4, atol=1e-5)


def test_layerdrop_leaves_layers_out_in_training_only():
    model = context(replace(PRE, layerdrop=0.999999))
    whole = context(PRE)
    assert torch.equal(model(frames(), LENGTHS).context, whole(frames(), LENGTHS).context)
    hidden = model.train()(frames(), LENGTHS, keep_hidden=True).hidden
    assert all(torch.equal(h, hidden[0]) for h in hidden[:-1])


def test_dropout_is_a_function_of_torchs_seed():
    model = context(replace(POST, dropout=0.3, attention_dropout=0.3, layerdrop=0.3)).train()

    def once(seed):
        torch.manual_seed(seed)
        return model(frames(), LENGTHS).context

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))
