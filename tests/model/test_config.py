"""Configs: round trips, published sizes, and refusals that name the field."""

import json
from dataclasses import replace

import pytest
import torch

from speechssl.model import config as c
from speechssl.model.speech_model import SpeechModel

EVERY_SIZE = pytest.mark.parametrize("name", c.SIZES)


def num_parameters(config: c.ModelConfig) -> int:
    # the large ones without memory; a filterbank computes its filters, so it needs some
    is_conv = isinstance(config.encoder, c.ConvEncoderConfig)
    with torch.device("meta" if is_conv else "cpu"):
        return sum(p.numel() for p in SpeechModel(config).parameters())


@EVERY_SIZE
def test_a_config_survives_json(name):
    config = c.size(name)
    assert c.from_dict(json.loads(json.dumps(c.to_dict(config)))) == config


def test_changed_fields_survive_json():
    config = replace(
        c.tiny_conv(),
        encoder=c.ConvEncoderConfig((4, 8), (10, 4), (5, 4), norm="layer", bias=True),
        normalize_wave=True,
        sample_rate=8000,
        latent_dropout=0.25,
    )
    assert c.from_dict(json.loads(json.dumps(c.to_dict(config)))) == config


def test_missing_fields_take_their_defaults():
    assert c.from_dict({}) == c.ModelConfig()
    assert c.from_dict({"encoder": {"kind": "filterbank"}}).encoder == c.FilterbankEncoderConfig()


@pytest.mark.parametrize(
    ("name", "millions", "tolerance"),
    [
        ("tiny", 5, 1),
        ("tiny-conv", 6, 1),
        ("small", 20, 3),
        ("base", 94.4, 0.1),
        ("large", 315.5, 2),
        ("tiny-wav2vec", 3, 1),
        ("wav2vec", 24, 1),
    ],
)
def test_parameter_counts(name, millions, tolerance):
    assert num_parameters(c.size(name)) / 1e6 == pytest.approx(millions, abs=tolerance)


def test_base_has_exactly_the_published_parameters():
    assert num_parameters(c.base()) == 94_371_712


@EVERY_SIZE
def test_a_frame_is_a_whole_number_of_10_ms(name):
    config = c.size(name)
    assert config.hop_samples % (config.sample_rate // 100) == 0


def test_derived_widths():
    assert (c.base().hop_samples, c.base().latent_dim) == (320, 512)
    assert (c.tiny().hop_samples, c.tiny().latent_dim) == (640, 320)


def test_the_nearest_size_has_layers_of_the_same_kind():
    assert all(c.nearest_size(make()) == name for name, make in c.SIZES.items())
    context = replace(c.tiny_conv().context, dim=192, num_heads=4)
    assert c.nearest_size(replace(c.tiny_conv(), context=context)) == "tiny-conv"
    context = replace(c.wav2vec().context, dim=256)
    assert c.nearest_size(replace(c.wav2vec(), context=context)) == "tiny-wav2vec"


def test_an_unknown_size_names_the_known_ones():
    with pytest.raises(ValueError, match=f"{', '.join(c.SIZES)}, got 'huge'"):
        c.size("huge")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"colour": 1}, r"model config has unknown fields \['colour'\]"),
        ({"encoder": {"kind": "conv", "depth": 1}}, r"encoder config .*\['depth'\]"),
        ({"context": {"width": 1}}, r"context config .*\['width'\]"),
        ({"encoder": {"kind": "sinc"}}, r"encoder.kind must be one of conv, filterbank"),
    ],
)
def test_unknown_fields_are_named(data, said):
    with pytest.raises(ValueError, match=said):
        c.from_dict(data)


@pytest.mark.parametrize(
    ("cls", "fields", "said"),
    [
        (c.ConvEncoderConfig, {"dims": (4,)}, "same number of layers, got 1, 7 and 7"),
        (c.ConvEncoderConfig, {"dims": (), "kernels": (), "strides": ()}, "same number"),
        (c.ConvEncoderConfig, {"dims": (4,), "kernels": (0,), "strides": (1,)}, "encoder.kernels"),
        (c.ConvEncoderConfig, {"norm": "batch"}, "encoder.norm must be one of group, layer"),
        (c.FilterbankEncoderConfig, {"num_filters": 0}, "encoder.num_filters"),
        (c.FilterbankEncoderConfig, {"hop_samples": 161}, "even, got 161"),
        (c.FilterbankEncoderConfig, {"min_hz": 8000.0}, "encoder.min_hz must be below"),
        (c.ContextConfig, {"norm_order": "middle"}, "context.norm_order"),
        (c.ContextConfig, {"num_layers": 0}, "context.num_layers must be at least 1"),
        (c.ContextConfig, {"dropout": 1.0}, r"context.dropout must be in \[0, 1\)"),
        (c.ContextConfig, {"num_heads": 7}, "multiple of context.num_heads, got 768 and 7"),
        (c.ContextConfig, {"pos_groups": 7}, "multiple of context.pos_groups"),
        (c.ContextConfig, {"local_layers": 13}, "local_layers must be between 0 and"),
        (c.ContextConfig, {"local_layers": 1}, "need context.norm_order 'pre'"),
        (c.ContextConfig, {"local_kernel": 4}, "local_kernel must be odd, got 4"),
        (c.ContextConfig, {"local_kernel": -1}, "local_kernel must be at least 1"),
        (c.ModelConfig, {"sample_rate": 0}, "sample_rate must be at least 1"),
        (c.ModelConfig, {"latent_dropout": -0.1}, "latent_dropout"),
    ],
)
def test_an_impossible_config_is_refused_by_name(cls, fields, said):
    with pytest.raises(ValueError, match=said):
        cls(**fields)
