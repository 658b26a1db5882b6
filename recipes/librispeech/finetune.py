"""Fine-tuning on LibriSpeech: wav2vec 2.0 BASE on 10 min to 100 h, and a CPU's share of it.

`base_10m` to `base_100h` are fairseq's config/finetuning/base_10m.yaml to base_100h.yaml
(arXiv:2006.11477, section 4.3 and appendix B). A micro-batch is the 3.2 M samples that one process
held, an update eight of them: 1600 s. With P processes give ``--loop.accumulate`` 8 / P. Different
from there: gradients are clipped; layer drop, attention and activation dropout stay those of
pretraining (0.05, 0.1, 0; there 0.1 or 0.05, 0, 0.1); channels are masked before the projection to
the transformer's width, not behind it.
"""

from dataclasses import replace

from speechssl.model import config as model_config
from speechssl.training.finetune import FinetuneConfig, preset
from speechssl.training.loop import LoopConfig
from speechssl.training.optim import OptimConfig


def tiny() -> FinetuneConfig:
    """Two hours on a CPU."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=120.0))


def base_10m() -> FinetuneConfig:
    """Ten minutes of labels."""
    return _base(updates=13_000, lr=5e-5, head_only=10_000, channel_share=0.25)


def base_1h() -> FinetuneConfig:
    """One hour of labels."""
    return _base(updates=13_000, lr=5e-5, head_only=10_000, channel_share=0.25)


def base_10h() -> FinetuneConfig:
    """Ten hours of labels."""
    return _base(updates=20_000, lr=5e-5, head_only=10_000, channel_share=0.5)


def base_100h() -> FinetuneConfig:
    """train-clean-100."""
    return _base(updates=80_000, lr=3e-5, head_only=0, channel_share=0.5)


def _base(*, updates: int, lr: float, head_only: int, channel_share: float) -> FinetuneConfig:
    return FinetuneConfig(
        model=model_config.base(),
        tokenizer="char",
        dropout=0.0,
        head_only_steps=head_only,
        freeze_encoder_share=1.0,
        mask_share=0.65,
        mask_span=10,
        channel_share=channel_share,
        channel_span=64,
        mask_from_share=0.0,
        batch_s=200.0,
        optim=OptimConfig(
            lr=lr,
            schedule="tri_stage",
            warmup_steps=updates // 10,
            hold_share=0.4,
            initial_share=0.01,
            final_share=0.05,
            beta1=0.9,
            beta2=0.98,
            eps=1e-8,
            weight_decay=0.0,
        ),
        loop=LoopConfig(
            max_steps=updates,
            accumulate=8,
            num_validations=40,
            checkpoint_every=1000,
            num_workers=4,
        ),
    )
