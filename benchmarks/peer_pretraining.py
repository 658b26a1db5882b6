"""transformers' own pretraining on the same recordings, in the same time: a model for the race.

    python benchmarks/peer_pretraining.py --train data/train.jsonl --minutes 30 --out peer
    speechssl compare data --models peer runs/tiny-conv --size tiny-conv --labels 10 --out race-peer

transformers' Wav2Vec2ForPreTraining in the form of `tiny-conv`, with its own masks
(`_compute_mask_indices`), negatives (`_sample_negative_indices`), loss (contrastive and diversity)
and Gumbel temperature, as its pretraining example uses them. Batches, optimizer and learning-rate
schedule are those of `speechssl pretrain --size tiny-conv`; the input is clean, as theirs is. The
minutes are processor time of one core, from the first batch on; the schedule is laid out by the
measured pace. Written are a folder that transformers opens, and peer.json with what was done.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import Batch, PlannedBatches, Waves
from speechssl.data.index import open_manifest
from speechssl.device import autocast
from speechssl.interop.huggingface.config import hf_config
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.training.optim import Part, build_optimizer, lr_at, set_lr
from speechssl.training.pretrain import preset

SIZE = "tiny-conv"
MEASURED = 10
"""Updates whose pace is the first plan's; a later plan takes that of all updates so far."""


def main() -> None:
    """Train for the minutes, write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="processor time of one core")
    parser.add_argument("--mask-share", type=float, default=0.65)
    parser.add_argument("--mask-span", type=int, default=10, help="frames")
    parser.add_argument("--diversity-weight", type=float, default=0.1)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    run = Run(args)
    run.train(60 * args.minutes)


class Run:
    """transformers' model, and what it is trained on."""

    def __init__(self, args: argparse.Namespace) -> None:
        import transformers

        self.args, self.config = args, preset(SIZE)
        task = ContrastiveConfig(diversity_weight=args.diversity_weight)
        fields = hf_config(self.config.model, contrastive=asdict(task) | {"quantizer": "gumbel"})
        fields |= {"mask_time_prob": args.mask_share, "mask_time_length": args.mask_span}
        self.task = task
        self.model = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**fields))
        waves = Waves.open(open_manifest(args.train), args.out / "cache", 16000, True)
        lengths_s = waves.lengths_s().clip(max=self.config.max_crop_s)
        self.batches = PlannedBatches(
            waves,
            BatchPlan(lengths_s, batch_s=self.config.batch_s, seed=args.seed),
            seed=args.seed,
            max_crop_s=self.config.max_crop_s,
        )
        self.optimizer = build_optimizer(self.config.optim, [Part((self.model,))])

    def train(self, seconds: float) -> None:
        """Train for so much processor time, then write."""
        began, max_steps, step = time.process_time(), 10**6, 0
        lines = []
        while step < max_steps:
            set_lr(self.optimizer, lr_at(self.config.optim, step, max_steps))
            found = self.update(self.batches[step], step)
            step += 1
            spent = time.process_time() - began
            if step >= MEASURED:
                max_steps = max(step, int(seconds / spent * step)) if spent < seconds else step
            if step % 20 == 0:
                lines.append({"step": step, "time_s": round(spent, 1), **found})
                print(json.dumps(lines[-1]), flush=True)
        self.model.save_pretrained(self.args.out)
        facts = {
            "updates": step,
            "minutes": round((time.process_time() - began) / 60, 2),
            "settings": {k: str(v) for k, v in vars(self.args).items()},
            "curve": lines,
        }
        (self.args.out / "peer.json").write_text(json.dumps(facts, indent=1) + "\n")

    def update(self, batch: Batch, step: int) -> dict[str, float]:
        """One update as in transformers' example; its losses per masked frame."""
        from transformers.models.wav2vec2 import modeling_wav2vec2 as theirs

        own = self.model.config
        wave, samples = self._normalized(batch)
        shape = (len(wave), int(self.model._get_feat_extract_output_lengths(wave.shape[1])))
        frames = self.model._get_feature_vector_attention_mask(shape[1], samples)
        mask = theirs._compute_mask_indices(
            shape, own.mask_time_prob, own.mask_time_length, frames, min_masks=2
        )
        negatives = theirs._sample_negative_indices(shape, own.num_negatives, mask)
        self.model.set_gumbel_temperature(
            max(self.task.gumbel_start * self.task.gumbel_decay**step, self.task.gumbel_end)
        )
        self.model.train()
        with autocast(torch.device("cpu"), self.args.precision):
            output = self.model(
                wave,
                attention_mask=samples,
                mask_time_indices=torch.from_numpy(mask),
                sampled_negative_indices=torch.from_numpy(negatives),
            )
        masked = max(int(mask.sum()), 1)
        (output.loss / masked).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "contrastive": float(output.contrastive_loss.detach()) / masked,
            "diversity": float(output.diversity_loss.detach()) / masked,
            "perplexity": float(output.codevector_perplexity.detach()),
        }

    def _normalized(self, batch: Batch) -> tuple[Any, Any]:
        """``(wave (B, S), 1 where there is sound (B, S))``, as its feature extractor normalises."""
        lengths = batch.lengths
        samples = (torch.arange(batch.clean.shape[1]) < lengths[:, None]).long()
        wave = batch.clean.clone()
        for row, length in enumerate(lengths.tolist()):
            sound = wave[row, :length]
            if self.config.model.normalize_wave:
                wave[row, :length] = (sound - sound.mean()) / (
                    sound.var(correction=0) + 1e-7
                ).sqrt()
        return wave, samples


if __name__ == "__main__":
    main()
