"""The causal form of every size: the future changes no present output, padding and batch nothing.

A frame's filters reach some samples beyond its start (convolutions without padding: the receptive
field; a filterbank: half a filter beyond its hop), which is all of the future that it may know.
"""

from dataclasses import replace

import pytest
import torch

from speechssl import shapes
from speechssl.checkpoint import Checkpoint, load_model, save_model
from speechssl.model import config as sizes
from speechssl.model.config import ConvEncoderConfig, ModelConfig
from speechssl.model.fast.accelerate import accelerate, plain
from speechssl.model.layers import LocalConvLayer, TransformerLayer
from speechssl.model.normalization import RunningNorm
from speechssl.model.position import PositionalConv, PositionalConvStack
from speechssl.model.speech_model import SpeechModel

SAMPLES = 24000
CAUSAL_SIZES = {"tiny-wav2vec", "wav2vec"}
EVERY_SIZE = pytest.mark.parametrize("size", sizes.SIZES)
FORMS = pytest.mark.parametrize("form", [plain, accelerate])


def shrunken(size: str, **context) -> ModelConfig:
    config = sizes.size(size)
    narrow = {"dim": 32, "ffn_dim": 48, "num_heads": 4, "num_layers": 3}
    narrow["local_layers"] = min(config.context.local_layers, 1)
    encoder = config.encoder
    if isinstance(encoder, ConvEncoderConfig):
        encoder = replace(encoder, dims=(16,) * len(encoder.dims))
    return replace(config, context=replace(config.context, **narrow, **context), encoder=encoder)


def causal(size: str, **context) -> ModelConfig:
    return replace(shrunken(size, causal=True, **context), running_norm=True)


def model_of(config: ModelConfig) -> SpeechModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SpeechModel(config).eval()


def waves(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    wave = 0.1 * torch.randn(len(lengths), max(lengths), generator=generator)
    return shapes.zero_padding(wave, torch.tensor(lengths)), torch.tensor(lengths)


def frames_before(model: SpeechModel, sample: int) -> int:
    """How many frames are over before a sample."""
    encoder = model.encoder
    if isinstance(encoder.config, ConvEncoderConfig):
        reach = encoder.min_samples
    else:
        reach = encoder.hop_samples + encoder.config.kernel_samples // 2
    return (sample - reach) // encoder.hop_samples + 1


@EVERY_SIZE
@FORMS
@torch.no_grad()
def test_the_future_changes_no_present_output(size, form):
    model = form(model_of(causal(size)))
    wave, lengths = waves(SAMPLES)
    before = model(wave, lengths, keep_hidden=True)
    for sample in (3000, 12345, SAMPLES - 1000):
        other = wave.clone()
        other[:, sample:] = 3 * torch.randn(SAMPLES - sample) + 1
        after = model(other, lengths, keep_hidden=True)
        num = frames_before(model, sample)
        assert 0 < num < before.context.shape[1] - 1
        for one, two in zip(
            (before.latents, *before.hidden), (after.latents, *after.hidden), strict=True
        ):
            torch.testing.assert_close(one[:, :num], two[:, :num], rtol=1e-4, atol=2e-5)
            assert not torch.allclose(one[:, num + 1 :], two[:, num + 1 :], rtol=1e-2, atol=1e-2)


@EVERY_SIZE
@torch.no_grad()
def test_without_the_options_it_does(size):
    """The test above can fail: each of the two options alone is not enough."""
    wave, lengths = waves(SAMPLES)
    other = wave.clone()
    other[:, 12345:] = 3 * torch.randn(SAMPLES - 12345) + 1
    for is_causal in (False, True):
        config = replace(shrunken(size, causal=is_causal), running_norm=False)
        assert not config.is_causal
        model = model_of(config)
        num = frames_before(model, 12345)
        one, two = model(wave, lengths).context, model(other, lengths).context
        assert not torch.allclose(one[:, :num], two[:, :num], rtol=1e-2, atol=1e-2)


@EVERY_SIZE
@torch.no_grad()
def test_a_row_of_a_batch_equals_the_row_alone(size):
    model = accelerate(model_of(causal(size)))
    wave, lengths = waves(SAMPLES, 9000, 700)
    batch = model(wave, lengths).context
    for row, length in enumerate(lengths.tolist()):
        alone = model(wave[row : row + 1, :length], lengths[row : row + 1])
        num = int(alone.lengths)
        torch.testing.assert_close(batch[row, :num], alone.context[0], rtol=1e-3, atol=5e-5)


@EVERY_SIZE
@torch.no_grad()
def test_a_longer_wave_begins_as_a_shorter_one(size):
    """What was computed of the start stays, as more of a stream comes in."""
    model = model_of(causal(size))
    wave, _ = waves(SAMPLES)
    whole = model(wave, torch.tensor([SAMPLES])).context
    start = model(wave[:, :12000], torch.tensor([12000])).context
    num = frames_before(model, 12000)
    torch.testing.assert_close(whole[:, :num], start[:, :num], rtol=1e-4, atol=2e-5)


@EVERY_SIZE
def test_every_weight_has_a_gradient(size):
    model = accelerate(model_of(causal(size, layerdrop=0.0))).train()
    wave, lengths = waves(SAMPLES, 9000)
    model(wave, lengths).context[:, :, ::2].square().sum().backward()
    for name, weight in model.named_parameters():
        if name == "mask_embedding":
            continue
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        if not name.endswith("key.bias"):  # a constant added to every key changes no attention
            assert weight.grad.abs().sum() > 0, name


@EVERY_SIZE
def test_it_is_written_and_read_again(size, tmp_path):
    """The options and the statistics' priors are in the folder."""
    model = model_of(causal(size))
    save_model(tmp_path / "model", Checkpoint(model))
    again = load_model(tmp_path / "model").speech
    assert again.config == model.config
    assert again.config.is_causal
    weights = model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    wave, lengths = waves(5000)
    found, wanted = again.eval()(wave, lengths).context, model(wave, lengths).context
    # Not equal: on an AMD a product depends on where in memory its factors lie.
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_off_is_the_default_and_a_config_without_the_fields_has_them_off():
    for size in sizes.SIZES.keys() - CAUSAL_SIZES:
        data = sizes.to_dict(sizes.size(size))
        assert data.pop("running_norm") is False
        assert data["context"].pop("causal") is False
        assert sizes.from_dict(data) == sizes.size(size)


def test_sizes_of_convolutions_alone_are_causal():
    assert {size for size in sizes.SIZES if sizes.size(size).is_causal} == CAUSAL_SIZES
    assert all(sizes.size(size).context.is_convolutional for size in CAUSAL_SIZES)


@pytest.mark.parametrize(
    ("norm", "normalize_wave", "running", "is_causal"),
    [
        ("layer", False, False, True),  # nothing is normalised over time
        ("layer", True, False, False),
        ("layer", True, True, True),
        ("group", False, False, False),
        ("group", False, True, True),
    ],
)
def test_what_a_causal_encoder_needs(norm, normalize_wave, running, is_causal):
    config = replace(
        causal("base"),
        encoder=ConvEncoderConfig((8,) * 7, norm=norm),
        normalize_wave=normalize_wave,
        running_norm=running,
    )
    assert config.is_causal is is_causal
    assert not replace(config, context=replace(config.context, causal=False)).is_causal


# --- the parts ------------------------------------------------------------------------------------


CONTEXT = replace(causal("base").context, dropout=0.0, attention_dropout=0.0)
PARTS = {
    "post-norm attention": TransformerLayer(CONTEXT),
    "pre-norm attention": TransformerLayer(replace(CONTEXT, norm_order="pre")),
    "attention with distances": TransformerLayer(
        replace(CONTEXT, rel_buckets=8, rel_max_distance=20)
    ),
    "local": LocalConvLayer(replace(CONTEXT, norm_order="pre", local_kernel=5)),
    "even kernel": PositionalConv(replace(CONTEXT, pos_kernel=8)),
    "odd kernel": PositionalConv(replace(CONTEXT, pos_kernel=7)),
    "long kernel": accelerate(PositionalConv(replace(CONTEXT, pos_kernel=64))),
    "stack": PositionalConvStack(replace(CONTEXT, pos_stack=2, pos_kernel=5)),
}


@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_each_part_is_causal(name):
    part = PARTS[name].eval()
    num, at = 160, 90
    x = torch.randn(2, num, 32)
    other = x.clone()
    other[:, at:] += 1
    others: tuple[object, ...] = (None,)
    if name == "attention with distances":
        others = (None, torch.randn(4, num, num))
    if isinstance(part, PositionalConv):
        others = ()
    if isinstance(part, PositionalConvStack):
        others = (torch.tensor([num, num]),)
    gap = (part(x, *others) - part(other, *others)).abs().amax((0, 2))
    assert float(gap[:at].max()) < 1e-5
    assert float(gap[at:].min()) > 1e-3


def test_attention_with_dropout_is_causal_too():
    """In its compiled form, whose mask is another."""
    torch.manual_seed(0)
    layer = accelerate(TransformerLayer(replace(CONTEXT, attention_dropout=0.4))).train()
    x = torch.randn(2, 40, 32)
    other = x.clone()
    other[:, 20:] += 1
    valid = torch.arange(40) < torch.tensor([[40], [30]])
    results = []
    for own in (x, other):
        torch.manual_seed(1)
        results.append(layer(own, valid))
    gap = (results[0] - results[1]).abs().amax((0, 2))
    assert float(gap[:20].max().detach()) == 0
    assert float(gap[20:].min().detach()) > 1e-3


def test_a_running_norm_is_the_mean_and_variance_up_to_each_frame():
    norm = RunningNorm(3, prior_frames=4, mean=0.5, variance=2.0, eps=0.0)
    values = 3 * torch.randn(2, 50, 3) + 7
    out = norm(values)
    for t in (0, 1, 7, 49):
        prior = torch.tensor([0.5 + 2**0.5, 0.5 - 2**0.5] * 2)[:, None].expand(4, 3)
        for row in range(2):
            so_far = torch.cat([prior, values[row, : t + 1]])
            expected = (values[row, t] - so_far.mean(0)) / so_far.std(0, correction=0)
            torch.testing.assert_close(out[row, t], expected, rtol=1e-4, atol=1e-4)


def test_a_running_norm_stays_exact_over_an_hour():
    """100 frames a second."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 360_000, 1, generator=generator) - 9
    norm = RunningNorm(1, prior_frames=10, mean=-9.0, variance=9.0)
    tail = norm(values)[0, -1000:, 0].detach()
    expected = (values[0, -1000:, 0] - values.mean()) / values.std()
    torch.testing.assert_close(tail, expected, rtol=1e-2, atol=1e-2)
