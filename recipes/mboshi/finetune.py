"""Fine-tuning on Mboshi's transcripts."""

from dataclasses import replace

from speechssl.training.finetune import FinetuneConfig, preset


def tiny() -> FinetuneConfig:
    """Twenty minutes on a CPU."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=20.0))


def tiny_all() -> FinetuneConfig:
    """With all four hours of labels: two views of each utterance (CR-CTC), an hour on a CPU."""
    config = preset("tiny")
    return replace(
        config,
        dropout=0.2,
        layer_lr_decay=0.9,
        consistency=0.2,
        mask_share=0.3,
        channel_share=0.2,
        loop=replace(config.loop, budget_minutes=60.0),
    )


def small() -> FinetuneConfig:
    """For a GPU, or patience."""
    config = preset("small")
    return replace(config, loop=replace(config.loop, budget_minutes=60.0))
