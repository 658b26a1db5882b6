"""Pretraining on LibriSpeech: wav2vec 2.0 BASE as published, and a CPU's share of it."""

from dataclasses import replace

from speechssl.data.distortion import none as no_distortion
from speechssl.model import config as model_config
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.task import MaskConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training.loop import LoopConfig
from speechssl.training.optim import OptimConfig
from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """Ten hours on a CPU, for train-clean-100."""
    config = preset("tiny")
    return replace(config, loop=replace(config.loop, budget_minutes=600.0))


def base() -> PretrainConfig:
    """wav2vec 2.0 BASE on 960 h (arXiv:2006.11477, section 4.2).

    The numbers are those of fairseq's wav2vec2_base_librispeech.yaml. A micro-batch is the 1.4 M
    samples that one of 64 GPUs held, an update 64 of them: 1.6 h. With P processes give
    ``--loop.accumulate`` 64 / P. Different from there: gradients are clipped, recordings under 2 s
    are not left out, and the latents that become targets have no dropout (0.1 there).
    """
    return PretrainConfig(
        model=model_config.base(),
        tasks=TaskConfigs(
            (
                ContrastiveConfig(
                    target_dim=256,
                    num_negatives=100,
                    temperature=0.1,
                    groups=2,
                    entries=320,
                    diversity_weight=0.1,
                    feature_penalty=10.0,
                    gumbel_start=2.0,
                    gumbel_end=0.5,
                    gumbel_decay=0.999995,
                ),
            )
        ),
        distortion=no_distortion(),
        mask=MaskConfig(share=0.65, span=10),
        encoder_grad_scale=0.1,
        batch_s=87.5,
        max_crop_s=15.625,
        optim=OptimConfig(
            lr=5e-4,
            schedule="linear",
            warmup_steps=32_000,
            initial_share=0.0,
            final_share=0.0,
            beta1=0.9,
            beta2=0.98,
            eps=1e-6,
            weight_decay=0.01,
        ),
        loop=LoopConfig(
            max_steps=400_000,
            accumulate=64,
            num_validations=100,
            checkpoint_every=1000,
            num_workers=4,
        ),
    )


def base_960h_8() -> PretrainConfig:
    """`base` in eight processes, a GPU each."""
    config = base()
    return replace(config, loop=replace(config.loop, accumulate=8))


def base_960h_64() -> PretrainConfig:
    """`base` in 64 processes, as published: eight machines of eight GPUs."""
    config = base()
    return replace(config, loop=replace(config.loop, accumulate=1))
