"""Fine-tuning on spoken digits, written as words."""

from dataclasses import replace

from speechssl.model.config import FilterbankEncoderConfig
from speechssl.training.finetune import FinetuneConfig, preset


def tiny() -> FinetuneConfig:
    """Four minutes on a CPU.

    Two rows of output per frame: "three" in 0.15 s needs six rows, and a frame is 40 ms long.
    """
    config = preset("tiny")
    return replace(
        config,
        model=replace(config.model, encoder=FilterbankEncoderConfig(max_hz=3900.0)),
        upsample=2,
        loop=replace(config.loop, budget_minutes=4.0),
    )
