"""CTC fine-tuning: a pretrained (or fresh) model learns to write from transcribed speech."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from speechssl import distributed
from speechssl.checkpoint import Checkpoint, save_model
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
from speechssl.data.dataset import Batch, PlannedBatches, Waves
from speechssl.data.distortion import DistortionConfig, DistortionPool
from speechssl.data.distortion import none as no_distortion
from speechssl.data.manifest import Utterance
from speechssl.data.unknown import find_unknown
from speechssl.decoding.greedy import Hypothesis, blank_rate, greedy_decode
from speechssl.device import (
    Precision,
    autocast,
    keep_freed_memory,
    pick_device,
    send,
)
from speechssl.interop.sources import open_model
from speechssl.interop.vocabulary import NEVER
from speechssl.model import config as model_config
from speechssl.model.config import FilterbankEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.masking import channel_mask, span_mask
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.pretext.ctc import ctc_chance, ctc_loss, disagreement
from speechssl.rng import rng, torch_seed
from speechssl.scoring.wer import EvalResult, score
from speechssl.text import (
    UNKNOWN_ID,
    Tokenizer,
    ctc_min_frames,
    shared_symbols,
    train_tokenizer,
)
from speechssl.training.diagnosis import frame_health, permuted_errors
from speechssl.training.faults import open_waves
from speechssl.training.inputs import finetuning_inputs
from speechssl.training.labels import Labels, transcribed
from speechssl.training.learning import (
    check_something_learns,
    freeze,
    freeze_all_but_adapters,
    with_adapters,
)
from speechssl.training.loop import LoopConfig, Outcome, preemptible, starting_point, train
from speechssl.training.lora import LoraConfig, add_lora, without_lora
from speechssl.training.optim import OptimConfig, Part, build_optimizer
from speechssl.training.parallel import spread
from speechssl.training.planner import announce_run
from speechssl.training.resume import has_state
from speechssl.training.runfolder import alone_in, write_hypotheses

Learns = Literal["all", "adapters", "lora"]
_MOST_SHOWN = 40
"""New symbols that are said one by one."""


@dataclass(frozen=True)
class FinetuneConfig:
    """A fine-tuning run."""

    model: ModelConfig = field(default_factory=model_config.tiny)
    """Of a model from scratch; one that is given has its own."""
    tokenizer: str = "char"
    """``char`` or ``spm:SIZE``, learned from the training text."""
    dropout: Probability | None = None
    """Dropout of the context network in this run. None: the model's own, or where a pretrained one
    has none, by the minutes of labels (:func:`fitting_dropout`)."""
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
    freeze_encoder_share: Share = 1.0
    """Share of the run in which a pretrained encoder is frozen; one from scratch never is."""
    fresh_layers: Whole = 0
    """Upper layers that are initialised anew: what they learned last is the pretext task."""
    layer_lr_decay: Annotated[float, Between(0, 1, "(]")] = 0.8
    """Factor on the learning rate from each layer of a pretrained model to the one below it, so
    that few labels do not overwrite what was learned without (arXiv:1801.06146, section 3.2). One
    from scratch learns evenly."""
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
    batch_s: Positive = 20.0
    """Seconds of audio in a micro-batch, padding included."""
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
    """Of the products in the forward and backward pass; the weights are float32."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:NUMBER."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.learns != "all" and self.fresh_layers:
            raise ValueError(f"fresh_layers cannot learn where learns is {self.learns!r}.")
        if self.learns == "lora" and self.loop.parallel == "fsdp":
            raise ValueError("learns lora needs loop.parallel ddp, got fsdp.")


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
) -> Outcome:
    """Run it: `run/best` is the model with the lowest validation CER afterwards.

    Args:
        config: the run.
        train_set: utterances with transcripts; those without are left out and counted.
        valid_set: the same, never trained on.
        run: folder; a run that lies there is gone on with, unless `resume` is False. It must be
            one of the same config, sets and model to start from.
        init: a pretrained model; None starts from scratch.
        announce: measure a run that begins, and say on stderr what it will cost.

    Raises ValueError where there is nothing to train or validate on, where another run lies in
    `run`, where a name pattern of the config matches nothing, or where `announce` finds that the
    run does not fit in memory.
    """
    started = time.monotonic()
    keep_freed_memory()
    device = pick_device(config.device)
    with preemptible(), distributed.process_group(device), alone_in(run):
        train_set, valid_set = (
            transcribed(train_set, "training"),
            transcribed(valid_set, "validation"),
        )
        texts = [u.text or "" for u in train_set]
        tokenizer = train_tokenizer(config.tokenizer, texts, allow_smaller=True)
        torch.manual_seed(torch_seed(config.loop.seed, "weights"))
        config = _with_fitting_dropout(config, init, train_set)
        inputs = distributed.from_first(
            lambda: finetuning_inputs(train_set, valid_set, init, tokenizer)
        )
        fresh = starting_point(run, config.loop, to_json(config), inputs, resume=resume)
        model, origin = _build(config, init, tokenizer)
        labels = Labels.choose(
            train_set, valid_set, model, tokenizer, config.max_valid, config.speeds
        )
        begins = not (resume and has_state(run))
        if begins and distributed.rank() == 0:
            for sentence in ([origin.sentence()] if origin else []) + list(labels.sentences()):
                print(sentence, file=sys.stderr, flush=True)
        sets, rate = (labels.train, labels.scored), model.speech.config.sample_rate
        train_waves, valid_waves = open_waves(sets, run, rate, resume, config.loop.max_fault_share)
        work = FinetuneWork(config, model, tokenizer, valid_waves, device, init is not None)
        work.notes = _notes(config, init, labels, origin)
        spread(work.modules, config.loop.parallel)
        decay = 1.0 if init is None or config.learns != "all" else config.layer_lr_decay
        optimizer = build_optimizer(config.optim, learning_parts(model, decay))
        dataset = _batches(config, train_waves)
        update_s = announce_run(work, dataset, config, device) if announce and begins else None
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


def _with_fitting_dropout(
    config: FinetuneConfig, init: Checkpoint | None, train_set: Sequence[Utterance]
) -> FinetuneConfig:
    """With the dropout of a pretrained model, where none is given."""
    if init is None or config.dropout is not None:
        return config
    minutes = sum(u.duration_s for u in train_set) / 60
    return replace(config, dropout=fitting_dropout(init.speech.config, minutes))


def _build(
    config: FinetuneConfig, init: Checkpoint | None, tokenizer: Tokenizer
) -> tuple[CTCModel, "HeadOrigin | None"]:
    """The model, frozen where it does not learn; and where its head comes from."""
    speech = build_speech(config, init)
    head, origin = build_head(config, speech, tokenizer, init)
    model = CTCModel(speech, head)
    choose_learning(model, config, pretrained=init is not None)
    return model, origin


def _notes(
    config: FinetuneConfig, init: Checkpoint | None, labels: Labels, origin: "HeadOrigin | None"
) -> dict[str, Any]:
    """For meta.json: what the model was made from."""
    notes = labels.notes()
    notes["init"] = None if init is None else init.meta
    notes["learns"] = config.learns
    if origin:
        notes["head"] = {"kept": origin.kept, "fresh": origin.fresh}
    return notes


def _batches(config: FinetuneConfig, waves: Waves) -> PlannedBatches:
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
    )


def build_speech(config: FinetuneConfig, init: Checkpoint | None) -> SpeechModel:
    """A fresh model, or the given one with its upper `fresh_layers` (and final norm) made anew."""
    speech = _with_dropout(
        SpeechModel(config.model) if init is None else init.speech, config.dropout
    )
    if init is None:
        return speech
    if config.learns == "adapters":
        return with_adapters(speech, config.adapter_dim)
    num_layers = speech.config.context.num_layers
    if config.fresh_layers > num_layers:
        raise ValueError(
            f"fresh_layers must be at most the model's {num_layers} layers, got "
            f"{config.fresh_layers}."
        )
    if config.fresh_layers:
        fresh = SpeechModel(speech.config)
        first = num_layers - config.fresh_layers
        speech.context.layers[first:].load_state_dict(fresh.context.layers[first:].state_dict())
        if speech.config.context.norm_order == "pre":
            speech.context.norm.load_state_dict(fresh.context.norm.state_dict())
    return speech


@dataclass(frozen=True)
class HeadOrigin:
    """Where the rows of a new head over an old one come from."""

    kept: list[str]
    """Symbols that are written as before."""
    fresh: list[str]
    """The others."""
    reason: str = ""
    """Why nothing was kept, where that was not for the symbols."""

    def sentence(self) -> str:
        """For the person."""
        if self.reason:
            return f"Head: fresh, as {self.reason}."
        new = ", ".join(repr(s) for s in self.fresh[:_MOST_SHOWN]) or "none"
        more = ", ..." if len(self.fresh) > _MOST_SHOWN else ""
        return (
            f"Head: {len(self.kept)} of {len(self.kept) + len(self.fresh)} symbols are written as "
            f"before (the blank among them); new: {new}{more}."
        )


def build_head(
    config: FinetuneConfig, speech: SpeechModel, tokenizer: Tokenizer, init: Checkpoint | None
) -> tuple[CTCHead, HeadOrigin | None]:
    """A fresh head, or one with the rows of the symbols that the old vocabulary shares; and which
    these are, None where there was no head."""
    head = CTCHead(speech.config.context.dim, tokenizer.vocab_size, config.upsample)
    if init is None or not isinstance(init.model, CTCModel) or init.tokenizer is None:
        return head, None
    symbols, old = list(tokenizer.symbols), init.model.head
    if config.fresh_head:
        return head, HeadOrigin([], symbols, "--fresh_head asks for it")
    if old.upsample != config.upsample:
        reason = f"the old one writes {old.upsample} rows a frame and this one {config.upsample}"
        return head, HeadOrigin([], symbols, reason)
    bias = old.linear.bias.unflatten(0, (old.upsample, -1))[0]  # (V,)
    places = [
        None if place is None or bias[place] <= NEVER else place
        for place in shared_symbols(tokenizer, init.tokenizer)
    ]
    head.take_rows(old, places)
    found = list(zip(symbols, places, strict=True))
    kept = [symbol for symbol, place in found if place is not None]
    return head, HeadOrigin(kept, [symbol for symbol, place in found if place is None])


def choose_learning(model: CTCModel, config: FinetuneConfig, *, pretrained: bool) -> None:
    """Freeze what does not learn in this run, and add LoRA where the config asks for it.

    Raises ValueError where a name pattern matches nothing or nothing is left to learn, and where a
    model from scratch is to learn in part.
    """
    if config.learns != "all" and not pretrained:
        raise ValueError(
            f"learns {config.learns!r} adapts a pretrained model: give one with --init."
        )
    freeze(model, config.freeze)
    if pretrained and config.freeze_encoder_share == 1:
        model.speech.encoder.requires_grad_(False)
    if config.learns == "adapters":
        freeze_all_but_adapters(model)
    if config.learns == "lora":
        add_lora(model, config.lora)
    check_something_learns(model)


def fitting_dropout(model: ModelConfig, minutes: float) -> float | None:
    """Dropout for a pretrained model and the minutes of labels; None to leave it as it is.

    The CPU sizes are pretrained without any. A pretrained one then overfits few labels; one from
    scratch learns more slowly with dropout than it overfits without (RESULTS.md).
    """
    if model.context.dropout > 0:
        return None
    return 0.4 if minutes < 30 else 0.2 if minutes < 120 else None


def _with_dropout(speech: SpeechModel, dropout: float | None) -> SpeechModel:
    """The same weights in a model with that dropout."""
    if dropout is None:
        return speech
    context = replace(speech.config.context, dropout=dropout)
    model = SpeechModel(replace(speech.config, context=context))
    model.load_state_dict(speech.state_dict())
    return model


def learning_parts(model: CTCModel, layer_lr_decay: float) -> list[Part]:
    """Head, layers from the top down, and the rest, each with its learning-rate factor."""
    speech, context = model.speech, model.speech.context
    parts = [Part((model.head,)), Part((context.norm,))]
    num = len(context.layers)
    for number, layer in enumerate(context.layers):
        parts.append(Part((layer,), layer_lr_decay ** (num - number)))
    lowest = layer_lr_decay ** (num + 1)
    below = (speech.encoder, speech.latent_norm, speech.project, context.position)
    distance = (context.distance,) if context.config.rel_buckets else ()
    return [*parts, Part((*below, context.position_norm, *distance), lowest)]


class FinetuneWork:
    """The CTC loss of a step, and the validation."""

    def __init__(
        self,
        config: FinetuneConfig,
        model: CTCModel,
        tokenizer: Tokenizer,
        valid_waves: Waves,
        device: torch.device,
        pretrained: bool,
    ) -> None:
        self.config, self.tokenizer, self.device = config, tokenizer, device
        self.pretrained = pretrained
        self.model = model.to(device).train()
        speech = model.speech.named_parameters()
        self._learning = {name for name, p in speech if p.requires_grad}  # spread, they are others
        self.modules: torch.nn.Module = self.model
        self.notes: dict[str, Any] = {}
        self._sample = ("", "")
        plan = BatchPlan(valid_waves.lengths_s(), batch_s=60.0, seed=0, shuffle=False)
        self.valid_batches = PlannedBatches(valid_waves, plan, seed=0)
        self.unknown = find_unknown(tokenizer, valid_waves.utterances)

    def backward(self, step: int, max_steps: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Gradients of one update: the mean over all utterances' symbols."""
        targets = [[self.tokenizer.encode(text) for text in batch.texts] for batch in batches]
        num = torch.tensor(float(sum(len(ids) for rows in targets for ids in rows)))
        num = distributed.all_reduce_sum(send(num, self.device)).clamp_min(1)
        self._freeze(step, max_steps)
        done = step / max_steps
        total = torch.zeros((), device=self.device)
        self.model.speech.context.draw_dropped(rng(self.config.loop.seed, "layerdrop", step))
        for batch, ids in zip(batches, targets, strict=True):
            torch.manual_seed(torch_seed(self.config.loop.seed, "dropout", batch.index))
            views = 2 if self.config.consistency and done >= self.config.mask_from_share else 1
            wave_lengths = batch.lengths.repeat(views)
            with autocast(self.device, self.config.precision):
                log_probs, _ = self.model(
                    send(batch.distorted, self.device).repeat(views, 1),
                    send(wave_lengths, self.device),
                    encoder_grad_scale=0.0 if self._encoder_frozen(done) else 1.0,
                    **self._masks(done, wave_lengths, batch.index),
                )
            lengths = self.model.output_lengths(wave_lengths)
            loss = ctc_loss(log_probs, lengths, ids * views) / (views * num)
            if views == 2:
                loss = loss + self.config.consistency * disagreement(log_probs, lengths) / num
            (loss * distributed.world()).backward()
            total += loss.detach()
        return {"loss/ctc": total}

    def _encoder_frozen(self, done: float) -> bool:
        return self.pretrained and done < self.config.freeze_encoder_share

    def _freeze(self, step: int, max_steps: int) -> None:
        """Only the head learns at first."""
        learns = not self.pretrained or step >= min(self.config.head_only_steps, max_steps // 2)
        for name, parameter in self.model.speech.named_parameters():
            if name in self._learning:
                parameter.requires_grad_(learns)

    def _masks(self, done: float, wave_lengths: Tensor, index: int) -> dict[str, Tensor]:
        """Time and channel masks for waves of these lengths, batch `index` of the run; none at its
        begin (`done` in [0, 1])."""
        config, speech = self.config, self.model.speech
        if done < config.mask_from_share:
            return {}
        masks = {}
        if config.mask_share:
            frames = speech.frame_lengths(wave_lengths)
            generator = rng(config.loop.seed, "time-mask", index)
            drawn = span_mask(
                frames.tolist(),
                int(frames.max()),
                share=config.mask_share,
                span=config.mask_span,
                generator=generator,
            )
            masks["mask"] = send(torch.from_numpy(drawn), self.device)
        if config.channel_share:
            encoder = speech.config.encoder
            num = (
                encoder.num_filters
                if isinstance(encoder, FilterbankEncoderConfig)
                else speech.config.latent_dim
            )
            drawn = channel_mask(
                len(wave_lengths),
                num,
                share=config.channel_share,
                span=config.channel_span,
                generator=rng(config.loop.seed, "channel-mask", index),
            )
            masks["channel_mask"] = send(torch.from_numpy(drawn), self.device)
        return masks

    @torch.no_grad()
    def validate(self, step: int) -> tuple[float, dict[str, float]]:  # noqa: ARG002
        """Greedy CER (the score) and WER, loss, blank rate; keeps a sample transcript. The loss is
        of the transcripts that fit into their frames and have no unknown character, which no model
        can output; where there is none, there is no loss."""
        hypotheses: list[Hypothesis] = []
        ids: list[str] = []
        references: list[str] = []
        targets: list[list[int]] = []
        loss = 0.0
        for index in range(self.valid_batches.plan.num_batches):
            batch = self.valid_batches[index]
            with autocast(self.device, self.config.precision):
                log_probs, lengths = self.model(
                    batch.distorted.to(self.device), batch.lengths.to(self.device)
                )
            spelled = [self.tokenizer.encode(text) for text in batch.texts]
            known = [i for i, ids in enumerate(spelled) if UNKNOWN_ID not in ids]
            if len(known) == len(spelled):
                loss += float(ctc_loss(log_probs, lengths, spelled))
            elif known:
                loss += float(
                    ctc_loss(log_probs[known], lengths[known], [spelled[i] for i in known])
                )
            rows = lengths.tolist()
            targets += [spelled[i] for i in known if ctc_min_frames(spelled[i]) <= rows[i]]
            hypotheses += greedy_decode(log_probs, lengths)
            references += batch.texts
            ids += batch.ids
        written = [h.text(self.tokenizer) for h in hypotheses]
        self.result: EvalResult = score(references, written, ids=ids)
        middle = len(ids) // 2
        self._sample = (references[middle], written[middle])
        middle_batch = self.valid_batches[self.valid_batches.plan.num_batches // 2]
        with autocast(self.device, self.config.precision):
            output = self.model.speech(
                middle_batch.distorted.to(self.device),
                middle_batch.lengths.to(self.device),
                keep_hidden=True,
            )
        metrics = {"cer": self.result.cer, "wer": self.result.wer}
        if num_symbols := sum(len(ids) for ids in targets):
            metrics |= {"loss": loss / num_symbols, "ctc/chance": ctc_chance(targets)}
        metrics |= {"blank_rate": blank_rate(hypotheses), **frame_health(output)}
        metrics |= permuted_errors(references, written)
        if self.unknown:
            metrics["unknown/characters"] = self.unknown.share
            metrics["unknown/utterances"] = len(self.unknown.ids) / self.unknown.num_utterances
        return self.result.cer, metrics

    @property
    def higher_is_better(self) -> frozenset[str]:
        """None: error rates and losses."""
        return frozenset()

    def counts(self) -> dict[str, list[int]]:
        """Nothing: there are no codes."""
        return {}

    def sample(self) -> str:
        """What was said and what was written in one utterance of the last validation."""
        said, written = self._sample
        return f"    said:    {said}\n    written: {written}"

    def save(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the model folder with its tokenizer, and what it wrote in the validation."""
        weights = distributed.whole_state(self.model)
        if distributed.rank() > 0:
            return
        meta = {
            "task": "finetune",
            "steps": step,
            "seed": self.config.loop.seed,
            "pretrained": self.pretrained,
            "valid": metrics,
            "valid_intervals": {
                "wer": [self.result.wer_low, self.result.wer_high],
                "cer": [self.result.cer_low, self.result.cer_high],
            },
            **self.notes,
        }
        if self.config.learns == "lora":
            save_model(folder, Checkpoint(without_lora(self.model), self.tokenizer, meta))
        else:
            save_model(folder, Checkpoint(self.model, self.tokenizer, meta), weights)
        write_hypotheses(folder, self.result)


def load_init(model: str) -> Checkpoint | None:
    """The checkpoint that `--init` names; None for ``scratch``."""
    return None if model == "scratch" else open_model(model)
