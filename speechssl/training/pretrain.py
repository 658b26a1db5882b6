"""Pretraining: contrastive prediction and distortion reconstruction on one encoder, in one step.

The way of the data: manifest -> batch -> distort, mask -> encoder -> context -> objectives -> loss.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speechssl import distributed
from speechssl.checkpoint import Checkpoint, save_model
from speechssl.data.batching import BatchPlan, MixedPlan, Plan
from speechssl.data.dataset import Batch, PlannedBatches, Waves
from speechssl.data.distortion import DistortionConfig, DistortionPool
from speechssl.data.distortion import light as light_distortion
from speechssl.data.distortion import none as no_distortion
from speechssl.data.index import Corpora, durations_s
from speechssl.data.manifest import Utterance
from speechssl.device import (
    Precision,
    autocast,
    keep_freed_memory,
    pick_device,
    send,
)
from speechssl.fields import check_fields
from speechssl.interop.sources import open_model
from speechssl.model import config as model_config
from speechssl.model.config import ModelConfig
from speechssl.model.masking import span_mask
from speechssl.model.speech_model import SpeechModel
from speechssl.objectives.contrastive import (
    ContrastiveConfig,
    FixedCodesContrastive,
    GumbelContrastive,
    Teacher,
    build_contrastive,
    draw_negatives,
)
from speechssl.objectives.features import CleanSpeech
from speechssl.objectives.loss import LossTerm, TaskLoss, combine
from speechssl.objectives.reconstruction import ReconstructionConfig, ReconstructionTask
from speechssl.rng import rng, torch_seed
from speechssl.training.diagnosis import code_health, frame_health, reconstruction_health
from speechssl.training.faults import open_waves
from speechssl.training.inputs import pretraining_inputs
from speechssl.training.loop import LoopConfig, Outcome, preemptible, starting_point, train
from speechssl.training.optim import OptimConfig, Part, build_optimizer
from speechssl.training.parallel import spread
from speechssl.training.planner import announce_run
from speechssl.training.profile import profile_steps
from speechssl.training.resume import has_state
from speechssl.training.runfolder import alone_in, differences, to_json

_FIT_AUDIO_S = 1800.0
"""Seconds of audio from which the centroids are found."""


@dataclass(frozen=True)
class PretrainConfig:
    """A pretraining run."""

    model: ModelConfig = field(default_factory=model_config.tiny)
    contrastive: ContrastiveConfig | None = ContrastiveConfig(quantizer="kmeans", entries=256)
    """None: reconstruction alone."""
    reconstruction: ReconstructionConfig | None = ReconstructionConfig()
    """None: contrastive prediction alone."""
    teacher: str | None = None
    """A pretrained model whose layer's codes are predicted instead of the cepstra's: the next
    round of HuBERT (arXiv:2106.07447)."""
    teacher_layer: int = 4
    distortion: DistortionConfig = field(default_factory=light_distortion)
    """What is done to the wave that the model hears."""
    noise_dir: str | None = None
    """Folder of noise recordings; without one noise is generated."""
    rir_dir: str | None = None
    """Folder of room impulse responses; without one they are generated."""
    mask_share: float = 0.3
    mask_span: int = 1
    """Frames. Small models learn most from short spans: what lies under a long one can only be
    guessed from the words of a language that they do not know yet."""
    encoder_grad_scale: float = 1.0
    """Scale of the gradient into the encoder; 0.1 in wav2vec 2.0 BASE."""
    batch_s: float = 30.0
    """Seconds of audio in a micro-batch, padding included."""
    max_crop_s: float = 15.6
    mix_temperature: float = 1.0
    """Where several manifests are trained on, each is heard in proportion to its hours to this
    power: 1 is as they are, 0 all alike. Below 1 small corpora (languages) are heard more often."""
    cache: bool = True
    """Decode everything once, into the run's folder. False, for thousands of hours: a recording is
    decoded whenever it is heard, and the run begins at once."""
    optim: OptimConfig = OptimConfig(lr=1e-3)
    loop: LoopConfig = LoopConfig()
    precision: Precision = "auto"
    compile: bool = False
    """Compile the context network's layers with torch.compile, for a GPU: the first steps take
    minutes, and a CPU gets slower (RESULTS.md)."""
    device: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.contrastive is None and self.reconstruction is None:
            raise ValueError("pretraining needs contrastive, reconstruction or both; both are off.")
        weights = [self.contrastive.weight] if self.contrastive else []
        if task := self.reconstruction:
            weights += [task.masked_weight, task.unmasked_weight]
        if not any(weights):
            raise ValueError(
                "nothing would be learned: contrastive.weight, reconstruction.masked_weight and "
                "reconstruction.unmasked_weight are 0 where they are not off."
            )
        if self.teacher is not None:
            if self.contrastive is None:
                raise ValueError("teacher gives the codes of contrastive, which is off.")
            if self.contrastive.quantizer == "gumbel":
                raise ValueError(
                    "teacher: codes of a teacher's layer are fixed: set contrastive.quantizer to "
                    "kmeans or random, got gumbel."
                )
        if not 0 < self.mask_share <= 1:
            raise ValueError(f"mask_share must be in (0, 1], got {self.mask_share}.")
        if self.mask_span < 1:
            raise ValueError(f"mask_span must be at least 1 frame, got {self.mask_span}.")
        if not 0 <= self.mix_temperature <= 1:
            raise ValueError(f"mix_temperature must be in [0, 1], got {self.mix_temperature}.")
        if self.teacher_layer < 0:
            raise ValueError(f"teacher_layer must not be negative, got {self.teacher_layer}.")
        if not 0 <= self.encoder_grad_scale <= 1:
            raise ValueError(
                f"encoder_grad_scale must be in [0, 1], got {self.encoder_grad_scale}."
            )
        if min(self.batch_s, self.max_crop_s) <= 0:
            raise ValueError(
                f"batch_s and max_crop_s must be above 0, got {self.batch_s} and {self.max_crop_s}."
            )
        least_s = (self.mask_span + 1) * self.model.hop_samples / self.model.sample_rate
        if self.max_crop_s < least_s:
            raise ValueError(
                f"max_crop_s must be at least {least_s:g}, a frame more than mask_span "
                f"({self.mask_span}), got {self.max_crop_s}."
            )


def tiny() -> PretrainConfig:
    """For CPUs: fixed targets, both tasks, small batches and therefore many updates."""
    return PretrainConfig()


def base() -> PretrainConfig:
    """wav2vec 2.0 BASE as published (arXiv:2006.11477, section 4.2), with reconstruction beside it.

    One micro-batch is a GPU's 1.4 M samples; 64 processes, or `loop.accumulate`, make the
    published 1.6 h.
    """
    return PretrainConfig(
        model=model_config.base(),
        contrastive=ContrastiveConfig(),
        mask_share=0.65,
        mask_span=10,
        encoder_grad_scale=0.1,
        batch_s=87.5,
        optim=OptimConfig(lr=5e-4, warmup_steps=32_000, final_share=0.0),
        loop=LoopConfig(max_steps=400_000, checkpoint_every=1000, num_validations=100),
    )


def preset(size: str) -> PretrainConfig:
    """The run for a model size: BASE's for the published sizes, `tiny`'s for those made for
    CPUs."""
    config = base() if size in ("base", "large", "tiny-conv") else tiny()
    if size in ("large", "small"):
        config = replace(config, optim=replace(config.optim, lr=3e-4 if size == "large" else 7e-4))
    if size == "tiny-conv":
        config = replace(config, batch_s=30.0, optim=OptimConfig(lr=1e-3), loop=LoopConfig())
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
) -> Outcome:
    """Run it: `run/best` and `run/model` are model folders afterwards.

    Args:
        config: the run.
        train_set: utterances; their transcripts are not looked at. Where they are
            :class:`Corpora`, `mix_temperature` says how often each is heard.
        run: folder; a run that lies there is gone on with, unless `resume` is False. It must be
            one of the same config, sets and model to start from.
        valid_set: utterances to validate on; without them a fiftieth of the training ones is held
            out.
        init: a model to start from (continued pretraining), of the same model config; its quantizer
            and projections too, where it has them and they fit.
        announce: measure a run that begins, and say on stderr what it will cost.
        profile: say also where the time of a step goes, and write a trace to `run/profile`.

    Raises ValueError where another run lies in `run`, where the weights of `init` do not fit the
    config, where `mix_temperature` has nothing to mix, and where `announce` finds that the run does
    not fit in memory.
    """
    started = time.monotonic()
    keep_freed_memory()
    device = pick_device(config.device)
    with preemptible(), distributed.process_group(device), alone_in(run):
        torch.manual_seed(torch_seed(config.loop.seed, "weights"))
        model = build_model(config, init)
        begins = not (resume and has_state(run))
        if begins and config.mix_temperature != 1 and len(_sizes(train_set)) == 1:
            raise ValueError(
                f"mix_temperature {config.mix_temperature} mixes several manifests, and --train "
                "names one: give --mix_temperature 1, or each corpus its own manifest."
            )
        inputs = distributed.from_first(lambda: pretraining_inputs(train_set, valid_set, init))
        fresh = starting_point(run, config.loop, to_json(config), inputs, resume=resume)
        if not valid_set:
            train_set, valid_set = hold_out_valid(train_set, config.loop.seed)
        rate = config.model.sample_rate
        quiet = distributed.rank() > 0
        train_waves, valid_waves = open_waves(
            (train_set, valid_set), run, rate, resume, config.loop.max_fault_share, config.cache
        )
        work = PretrainWork(config, model, train_waves, valid_waves, device)
        work.notes = {
            "train_utterances": len(train_set),
            "train_minutes": round(float(durations_s(train_set).sum()) / 60, 2),
            "valid_utterances": len(valid_set),
        }
        if init is not None:
            work.notes["init"] = init.meta
            work.notes["heads"] = work.take_heads(init)
            if begins and not quiet:
                print(f"Continued pretraining: {work.notes['heads']}.", file=sys.stderr, flush=True)
        spread(work.modules, config.loop.parallel)
        optimizer = build_optimizer(config.optim, [Part((work.modules,))])
        dataset = work.dataset(train_waves, shuffle=True)

        update_s = announce_run(work, dataset, config, device) if announce and begins else None
        if profile:
            spent = profile_steps(
                work, optimizer, dataset, config.loop, config.optim, run / "profile"
            )
            if not quiet:
                print(spent.table(), file=sys.stderr, flush=True)
        return train(
            run,
            work,
            optimizer,
            dataset,
            fresh=fresh,
            loop=config.loop,
            optim=config.optim,
            started=started,
            resume=resume,
            update_s=update_s,
        )


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


def going_on(config: PretrainConfig, init: Checkpoint) -> PretrainConfig:
    """The config for a run that goes on from `init`: of its model, and with its quantizer where
    both are ``gumbel``.

    The Gumbel temperature goes on from where it was; where nobody tells, it is at its end, as in
    published models. The feature penalty stays the config's: transformers knows none.
    """
    config = replace(config, model=init.speech.config)
    told, task = dict(init.meta.get("pretraining", {})), config.contrastive
    if not init.pretraining or task is None or task.quantizer != told.get("quantizer"):
        return config
    for name in ("feature_penalty", "features"):  # not a part of what was learned
        told.pop(name, None)
    told.setdefault("gumbel_start", task.gumbel_end)
    return replace(config, contrastive=replace(task, **told))


def hold_out_valid(
    utterances: Sequence[Utterance], seed: int
) -> tuple[Sequence[Utterance], Sequence[Utterance]]:
    """``(rest, held out)``: a fiftieth, at least one, at most 200; a lone utterance is in both."""
    num = min(max(len(utterances) // 50, 1), 200)
    if len(utterances) == 1:
        return utterances, utterances
    held = rng(seed, "hold-out").permutation(len(utterances))[:num]
    keep = np.ones(len(utterances), bool)
    keep[held] = False
    whole = utterances if isinstance(utterances, Corpora) else Corpora([utterances])
    return whole.choose(keep), [utterances[i] for i in sorted(held.tolist())]


def _sizes(utterances: Sequence[Utterance]) -> list[int]:
    """Utterances of each corpus."""
    return utterances.sizes() if isinstance(utterances, Corpora) else [len(utterances)]


class PretrainWork:
    """Both pretext tasks on one model: the gradients of a step, and the validation."""

    def __init__(
        self,
        config: PretrainConfig,
        model: SpeechModel,
        train_waves: Waves,
        valid_waves: Waves,
        device: torch.device,
    ) -> None:
        self.config, self.device = config, device
        self.model = model
        self.notes: dict[str, Any] = {}
        self._tallies: dict[str, Tensor] = {}
        self.contrastive = (
            build_contrastive(config.contrastive, model, load_teacher(config))
            if config.contrastive
            else None
        )
        self.reconstruction = (
            ReconstructionTask(config.reconstruction, model) if config.reconstruction else None
        )
        parts = {
            "model": model,
            "contrastive": self.contrastive,
            "reconstruction": self.reconstruction,
        }
        self.modules = nn.ModuleDict(
            {name: part for name, part in parts.items() if part is not None}
        )
        if isinstance(self.contrastive, FixedCodesContrastive):
            fit_codes(self.contrastive, model, train_waves, config.loop.seed)
        self.modules.to(device).train()
        if config.compile:
            model.context.compile_layers()
        pool = DistortionPool.open(noise_dir=config.noise_dir, rir_dir=config.rir_dir)
        self.pool = replace(pool, speech=train_waves.wave, num_speech=len(train_waves.cache))
        self.valid_batches = self.dataset(valid_waves, shuffle=False)
        self.distorted_valid = PlannedBatches(
            valid_waves,
            self.valid_batches.plan,
            seed=config.loop.seed,
            max_crop_s=config.max_crop_s,
            distortion=config.distortion,
            pool=self.pool,
        )

    def take_heads(self, init: Checkpoint) -> str:
        """Use the quantizer and the projections that a model came with, where they fit; what was
        done, for a person."""
        if not isinstance(self.contrastive, GumbelContrastive):
            return "the model's weights, with fresh heads"
        if not init.pretraining:
            return "the model's weights, with a fresh quantizer and projections, as it has none"
        own = self.contrastive.state_dict()
        shapes = {name: value.shape for name, value in init.pretraining.items()}
        if shapes != {name: value.shape for name, value in own.items()}:
            return "the model's weights, with a fresh quantizer and projections of other sizes"
        self.contrastive.load_state_dict(init.pretraining)
        return "the model's weights, its quantizer and its projections"

    def dataset(self, waves: Waves, *, shuffle: bool) -> PlannedBatches:
        """The batches of some waves; validation hears clean ones, every utterance once."""
        config = self.config
        lengths_s = waves.lengths_s().clip(max=config.max_crop_s)
        sizes = _sizes(waves.utterances)
        batch_s, seed = config.batch_s, config.loop.seed
        rank, world = (distributed.rank(), distributed.world()) if shuffle else (0, 1)
        accumulate = config.loop.accumulate if shuffle else 1
        plan: Plan
        if shuffle and len(sizes) > 1 and config.mix_temperature != 1:
            plan = MixedPlan(
                lengths_s,
                sizes,
                temperature=config.mix_temperature,
                batch_s=batch_s,
                seed=seed,
                rank=rank,
                world=world,
                accumulate=accumulate,
            )
        else:
            plan = BatchPlan(
                lengths_s,
                batch_s=batch_s,
                seed=seed,
                rank=rank,
                world=world,
                accumulate=accumulate,
                shuffle=shuffle,
            )
        distorts = shuffle and config.distortion != no_distortion()
        return PlannedBatches(
            waves,
            plan,
            seed=config.loop.seed,
            max_crop_s=config.max_crop_s,
            distortion=config.distortion if distorts else None,
            pool=self.pool if distorts else None,
        )

    def backward(self, step: int, max_steps: int, batches: Sequence[Batch]) -> dict[str, Tensor]:  # noqa: ARG002
        """Gradients of one update; the named scalars, each normalised like its loss."""
        if isinstance(self.contrastive, GumbelContrastive):
            self.contrastive.set_update(step)
        masks = [self.mask(batch, "mask") for batch in batches]
        counts = self._count(batches, masks)
        logged: dict[str, Tensor] = {}
        self.model.context.draw_dropped(rng(self.config.loop.seed, "layerdrop", step))
        for batch, mask in zip(batches, masks, strict=True):
            torch.manual_seed(torch_seed(self.config.loop.seed, "dropout", batch.index))
            result = self.losses(batch, mask, self.config.encoder_grad_scale)
            loss = combine(result.terms, counts)
            (loss * distributed.world()).backward()  # the mean over processes follows
            _accumulate(logged, {"loss/total": loss, **_shares(result.terms, counts)}, 1.0)
            _accumulate(logged, result.metrics, 1 / len(batches))
        logged["mask/share"] = torch.tensor(_masked_share(counts))
        return logged

    def losses(self, batch: Batch, mask: Tensor, encoder_grad_scale: float = 1.0) -> TaskLoss:
        """Both tasks on one micro-batch: the addends of its loss, and numbers to log."""
        clean = self._speech(batch, batch.clean)
        with autocast(self.device, self.config.precision):
            output = self.model(
                send(batch.heard, self.device),
                send(batch.lengths, self.device),
                mask=send(mask, self.device),
                encoder_grad_scale=encoder_grad_scale,
            )
            results: list[TaskLoss] = []
            if isinstance(self.contrastive, FixedCodesContrastive):
                results.append(self.contrastive(output, mask, clean))
            elif isinstance(self.contrastive, GumbelContrastive):
                generator = rng(self.config.loop.seed, "negatives", batch.index)
                num = self.contrastive.config.num_negatives
                negatives = torch.from_numpy(draw_negatives(mask.numpy(), num, generator))
                results.append(self.contrastive(output, mask, send(negatives, self.device)))
            if self.reconstruction is not None:
                results.append(self.reconstruction(output, mask, clean))
        return TaskLoss(
            {name: term for r in results for name, term in r.terms.items()},
            {name: value for r in results for name, value in r.metrics.items()},
            {name: tally for r in results for name, tally in r.tallies.items()},
        )

    def _speech(self, batch: Batch, wave: Tensor) -> CleanSpeech:
        """The features of a batch's clean or heard wave."""
        config = self.config.model
        frames = self.model.frame_lengths(batch.lengths)
        lengths = send(batch.lengths, self.device)
        return CleanSpeech(
            send(wave, self.device), lengths, frames, config.hop_samples, config.sample_rate
        )

    def mask(self, batch: Batch, purpose: str) -> Tensor:
        """(B, T) bool on the host: which frames are hidden."""
        frames = self.model.frame_lengths(batch.lengths)
        drawn = span_mask(
            frames.tolist(),
            int(frames.max()),
            share=self.config.mask_share,
            span=self.config.mask_span,
            generator=rng(self.config.loop.seed, purpose, batch.index),
        )
        return torch.from_numpy(drawn)

    @torch.no_grad()
    def validate(self, step: int) -> tuple[float, dict[str, float]]:  # noqa: ARG002
        """Losses on the validation set, always under the same masks, and how healthy the model
        is."""
        sums: dict[str, tuple[float, float, float]] = {}
        extra: dict[str, Tensor] = {}
        tallies: dict[str, Tensor] = {}
        plan = self.valid_batches.plan
        for index in range(plan.num_batches):
            batch = self.valid_batches[index]
            mask = self.mask(batch, "valid-mask")
            result = self.losses(batch, mask)
            counts = self._count([batch], [mask], reduce=False)
            for name, term in result.terms.items():
                total, count, _ = sums.get(name, (0.0, 0.0, 0.0))
                sums[name] = (total + float(term.total), count + counts[term.count], term.weight)
            _accumulate(extra, result.metrics, 1 / plan.num_batches)
            for name, tally in result.tallies.items():
                tallies[name] = tallies[name] + tally if name in tallies else tally
        self._tallies = tallies
        means = {name: total / max(count, 1) for name, (total, count, _) in sums.items()}
        score = sum(means[name] * weight for name, (_, _, weight) in sums.items())
        return score, {
            "loss": score,
            **means,
            **{name: float(value) for name, value in extra.items()},
            **code_health(tallies),
            **self.health(plan.num_batches // 2),
        }

    def health(self, index: int) -> dict[str, float]:
        """Of the frames of a validation batch, and of what is rebuilt of it when it is
        distorted."""
        batch = self.distorted_valid[index]
        lengths, mask = batch.lengths.to(self.device), self.mask(batch, "valid-mask")
        with autocast(self.device, self.config.precision):
            undamaged = self.model(batch.clean.to(self.device), lengths, keep_hidden=True)
            health = frame_health(undamaged)
            if self.reconstruction is not None:
                clean, heard = (self._speech(batch, w) for w in (batch.clean, batch.heard))
                output = self.model(heard.wave, lengths, mask=mask.to(self.device))
                health |= reconstruction_health(self.reconstruction, output, mask, clean, heard)
        return health

    def counts(self) -> dict[str, list[int]]:
        """How often each code was the target, or the guess, in the last validation."""
        return {name: tally.tolist() for name, tally in self._tallies.items()}

    def sample(self) -> str:
        """Nothing: features are for the report."""
        return ""

    def save(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the encoder and context, and the heads of ``gumbel``, which are a part of the
        published form; other heads stay in the checkpoints."""
        weights = distributed.whole_state(self.model)
        heads: dict[str, Tensor] = {}
        if isinstance(self.contrastive, GumbelContrastive):
            heads = distributed.whole_state(self.contrastive)
        if distributed.rank() > 0:
            return
        meta = {
            "task": "pretrain",
            "steps": step,
            "seed": self.config.loop.seed,
            "objectives": [
                name
                for name, task in (
                    ("contrastive prediction of quantized targets", self.contrastive),
                    ("distortion reconstruction", self.reconstruction),
                )
                if task is not None
            ],
            "valid": metrics,
            **self.notes,
        }
        if isinstance(self.contrastive, GumbelContrastive):
            temperature = self.contrastive.quantizer.temperature
            fields = to_json(self.contrastive.config)
            meta["pretraining"] = {**fields, "gumbel_start": temperature}
        save_model(folder, Checkpoint(self.model, meta=meta, pretraining=heads), weights)

    def _count(
        self, batches: Sequence[Batch], masks: Sequence[Tensor], *, reduce: bool = True
    ) -> dict[str, float]:
        """Masked and unmasked frames over all micro-batches and processes."""
        masked = sum(int(mask.sum()) for mask in masks)
        valid = sum(int(self.model.frame_lengths(b.lengths).sum()) for b in batches)
        counts = torch.tensor([masked, valid - masked], dtype=torch.float64)
        if reduce and distributed.world() > 1:
            counts = distributed.all_reduce_sum(counts.to(self.device))
        return {"masked": float(counts[0]), "unmasked": float(counts[1])}


def load_teacher(config: PretrainConfig) -> Teacher | None:
    """The teacher that the config names."""
    if config.teacher is None:
        return None
    return Teacher(open_model(config.teacher).speech, config.teacher_layer)


@torch.no_grad()
def fit_codes(task: FixedCodesContrastive, model: SpeechModel, waves: Waves, seed: int) -> None:
    """Find the task's centroids on half an hour of clean audio, drawn from the training set."""
    config = model.config
    parts: list[list[Tensor]] = []  # of each utterance, of each codebook
    spent = 0.0
    for item in rng(seed, "codes").permutation(len(waves.utterances)).tolist():
        wave = torch.from_numpy(waves.wave(item))[None]  # (1, S)
        lengths = torch.tensor([wave.shape[1]])
        frames = model.frame_lengths(lengths)
        clean = CleanSpeech(wave, lengths, frames, config.hop_samples, config.sample_rate)
        parts.append([features[0] for features in task.features(clean)])  # (T, F) each
        spent += wave.shape[1] / waves.sample_rate
        if spent > _FIT_AUDIO_S:
            break
    heard = [torch.cat(own) for own in zip(*parts, strict=True)]
    task.fit(heard, torch_seed(seed, "codes"))


def _masked_share(counts: dict[str, float]) -> float:
    return counts["masked"] / max(counts["masked"] + counts["unmasked"], 1)


def _shares(terms: dict[str, LossTerm], counts: dict[str, float]) -> dict[str, Tensor]:
    """Each addend over its count, unweighted: what the curves show."""
    return {f"loss/{name}": t.total.detach() / max(counts[t.count], 1) for name, t in terms.items()}


def _accumulate(into: dict[str, Tensor], values: dict[str, Tensor], scale: float) -> None:
    for name, value in values.items():
        part = value.detach().float() * scale
        into[name] = into[name] + part if name in into else part
