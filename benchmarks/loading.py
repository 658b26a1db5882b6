"""What opening a model costs: seconds, and peak memory over the size of the weights.

    python benchmarks/loading.py --size base

Ours, and the same weights as a folder of transformers opened by ours and by transformers; each in a
fresh process that has opened a small model of the kind before, so that imports do not count.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.comparison import peer_size, write_comparison

WAYS = ("speechssl, own folder", "speechssl, transformers folder", "transformers")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size",
        default="base",
        type=peer_size,
        choices=("tiny-conv", "base", "large"),
        help="tiny is tiny-conv",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with context.Pool(1) as pool:
            weights = pool.apply(write, (args.size, folder))
        rows = []
        for way in WAYS:
            with context.Pool(1) as pool:
                seconds, peak = pool.apply(opened, (way, folder))
            rows.append({"way": way, "seconds": seconds, "memory": round(peak / weights, 2)})
            print(json.dumps(rows[-1] | {"seconds": round(seconds, 2)}), flush=True)
    if args.json:
        ours, peer = rows[0]["seconds"], rows[-1]["seconds"]
        write_comparison(
            args.json,
            ratio=peer / ours,
            ours=ours,
            peer=peer,
            unit="seconds to open; memory in rows is over the weights",
            conditions={"size": args.size},
            rows=rows,
        )


def write(size: str, folder: Path) -> int:
    """Both folders; the bytes of the weights."""
    from speechssl.checkpoint import Checkpoint, save_model
    from speechssl.interop.export import export_model
    from speechssl.model.config import size as config_of
    from speechssl.model.speech_model import SpeechModel

    for place, kind in ((folder / "small", "tiny-conv"), (folder / "asked", size)):
        model = SpeechModel(config_of(kind)).eval()
        save_model(place / "own", Checkpoint(model))
        export_model(Checkpoint(model), place / "hf", "hf", verify=False)
    return sum(p.numel() * p.element_size() for p in model.parameters())


def opened(way: str, folder: Path) -> tuple[float, float]:
    """Seconds, and bytes at the peak beyond what the imports took."""
    read(way, folder / "small")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    model = read(way, folder / "asked")
    seconds = time.perf_counter() - start
    with torch.no_grad():  # touch every weight: a mapped file is not there before
        sum(float(p.sum()) for p in model.parameters())
    return seconds, 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def read(way: str, folder: Path) -> Any:
    """The model in `folder`."""
    if way == "transformers":
        from transformers import Wav2Vec2Model

        return Wav2Vec2Model.from_pretrained(folder / "hf")
    from speechssl.interop.sources import open_model

    return open_model(str(folder / ("own" if way == "speechssl, own folder" else "hf"))).model


if __name__ == "__main__":
    main()
