"""Options that several commands have."""

import argparse
from argparse import ArgumentTypeError
from pathlib import Path

SIZES = ("tiny", "tiny-conv", "small", "base", "large")
MODEL = "a model or run folder, a folder of transformers, a hub id, a fairseq .pt, torchaudio:NAME"
FORMATS = ("txt", "json", "srt", "vtt", "tsv")


def folder(text: str) -> Path:
    """For ``type=`` of an option that names a folder to write into: there is no file in its place.

    Raises ArgumentTypeError, which argparse tells with the option's name.
    """
    path = Path(text)
    place = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not place.is_dir():
        raise ArgumentTypeError(f"{place} is a file: give a folder, which is made if needed")
    return path


def file(text: str) -> Path:
    """The same of a file to write: there is no folder of its name, and no file in its folder's
    place."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"{path} is a folder: give the name of a file")
    folder(str(path.absolute().parent))
    return path


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
