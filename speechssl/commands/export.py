"""``speechssl export``."""

import argparse

from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.options import MODEL, add_no_verify
from speechssl.files import output_folder

SUMMARY = "Convert a model for another toolkit, and compare the outputs of both."
EXAMPLE = "speechssl export runs/finetune --format onnx --out onnx-model"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--format",
        choices=("hf", "onnx", "fairseq"),
        required=True,
        help="onnx for every model; hf (transformers) and fairseq for tiny-conv, base and large",
    )
    parser.add_argument(
        "--out", type=output_folder, required=True, metavar="DIR", help="folder for the export"
    )
    parser.add_argument("--int8", action="store_true", help="8-bit weights, for onnx")
    parser.add_argument("--license", metavar="SPDX", help="for the model card, e.g. CC-BY-4.0")
    parser.add_argument(
        "--language", nargs="+", default=[], metavar="ISO639", help="for the model card"
    )
    add_no_verify(parser)


def run(args: argparse.Namespace) -> int:
    from speechssl.interop.card import CardFields
    from speechssl.interop.export import export_model
    from speechssl.interop.folders import leaves_heads_out
    from speechssl.interop.sources import open_model

    checkpoint = open_model(args.model)
    proof = export_model(
        checkpoint,
        args.out,
        args.format,
        verify=not args.no_verify,
        int8=args.int8,
        card=CardFields(args.license, args.language),
    )
    print(proof.describe() if proof else "Not verified.")
    if args.format == "hf" and leaves_heads_out(checkpoint):
        print("Left out: the quantizer and projections of its pretraining; its form has none.")
    print(f"Export: {args.out}")
    return EXIT_DONE
