"""``speechssl prepare``."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechssl.commands.exits import EXIT_DONE, tell
from speechssl.commands.options import add_file_processes
from speechssl.commands.tiers import add_tiers, tier_choice
from speechssl.files import output_folder

if TYPE_CHECKING:
    from speechssl.data.layouts import Recording
    from speechssl.inference.cut_recordings import CutRecordings

SUMMARY = (
    "Make manifests of recordings: look into every file, cut long ones, leave out and name "
    "unusable ones, split into train, dev and test."
)
EXAMPLE = "speechssl prepare recordings --out data"
LAYOUTS = ("auto", "folder", "tsv", "kaldi", "fairseq", "shards", "annotations")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a folder, a recording, a table, Kaldi or fairseq data, a file of ELAN or Praat",
    )
    parser.add_argument(
        "--out", type=output_folder, required=True, metavar="DIR", help="folder for the manifests"
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="auto",
        help="what SOURCE is; auto looks (default)",
    )
    add_tiers(parser)
    parser.add_argument(
        "--max-duration-s",
        type=float,
        default=30.0,
        metavar="S",
        help="recordings of more seconds without a transcript are cut (default %(default)g)",
    )
    parser.add_argument(
        "--max-labeled-duration-s",
        type=float,
        default=60.0,
        metavar="S",
        help="those of more seconds with a transcript, which cannot be cut without --align, are "
        "left out (default %(default)g)",
    )
    parser.add_argument(
        "--align",
        metavar="MODEL",
        help="cut those too, where a fine-tuned model finds pauses between the words of their "
        "transcripts, into utterances of at most --max-duration-s; what does not fit is left out",
    )
    parser.add_argument(
        "--align-confidence",
        type=float,
        metavar="X",
        help="leave out utterances of --align whose words are less certain than this, from 0 to 1 "
        "(default 0.05)",
    )
    parser.add_argument(
        "--dev-share",
        type=float,
        default=0.1,
        metavar="X",
        help="part of the speech that becomes dev.jsonl (default %(default)s)",
    )
    parser.add_argument(
        "--test-share",
        type=float,
        default=0.1,
        metavar="X",
        help="part that becomes test.jsonl (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the split (default %(default)s)"
    )
    add_file_processes(parser)


def run(args: argparse.Namespace) -> int:
    from speechssl.data.layouts import read_source
    from speechssl.data.prepare import PrepareConfig, prepare

    if args.align is None and args.align_confidence is not None:
        raise ValueError("--align-confidence is of --align: give the model with --align MODEL.")
    config = PrepareConfig(
        max_duration_s=args.max_duration_s,
        max_labeled_duration_s=args.max_labeled_duration_s,
        dev_share=args.dev_share,
        test_share=args.test_share,
        seed=args.seed,
    )
    source = read_source(args.source, args.layout, tier_choice(args))
    cut = None if args.align is None else _aligned(args, source.recordings)
    summary = prepare(
        source.recordings if cut is None else cut.recordings,
        args.out,
        config,
        unused=source.unused,
        left_out=() if cut is None else cut.left_out,
        processes=args.processes,
        say=tell,
    )
    print(source.describe())
    if cut is not None:
        print(cut.describe())
    print(summary.describe())
    return EXIT_DONE


def _aligned(args: argparse.Namespace, recordings: "Sequence[Recording]") -> "CutRecordings":
    from speechssl.files import check_writable
    from speechssl.inference.align import Aligner
    from speechssl.inference.cut import MIN_CONFIDENCE
    from speechssl.inference.cut_recordings import cut_recordings
    from speechssl.interop.sources import open_model

    least = MIN_CONFIDENCE if args.align_confidence is None else args.align_confidence
    if not 0 <= least <= 1:
        raise ValueError(f"--align-confidence must be from 0 to 1, got {least}.")
    check_writable(args.out)
    return cut_recordings(
        recordings,
        Aligner(open_model(args.align)),
        longer_than_s=args.max_labeled_duration_s,
        max_s=args.max_duration_s,
        min_confidence=least,
        say=tell,
    )
