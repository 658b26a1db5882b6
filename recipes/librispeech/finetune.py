"""Fine-tuning on LibriSpeech, with the published numbers of wav2vec 2.0 BASE for each split."""

from dataclasses import replace

from speechssl.training.finetune import FinetuneConfig, preset


def tiny() -> FinetuneConfig:
    """A first look on a CPU."""
    return preset("tiny")


def base_10m() -> FinetuneConfig:
    """10 minutes of labels (fairseq's base_10m)."""
    return _base(updates=13_000, lr=5e-5, frozen=10_000, mask=0.65, channels=0.25)


def base_1h() -> FinetuneConfig:
    """1 hour of labels (fairseq's base_1h)."""
    return _base(updates=13_000, lr=5e-5, frozen=10_000, mask=0.65, channels=0.25)


def base_10h() -> FinetuneConfig:
    """10 hours of labels (fairseq's base_10h)."""
    return _base(updates=20_000, lr=5e-5, frozen=10_000, mask=0.65, channels=0.5)


def base_100h() -> FinetuneConfig:
    """100 hours of labels (fairseq's base_100h)."""
    return _base(updates=80_000, lr=3e-5, frozen=0, mask=0.65, channels=0.5)


def _base(*, updates: int, lr: float, frozen: int, mask: float, channels: float) -> FinetuneConfig:
    config = preset("base")
    return replace(
        config,
        head_only_steps=frozen,
        mask_share=mask,
        channel_share=channels,
        optim=replace(config.optim, lr=lr, warmup_steps=updates // 10, hold_share=0.4),
        loop=replace(config.loop, max_steps=updates, accumulate=8),
    )
