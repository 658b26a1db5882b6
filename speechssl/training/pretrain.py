"""Pretraining: a run of pretext tasks on one encoder, in one step.

The way of the data: manifest -> batch -> distort, mask -> encoder -> context -> tasks -> loss.
"""

import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch

from speechssl import distributed
from speechssl.checkpoint import Checkpoint
from speechssl.config.bounds import Positive, Share, Whole, check_fields
from speechssl.config.json import differences, to_json
from speechssl.data.distortion import DistortionConfig
from speechssl.data.distortion import light as light_distortion
from speechssl.data.index import corpus_sizes, durations_s
from speechssl.data.length_grid import GridUse
from speechssl.data.manifest import Utterance
from speechssl.data.voice import VoiceConfig
from speechssl.device import Precision
from speechssl.model import config as model_config
from speechssl.model.config import ModelConfig
from speechssl.model.ema import EMAConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.signal import write_signals
from speechssl.pretext.task import MaskConfig, TaskConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.pretext.wav2vec import Wav2VecConfig
from speechssl.rng import torch_seed
from speechssl.training.alphabets import Alphabets
from speechssl.training.balance import BalanceRule
from speechssl.training.built_tasks import check_tasks
from speechssl.training.continued import describe_teacher
from speechssl.training.continued import going_on as going_on
from speechssl.training.continued import with_own_units as with_own_units
from speechssl.training.faults import open_waves
from speechssl.training.inputs import pretraining_inputs
from speechssl.training.loop import LoopConfig, Outcome
from speechssl.training.mixing import NO_REHEARSAL, check_mix, with_rehearsal
from speechssl.training.mixing import hold_out_valid as hold_out_valid
from speechssl.training.optim import OptimConfig, Part
from speechssl.training.parts import why_whole
from speechssl.training.precision import Step, with_precision
from speechssl.training.pretrain_work import PretrainWork as PretrainWork
from speechssl.training.processes import Processes, Sharing
from speechssl.training.resume import has_state
from speechssl.training.run import session, train_run
from speechssl.training.start import as_begun, starting_point
from speechssl.training.start_kinds import after_pretraining
from speechssl.training.unused import unused_settings
from speechssl.training.version_0_1 import upgraded_config


@dataclass(frozen=True)
class PretrainConfig:
    """A pretraining run."""

    model: ModelConfig = field(default_factory=model_config.tiny)
    tasks: TaskConfigs = TaskConfigs((MaskedUnitsConfig(), ReconstructionConfig()))
    """The pretext tasks, by name; their weighted losses are added up."""
    mask: MaskConfig = MaskConfig()
    """Which frames the tasks mask, where a task has no masks of its own."""
    balance: BalanceRule = "none"
    """``gradient``: the weights of the tasks are the proportions of the gradients' norms that they
    have in the model, whatever the scale of each loss (GradNorm, arXiv:1711.02257, in closed
    form)."""
    ema: EMAConfig = EMAConfig()
    """How slowly the moving average of the model follows, for tasks that learn from it."""
    teacher: str | None = None
    """A pretrained model whose layer's units masked_units predicts in place of those of features:
    the next round of HuBERT (arXiv:2106.07447)."""
    teacher_layer: Whole = 4
    """0: the input of the teacher's first layer."""
    teacher_beside: bool = False
    """Predict the units of features beside those of the teacher, not only the latter."""
    voice: VoiceConfig = VoiceConfig()
    """The voice of whole training samples, targets included."""
    distortion: DistortionConfig = field(default_factory=light_distortion)
    """What is done to the model's input."""
    noise_dir: str | None = None
    """Folder of noise recordings; without one noise is generated."""
    rir_dir: str | None = None
    """Folder of room impulse responses; without one they are generated."""
    encoder_grad_scale: Share = 1.0
    """Scale of the gradient into the encoder; 0.1 in wav2vec 2.0 BASE."""
    batch_s: Positive = 30.0
    """Seconds of audio in a micro-batch, padding included."""
    max_crop_s: Positive = 15.6
    """Longer utterances are cropped to this, anew in each epoch."""
    length_grid: GridUse = "auto"
    """Pad batches to one of few lengths, each 4 % longer than the one before, so that shapes come
    back and what a GPU's libraries choose for a shape is used again; ``auto``: on a GPU."""
    mix_temperature: Share = 1.0
    """Where several manifests are trained on, each is sampled in proportion to its hours to this
    power: 1 in proportion to the hours, 0 equally often; below 1 small corpora (languages) more
    often."""
    mix_shares: tuple[Share, ...] = ()
    """Shares of the micro-batches that are of each manifest of --train, in their order. Manifests
    without one divide the rest by `mix_temperature`: ``0.5`` gives the first one half and all
    others together the other half. Manifests then take turns at even distances."""
    rehearsal: str = NO_REHEARSAL
    """Transcribed speech of the languages that the model of --init knows, which is learned beside
    --train so that they are not forgotten: ``pack`` (that of the package), a manifest, or
    ``none``."""
    rehearsal_share: Share = 0.5
    """Share of the micro-batches that are of `rehearsal`."""
    cache: bool = True
    """Decode everything once, into the run's folder. False, for thousands of hours: a recording is
    decoded whenever it is used, and the run begins at once."""
    keep_features: bool = True
    """Compute what tasks ask of the recordings (log-mel, cepstra, pitch) once, of whole utterances,
    beside the decoded sound, and crop it. False, or without `cache`: of the crops of each batch."""
    keep_heads: bool = False
    """Write the heads of all tasks into the model folder, so that a run with --init goes on with
    them; False: only those that are of use otherwise."""
    optim: OptimConfig = OptimConfig(lr=1e-3)
    loop: LoopConfig = LoopConfig()
    precision: Precision = "auto"
    """Of the products in the forward and backward pass; the weights are float32. ``auto``: the
    fastest on this machine, by timing; the run then keeps it."""
    compile: bool = False
    """Compile the context network's layers with torch.compile, for a GPU: the first steps take
    minutes, and a CPU gets slower (docs/log)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:NUMBER or mps (Apple's GPUs: not measured)."""

    @staticmethod
    def upgrade(data: dict[str, Any]) -> dict[str, Any]:
        """The JSON of version 0.1 under the names of today."""
        return cast(dict[str, Any], upgraded_config(data))

    def __post_init__(self) -> None:
        check_fields(self)
        if self.teacher is not None and "masked_units" not in self.tasks:
            raise ValueError("teacher gives the units of masked_units, which is not in tasks.")
        least_s = (self.mask.span + 1) * self.model.hop_samples / self.model.sample_rate
        if self.max_crop_s < least_s:
            raise ValueError(
                f"max_crop_s must be at least {least_s:g}, a frame more than mask.span "
                f"({self.mask.span}), got {self.max_crop_s}."
            )


def tiny() -> PretrainConfig:
    """For CPUs: fixed targets, small batches and therefore many updates."""
    return PretrainConfig()


def base() -> PretrainConfig:
    """wav2vec 2.0 BASE as published (arXiv:2006.11477, section 4.2), with reconstruction beside it.

    One micro-batch is a GPU's 1.4 M samples; 64 processes, or `loop.accumulate`, make the
    published 1.6 h.
    """
    return PretrainConfig(
        model=model_config.base(),
        tasks=TaskConfigs((ContrastiveConfig(), ReconstructionConfig())),
        mask=MaskConfig(share=0.65, span=10),
        encoder_grad_scale=0.1,
        batch_s=87.5,
        optim=OptimConfig(lr=5e-4, warmup_steps=32_000, final_share=0.0),
        loop=LoopConfig(max_steps=400_000, checkpoint_every=1000, num_validations=100),
    )


def wav2vec() -> PretrainConfig:
    """Future frames told from distractors by a causal model of convolutions alone (wav2vec,
    arXiv:1904.05862)."""
    return PretrainConfig(
        model=model_config.wav2vec(),
        tasks=TaskConfigs((Wav2VecConfig(),)),
        optim=OptimConfig(lr=1e-3, schedule="cosine"),
    )


def small_contrastive() -> ContrastiveConfig:
    """For batches of seconds and thousands of updates. With the published weight of the diversity,
    which is for 1.6 h a batch, the codebook collapses to some ten codes within 300 updates, and the
    published decay of the temperature takes longer than such a run (docs/log/2026-11-27-tiny-conv).
    """
    return ContrastiveConfig(diversity_weight=1.0, feature_penalty=1.0, gumbel_decay=0.9998)


def task_defaults(size: str) -> dict[str, TaskConfig]:
    """What a task is like that a run of this size asks for by its name, where that is not the
    default of its class."""
    published = ("base", "large", "wav2vec", "tiny-wav2vec")
    return {} if size in published else {"contrastive": small_contrastive()}


def preset(size: str) -> PretrainConfig:
    """The run for a model size: BASE's for the published sizes, `tiny`'s for those made for
    CPUs, wav2vec's for models of convolutions alone."""
    if size in ("wav2vec", "tiny-wav2vec"):
        return replace(wav2vec(), model=model_config.size(size))
    config = base() if size in ("base", "large", "tiny-conv") else tiny()
    if size in ("large", "small"):
        config = replace(config, optim=replace(config.optim, lr=3e-4 if size == "large" else 7e-4))
    if size == "tiny-conv":
        config = replace(
            config,
            tasks=TaskConfigs((small_contrastive(), ReconstructionConfig())),
            mask=MaskConfig(share=0.4, span=3),
            encoder_grad_scale=1.0,
            batch_s=30.0,
            optim=OptimConfig(lr=1e-3),
            loop=LoopConfig(),
        )
    if size == "large":
        config = replace(config, encoder_grad_scale=1.0)
    return replace(config, model=model_config.size(size))


def pretrain(
    config: PretrainConfig,
    train_set: Sequence[Utterance],
    run: Path,
    *,
    valid_set: Sequence[Utterance] = (),
    init: Checkpoint | None = None,
    resume: bool = True,
    announce: bool = False,
    profile: bool = False,
    given: Collection[str] = (),
    processes: Processes = 1,
) -> Outcome:
    """Run it: `run/best` and `run/model` are model folders afterwards.

    Args:
        config: the run.
        train_set: utterances; only tasks that say so look at their transcripts. Where they are
            :class:`Corpora`, `mix_temperature` and `mix_shares` say how often each is sampled.
        run: folder; a run that lies there is gone on with, unless `resume` is False. It must be
            one of the same config, sets and model to start from.
        valid_set: utterances to validate on; without them a fiftieth of the training ones is held
            out.
        init: a model to start from (continued pretraining), of the same model config; its quantizer
            and projections too, where it has them and they fit.
        announce: measure a run that begins, and say on stderr what it will cost.
        profile: say also where the time of a step goes, and write a trace to `run/profile`.
        given: dotted names of the settings that were asked for; those of them that no task uses are
            named on stderr.
        processes: how many processes of this machine share the updates; ``auto``: as many as make
            them fastest. The numbers are the same up to rounding.

    Raises ValueError where another run lies in `run`, where the weights of `init` do not fit the
    config, where there is nothing to mix, and where `announce` finds that the run does
    not fit in memory.
    """
    started = time.monotonic()
    with session(config, run) as device:
        begins = not (resume and has_state(run))
        config = as_begun(config, run, resume=resume)
        train_set, valid_set = with_rehearsal(config, train_set, valid_set)
        _check_mix_and_profile(config, train_set, run, begins=begins, profile=profile)
        torch.manual_seed(torch_seed(config.loop.seed, "weights"))
        model = build_model(config, init)
        alphabets = Alphabets.choose(config, train_set, init)
        step = _timed_step(config, model, train_set)
        config = with_precision(config, run, device, step, resume=resume, announce=announce)
        inputs = distributed.broadcast(
            lambda: pretraining_inputs(train_set, valid_set, init, alphabets.text, alphabets.phones)
        )
        fresh = starting_point(run, config.loop, to_json(config), inputs, resume=resume)
        sharing = Sharing(processes, why_whole(config, check_tasks(config, model, alphabets)))
        sharing.check(config)
        if not valid_set:
            train_set, valid_set = hold_out_valid(train_set, config.loop.seed)
        rate, share = config.model.sample_rate, config.loop.max_fault_share
        train_waves, valid_waves = open_waves(
            (train_set, valid_set), run, rate, resume, share, config.cache
        )
        waves = (train_waves, valid_waves)
        work = PretrainWork(config, model, *waves, device, run=run, fit=begins, alphabets=alphabets)
        work.notes = _notes(train_set, valid_set) | {"start": after_pretraining(init)}
        if init is not None:
            work.notes |= {"init": init.meta, "heads": work.take_heads(init)}
        if distributed.rank() == 0:
            write_signals(run, config.tasks.signals)
            alphabets.save(run)
            for line in unused_settings(config, work.tasks, given):
                print(line, file=sys.stderr, flush=True)
            if init is not None and begins:
                print(f"Continued pretraining: {work.notes['heads']}.", file=sys.stderr, flush=True)
            if config.teacher_beside and begins:
                print(describe_teacher(config), file=sys.stderr, flush=True)
        return train_run(
            run,
            config,
            work,
            lambda: [Part((work.modules,))],
            work.dataset(train_waves, shuffle=True),
            fresh=fresh,
            started=started,
            resume=resume,
            announce=announce and begins,
            profile=profile,
            sharing=sharing,
        )


def _timed_step(config: PretrainConfig, model: SpeechModel, train_set: Sequence[Utterance]) -> Step:
    """What tells the fastest precision: the model alone, as what tasks add is float32 mostly."""
    lengths_s = durations_s(train_set).clip(max=config.max_crop_s)
    settings = {"model": config.model}
    return Step("pretraining", lambda: model, lengths_s, config.batch_s, settings)


def _check_mix_and_profile(
    config: PretrainConfig,
    train_set: Sequence[Utterance],
    run: Path,
    *,
    begins: bool,
    profile: bool,
) -> None:
    """ValueError where there is nothing to mix, or nothing to profile."""
    if profile and not begins:
        raise ValueError(
            f"--profile measures a run that begins, and {run} has begun: give another --out, or "
            "leave --profile out."
        )
    if not begins:
        return
    check_mix(config, train_set)


def _notes(train_set: Sequence[Utterance], valid_set: Sequence[Utterance]) -> dict[str, Any]:
    """For meta.json: what the model was made from."""
    return {
        "train_utterances": len(train_set),
        "train_minutes": round(float(durations_s(train_set).sum()) / 60, 2),
        "valid_utterances": len(valid_set),
        "corpora": len(corpus_sizes(train_set)),
    }


def build_model(config: PretrainConfig, init: Checkpoint | None) -> SpeechModel:
    """A fresh model, or one with the weights of `init`; ValueError where they do not fit."""
    model = SpeechModel(config.model)
    if init is None:
        return model
    try:
        model.load_state_dict(init.speech.state_dict())
    except RuntimeError as error:  # a page of names and shapes
        its, own = ({"model": to_json(one)} for one in (init.speech.config, config.model))
        raise ValueError(
            f"The weights of --init do not fit the model of the run ({differences(its, own)}): "
            "leave these settings out, or begin without --init."
        ) from error
    return model
