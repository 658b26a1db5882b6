"""The work of pretraining: the gradients of an update, the validation, and the model to write.

Shapes: B batch, T frames, V codes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from speechssl import distributed
from speechssl.checkpoint import Checkpoint, save_model
from speechssl.data.batching import BatchPlan, MixedPlan, Plan
from speechssl.data.dataset import Batch, PlannedBatches, Waves
from speechssl.data.distortion import DistortionPool
from speechssl.data.distortion import none as no_distortion
from speechssl.data.index import corpora_of, corpus_sizes
from speechssl.data.length_grid import length_grid
from speechssl.device import autocast
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.task import LossTerm, TaskLoss, View, combine
from speechssl.pretext.tasks import TaskConfigs
from speechssl.rng import rng, torch_seed
from speechssl.training.alphabets import NO_ALPHABETS, Alphabets
from speechssl.training.balance import Balance, describe_gradients, task_gradients
from speechssl.training.built_tasks import build_modules, build_tasks, fit_tasks
from speechssl.training.diagnosis import frame_health
from speechssl.training.heads import kept_heads, take_heads, with_recogniser
from speechssl.training.kept_features import KeptFeatures
from speechssl.training.mixing import is_mixed, share_of_rehearsal
from speechssl.training.parts import drawn_as_whole, summed
from speechssl.training.units import OfflineUnits, describe_units
from speechssl.training.validation import BatchScores, accumulate, add_up

if TYPE_CHECKING:
    from speechssl.training.pretrain import PretrainConfig

_MASKED, _FRAMES = "frames/masked", "frames/valid"
"""Counts beside those of the tasks."""


class PretrainWork:
    """The tasks of a run on one model."""

    def __init__(
        self,
        config: "PretrainConfig",
        model: SpeechModel,
        train_waves: Waves,
        valid_waves: Waves,
        device: torch.device,
        *,
        run: Path | None = None,
        fit: bool = True,
        alphabets: Alphabets = NO_ALPHABETS,
    ) -> None:
        """
        Args:
            config: the run.
            model: with its first weights.
            train_waves, valid_waves: what is trained and validated on.
            device: where.
            run: folder whose cache keeps offline units and features; None: they are computed for
                each batch.
            fit: estimate the centroids from the training set; False where they are restored.
            alphabets: of the transcripts, where a task looks at them.
        """
        self.config, self.device = config, device
        self.model = model
        self.notes: dict[str, Any] = {}
        """For the model's meta.json."""
        self._tallies: dict[str, Tensor] = {}
        self.tokenizer = alphabets.text
        self._corpus_ends, self._valid_ends = (
            np.cumsum(corpus_sizes(waves.utterances)) for waves in (train_waves, valid_waves)
        )
        self.tasks = build_tasks(config, model, alphabets, len(self._corpus_ends))
        self.modules, self.ema = build_modules(self.tasks, model)
        self.balance = Balance({c.name: c.weight for c in config.tasks}, config.balance)
        if config.balance != "none":
            self.modules["balance"] = self.balance
        if fit:
            fit_tasks(self.tasks, model, train_waves, config.loop.seed)
        self.modules.to(device).train()
        for module in self.modules.values():
            accelerate(module)
        if config.compile:
            model.context.compile_layers()
        pool = DistortionPool.open(noise_dir=config.noise_dir, rir_dir=config.rir_dir)
        self.pool = replace(pool, speech=train_waves.wave, num_speech=len(train_waves.cache))
        self._grid = length_grid(
            config.length_grid,
            device,
            sample_rate=config.model.sample_rate,
            hop_samples=config.model.hop_samples,
            batch_s=config.batch_s,
            max_crop_s=config.max_crop_s,
        )
        self.valid_batches = self.dataset(valid_waves, shuffle=False)
        self.distorted_valid = PlannedBatches(
            valid_waves,
            self.valid_batches.plan,
            seed=config.loop.seed,
            max_crop_s=config.max_crop_s,
            hop_samples=config.model.hop_samples,
            distortion=config.distortion,
            pool=self.pool,
            twice=self.tasks.distorts_twice,
            grid=self._grid,
        )
        folder = run / "cache" if run is not None and config.cache else None
        self._train_units, self._valid_units = (
            OfflineUnits(self.tasks, model, waves, folder, device)
            for waves in (train_waves, valid_waves)
        )
        self._train_features, self._valid_features = (
            KeptFeatures(model, waves, folder, device) if folder and config.keep_features else None
            for waves in (train_waves, valid_waves)
        )

    def take_heads(self, init: Checkpoint) -> str:
        """Use the heads that a model came with, where they fit; what was done, for a person."""
        return take_heads(self.tasks, init, self.tokenizer)

    def dataset(self, waves: Waves, *, shuffle: bool) -> PlannedBatches:
        """The batches of some waves; those of validation hold every utterance once, and are clean
        where no task compares two distortions."""
        config, twice = self.config, self.tasks.distorts_twice
        distorts = (shuffle or twice) and config.distortion != no_distortion()
        return PlannedBatches(
            waves,
            self._plan(waves, shuffle),
            seed=config.loop.seed,
            max_crop_s=config.max_crop_s,
            hop_samples=config.model.hop_samples,
            voice=config.voice if shuffle and config.voice.changes else None,
            distortion=config.distortion if distorts else None,
            pool=self.pool if distorts else None,
            twice=twice,
            grid=self._grid,
        )

    def _plan(self, waves: Waves, shuffle: bool) -> Plan:
        """Which utterances each micro-batch holds."""
        config, sizes = self.config, corpus_sizes(waves.utterances)
        longest = config.voice.longest if shuffle else 1.0  # so that no micro-batch is too large
        lengths_s = (waves.lengths_s() * longest).clip(max=config.max_crop_s)
        rank, world = (distributed.rank(), distributed.world()) if shuffle else (0, 1)
        shared: dict[str, Any] = {
            "batch_s": config.batch_s,
            "seed": config.loop.seed,
            "rank": rank,
            "world": world,
            "accumulate": config.loop.accumulate if shuffle else 1,
        }
        if shuffle and len(sizes) > 1 and is_mixed(config):
            mix: dict[str, Any] = {
                "temperature": config.mix_temperature,
                "shares": config.mix_shares,
                "rehearsal": share_of_rehearsal(config),
            }
            return MixedPlan(lengths_s, sizes, **mix, **shared)
        return BatchPlan(lengths_s, shuffle=shuffle, **shared)

    def inputs(self, batch: Batch, *, valid: bool = False, keep_hidden: bool = False) -> Inputs:
        """What the tasks see of a micro-batch; the masks of validation are always the same."""
        config = self.config
        units = self._valid_units if valid else self._train_units
        features = self._valid_features if valid else self._train_features
        return Inputs(
            self.model,
            batch,
            device=self.device,
            seed=config.loop.seed,
            mask=config.mask,
            mask_purpose="valid-mask" if valid else "mask",
            encoder_grad_scale=1.0 if valid else config.encoder_grad_scale,
            keep_hidden=keep_hidden or self.tasks.needs.hidden,
            units=units.of_inputs,
            features=None if features is None else features.of_inputs,
            ema=self.ema,
            tokenizer=self.tokenizer,
            corpora=corpora_of(self._valid_ends if valid else self._corpus_ends, batch.items),
        )

    def backward(self, step: int, max_steps: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Gradients of one update; the named scalars, each normalised like its loss."""
        if self.ema is not None and step:
            self.ema.update(self.model, self.config.ema.decay(step, max_steps))
        self.tasks.before_update(step, max_steps, self.model)
        batches = [batch for batch in batches if batch.ids]  # a part may have no utterance
        inputs = [self.inputs(batch) for batch in batches]
        counts = self._count(inputs)
        logged: dict[str, Tensor] = {}
        self.model.context.draw_dropped(rng(self.config.loop.seed, "layerdrop", step))
        for batch, x in zip(batches, inputs, strict=True):
            if x is inputs[0] and self.balance.is_due(step):
                self.balance.follow(self._task_gradients(batch, counts))
            torch.manual_seed(torch_seed(self.config.loop.seed, "dropout", batch.index))
            with drawn_as_whole(batch, self.model):
                result = self.losses(x)
            loss = combine(self.balance.balanced(result.terms), counts)
            (loss * distributed.world()).backward()  # the mean over processes follows
            accumulate(logged, {"loss/total": loss, **_shares(result.terms, counts)}, 1.0)
            accumulate(logged, result.metrics, 1 / len(batches))
            x.release()
        if any(view.mask == "run" for view in self.tasks.needs.views):
            logged["mask/share"] = torch.tensor(counts[_MASKED] / max(counts[_FRAMES], 1))
        return logged | self.balance.logged()

    def losses(self, x: Inputs) -> TaskLoss:
        """All tasks on one micro-batch: the addends of its loss, and numbers to log."""
        with autocast(self.device, self.config.precision):
            return self.tasks.loss(x)

    @torch.no_grad()
    def validate(self, step: int) -> tuple[float, dict[str, float]]:  # noqa: ARG002
        """Losses on the validation set, always under the same masks, and how healthy the model
        is."""
        num = self.valid_batches.plan.num_batches
        found = add_up(distributed.share_out(num, self._scored))
        self._tallies = found.tallies
        return comparable_loss(found.weighted, found.tasks, self.config.tasks), {
            "loss": sum(found.weighted.values()),
            **found.means,
            **found.metrics,
            **self.tasks.summarize(found.tallies | found.gathered),
            **self.health(num // 2),
        }

    def _scored(self, index: int) -> BatchScores:
        """A batch of the validation."""
        x = self.inputs(self.valid_batches[index], valid=True)
        return BatchScores.of(self.losses(x), self._count([x], reduce=False))

    def health(self, index: int) -> dict[str, float]:
        """Of the frames of a validation batch, and what the tasks measure on it when it is
        distorted."""
        x = self.inputs(self.distorted_valid[index], valid=True, keep_hidden=True)
        with autocast(self.device, self.config.precision):
            health = frame_health(x.encode(View("clean", None)))
            found = health | self.tasks.diagnose(x)
        return found | self.gradients(index)

    def gradients(self, index: int) -> dict[str, float]:
        """How strongly each task pulls at the model on a distorted validation batch, and whether
        two of them pull the same way: see :func:`describe_gradients`."""
        if self.config.loop.parallel == "fsdp" and distributed.world() > 1:
            return {}  # no process has all of a gradient before it is reduced
        batch = self.distorted_valid[index]
        counts = self._count([self.inputs(batch, valid=True)], reduce=False)
        with torch.enable_grad(), _recurrent_layers_go_back(self.modules):
            return describe_gradients(self._task_gradients(batch, counts, valid=True))

    def _task_gradients(
        self, batch: Batch, counts: dict[str, float], *, valid: bool = False
    ) -> dict[str, Tensor]:
        def terms() -> dict[str, LossTerm]:
            torch.manual_seed(torch_seed(self.config.loop.seed, "dropout", batch.index))
            return self.losses(self.inputs(batch, valid=valid)).terms

        return task_gradients(terms, counts, self.model)

    def counts(self) -> dict[str, list[int]]:
        """How often each code was the target, or the prediction, in the last validation; tallies
        that are no whole numbers are of no codes."""
        return {n: t.tolist() for n, t in self._tallies.items() if not t.is_floating_point()}

    def sample(self) -> str:
        """Nothing to show as text; the report draws the features."""
        return ""

    @property
    def higher_is_better(self) -> frozenset[str]:
        """Metrics of the validation of which a higher value is better."""
        return frozenset(s.metric for s in self.config.tasks.signals if s.better == "higher")

    def save(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the encoder and context, and the heads that are a part of the published form; other
        heads stay in the checkpoints."""
        weights = distributed.whole_state(self.model)
        heads = kept_heads(self.tasks, self.config.tasks, whole=self.config.keep_heads)
        model, weights, alphabet = with_recogniser(self.tasks, self.tokenizer, self.model, weights)
        if distributed.rank() > 0:
            return
        meta = {
            "task": "pretrain",
            "steps": step,
            "seed": self.config.loop.seed,
            "objectives": [task.title for task in self.tasks],
            "valid": metrics,
            **self.notes,
            **heads.meta,
        }
        if units := describe_units(self.tasks, self.model.config):
            meta["units"] = units
        checkpoint = Checkpoint(
            model,
            alphabet or (self.tokenizer if heads.for_use else None),
            meta,
            pretraining=heads.published,
            heads=heads.for_use,
        )
        save_model(folder, checkpoint, weights)

    def _count(self, inputs: Sequence[Inputs], *, reduce: bool = True) -> dict[str, float]:
        """The tasks' denominators over all micro-batches and processes."""
        totals: dict[str, int] = {}
        for x in inputs:
            frames = {_MASKED: int(x.mask().sum()), _FRAMES: int(x.frames.sum())}
            for name, count in (self.tasks.counts(x) | frames).items():
                totals[name] = totals.get(name, 0) + count
        if reduce and distributed.sharers() > 1:  # some may have no utterance, and no names
            return summed(distributed.gather(totals))
        counts = torch.tensor(list(totals.values()), dtype=torch.float64)
        if reduce and distributed.world() > 1:
            counts = distributed.all_reduce_sum(counts.to(self.device))
        return dict(zip(totals, counts.tolist(), strict=True))


@contextmanager
def _recurrent_layers_go_back(modules: nn.Module) -> Iterator[None]:
    """A block in which gradients go through recurrent layers although the model is in evaluation:
    cuDNN refuses that otherwise. Those layers have no dropout, so that their numbers are the same.
    """
    layers = [m for m in modules.modules() if isinstance(m, nn.RNNBase) and not m.training]
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer in layers:
            layer.eval()


def comparable_loss(
    losses: Mapping[str, float], tasks: Mapping[str, str], configs: TaskConfigs
) -> float:
    """What chooses the best model, lower is better: the losses of the tasks whose targets do not
    move with the model. NaN where there is none: the newest is then the best.

    Args:
        losses: weighted, by the name of the term.
        tasks: the task of each term.
        configs: of the run's tasks.
    """
    fixed = [loss for name, loss in losses.items() if not configs[tasks[name]].moving_targets]
    return sum(fixed) if fixed else math.nan


def _shares(terms: dict[str, LossTerm], counts: dict[str, float]) -> dict[str, Tensor]:
    """Each addend over its count, unweighted: what the curves show."""
    return {f"loss/{name}": t.total.detach() / max(counts[t.count], 1) for name, t in terms.items()}
