"""8-bit products against the plain ones."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from speechssl.model import config as sizes
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.encoder import ConvLayer
from speechssl.model.fast import int8, loops
from speechssl.model.fast.int8 import (
    Int8ConvLayers,
    Int8Linear,
    Int8PositionalConv,
    gelu_codes,
    int8_is_fast,
    quantize,
    quantize_model,
    quantized,
)
from speechssl.model.heads import CTCHead
from speechssl.model.position import PositionalConv
from speechssl.model.speech_model import CTCModel, SpeechModel

pytestmark = pytest.mark.skipif(
    not int8_is_fast(torch.device("cpu")), reason="needs a CPU with VNNI instructions"
)

CONTEXT = ContextConfig(
    dim=32, num_layers=2, num_heads=2, ffn_dim=64, pos_kernel=8, pos_groups=4, layerdrop=0.0
)
PRE = ContextConfig(
    dim=32,
    num_layers=2,
    local_layers=1,
    upper="gru",
    num_heads=2,
    ffn_dim=64,
    norm_order="pre",
    pos_kernel=9,
    pos_groups=4,
    adapter_dim=4,
)
MODELS = {
    "group": ModelConfig(ConvEncoderConfig(dims=(16,) * 7), CONTEXT),
    "layer": ModelConfig(ConvEncoderConfig(dims=(16,) * 7, norm="layer", bias=True), CONTEXT),
    "filterbank": ModelConfig(sizes.tiny().encoder, PRE),
}


def error(rough: torch.Tensor, exact: torch.Tensor) -> float:
    return float(((rough - exact).norm() / exact.norm()).detach())


def test_quantize_covers_the_range():
    values = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    codes, scale, zero = quantize(values)
    assert codes.dtype == torch.uint8
    assert ((codes.float() - zero) * scale - values).abs().max() <= 0.51 * scale
    for same in (torch.zeros(3, 4), torch.full((2, 3), 5.0)):
        codes, scale, zero = quantize(same)
        torch.testing.assert_close((codes.float() - zero) * scale, same, rtol=0.01, atol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_map(bias):
    torch.manual_seed(0)
    linear, x = nn.Linear(48, 20, bias=bias), torch.randn(2, 9, 48)
    rough = Int8Linear(linear)(x)
    assert rough.shape == (2, 9, 20)
    assert rough.dtype == torch.float32
    assert 0 < error(rough, linear(x)) < 0.03


SAMPLES = [((50, 7), 0.0), ((3, 9), 4.0), ((3, 9), -4.0), ((300, 2000), 0.0)]


def test_the_compiled_loops_code_as_the_plain_form_does(monkeypatch):
    if loops.load("int8_loops") is None:
        pytest.skip("numba does not load")
    made = torch.Generator().manual_seed(0)
    for size, bias in SAMPLES:
        values = torch.randn(size, generator=made) + bias
        codes, *rest = quantize(values)
        with monkeypatch.context() as without:
            without.setattr(loops, "load", lambda _: None)
            plain, *others = quantize(values)
        assert rest == others
        apart = (codes.int() - plain.int()).abs()
        assert apart.max() <= 1  # where a product is rounded otherwise, on a border
        assert (apart > 0).float().mean() < 1e-3


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("at_once", [40, 1 << 23])
def test_the_codes_of_each_frame_cover_its_own_range_of_gelu(compiled, at_once, monkeypatch):
    monkeypatch.setattr(int8, "_AT_ONCE", at_once)
    if not compiled:
        monkeypatch.setattr(loops, "load", lambda _: None)
    made = torch.Generator().manual_seed(0)
    for size, bias in SAMPLES:
        values = torch.randn(size, generator=made) + bias
        values[1] *= 1000  # a loud frame takes nothing from the others
        values[2] = 3.0
        codes = gelu_codes(values.__getitem__, *size)
        assert codes.values.dtype == torch.uint8
        exact = F.gelu(values)
        off = codes.values * codes.scale[:, None] + codes.low[:, None] - exact
        step = (exact.amax(1) - exact.amin(1)) / 255
        assert (off.abs().amax(1) <= 0.51 * step + 1e-6).all()


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (1, 1), (5, 3)])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("at_once", [1, 100, 1 << 23])
@pytest.mark.parametrize("compiled", [False, True])
def test_convolutions_with_gelu(norm, kernel, stride, batch, at_once, compiled, monkeypatch):
    monkeypatch.setattr(int8, "_AT_ONCE", at_once)
    if not compiled:
        monkeypatch.setattr(loops, "load", lambda _: None)
    torch.manual_seed(0)
    layers = nn.ModuleList(
        ConvLayer(dim, out, kernel, stride, norm, "layer" if norm else "none")
        for dim, out in [(12, 20), (20, 8)]
    )
    windows, taps = torch.randn(batch, 61, 6), torch.randn(batch, 12, 6)
    frames = windows @ taps.transpose(1, 2)
    exact, lengths = F.gelu(frames).transpose(1, 2), torch.tensor([61] * batch)
    for layer in layers:
        exact, lengths = layer(exact, lengths)
    rough = Int8ConvLayers(layers)(frames)
    assert rough.shape == exact.transpose(1, 2).shape
    assert 0 < error(rough, exact.transpose(1, 2)) < 0.02
    assert error(Int8ConvLayers(layers)(windows, taps), rough) < 1e-3


def test_no_frame_hangs_on_a_louder_one():
    torch.manual_seed(0)
    layers = Int8ConvLayers([ConvLayer(12, 16, 3, 2, bias=False, norm="none")])
    frames = torch.randn(1, 61, 12)
    before = layers(frames)
    frames[:, 40:] *= 1000
    assert torch.equal(
        layers(frames)[:, :19], before[:, :19]
    )  # the last depends on frames 36 to 38


@pytest.mark.parametrize("kernel", [8, 9])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_positional_convolution(kernel, batch):
    torch.manual_seed(0)
    config = ContextConfig(dim=32, num_heads=2, pos_kernel=kernel, pos_groups=4)
    position, x = PositionalConv(config), torch.randn(batch, 21, 32)
    rough = Int8PositionalConv(position)(x)
    assert rough.shape == x.shape
    assert 0 < error(rough, position(x)) < 0.03


def test_query_key_and_value_are_one_product():
    torch.manual_seed(0)
    query, key, x = nn.Linear(12, 8), nn.Linear(12, 8), torch.randn(3, 12)
    exact = torch.cat([query(x), key(x)], 1)
    assert 0 < error(Int8Linear(query, key)(x), exact) < 0.03


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_is_about_the_same_and_the_given_one_stays(kind):
    torch.manual_seed(0)
    model = CTCModel(SpeechModel(MODELS[kind]), CTCHead(32, 11)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wave, lengths = torch.randn(2, 12000), torch.tensor([12000, 9000])
    rough = quantized(model)
    with torch.no_grad():
        exact = model.speech(wave, lengths).context
        found = rough.speech(wave, lengths).context
        rows, num_rows = rough(wave, lengths)
    assert 1e-4 < error(found, exact) < 0.1
    assert rows.shape[:2] == (2, int(num_rows.max()))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert rough.head.linear.weight is model.head.linear.weight  # what is not multiplied in 8 bits
    changed = {type(module) for module in model.modules()} & {Int8Linear, Int8ConvLayers}
    assert not changed
    assert all(value.requires_grad for value in model.parameters())


def test_every_matrix_of_the_published_form_is_replaced():
    rough = quantized(SpeechModel(MODELS["layer"]))
    assert not [m for m in rough.context.layers.modules() if type(m) is nn.Linear]
    assert all(layer.fused.activation == "gelu" for layer in rough.context.layers)
    assert len(rough.encoder.upper.convs) == len(rough.encoder.layers) - 1
    assert isinstance(rough.project, Int8Linear)


def test_the_copy_is_kept_until_a_weight_changes():
    model = SpeechModel(MODELS["group"]).eval()
    first = quantized(model)
    assert quantized(model) is first
    kept = weakref.ref(first)
    with torch.no_grad():
        model.project.weight.mul_(2)
    second = quantized(model)
    assert second is not first
    model.project.weight = nn.Parameter(model.project.weight.detach().clone())
    assert quantized(model) is not second
    wave, lengths = torch.randn(1, 8000), torch.tensor([8000])
    assert torch.equal(second(wave, lengths).context, quantize_model(model)(wave, lengths).context)
    del first, second, model
    gc.collect()
    assert kept() is None
