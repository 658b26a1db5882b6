"""Pretraining on the digits of four speakers: a quarter of an hour, half a second each, 8 kHz."""

from dataclasses import replace

from speechssl.model.config import FilterbankEncoderConfig
from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """A quarter of an hour on a CPU.

    The filters are spread over the 4 kHz that are there, and the distortion takes away no more.
    """
    config = preset("tiny")
    return replace(
        config,
        model=replace(config.model, encoder=FilterbankEncoderConfig(max_hz=3900.0)),
        distortion=replace(
            config.distortion, band_limit=replace(config.distortion.band_limit, p=0.0)
        ),
        loop=replace(config.loop, budget_minutes=15.0),
    )
