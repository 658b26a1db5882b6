"""``speechssl extract``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from speechssl.commands.exits import exit_code_of
from speechssl.commands.options import MODEL, add_precision, is_renamed
from speechssl.files import output_file, output_folder

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


def run(args: argparse.Namespace) -> int:
    import contextlib
    from functools import partial

    from speechssl.audio import AudioError
    from speechssl.inference.extract import choose_layers, extract_all
    from speechssl.inference.feature_files import write_features, write_mean
    from speechssl.inference.recordings import find_clips, output_names
    from speechssl.interop.sources import open_model

    clips = find_clips([place for place in args.audio if place != "-"])
    if "-" in args.audio:
        raise ValueError("extract reads files and folders, not standard input.")
    with contextlib.ExitStack() as stack:
        table = None
        if args.out.suffix == ".parquet":
            from speechssl.inference.feature_table import FeatureTable

            about = {"model": args.model, "layer": args.layer, "weights": args.weights}
            table = stack.enter_context(FeatureTable(args.out, pool=bool(args.pool), about=about))
        checkpoint = open_model(args.model)
        layers = choose_layers(checkpoint, args.layer, _layer_weights(args.weights))
        found = extract_all(
            checkpoint, clips, layers, precision=args.precision, batch_s=args.batch_s
        )
        write = write_mean if args.pool else write_features
        failed = 0
        names = output_names(clips, beside=".times")
        for clip, name, parts in zip(clips, names, found, strict=True):
            put = (
                partial(table.add, clip.name) if table else partial(write, out=args.out, name=name)
            )
            try:
                num_frames, width = put(parts)
            except (AudioError, FileNotFoundError) as error:
                failed += 1
                print(f"speechssl: {error}", file=sys.stderr)
                continue
            place = clip.name if table else f"{args.out / name}.npy"
            if not table and is_renamed(name, clip.name):
                place = f"{place} ({clip.name})"
            print(
                f"{place}: {num_frames} frames of {width}" + (", their mean" if args.pool else "")
            )
    return exit_code_of(failed, len(clips))


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
