"""The work of CTC fine-tuning: the gradients of an update, the validation, and the model to write.

Shapes: B batch, S samples, T frames, V symbols.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from speechssl import distributed
from speechssl.checkpoint import Checkpoint, save_model
from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import Batch, PlannedBatches, Waves
from speechssl.data.length_grid import LengthGrid, length_grid
from speechssl.data.unknown import find_unknown
from speechssl.decoding.greedy import Hypothesis, blank_rate, greedy_decode
from speechssl.device import (
    autocast,
    send,
)
from speechssl.model.config import FilterbankEncoderConfig
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.masking import channel_mask, span_mask
from speechssl.model.speech_model import CTCModel
from speechssl.pretext.ctc import ctc_chance, ctc_loss, disagreement
from speechssl.rng import rng, torch_seed
from speechssl.scoring.wer import EvalResult, score
from speechssl.text import (
    UNKNOWN_ID,
    Tokenizer,
    ctc_min_frames,
)
from speechssl.training.diagnosis import frame_health, permuted_errors
from speechssl.training.lora import without_lora
from speechssl.training.parts import drawn_as_whole, rows_of_part, whole_lengths
from speechssl.training.runfolder import write_hypotheses

if TYPE_CHECKING:
    from speechssl.training.finetune import FinetuneConfig


_VALID_BATCH_S = 60.0


@dataclass(frozen=True)
class _BatchScores:
    """What a validation keeps of a batch."""

    hypotheses: list[Hypothesis]
    references: Sequence[str]
    ids: Sequence[str]
    targets: list[list[int]]
    """Of the transcripts that have a loss."""
    loss: float
    """Their sum."""


class FinetuneWork:
    """The CTC loss of a step, and the validation."""

    def __init__(
        self,
        config: "FinetuneConfig",
        model: CTCModel,
        tokenizer: Tokenizer,
        valid_waves: Waves,
        device: torch.device,
        pretrained: bool,
    ) -> None:
        self.config, self.tokenizer, self.device = config, tokenizer, device
        self.pretrained = pretrained
        self.model = accelerate(model.to(device).train())
        speech = model.speech.named_parameters()
        self._learning = {name for name, p in speech if p.requires_grad}  # sharded, they are others
        self.modules: torch.nn.Module = self.model
        self.notes: dict[str, Any] = {}
        self._sample = ("", "")
        plan = BatchPlan(valid_waves.lengths_s(), batch_s=_VALID_BATCH_S, seed=0, shuffle=False)
        grid = self.grid(valid_waves, _VALID_BATCH_S)
        self.valid_batches = PlannedBatches(valid_waves, plan, seed=0, grid=grid)
        self.unknown = find_unknown(tokenizer, valid_waves.utterances)

    def grid(self, waves: Waves, batch_s: float) -> LengthGrid | None:
        """The lengths to which batches of so many seconds are padded."""
        return length_grid(
            self.config.length_grid,
            self.device,
            sample_rate=waves.sample_rate,
            hop_samples=self.model.speech.config.hop_samples,
            batch_s=batch_s,
        )

    def backward(self, step: int, max_steps: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Gradients of one update: the mean over all utterances' symbols, each utterance's terms
        times its weight. The number of symbols is not weighted: what a transcript of weight 0.5
        adds is half of what it else adds, whatever else is in the update."""
        targets = [[self.tokenizer.encode(text) for text in batch.texts] for batch in batches]
        num = torch.tensor(float(sum(len(ids) for rows in targets for ids in rows)))
        num = distributed.all_reduce_sum(send(num, self.device)).clamp_min(1)
        self._freeze(step, max_steps)
        done = step / max_steps
        total = torch.zeros((), device=self.device)
        self.model.speech.context.draw_dropped(rng(self.config.loop.seed, "layerdrop", step))
        for batch, ids in zip(batches, targets, strict=True):
            if not batch.ids:  # the part of a micro-batch of few utterances
                continue
            torch.manual_seed(torch_seed(self.config.loop.seed, "dropout", batch.index))
            views = 2 if self.config.consistency and done >= self.config.mask_from_share else 1
            wave_lengths = batch.lengths.repeat(views)
            whole = drawn_as_whole(batch, self.model.speech)
            with whole, autocast(self.device, self.config.precision):
                log_probs, _ = self.model(
                    send(batch.distorted, self.device).repeat(views, 1),
                    send(wave_lengths, self.device),
                    encoder_grad_scale=0.0 if self._encoder_frozen(done) else 1.0,
                    **self._masks(done, batch, views),
                )
            lengths = self.model.output_lengths(wave_lengths)
            loss = ctc_loss(log_probs, lengths, ids * views, batch.weights * views) / (views * num)
            if views == 2:
                loss = loss + self.config.consistency * disagreement(log_probs, lengths) / num
            (loss * distributed.world()).backward()
            total += loss.detach()
        return {"loss/ctc": total}

    def _encoder_frozen(self, done: float) -> bool:
        return self.pretrained and done < (self.config.freeze_encoder_share or 0.0)

    def _freeze(self, step: int, max_steps: int) -> None:
        """Only the head learns at first."""
        learns = not self.pretrained or step >= min(self.config.head_only_steps, max_steps // 2)
        for name, parameter in self.model.speech.named_parameters():
            if name in self._learning:
                parameter.requires_grad_(learns)

    def _masks(self, done: float, batch: Batch, views: int) -> dict[str, Tensor]:
        """Time and channel masks for so many views of a micro-batch; none at the begin of the run
        (`done` in [0, 1])."""
        config, speech = self.config, self.model.speech
        if done < config.mask_from_share:
            return {}
        masks = {}
        wave_lengths, rows = whole_lengths(batch, views), rows_of_part(batch, views)
        if config.mask_share:
            frames = speech.frame_lengths(wave_lengths)
            own = int(speech.frame_lengths(torch.tensor([batch.distorted.shape[1]])))  # T
            generator = rng(config.loop.seed, "time-mask", batch.index)
            drawn = span_mask(
                frames.tolist(),
                max(int(frames.max()), own),
                share=config.mask_share,
                span=config.mask_span,
                generator=generator,
            )
            drawn = drawn[rows, :own]
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
                generator=rng(config.loop.seed, "channel-mask", batch.index),
            )
            masks["channel_mask"] = send(torch.from_numpy(drawn[rows]), self.device)
        return masks

    @torch.no_grad()
    def validate(self, step: int) -> tuple[float, dict[str, float]]:  # noqa: ARG002
        """Greedy CER (the score) and WER, loss, blank rate; keeps a sample transcript. The loss is
        of the transcripts that fit into their frames and have no unknown character, which no model
        can output; where there is none, there is no loss."""
        batches = distributed.share_out(self.valid_batches.plan.num_batches, self._scored)
        hypotheses = [one for batch in batches for one in batch.hypotheses]
        references = [one for batch in batches for one in batch.references]
        ids = [one for batch in batches for one in batch.ids]
        targets = [one for batch in batches for one in batch.targets]
        loss = sum((batch.loss for batch in batches), 0.0)
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

    def _scored(self, index: int) -> "_BatchScores":
        """A batch of the validation."""
        batch = self.valid_batches[index]
        with autocast(self.device, self.config.precision):
            log_probs, lengths = self.model(
                batch.distorted.to(self.device), batch.lengths.to(self.device)
            )
        spelled = [self.tokenizer.encode(text) for text in batch.texts]
        known = [i for i, ids in enumerate(spelled) if UNKNOWN_ID not in ids]
        loss = 0.0
        if len(known) == len(spelled):
            loss = float(ctc_loss(log_probs, lengths, spelled))
        elif known:
            loss = float(ctc_loss(log_probs[known], lengths[known], [spelled[i] for i in known]))
        rows = lengths.tolist()
        return _BatchScores(
            greedy_decode(log_probs, lengths),
            batch.texts,
            batch.ids,
            [spelled[i] for i in known if ctc_min_frames(spelled[i]) <= rows[i]],
            loss,
        )

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
