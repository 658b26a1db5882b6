"""Does an exported model output the same on a whole manifest, and what do 8-bit weights cost?

    python benchmarks/exported.py runs/finetune data/dev.jsonl --out exported.json

Exports a fine-tuned model to ONNX in float32 and with 8-bit weights, and in the published form to a
folder of transformers too; runs every utterance by itself with each, and compares with ours in
float32: equal transcripts, CER and WER with intervals, size of the weights, audio seconds a second.
The unknown symbol is left out of all transcripts. The first export of each kind ends with
its proof; what 8 bits change is measured here instead.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechssl import audio
from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import read_manifest
from speechssl.inference.transcribe import transcribe
from speechssl.interop.export import export_model
from speechssl.interop.sources import open_model
from speechssl.model.config import ConvEncoderConfig
from speechssl.scoring.wer import score
from speechssl.text import UNKNOWN

Transcriber = Callable[[np.ndarray], str]


def main() -> None:
    """Export, run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    checkpoint = open_model(args.model)
    rate = checkpoint.speech.config.sample_rate
    utterances = [u for u in read_manifest(args.manifest) if u.is_labeled]
    waves = [
        audio.read(u.audio, sample_rate=rate, start_s=u.start_s, duration_s=u.duration_s)
        for u in utterances
    ]
    rows, first = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, transcriber, size in ways(checkpoint, Path(folder), args.threads):
            start = time.perf_counter()
            texts = [_plain(transcriber(wave)) for wave in waves]
            seconds = time.perf_counter() - start
            first = first or texts
            other = [u.id for u, a, b in zip(utterances, first, texts, strict=True) if a != b]
            if other:
                print(f"{name}: {len(other)} differ, the first {other[0]}", flush=True)
            result = score(
                [u.text or "" for u in utterances], texts, ids=[u.id for u in utterances]
            )
            rows.append(
                {
                    "way": name,
                    "equal": len(texts) - len(other),
                    "of": len(texts),
                    "cer": [result.cer, result.cer_low, result.cer_high],
                    "wer": [result.wer, result.wer_low, result.wer_high],
                    "megabytes": size / 1e6,
                    "audio_s_per_s": sum(map(len, waves)) / rate / seconds,
                }
            )
    print(table(rows))
    if args.out:
        args.out.write_text(json.dumps(rows, indent=2) + "\n")


def ways(
    checkpoint: Checkpoint, folder: Path, threads: int
) -> Sequence[tuple[str, Transcriber, int]]:
    """Name, wave (S,) to text, bytes of the weights."""
    weights = sum(p.numel() * p.element_size() for p in checkpoint.model.parameters())
    found: list[tuple[str, Transcriber, int]] = [
        ("speechssl, float32", lambda w: transcribe(checkpoint, w, precision="fp32").text, weights)
    ]
    for name, int8 in (("onnxruntime, float32", False), ("onnxruntime, 8 bits", True)):
        place = folder / name.replace(" ", "-")
        export_model(checkpoint, place, "onnx", int8=int8, verify=not int8)
        size = sum(p.stat().st_size for p in place.glob("model.onnx*"))
        found.append((name, onnx_transcriber(place, threads), size))
    if isinstance(checkpoint.speech.config.encoder, ConvEncoderConfig):
        export_model(checkpoint, folder / "hf", "hf")
        found.append(("transformers' pipeline", pipeline_transcriber(folder / "hf"), weights))
    return found


def _plain(text: str) -> str:
    """A transcript with single spaces, without the unknown symbol of each way."""
    for unknown in (UNKNOWN, "<unk>"):
        text = text.replace(unknown, "")
    return " ".join(text.split())


def onnx_transcriber(folder: Path, threads: int) -> Transcriber:
    """As in README."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    known = json.loads((folder / "symbols.json").read_text(encoding="utf-8"))

    def transcriber(wave: np.ndarray) -> str:
        rows, lengths = session.run(None, {"wave": wave[None], "lengths": np.array([len(wave)])})
        text, last = "", known["blank"]
        for symbol in rows[0, : lengths[0]].argmax(1):
            if symbol not in (last, known["blank"]):
                text += known["symbols"][symbol]
            last = symbol
        return text

    return transcriber


def pipeline_transcriber(folder: Path) -> Transcriber:
    """transformers' speech recognition pipeline."""
    import transformers

    pipeline = transformers.pipeline("automatic-speech-recognition", str(folder))
    rate = pipeline.feature_extractor.sampling_rate
    return lambda wave: str(pipeline({"raw": wave, "sampling_rate": rate})["text"])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| way | equal transcripts | CER | WER | MB | audio s/s |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        rates = [
            f"{value:.4f} [{low:.3f}, {high:.3f}]" for value, low, high in (r["cer"], r["wer"])
        ]
        lines.append(
            f"| {r['way']} | {r['equal']} of {r['of']} | {' | '.join(rates)} | "
            f"{r['megabytes']:.1f} | {r['audio_s_per_s']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
