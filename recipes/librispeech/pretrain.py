"""Pretraining on LibriSpeech: wav2vec, wav2vec 2.0 BASE, HuBERT BASE and BEST-RQ with their
published numbers, and a CPU's share."""

from dataclasses import replace

from speechssl.data.distortion import none as no_distortion
from speechssl.model import config as model_config
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.task import MaskConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.pretext.wav2vec import Wav2VecConfig
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


def hubert_round_1() -> PretrainConfig:
    """The first round of HuBERT BASE on 960 h (arXiv:2106.07447, sections 3 and 4): units of 39
    cepstra.

    The numbers are those of fairseq's hubert_base_librispeech.yaml: masks in spans of 200 ms,
    57 % of the frames; the loss on masked frames alone; cosine similarity over 0.1 with 256 numbers
    for each of 100 units; 250,000 updates of 32 micro-batches, 0.8 h. Different from there: k-means
    on half an hour of cepstra that are normalised for each utterance; the two times 39 of a frame
    of 20 ms give its unit, where there every second unit of 100 a second is taken.
    """
    config = base()
    return replace(
        config,
        tasks=TaskConfigs((_hubert_units(100),)),
        mask=MaskConfig(share=0.8, span=10),
        optim=replace(config.optim, clip_norm=10.0),
        loop=replace(config.loop, max_steps=250_000, accumulate=32),
    )


def hubert_round_2() -> PretrainConfig:
    """The second round: 500 units of the sixth layer of the first round's model, 400,000 updates.

    Give the first round's folder: ``--teacher RUN``.
    """
    config = hubert_round_1()
    return replace(
        config,
        tasks=TaskConfigs((_hubert_units(500),)),
        teacher="runs/librispeech/hubert-1",
        teacher_layer=6,
        loop=replace(config.loop, max_steps=400_000),
    )


def _hubert_units(num: int) -> MaskedUnitsConfig:
    return MaskedUnitsConfig(
        quantizer="kmeans",
        features=("mfcc",),
        num_units=num,
        target_dim=256,
        temperature=0.1,
        feature_penalty=10.0,
    )


def best_rq() -> PretrainConfig:
    """BEST-RQ's units and masks (arXiv:2202.01855, sections 3.1 and 4.1) on `small`.

    8192 units: log-mels, normalised for each utterance, four frames of 10 ms side by side,
    projected to 16 numbers and given the nearest code, projection and codes drawn once. At each
    10 ms a masked span of 400 ms begins with probability 0.01, which is 10 of the 40 ms frames and
    hides a third. Different from there: a learned vector in the place of a masked frame and not
    noise in the features; unit vectors of 256 numbers and a cosine over 0.1 and not a linear layer;
    the model is no Conformer; what is masked is drawn in whole frames, as many spans as are
    expected.
    """
    config = preset("small")
    units = MaskedUnitsConfig(quantizer="random", features=("logmel",), num_units=8192)
    return replace(
        config,
        tasks=TaskConfigs((units,)),
        distortion=no_distortion(),
        mask=MaskConfig(share=0.4, span=10),
        loop=replace(config.loop, max_steps=300_000, num_validations=100),
    )


def wav2vec() -> PretrainConfig:
    """wav2vec on 960 h (arXiv:1904.05862, section 3): future frames told from distractors.

    The numbers are the paper's and those of fairseq's README: 12 steps, 10 negatives, 8 times 1.5 M
    samples an update, recordings cropped to 9.4 s. The docstrings of the task and of the model say
    what is different.
    """
    config = preset("wav2vec")
    return replace(
        config,
        tasks=TaskConfigs((Wav2VecConfig(loss="binary", num_steps=12, num_negatives=10),)),
        distortion=no_distortion(),
        batch_s=93.75,
        max_crop_s=9.375,
        optim=OptimConfig(
            lr=5e-3,
            schedule="cosine",
            warmup_steps=500,
            initial_share=2e-5,
            final_share=2e-4,
            weight_decay=0.0,
        ),
        loop=LoopConfig(
            max_steps=400_000,
            accumulate=8,
            num_validations=100,
            checkpoint_every=1000,
            num_workers=4,
        ),
    )


def vq_wav2vec() -> PretrainConfig:
    """vq-wav2vec with the k-means quantizer (arXiv:1910.05453, section 4): targets are one of 320
    codes in each of 2 groups."""
    config = wav2vec()
    codes = Wav2VecConfig(
        num_steps=12, num_negatives=10, targets="codes", groups=2, entries=320, commitment=0.25
    )
    optim = replace(config.optim, lr=1e-5, warmup_steps=1000, initial_share=1e-2, final_share=1e-1)
    return replace(config, tasks=TaskConfigs((codes,)), optim=optim, batch_s=18.75)
