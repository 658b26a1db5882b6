"""How much does a frozen layer know? A small CTC probe per layer, on few labels.

    python benchmarks/probe.py runs/pretrain data/train.jsonl data/dev.jsonl --label-minutes 30
    --layers 0 3 6

The model stays as it is; one convolution over three frames and a linear layer learn on its frames.
Seconds a layer, and less noisy than fine-tuning: the judge of pretraining.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from speechssl import audio
from speechssl.checkpoint import Checkpoint, load_model
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.decoding.greedy import greedy_decode
from speechssl.inference.extract import extract
from speechssl.rng import rng, torch_seed
from speechssl.scoring.wer import EvalResult, score
from speechssl.text import CharTokenizer
from speechssl.training.finetune import ctc_loss, take_minutes
from speechssl.training.optim import OptimConfig, lr_at

BATCH = 16
HIDDEN = 128


class Probe(nn.Module):
    """Frames (B, T, D) -> log-probabilities (B, T, V)."""

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(0.1),
            nn.Conv1d(dim, HIDDEN, 3, padding=1),
            nn.GELU(),
            nn.Dropout(0.2),
            nn.Conv1d(HIDDEN, vocab_size, 1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Over time, so the channels go second and back."""
        return self.layers(frames.transpose(1, 2)).transpose(1, 2).log_softmax(2)


def pad(frames: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Frames of (T_i, D) -> (B, T, D) padded with zeros, (B,) lengths."""
    lengths = torch.tensor([len(f) for f in frames])
    return nn.utils.rnn.pad_sequence(list(frames), batch_first=True), lengths


def learn(
    frames: Sequence[Tensor], targets: Sequence[Sequence[int]], vocab_size: int, steps: int
) -> Probe:
    """A probe, trained for `steps` updates of 16 utterances."""
    torch.manual_seed(torch_seed(0, "probe"))
    probe = Probe(frames[0].shape[1], vocab_size)
    optimizer = torch.optim.AdamW(probe.parameters())
    schedule = OptimConfig(lr=3e-3, warmup_steps=50, final_share=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(schedule, step, steps)
        chosen = rng(0, "probe", step).choice(len(frames), min(BATCH, len(frames)), replace=False)
        batch, lengths = pad([frames[i] for i in chosen])
        labels = [targets[i] for i in chosen]
        loss = ctc_loss(probe(batch), lengths, labels) / sum(len(ids) for ids in labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return probe.eval()


@torch.no_grad()
def judge(
    probe: Probe,
    frames: Sequence[Tensor],
    utterances: Sequence[Utterance],
    tokenizer: CharTokenizer,
) -> EvalResult:
    """Greedy WER and CER of what the probe writes."""
    written: list[str] = []
    for first in range(0, len(frames), BATCH):
        batch, lengths = pad(frames[first : first + BATCH])
        written += [h.text(tokenizer) for h in greedy_decode(probe(batch), lengths)]
    return score([u.text or "" for u in utterances], written, ids=[u.id for u in utterances])


def main() -> None:
    """Print a line per layer; `--json` keeps them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--label-minutes", type=float, default=30.0)
    parser.add_argument("--max-dev", type=int, default=200, help="utterances, evenly spread")
    parser.add_argument("--layers", type=int, nargs="+", default=[-1])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    checkpoint = load_model(args.model)
    train = take_minutes(read_manifest(args.train), args.label_minutes, seed=0)
    dev = [u for u in read_manifest(args.dev) if u.text]
    dev = dev[:: max(len(dev) // args.max_dev, 1)]
    tokenizer = CharTokenizer.train([u.text or "" for u in train])
    targets = [tokenizer.encode(u.text or "") for u in train]
    results = []
    for layer in args.layers:
        heard = [[hear(checkpoint, u, layer) for u in part] for part in (train, dev)]
        every = torch.cat(heard[0])
        mean, scale = every.mean(0), every.std(0) + 1e-4
        learned, judged = ([(f - mean) / scale for f in part] for part in heard)
        probe = learn(learned, targets, tokenizer.vocab_size, args.steps)
        result = judge(probe, judged, dev, tokenizer)
        results.append({"layer": layer, "cer": result.cer, "wer": result.wer})
        print(
            f"layer {layer}: CER {result.cer:.4f} [{result.cer_low:.4f}, {result.cer_high:.4f}]",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def hear(checkpoint: Checkpoint, utterance: Utterance, layer: int) -> Tensor:
    """(T, D) frames of one utterance."""
    wave = audio.read(utterance.audio, start_s=utterance.start_s, duration_s=utterance.duration_s)
    return torch.from_numpy(np.asarray(extract(checkpoint, wave, layer).frames))


if __name__ == "__main__":
    main()
