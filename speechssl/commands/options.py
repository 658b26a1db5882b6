"""Options that several commands have."""

import argparse

SIZES = ("tiny", "tiny-conv", "small", "base", "large")
MODEL = "a model or run folder, a folder of transformers, a hub id, a fairseq .pt, torchaudio:NAME"
FORMATS = ("txt", "json", "srt", "vtt", "tsv")


def add_precision(parser: argparse.ArgumentParser, *, auto: bool) -> None:
    more = (
        ", int8 on most and rounds most; auto (default) takes what pays on this machine, for "
        "models of 20 M parameters or more"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "int8") if auto else ("fp32", "bf16"),
        default="auto" if auto else "fp32",
        help="bf16 is faster on some CPUs and rounds more" + (more if auto else ""),
    )


def add_no_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-verify", action="store_true", help="skip the proof; meta.json says that it was"
    )
