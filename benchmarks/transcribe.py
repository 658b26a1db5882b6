"""Transcription of ours against transformers' pipeline and torchaudio's model, on the same weights.

    python benchmarks/transcribe.py --size base --json transcribe.json

Random weights of a size, a CTC head of 32 symbols, waves in memory for all. Short: many files of 2
to 8 s; long: one file. Ways take turns, ratios are medians over the turns. In float32 the
transcripts of the short files must be equal, letter by letter. ``--hour`` measures the memory that
a file of one hour takes beyond the model. Where there is a GPU, all of them use it.

The JSON's `ratio` is that of the short files: our default against the pipeline's (float32, batch
1), or with ``--dtype`` both in that; `rows` hold all.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.comparison import peer_size, write_comparison
from speechssl.checkpoint import Checkpoint
from speechssl.device import autocast, has_bf16_units, pick_device
from speechssl.inference.batching import Unreadable
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import transcribe_all
from speechssl.interop.export import export_model
from speechssl.model import config as sizes
from speechssl.model.fast.accelerate import int8_is_fast
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.text import UNKNOWN_ID, CharTokenizer

RATE = 16000
SYMBOLS = "abcdefghijklmnopqrstuvwxyz'éèàò "
Waves = Sequence[np.ndarray]


def main() -> None:
    """Time every way, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size",
        default="base",
        type=peer_size,
        choices=("tiny-conv", "base"),
        help="tiny is tiny-conv",
    )
    parser.add_argument("--dtype", choices=("bf16", "fp32"), help="of the pair that is compared")
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--long-minutes", type=float, default=10.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--hour", action="store_true", help="only the memory of a file of an hour")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    checkpoint = random_checkpoint(args.size)
    if args.hour:
        print(f"{hour_gb(checkpoint):.2f} GB beyond the model for a file of an hour")
        return
    made = np.random.default_rng(0)
    short = [speechlike(made, float(s)) for s in made.uniform(2, 8, args.files)]
    long = [speechlike(made, 60 * args.long_minutes)]
    with tempfile.TemporaryDirectory() as folder:
        ways = all_ways(checkpoint, Path(folder) / "hf", with_bf16=args.dtype == "bf16")
        print(f"On {pick_device()}, {args.files} short files.")
        rows = [
            measure("short files", short, ways, args.turns),
            measure("one long file", long, ways, max(args.turns // 2, 1)),
        ]
    same = rows[0].pop("texts"), rows[1].pop("texts")
    want = same[0]["speechssl fp32"]
    for way in ("transformers, fp32, batch 1", "torchaudio, fp32, batch 1"):
        wrong = sum(a != b for a, b in zip(want, same[0][way], strict=True))
        print(f"{way}: {len(want) - wrong} of {len(want)} transcripts equal to ours in float32")
        if wrong:
            raise SystemExit(f"The transcripts of {way} differ from ours.")
    bf16 = sum(a != b for a, b in zip(want, same[0]["speechssl (default)"], strict=True))
    print(f"default precision: {len(want) - bf16} of {len(want)} equal to float32 (random weights)")
    print(table(rows))
    if args.json:
        ours = f"speechssl {args.dtype}" if args.dtype else "speechssl (default)"
        peer = f"transformers, {args.dtype or 'fp32'}, batch 1"
        write_comparison(
            args.json,
            ratio=rows[0]["speed"][ours] / rows[0]["speed"][peer],
            ours=rows[0]["speed"][ours],
            peer=rows[0]["speed"][peer],
            unit=f"seconds of audio per second on short files; {ours} and {peer}",
            conditions={
                k: getattr(args, k) for k in ("size", "files", "long_minutes", "turns", "threads")
            },
            rows=rows,
        )


def random_checkpoint(size: str) -> Checkpoint:
    """A fine-tuned model's shape, with a head that writes something."""
    torch.manual_seed(0)
    tokenizer = CharTokenizer.train([SYMBOLS])
    model = CTCModel(
        SpeechModel(sizes.size(size)), CTCHead(sizes.size(size).context.dim, tokenizer.vocab_size)
    )
    torch.nn.init.normal_(model.head.linear.weight, std=1.0)
    with torch.no_grad():
        model.head.linear.bias[UNKNOWN_ID] = -1e4  # which each system shows in its own way
    return Checkpoint(model.eval(), tokenizer)


def speechlike(made: np.random.Generator, seconds: float) -> np.ndarray:
    """Noise whose loudness and colour change a few times a second, (S,) float32."""
    num = round(seconds * RATE)
    noise = made.standard_normal(num + 8)
    colour = np.repeat(made.uniform(-0.9, 0.9, num // 2000 + 1), 2000)[:num]
    loud = np.repeat(made.uniform(0.02, 0.3, num // 3000 + 1), 3000)[:num]
    return (loud * (noise[8:] + colour * noise[7:-1])).astype(np.float32).clip(-1, 1)


def all_ways(
    checkpoint: Checkpoint, folder: Path, with_bf16: bool
) -> dict[str, Callable[[Waves], list[str]]]:
    """Name -> waves to transcripts."""
    import torchaudio
    import transformers

    export_model(checkpoint, folder, "hf", verify=False)
    device = pick_device()
    on_gpu = device.type == "cuda"
    settings = [(torch.float32, 1), (torch.bfloat16, 1), (torch.bfloat16, 8)]
    settings += [(torch.float32, 8), (torch.bfloat16, 32)] if on_gpu else []
    pipes = {
        (dtype, batch): transformers.pipeline(
            "automatic-speech-recognition",
            str(folder),
            dtype=dtype,
            batch_size=batch,
            device=device,
        )
        for dtype, batch in settings
    }
    theirs = torchaudio.models.wav2vec2.utils.import_huggingface_model(
        transformers.AutoModelForCTC.from_pretrained(folder)
    )
    theirs.eval().to(device)
    tokenizer = checkpoint.tokenizer
    assert tokenizer is not None
    # Where the default is bfloat16, 8 bits may be quicker still.
    with_int8 = not on_gpu and has_bf16_units(device) and int8_is_fast(device)

    def ours(precision: str) -> Callable[[Waves], list[str]]:
        def run(waves: Waves) -> list[str]:
            clips = [Clip(str(i), wave) for i, wave in enumerate(waves)]
            results = transcribe_all(checkpoint, clips, precision=precision)  # type: ignore[arg-type]
            return [r.text for r in results if not isinstance(r, Unreadable)]

        return run

    def pipeline(dtype: torch.dtype, batch: int) -> Callable[[Waves], list[str]]:
        def run(waves: Waves) -> list[str]:
            long = any(len(w) > 40 * RATE for w in waves)
            given = [{"raw": w, "sampling_rate": RATE} for w in waves]
            extra = {"chunk_length_s": 30} if long else {}
            with autocast(device, "fp32"):  # no TF32 in it, as in ours
                found = pipes[dtype, batch](given, **extra)
            return [" ".join(r["text"].split()) for r in found]

        return run

    def bundle(waves: Waves) -> list[str]:
        texts = []
        for wave in waves:
            pieces = np.array_split(wave, max(round(len(wave) / (30 * RATE)), 1))
            with torch.inference_mode(), autocast(device, "fp32"):
                given = [torch.from_numpy(p)[None].to(device) for p in pieces]
                best = [theirs(piece)[0][0].argmax(1) for piece in given]
            codes = torch.unique_consecutive(torch.cat(best))
            texts.append(" ".join(tokenizer.decode(codes[codes > 0].tolist()).split()))
        return texts

    return {
        "speechssl (default)": ours("auto"),
        "speechssl fp32": ours("fp32"),
        **({"speechssl bf16": ours("bf16")} if with_bf16 or on_gpu else {}),
        **({"speechssl int8": ours("int8")} if with_int8 else {}),
        **{
            f"transformers, {'fp32' if dtype == torch.float32 else 'bf16'}, batch {batch}": (
                pipeline(dtype, batch)
            )
            for dtype, batch in settings
        },
        "torchaudio, fp32, batch 1": bundle,
    }


def measure(
    name: str, waves: Waves, ways: dict[str, Callable[[Waves], list[str]]], turns: int
) -> dict[str, Any]:
    """Seconds of every way in every turn, and what it wrote."""
    audio_s = sum(map(len, waves)) / RATE
    times: dict[str, list[float]] = {way: [] for way in ways}
    texts: dict[str, list[str]] = {}
    for run in ways.values():
        run([wave[: 4 * RATE] for wave in waves[:2]])  # warm up
    for turn in range(turns):
        for way, run in ways.items():
            start = time.perf_counter()
            texts[way] = run(waves)
            times[way].append(time.perf_counter() - start)
            print(f"{name}, {turn + 1}: {way}: {times[way][-1]:.1f} s", file=sys.stderr, flush=True)
    ours = times["speechssl (default)"]
    return {
        "name": name,
        "audio_s": audio_s,
        "speed": {way: audio_s / statistics.median(times[way]) for way in ways},
        "ratio": {
            way: statistics.median(b / a for a, b in zip(ours, times[way], strict=True))
            for way in ways
        },
        "texts": texts,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: audio seconds per second, and how many times as fast the default is."""
    lines = ["| way | " + " | ".join(f"{r['name']}: audio s/s | ratio" for r in rows) + " |"]
    lines.append("|---" * (1 + 2 * len(rows)) + "|")
    for way in rows[0]["speed"]:
        cells = [f"{r['speed'][way]:.1f} | {r['ratio'][way]:.2f}" for r in rows]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def hour_gb(checkpoint: Checkpoint) -> float:
    """Peak memory of a file of an hour, less what the process held with the model loaded."""
    import soundfile

    made = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.wav"
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for _ in range(60):
                file.write(speechlike(made, 60))
        before = _peak_gb()
        for _ in transcribe_all(checkpoint, [Clip("hour", path)], precision="auto"):
            pass
        return _peak_gb() - before


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
