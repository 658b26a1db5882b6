"""Options that several commands have."""

import argparse
from pathlib import Path

SIZES = ("tiny", "tiny-conv", "tiny-wav2vec", "small", "base", "large", "wav2vec")
MODEL = "a model or run folder, a folder of transformers, a hub id, a fairseq .pt, torchaudio:NAME"
FORMATS = ("txt", "json", "srt", "vtt", "tsv")


def is_renamed(name: str, recording: str) -> bool:
    """Whether a result's name, without suffix, is another than its recording's: of two that have
    one name it must be said which is which."""
    return Path(name).name != Path(recording).stem and recording != "-"


def add_precision(parser: argparse.ArgumentParser, *, auto: bool) -> None:
    chosen = (
        ", as int8 is on most; auto (default) takes what is fast on this machine for models of "
        "20 M parameters or more, else fp32"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "int8") if auto else ("fp32", "bf16"),
        default="auto" if auto else "fp32",
        help="number format: bf16 is faster than fp32 on some CPUs and less exact"
        + (chosen if auto else ""),
    )


def add_no_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-verify", action="store_true", help="do not compare outputs; meta.json says so"
    )
