"""``speechssl evaluate``."""

import argparse
import sys
from functools import partial
from pathlib import Path

from speechssl.commands.decoding import add_decoding, add_tuning, decoder_of, describe_decoding
from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.options import (
    MODEL,
    add_file_processes,
    add_precision,
    expect_processes,
)
from speechssl.files import output_file

SUMMARY = "WER and CER with 95 % intervals, raw and normalised, and the worst utterances."
EXAMPLE = "speechssl evaluate runs/finetune data/test.jsonl --out scores.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "manifests", type=Path, nargs="+", metavar="MANIFEST", help="transcribed speech"
    )
    parser.add_argument(
        "--normalize",
        default="basic",
        metavar="NAME",
        help="of both texts before they are compared: none, lower or basic (default %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=output_file,
        metavar="FILE.json",
        help="the normalised scores and every utterance",
    )
    parser.add_argument(
        "--worst", type=int, default=5, metavar="N", help="utterances to show (default %(default)s)"
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="learn from these words what the model's confidence is worth with this decoding, and "
        "write it into the model folder: a word's confidence is then the probability that it is "
        "right; take a validation set, not the one that is reported on",
    )
    add_decoding(parser)
    add_tuning(parser)
    add_precision(parser, auto=True)
    add_file_processes(parser)


def run(args: argparse.Namespace) -> int:
    expect_processes(args)
    from speechssl.data.manifest import read_manifest
    from speechssl.inference.confidence import calibrate, check_can_keep
    from speechssl.inference.evaluate import describe, infer, write_result
    from speechssl.interop.sources import open_model
    from speechssl.text import NORMALIZERS

    if args.normalize not in NORMALIZERS:
        names = ", ".join(NORMALIZERS)
        raise ValueError(f"--normalize must be one of {names}, got {args.normalize!r}.")
    utterances = [u for path in args.manifests for u in read_manifest(path)]
    checkpoint = open_model(args.model)
    if args.calibrate:
        check_can_keep(checkpoint)
    decode = decoder_of(checkpoint, args)
    evaluation = infer(
        checkpoint,
        utterances,
        decode=decode,
        precision=args.precision,
        normalizer=args.normalize,
        say=partial(print, file=sys.stderr, flush=True),
        source=args.model,
        processes=args.processes,
    )
    normalizers = dict.fromkeys(("none", args.normalize))
    results = [evaluation.score(name) for name in normalizers]
    if args.out:
        manifests = [str(path) for path in args.manifests]
        write_result(args.out, results[-1], evaluation, manifests, describe_decoding(args))
    print(describe(evaluation, results, args.worst))
    if args.calibrate:
        words = evaluation.judged_words(args.normalize)
        calibration = calibrate(checkpoint, words, decode, describe_decoding(args))
        print(f"\nCalibrated for {calibration.decoding}: {calibration.quality.sentence()}.")
    return EXIT_DONE
