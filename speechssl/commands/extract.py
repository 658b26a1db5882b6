"""``speechssl extract``."""

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from speechssl.commands.exits import exit_code_of, tell
from speechssl.commands.options import (
    MODEL,
    add_file_processes,
    add_precision,
    expect_processes,
    is_renamed,
)
from speechssl.files import output_file, output_folder

if TYPE_CHECKING:
    from speechssl.checkpoint import Checkpoint
    from speechssl.inference.feature_files import ExtractGroup
    from speechssl.inference.feature_table import FeatureTable
    from speechssl.inference.recordings import Clip

SUMMARY = (
    "Representations of recordings: NAME.npy, (T, D) float32, and NAME.times.npy, in seconds, for "
    "each; or one Parquet file for all."
)
EXAMPLE = "speechssl extract runs/pretrain a.wav --layer 4 --out features"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("audio", nargs="+", metavar="AUDIO|DIR", help="recordings")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--layer",
        type=int,
        default=-1,
        metavar="K",
        help="of the context network: 1 is the first, 0 its input, -1 the last (default)",
    )
    chosen.add_argument(
        "--weights",
        metavar="W0,W1,...|mean",
        help="instead the weighted sum of all layers from 0 on, or their mean",
    )
    parser.add_argument(
        "--pool",
        choices=("mean",),
        help="one vector (D,) for each recording, the mean of its frames",
    )
    parser.add_argument(
        "--out",
        type=_place,
        required=True,
        metavar="DIR|FILE.parquet",
        help="folder for a file for each recording, or one table (extra parquet)",
    )
    parser.add_argument(
        "--batch-s", type=float, default=60.0, metavar="S", help="seconds in a batch (default 60)"
    )
    add_precision(parser, auto=False)
    add_file_processes(parser)


def run(args: argparse.Namespace) -> int:
    expect_processes(args)
    import tempfile

    from speechssl.inference.extract import choose_layers
    from speechssl.inference.feature_files import ExtractGroup
    from speechssl.inference.recordings import find_clips, output_names
    from speechssl.interop.sources import open_model

    clips = find_clips([place for place in args.audio if place != "-"])
    if "-" in args.audio:
        raise ValueError("extract reads files and folders, not standard input.")
    with contextlib.ExitStack() as stack:
        table, out, names = None, args.out, output_names(clips, beside=".times")
        if args.out.suffix == ".parquet":
            from speechssl.inference.feature_table import FeatureTable

            about = {"model": args.model, "layer": args.layer, "weights": args.weights}
            table = stack.enter_context(FeatureTable(args.out, pool=bool(args.pool), about=about))
            spool = tempfile.TemporaryDirectory(prefix=f".{args.out.name}.", dir=args.out.parent)
            out, names = Path(stack.enter_context(spool)), [str(i) for i in range(len(clips))]
        checkpoint = open_model(args.model)
        layers = choose_layers(checkpoint, args.layer, _layer_weights(args.weights))
        make = ExtractGroup(layers, args.precision, args.batch_s, out, bool(args.pool))
        failed = _extract(args, checkpoint, clips, names, make, table)
    return exit_code_of(failed, len(clips))


def _extract(
    args: argparse.Namespace,
    checkpoint: "Checkpoint",
    clips: "Sequence[Clip]",
    names: Sequence[str],
    make: "ExtractGroup",
    table: "FeatureTable | None",
) -> int:
    """Write the files of all clips, or with a table its rows -> how many cannot be read."""
    from speechssl.inference.groups import for_each_clip, warn_of

    items = list(zip(clips, names, strict=True))
    results = for_each_clip(
        clips,
        items,
        checkpoint,
        make,
        source=args.model,
        processes=args.processes,
        batch_s=args.batch_s,
        precision=args.precision,
        say=tell,
    )
    failed = 0
    with contextlib.closing(results):
        for (clip, name), written in zip(items, results, strict=True):
            warn_of(written.notes)
            if written.error is not None:
                failed += 1
                tell(str(written.error))
                continue
            place = f"{args.out / name}.npy"
            if table is not None:
                _move(table, clip.name, make, name, written.num_frames)
                place = clip.name
            elif is_renamed(name, clip.name):
                place = f"{place} ({clip.name})"
            mean = ", their mean" if args.pool else ""
            print(f"{place}: {written.num_frames} frames of {written.width}{mean}")
    return failed


def _move(
    table: "FeatureTable", recording: str, make: "ExtractGroup", name: str, num_frames: int
) -> None:
    """Files that a process wrote, into the table."""
    import numpy as np

    from speechssl.inference.feature_files import read_features

    if make.pool:
        table.add_mean(recording, np.load(make.out / f"{name}.npy"), num_frames)
    else:
        table.add(recording, read_features(make.out, name))
        (make.out / f"{name}.times.npy").unlink()
    (make.out / f"{name}.npy").unlink()


def _place(text: str) -> Path:
    return output_file(text) if text.endswith(".parquet") else output_folder(text)


def _layer_weights(given: str | None) -> "Sequence[float] | Literal['mean'] | None":
    """``0.5,0.25,0.25`` or ``mean``."""
    if given is None:
        return None
    if given == "mean":
        return "mean"
    try:
        return [float(weight) for weight in given.split(",")]
    except ValueError:
        raise ValueError(
            f"--weights must be numbers with commas between them, or mean; got {given!r}."
        ) from None
