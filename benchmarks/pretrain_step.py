"""One pretraining step of ours against transformers' Wav2Vec2ForPreTraining, on the same work.

    python benchmarks/pretrain_step.py --size tiny base --dtype bf16 fp32 --json step.json
    python benchmarks/pretrain_step.py --device cuda --size base --seconds 10 10 10 10 10 10 10 10

Same weights, configuration (the published dropouts; no layerdrop, which skips work at random),
audio, masks, negatives, loss terms (contrastive, diversity), fused AdamW. Ours and theirs live in a
process each and take turns, so that whatever else the machine does meets both; the ratio is the
median over the pairs of turns. Before that, both compute the loss without dropout in float32 in
the same processes: it must agree to 1e-3. Memory is the most that a process ever held, on a GPU the
most of the GPU's. With ``--compile`` our layers are compiled, as ``pretrain --compile`` does it.

The JSON's `ratio`, `ours` and `peer` are of the first size and dtype with files of equal length;
`rows` hold all.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

from benchmarks.comparison import peer_size, write_comparison

SIZES = ("tiny-conv", "base", "large-4")
WHO = ("speechssl", "transformers")
LOSS_GAP = 1e-3
WARM_UP = 5


def main() -> None:
    """Run all pairs, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size",
        nargs="+",
        type=peer_size,
        choices=SIZES,
        default=["tiny-conv", "base"],
        help="tiny is tiny-conv",
    )
    parser.add_argument("--dtype", nargs="+", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[10.0, 10.0], help="of audio")
    parser.add_argument("--padded", nargs="*", type=float, default=[10.0, 7.0], help="the same")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--compile", action="store_true", help="ours, by torch.compile")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = {"threads": args.threads, "device": args.device, "compiled": args.compile}
    rows = []
    for size in args.size:
        for dtype in args.dtype:
            for seconds in filter(None, (args.seconds, args.padded)):
                rows.append(compare(size, dtype, seconds, args.turns, **machine))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows))
    if args.json:
        first = rows[0]
        ours, peer = (first["audio_s_per_s"][who] for who in WHO)
        asked = {k: first[k] for k in ("size", "dtype", "seconds", "ratio_range", "memory_ratio")}
        write_comparison(
            args.json,
            ratio=first["ratio"],
            ours=ours,
            peer=peer,
            unit="seconds of audio per second; peer: transformers' Wav2Vec2ForPreTraining",
            conditions={**asked, "turns": args.turns, **machine},
            rows=rows,
        )


def compare(
    size: str, dtype: str, seconds: list[float], turns: int, **machine: Any
) -> dict[str, Any]:
    """Alternate `turns` steps of both; `machine` as in :func:`work`."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for who in WHO:
        ours, theirs = context.Pipe()
        context.Process(
            target=work, args=(theirs, who, size, dtype, seconds), kwargs=machine, daemon=True
        ).start()
        pipes[who] = ours
    ask = {
        who: lambda what, pipe=pipe: (pipe.send(what), pipe.recv())[1]
        for who, pipe in pipes.items()
    }
    losses = [ask[who]("loss") for who in WHO]
    gap = abs(losses[0] - losses[1])
    if not gap <= LOSS_GAP * max(1.0, abs(losses[1])):
        raise SystemExit(f"{size}: the losses differ: {losses[0]:.6f} and {losses[1]:.6f}")
    peak = ask[WHO[0]]("peak")
    for who in WHO:
        for _ in range(1 if machine["device"] == "cpu" else WARM_UP):
            ask[who]("step")  # the first allocates, and chooses kernels
    times: dict[str, list[float]] = {who: [] for who in WHO}
    for _ in range(turns):
        for who in WHO:
            times[who].append(ask[who]("step"))
    memory = {who: ask[who]("memory") for who in WHO}
    flops = ask[WHO[0]]("flops")
    for pipe in pipes.values():
        pipe.send("end")
    ratios = [b / a for a, b in zip(times[WHO[0]], times[WHO[1]], strict=True)]
    median = {who: statistics.median(times[who]) for who in WHO}
    return {
        "size": size,
        "dtype": dtype,
        "seconds": seconds,
        "loss_gap": gap,
        "audio_s_per_s": {who: round(sum(seconds) / median[who], 2) for who in WHO},
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "peak_gb": {who: round(memory[who], 2) for who in WHO},
        "memory_ratio": round(memory[WHO[0]] / memory[WHO[1]], 2),
        "machine_gflops": round(peak),
        "share_of_peak": round(flops / median[WHO[0]] / 1e9 / peak, 3),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| size | dtype | seconds | ours, audio s/s | transformers | ratio | memory, GB "
        "| of theirs | of the matrix-product peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        ours, theirs = (r["audio_s_per_s"][who] for who in WHO)
        low, high = r["ratio_range"]
        seconds = " + ".join(f"{s:g}" for s in r["seconds"])
        lines.append(
            f"| {r['size']} | {r['dtype']} | {seconds} | {ours} | "
            f"{theirs} | **{r['ratio']}** [{low}, {high}] | {r['peak_gb'][WHO[0]]} | "
            f"{100 * r['memory_ratio']:.0f} % | {100 * r['share_of_peak']:.0f} % of "
            f"{r['machine_gflops']} GFLOP/s |"
        )
    return "\n".join(lines)


# --- in the processes -----------------------------------------------------------------------------


def work(
    pipe: Any,
    who: str,
    size: str,
    dtype: str,
    seconds: list[float],
    *,
    threads: int,
    device: str,
    compiled: bool,
) -> None:
    """Answer questions until told to end."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    runner = Runner(who, size, dtype, seconds, torch.device(device))
    if compiled and who == "speechssl":
        runner.model.context.compile_layers()
    answers: dict[str, Callable[[], float]] = {
        "loss": runner.loss,
        "step": runner.step,
        "peak": lambda: matrix_peak(dtype, runner.device),
        "memory": lambda: peak_memory_gb(runner.device),
        "flops": runner.flops,
    }
    while (question := pipe.recv()) != "end":
        pipe.send(answers[question]())


class Runner:
    """One side: a model, its optimizer, a batch."""

    def __init__(
        self, who: str, size: str, dtype: str, seconds: list[float], device: "torch.device"
    ) -> None:
        import torch

        from speechssl.device import autocast, keep_freed_memory
        from speechssl.interop import huggingface as hf
        from speechssl.model.fast.accelerate import accelerate
        from speechssl.model.masking import span_mask
        from speechssl.model.speech_model import SpeechModel
        from speechssl.pretext.contrastive import ContrastiveConfig, ContrastiveTask
        from speechssl.pretext.info_nce import draw_negatives
        from speechssl.rng import rng
        from speechssl.training.optim import OptimConfig, Part, build_optimizer

        self.who, self.config, self.seconds = who, model_config(size), seconds
        self.device, self.dtype = device, dtype
        self.autocast = partial(autocast, device)
        task = ContrastiveConfig(feature_penalty=0.0)
        model = accelerate(SpeechModel(self.config))
        heads = ContrastiveTask(task, model)
        lengths = [round(16000 * s) for s in seconds]
        self.lengths = torch.tensor(lengths)
        self.wave = torch.zeros(len(lengths), max(lengths))
        for row, length in enumerate(lengths):
            self.wave[row, :length] = 0.1 * torch.randn(length)
            if self.config.normalize_wave:  # ours does it in the model, theirs before it
                heard = self.wave[row, :length]
                self.wave[row, :length] = (heard - heard.mean()) / heard.std(correction=0)
        self.frames = model.frame_lengths(self.lengths)
        drawn = span_mask(
            self.frames.tolist(),
            int(self.frames.max()),
            share=0.65,
            span=10,
            generator=rng(0, "mask"),
        )
        self.mask = torch.from_numpy(drawn)
        self.num_masked = int(drawn.sum())
        self.negatives = torch.from_numpy(draw_negatives(drawn, task.num_negatives, rng(0, "neg")))
        if who == "speechssl":
            keep_freed_memory()
            self.model, self.heads = model, heads
            self.modules = torch.nn.ModuleList([model, heads]).to(device)
            self._move("wave", "lengths", "negatives")
            self.hidden = self.mask.to(device)
            parts = [Part((self.modules,))]
            self.optimizer = build_optimizer(OptimConfig(lr=1e-5), parts)
            return
        import transformers

        fields = hf.hf_config(self.config, contrastive=asdict(task) | {"quantizer": "gumbel"})
        theirs = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**fields))
        theirs.load_state_dict(hf.to_hf_state(model, heads.state_dict()))
        self.modules = theirs.to(device)
        self.optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-5, fused=True)
        # Theirs counts positions in (B, T), among all frames.
        places = self.mask.flatten().nonzero()[:, 0]
        self.their_negatives = torch.zeros(*self.mask.shape, task.num_negatives, dtype=torch.long)
        self.their_negatives[self.mask] = places[self.negatives]
        self.samples = (torch.arange(self.wave.shape[1]) < self.lengths[:, None]).long()
        self.whole = bool((self.lengths == self.lengths[0]).all())
        self._move("wave", "samples", "mask", "their_negatives")

    def _move(self, *names: str) -> None:
        for name in names:
            setattr(self, name, getattr(self, name).to(self.device))

    def total(self) -> Any:
        """The loss, summed over masked frames as both do."""
        if self.who == "transformers":
            return self.modules(
                self.wave,
                attention_mask=None if self.whole else self.samples,
                mask_time_indices=self.mask,
                sampled_negative_indices=self.their_negatives,
            ).loss
        output = self.model(self.wave, self.lengths, mask=self.hidden)
        result = self.heads.loss(output, self.mask, self.negatives)
        return sum(term.total * term.weight for term in result.terms.values())

    def loss(self) -> float:
        """Per masked frame; float32, no dropout, the contrastive part (in evaluation theirs takes
        the diversity of hard choices)."""
        import torch

        self.modules.eval()
        with torch.no_grad(), self.autocast("fp32"):
            if self.who == "transformers":
                # Their group norm hears padding: each utterance alone.
                total = sum(self._alone(row) for row in range(len(self.lengths)))
            else:
                output = self.model(self.wave, self.lengths, mask=self.hidden)
                total = float(
                    self.heads.loss(output, self.mask, self.negatives).terms["contrastive"].total
                )
        self.modules.train()
        return total / self.num_masked

    def _alone(self, row: int) -> float:
        frames, samples = int(self.frames[row]), int(self.lengths[row])
        before = row * self.mask.shape[1]
        return float(
            self.modules(
                self.wave[row : row + 1, :samples],
                mask_time_indices=self.mask[row : row + 1, :frames],
                sampled_negative_indices=(
                    self.their_negatives[row : row + 1, :frames] - before
                ).clamp_min(0),
            ).contrastive_loss
        )

    def step(self) -> float:
        """Seconds of forward, backward, clipping and update."""
        import torch

        from speechssl.device import finished_s

        start = finished_s(self.device)
        with self.autocast(self.dtype):
            loss = self.total() / self.num_masked
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 10.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return finished_s(self.device) - start

    def flops(self) -> float:
        """Of the matrix products of a step on the real frames: three times the forward's."""
        encoder, context = self.config.encoder, self.config.context
        total = 0.0
        for samples in self.lengths.tolist():
            frames, channels = samples, 1
            for dim, kernel, stride in zip(
                encoder.dims, encoder.kernels, encoder.strides, strict=True
            ):
                frames = (frames - kernel) // stride + 1
                total += 2.0 * frames * channels * kernel * dim
                channels = dim
            width = context.dim
            layer = 4 * width * width + 2 * width * context.ffn_dim + 2 * frames * width
            place = width * width * context.pos_kernel // context.pos_groups
            total += 2.0 * frames * (context.num_layers * layer + place + channels * width)
        return 3 * total


def model_config(size: str) -> Any:
    """A size by name, without layerdrop; ``large-4``: four of large's layers."""
    from speechssl.model import config as sizes

    config = sizes.size("large" if size == "large-4" else size)
    context = replace(config.context, layerdrop=0.0)
    return replace(config, context=replace(context, num_layers=4) if size == "large-4" else context)


def matrix_peak(dtype: str, device: "torch.device") -> float:
    """GFLOP/s of a product of 4096-wide matrices (GPU: 8192), the best of five."""
    import torch

    from speechssl.device import finished_s

    width = 4096 if device.type == "cpu" else 8192
    a = torch.randn(width, width, device=device)
    a = a.to(torch.bfloat16 if dtype == "bf16" else torch.float32)
    best = float("inf")
    for _ in range(5):
        start = finished_s(device)
        torch.mm(a, a)
        best = min(best, finished_s(device) - start)
    return 2 * width**3 / best / 1e9


def peak_memory_gb(device: "torch.device") -> float:
    """The most that this process ever held, of the GPU's memory where it has one."""
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
