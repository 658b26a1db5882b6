"""``speechssl probe``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.options import MODEL
from speechssl.files import output_folder

SUMMARY = (
    "What each layer of frozen models knows: linear probes side by side with log-mel, as a "
    "table, probe.json and a plot, probe.html."
)
EXAMPLE = (
    "speechssl probe runs/pretrain --task digit --train data/train.jsonl --test "
    "data/test.jsonl --out probe-digit"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--task",
        choices=("digit", "speaker", "character"),
        required=True,
        help="digit: which word is said; speaker: who speaks, of those in both manifests; "
        "character: CER of a linear CTC layer",
    )
    parser.add_argument(
        "--train", type=Path, nargs="+", required=True, metavar="MANIFEST", help="for the probes"
    )
    parser.add_argument(
        "--test", type=Path, nargs="+", required=True, metavar="MANIFEST", help="for their scores"
    )
    parser.add_argument(
        "--out", type=output_folder, required=True, metavar="DIR", help="folder for the results"
    )
    parser.add_argument(
        "--label-minutes", type=float, metavar="N", help="use only N minutes of --train"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=500,
        metavar="N",
        help="updates of a character probe (default %(default)s)",
    )
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="also probe each model with fresh weights",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default %(default)s")


def run(args: argparse.Namespace) -> int:
    import time

    from speechssl.data.manifest import read_manifest
    from speechssl.interop.sources import open_model
    from speechssl.probing.probe import make_task, probe_models
    from speechssl.probing.result import Result, head_text, row_text, write_result

    train, test = (
        [u for p in paths for u in read_manifest(p)] for paths in (args.train, args.test)
    )
    task = make_task(
        args.task,
        train,
        test,
        seed=args.seed,
        label_minutes=args.label_minutes,
        steps=args.steps,
    )
    models = [(name, open_model(name)) for name in args.models]
    width = max(len(name) for name in args.models) + (len(", untrained") if args.untrained else 0)
    started = time.monotonic()
    print(f"{task.describe()}.\n\n{head_text(task.metric, width)}")
    rows = []
    for row in probe_models(task, models, seed=args.seed, with_untrained=args.untrained):
        print(row_text(row, width), flush=True)
        rows.append(row)
    settings = {
        "train": [str(path) for path in args.train],
        "test": [str(path) for path in args.test],
        "label_minutes": args.label_minutes,
        "steps": args.steps if args.task == "character" else None,
        "seed": args.seed,
    }
    result = Result(
        args.task,
        task.metric,
        task.higher_is_better,
        task.describe(),
        settings,
        tuple(rows),
        time.monotonic() - started,
    )
    write_result(result, args.out)
    print("\nBest layers:")
    for model in result.models:
        print(row_text(result.best(model), width))
    print(f"Plot: {args.out / 'probe.html'}")
    return EXIT_DONE
