"""CTC fine-tuning: a pretrained (or fresh) model learns to write from transcribed speech."""

import copy
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from speechssl import distributed, seed
from speechssl.checkpoint import Checkpoint
from speechssl.config.bounds import (
    Between,
    Count,
    NotEmpty,
    Positive,
    Probability,
    Share,
    Weight,
    Whole,
    check_fields,
)
from speechssl.config.json import to_json
from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import PlannedBatches, Waves
from speechssl.data.distortion import DistortionConfig, DistortionPool
from speechssl.data.distortion import none as no_distortion
from speechssl.data.index import durations_s
from speechssl.data.length_grid import GridUse, LengthGrid
from speechssl.data.manifest import Utterance
from speechssl.device import (
    Precision,
)
from speechssl.interop.sources import open_model
from speechssl.model import config as model_config
from speechssl.model.config import ModelConfig
from speechssl.model.speech_model import CTCModel
from speechssl.rng import torch_seed
from speechssl.text import (
    Tokenizer,
    train_tokenizer,
)
from speechssl.training.adapt import HeadOrigin as HeadOrigin
from speechssl.training.adapt import build_head as build_head
from speechssl.training.adapt import build_speech as build_speech
from speechssl.training.adapt import choose_learning as choose_learning
from speechssl.training.adapt import fitting_dropout as fitting_dropout
from speechssl.training.adapt import learning_parts as learning_parts
from speechssl.training.averaged import AveragedWork
from speechssl.training.calibrate import calibrate_best
from speechssl.training.faults import open_waves
from speechssl.training.finetune_work import FinetuneWork as FinetuneWork
from speechssl.training.inputs import finetuning_inputs
from speechssl.training.labels import Labels, transcribed
from speechssl.training.loop import LoopConfig, Outcome
from speechssl.training.lora import LoraConfig
from speechssl.training.optim import OptimConfig
from speechssl.training.precision import Step, with_precision
from speechssl.training.processes import Processes, Sharing
from speechssl.training.resume import has_state
from speechssl.training.run import session, train_run
from speechssl.training.start import as_begun, starting_point
from speechssl.training.start_kinds import after_finetuning, describe_choice, with_start_settings

Learns = Literal["all", "adapters", "lora"]


@dataclass(frozen=True)
class FinetuneConfig:
    """A fine-tuning run."""

    model: ModelConfig = field(default_factory=model_config.tiny)
    """Of a model from scratch; one that is given has its own."""
    tokenizer: str = "char"
    """``char`` or ``spm:SIZE``, learned from the training text."""
    dropout: Probability | None = None
    """Dropout of the context network in this run. None: by the kind of start (0.2 for one that
    learned with transcripts, as the seed; else the model's own, or where a pretrained one has none,
    by the minutes of labels)."""
    upsample: Count = 1
    """Rows of output per frame: 2 where people speak faster than the frames allow."""
    head_only_steps: Whole = 0
    """Updates in which only the head learns, so that its noise does not spoil what was pretrained;
    at most half of the run."""
    learns: Learns = "all"
    """Beside the head: ``all`` of the model; only its ``adapters``, fresh ones where it has none
    (MMS, arXiv:2305.13516); or ``lora``, low-rank additions to its weights. The latter two want a
    larger `optim.lr`, about 1e-3."""
    adapter_dim: Count = 16
    """Inner width of fresh adapters."""
    lora: LoraConfig = LoraConfig()
    freeze: tuple[str, ...] = ()
    """Name patterns of parameters that do not learn, e.g. ``speech.context.layers.[0-5].*``."""
    fresh_head: bool = False
    """Begin with a fresh head where the model has one. Else the symbols that its old vocabulary
    shares with the new one keep their weights, and only the others get fresh ones."""
    freeze_encoder_share: Share | None = None
    """Share of the run in which a pretrained encoder is frozen; one from scratch never is. None: by
    the kind of start (0 for one that learned with transcripts, as the seed, else 1)."""
    fresh_layers: Whole = 0
    """Upper layers that are initialised anew: what they learned last is the pretext task."""
    layer_lr_decay: Annotated[float, Between(0, 1, "(]")] | None = None
    """Factor on the learning rate from each layer of a pretrained model to the one below it, so
    that few labels do not overwrite what was learned without (arXiv:1801.06146, section 3.2). One
    from scratch learns evenly. None: by the kind of start (1 for one that learned with transcripts,
    as the seed, 0.9 where pretraining followed, else 0.8)."""
    mask_share: Share = 0.2
    """Time masks, as in pretraining (SpecAugment, arXiv:1904.08779)."""
    mask_span: Count = 2
    """Frames of a mask."""
    channel_share: Share = 0.1
    """Share of the channels of the latents that are masked."""
    channel_span: Count = 8
    """Neighbouring channels of a mask."""
    mask_from_share: Share = 0.3
    """Share of the run, at its beginning, without masks: a model from scratch must first leave the
    plateau on which its outputs are blanks."""
    consistency: Weight = 0.0
    """Weight of the agreement between two differently masked views of each utterance (CR-CTC,
    arXiv:2410.05101, section 3.1: 0.2); an update then costs twice. 0: one view."""
    speeds: Annotated[tuple[Annotated[float, Between(0.5, 2)], ...], NotEmpty()] = (1.0,)
    """In each epoch an utterance is played at one of these speeds, its pitch changed with it."""
    distortion: DistortionConfig = field(default_factory=no_distortion)
    ema_decay: Probability = 0.0
    """Decay of an exponential moving average of the weights, e.g. 0.999. It is validated beside the
    weights themselves, and the better of both is the model that is kept. 0: none."""
    batch_s: Positive = 20.0
    """Seconds of audio in a micro-batch, padding included."""
    length_grid: GridUse = "auto"
    """Pad batches to one of few lengths, each 4 % longer than the one before, so that shapes come
    back and what a GPU's libraries choose for a shape is used again; ``auto``: on a GPU."""
    max_valid: Count = 300
    """Utterances of a validation during the run, at most; always the same ones."""
    optim: OptimConfig = OptimConfig(
        lr=2e-3,
        schedule="tri_stage",
        warmup_steps=300,
        hold_share=0.3,
        final_share=0.02,
        clip_norm=1.0,
    )
    loop: LoopConfig = LoopConfig(max_steps=8000, num_validations=12, patience=6)
    precision: Precision = "auto"
    """Of the products in the forward and backward pass; the weights are float32. ``auto``: the
    fastest on this machine, by timing; the run then keeps it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:NUMBER or mps (Apple's GPUs: not measured)."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.learns != "all" and self.fresh_layers:
            raise ValueError(f"fresh_layers cannot learn where learns is {self.learns!r}.")
        if self.learns == "lora" and self.loop.parallel == "fsdp":
            raise ValueError("learns lora needs loop.parallel ddp, got fsdp.")
        if self.ema_decay and self.loop.parallel == "fsdp":
            raise ValueError("ema_decay needs loop.parallel ddp, got fsdp.")


def preset(size: str) -> FinetuneConfig:
    """The run for a model size: for the published ones what wav2vec 2.0 was fine-tuned with on 10 h
    (fairseq's base_10h: eight times 200 s an update), for the CPU sizes what was measured here."""
    config = FinetuneConfig(model=model_config.size(size))
    if size == "tiny-conv":
        return replace(config, optim=replace(config.optim, lr=1e-3))
    if size not in ("base", "large"):
        return config
    return replace(
        config,
        head_only_steps=10_000,
        layer_lr_decay=1.0,
        mask_share=0.65,
        mask_span=10,
        channel_share=0.5,
        channel_span=64,
        mask_from_share=0.0,
        batch_s=200.0,
        optim=OptimConfig(lr=5e-5, schedule="tri_stage", warmup_steps=2000, eps=1e-8),
        loop=LoopConfig(max_steps=20_000, accumulate=8, num_validations=40),
    )


def finetune(
    config: FinetuneConfig,
    train_set: Sequence[Utterance],
    valid_set: Sequence[Utterance],
    run: Path,
    *,
    init: Checkpoint | None = None,
    resume: bool = True,
    announce: bool = False,
    processes: Processes = 1,
) -> Outcome:
    """Run it: `run/best` is the model with the lowest validation CER afterwards, its confidence
    calibrated on the validation set.

    Args:
        config: the run.
        train_set: utterances with transcripts; those without are left out and counted.
        valid_set: the same, never trained on.
        run: folder; a run that lies there is gone on with, unless `resume` is False. It must be
            one of the same config, sets and model to start from.
        init: a pretrained model; None starts from scratch.
        announce: measure a run that begins, and say on stderr what it will cost.
        processes: as of :func:`.pretrain.pretrain`.

    Raises ValueError where there is nothing to train or validate on, where another run lies in
    `run`, where a name pattern of the config matches nothing, or where `announce` finds that the
    run does not fit in memory.
    """
    started = time.monotonic()
    with session(config, run) as device:
        sharing = Sharing(processes, _why_whole(config))
        sharing.check(config)
        train_set, valid_set = (
            transcribed(train_set, "training"),
            transcribed(valid_set, "validation"),
        )
        texts = [u.text or "" for u in train_set]
        tokenizer = train_tokenizer(config.tokenizer, texts, allow_smaller=True)
        torch.manual_seed(torch_seed(config.loop.seed, "weights"))
        given, minutes = config, sum(u.duration_s for u in train_set) / 60
        config = with_start_settings(config, init, minutes)
        choice = describe_choice(given, config, init)
        config = as_begun(config, run, resume=resume)
        step = _timed_step(config, init, tokenizer, train_set)
        config = with_precision(config, run, device, step, resume=resume, announce=announce)
        inputs = distributed.broadcast(
            lambda: finetuning_inputs(train_set, valid_set, init, tokenizer)
        )
        fresh = starting_point(run, config.loop, to_json(config), inputs, resume=resume)
        model, origin = _build(config, init, tokenizer)
        labels = Labels.choose(
            train_set, valid_set, model, tokenizer, config.max_valid, config.speeds
        )
        begins = not (resume and has_state(run))
        if begins and distributed.rank() == 0:
            head = origin.sentence() if origin else ""
            for sentence in filter(None, (choice, head, *labels.sentences())):
                print(sentence, file=sys.stderr, flush=True)
        sets, rate = (labels.train, labels.scored), model.speech.config.sample_rate
        train_waves, valid_waves = open_waves(sets, run, rate, resume, config.loop.max_fault_share)
        work = _work_class(config)(config, model, tokenizer, valid_waves, device, init is not None)
        work.notes = _notes(config, init, labels, origin)
        whole = init is not None and config.learns == "all"
        decay = (config.layer_lr_decay if whole else None) or 1.0
        outcome = train_run(
            run,
            config,
            work,
            lambda: learning_parts(model, decay),
            _batches(config, train_waves, work.grid(train_waves, config.batch_s)),
            fresh=fresh,
            started=started,
            resume=resume,
            announce=announce and begins,
            sharing=sharing,
        )
        if distributed.rank() == 0:
            calibrate_best(run / "best", valid_waves, texts, device)
        distributed.barrier()
        return outcome


def _why_whole(config: FinetuneConfig) -> str:
    """Why processes cannot share a micro-batch; '' where they can."""
    if config.learns == "lora" and config.lora.dropout:
        return "lora.dropout is drawn for a whole one (0 is possible)"
    if config.length_grid == "on":
        return "length_grid pads whole ones"
    return ""


def _work_class(config: FinetuneConfig) -> type[FinetuneWork]:
    return AveragedWork if config.ema_decay else FinetuneWork


def _timed_step(
    config: FinetuneConfig,
    init: Checkpoint | None,
    tokenizer: Tokenizer,
    train_set: Sequence[Utterance],
) -> Step:
    """What tells the fastest precision: the model as it learns in this run, without its loss."""
    frozen = init is not None and (config.freeze_encoder_share or 0.0) >= 0.5
    learning = ("learns", "adapter_dim", "lora", "freeze", "fresh_layers", "upsample", "dropout")
    given = {name: getattr(config, name) for name in learning}
    return Step(
        "fine-tuning",
        lambda: _build(config, copy.deepcopy(init), tokenizer)[0],  # in which init is changed
        durations_s(train_set),
        config.batch_s,
        {**given, "lora": to_json(config.lora), "model": _model_config(config, init)},
        encoder_grad_scale=0.0 if frozen else 1.0,
    )


def _model_config(config: FinetuneConfig, init: Checkpoint | None) -> ModelConfig:
    return config.model if init is None else init.speech.config


def _build(
    config: FinetuneConfig, init: Checkpoint | None, tokenizer: Tokenizer
) -> tuple[CTCModel, HeadOrigin | None]:
    """The model, frozen where it does not learn; and where its head comes from."""
    speech = build_speech(config, init)
    head, origin = build_head(config, speech, tokenizer, init)
    model = CTCModel(speech, head)
    choose_learning(model, config, pretrained=init is not None)
    return model, origin


def _notes(
    config: FinetuneConfig, init: Checkpoint | None, labels: Labels, origin: HeadOrigin | None
) -> dict[str, Any]:
    """For meta.json: what the model was made from."""
    notes = labels.notes()
    notes["init"] = None if init is None else init.meta
    if init is not None and init.folder is not None:
        notes["init_folder"] = seed.name_of(init.folder) or os.path.abspath(init.folder)
    notes["start"] = after_finetuning(init)
    notes["learns"] = config.learns
    if origin:
        notes["head"] = {"kept": origin.kept, "fresh": origin.fresh}
    return notes


def _batches(config: FinetuneConfig, waves: Waves, grid: LengthGrid | None) -> PlannedBatches:
    """This process's micro-batches of the run."""
    plan = BatchPlan(
        waves.lengths_s(),
        batch_s=config.batch_s,
        seed=config.loop.seed,
        rank=distributed.rank(),
        world=distributed.world(),
        accumulate=config.loop.accumulate,
    )
    distorts = config.distortion != no_distortion()
    return PlannedBatches(
        waves,
        plan,
        seed=config.loop.seed,
        speeds=config.speeds,
        distortion=config.distortion if distorts else None,
        pool=DistortionPool.open() if distorts else None,
        grid=grid,
    )


def load_init(model: str) -> Checkpoint | None:
    """The checkpoint that `--init` names; None for ``scratch``."""
    return None if model == "scratch" else open_model(model)
