"""What `--precision auto` takes against the best precision, in training and transcription.

    python benchmarks/precision.py --size tiny tiny-conv base --turns 5 --json precision.json

auto is asked as a run asks it, with an empty cache. Then whole updates of the size's preset on
noise (transcription: chunks of noise), in each precision that it may take, in turns, so that
whatever else the machine does meets all of them. `ratio` is the speed in auto's precision over
that in the best one, by medians over the turns; of all rows the lowest. Aimed at is 0.95.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.comparison import write_comparison
from speechssl import precision
from speechssl.device import keep_freed_memory, pick_device
from speechssl.inference import precision as of_inference
from speechssl.inference.precision import CHUNK_S, candidates
from speechssl.model import config as sizes
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.precision import Pass, offered
from speechssl.speed import training_passes
from speechssl.training import precision as of_training
from speechssl.training.precision import Step
from speechssl.training.pretrain import preset


def main() -> None:
    """Measure every pair, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", nargs="+", choices=sizes.SIZES, default=["tiny", "tiny-conv"])
    parser.add_argument("--work", nargs="+", choices=("training", "transcription"))
    parser.add_argument("--seconds", type=float, default=20.0, help="of audio in an update")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    device = pick_device(args.device)
    rows = []
    for size in args.size:
        for work in args.work or ("training", "transcription"):
            rows.append(compare(size, work, device, args.seconds, args.turns))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows))
    if args.json:
        worst = min(rows, key=lambda row: row["ratio"])
        write_comparison(
            args.json,
            ratio=worst["ratio"],
            ours=worst["audio_s_per_s"][worst["auto"]],
            peer=worst["audio_s_per_s"][worst["best"]],
            unit="seconds of audio a second, in what auto takes and in the best precision",
            conditions={
                n: getattr(args, n) for n in ("size", "seconds", "turns", "threads", "device")
            },
            rows=rows,
        )


def compare(
    size: str, work: str, device: torch.device, seconds: float, turns: int
) -> dict[str, Any]:
    """auto's answer, then `turns` passes in each precision."""
    model = SpeechModel(sizes.size(size))
    whole = CTCModel(model, CTCHead(model.config.context.dim, 32)).to(device)
    begun = time.perf_counter()
    if work == "training":
        names: Sequence[str] = offered(device)
        auto = asked_of_a_run(size, model, device)
        opened, audio_s = training_passes(size, device), seconds
    else:
        names = candidates(whole)
        with empty_cache():
            auto = of_inference.fitting_precision(whole)
        opened, audio_s = of_inference.passes(whole), CHUNK_S
    asked_s = time.perf_counter() - begun
    with opened as run:
        times = in_turns(run, names, audio_s, turns)
    medians = {name: statistics.median(found) for name, found in times.items()}
    best = min(medians, key=lambda name: medians[name])
    return {
        "size": size,
        "work": work,
        "auto": auto,
        "best": best,
        "ratio": round(medians[best] / medians[auto], 3),
        "audio_s": audio_s,
        "audio_s_per_s": {name: round(audio_s / t, 2) for name, t in medians.items()},
        "asked_s": round(asked_s, 2),
    }


def asked_of_a_run(size: str, model: SpeechModel, device: torch.device) -> str:
    """What a run of the size's preset on utterances of 5 s would take."""
    config = preset(size)
    step = Step(
        "pretraining", lambda: model, np.full(1000, 5.0), config.batch_s, {"model": config.model}
    )
    with empty_cache():
        return of_training.timed_choice(device, step).precision


@contextmanager
def empty_cache() -> Iterator[None]:
    """In here nothing was measured before, and nothing is kept."""
    before = precision.cache_folder
    with tempfile.TemporaryDirectory() as folder:
        precision.cache_folder = lambda: Path(folder)
        try:
            yield
        finally:
            precision.cache_folder = before


def in_turns(run: Pass, names: Sequence[str], audio_s: float, turns: int) -> dict[str, list[float]]:
    """Seconds of each pass; the first one in each precision, which warms up, is not counted."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(turns + 1):
        for name in names:
            spent = run(name, audio_s)
            if turn:
                times[name].append(spent)
    return times


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| size | | auto | best | ratio | audio s/s | asked in |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        speeds = ", ".join(f"{name} {speed}" for name, speed in row["audio_s_per_s"].items())
        lines.append(
            f"| {row['size']} | {row['work']} | {row['auto']} | {row['best']} | "
            f"**{row['ratio']}** | {speeds} | {row['asked_s']} s |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
