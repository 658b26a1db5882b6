"""``speechssl import``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.options import add_no_verify
from speechssl.files import output_folder

SUMMARY = "Convert a model of another toolkit to a model folder, and compare the outputs of both."
EXAMPLE = "speechssl import facebook/wav2vec2-base-960h --out models/base-960h"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder of transformers, a hub id, a fairseq .pt, or torchaudio:WAV2VEC2_BASE",
    )
    parser.add_argument(
        "--out", type=output_folder, required=True, metavar="MODEL", help="folder for the model"
    )
    parser.add_argument("--language", metavar="ISO639", help="of an MMS model, e.g. wol")
    parser.add_argument("--revision", metavar="NAME", help="of the hub: a branch, tag or commit")
    parser.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="of the hub (default: HF_HOME)"
    )
    parser.add_argument(
        "--offline", action="store_true", help="use only what the hub's cache holds"
    )
    parser.add_argument("--token", help="for the hub (default: HF_TOKEN)")
    parser.add_argument(
        "--dictionary", type=Path, metavar="FILE", help="of a fairseq CTC model: dict.ltr.txt"
    )
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="read a fairseq .pt that holds more than tensors",
    )
    add_no_verify(parser)


def run(args: argparse.Namespace) -> int:
    from speechssl.checkpoint import load_model
    from speechssl.interop.sources import Hub, SourceOptions, import_model

    options = SourceOptions(
        Hub(args.revision, args.cache_dir, args.offline, args.token),
        language=args.language,
        trust_pickle=args.trust_pickle,
        dictionary=args.dictionary,
    )
    proof = import_model(args.source, args.out, options=options, verify=not args.no_verify)
    print(proof.describe() if proof else "Not verified.")
    for part in load_model(args.out).meta.get("left_out", ()):
        print(f"Left out: {part}")
    print(f"Model: {args.out}")
    return EXIT_DONE
