"""Options that several commands have."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechssl.workers import Cluster, Processes

SIZES = ("tiny", "tiny-conv", "tiny-wav2vec", "small", "base", "large", "wav2vec")
MODEL = (
    "a model or run folder, a folder of transformers, a hub id, a fairseq .pt, torchaudio:NAME, or "
    "seed: the one in this package, where it has one"
)
MOST_PROCESSES = 256
PRELOADED = "speechssl.inference.preloaded"
"""What the server imports from which the processes of a command fork."""
FORMATS = (
    *("txt", "json", "srt", "vtt", "tsv", "ctm", "textgrid", "eaf", "rttm", "stm", "audacity"),
    "flextext",
)


def suffix_of(form: str) -> str:
    """The ending of a file in one of the FORMATS, without the first dot."""
    return "labels.txt" if form == "audacity" else form


def is_renamed(name: str, recording: str) -> bool:
    """Whether a result's name, without suffix, is another than its recording's: of two that have
    one name it must be said which is which."""
    return Path(name).name != Path(recording).stem and recording not in ("-", name)


def add_precision(parser: argparse.ArgumentParser, *, auto: bool) -> None:
    chosen = (
        ", as int8 is on most; auto (default) takes what is fastest by timing for models of 20 M "
        "parameters or more on a CPU, else fp32"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "int8") if auto else ("fp32", "bf16"),
        default="auto" if auto else "fp32",
        help="number format: bf16 is faster than fp32 on some CPUs and less exact"
        + (chosen if auto else ""),
    )


def add_file_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        type=number_of_processes,
        default="auto",
        metavar="auto|N",
        help="how many processes share the recordings: auto (default) is one for each core of the "
        "processor where that is faster, 1 never starts another; the results are the same",
    )


def expect_processes(args: argparse.Namespace) -> None:
    """To be called before a command imports torch, which takes seconds: where several processes are
    asked for, what they have in common is imported at the same time."""
    if args.processes != "auto" and args.processes > 1 and not getattr(args, "cluster", None):
        from speechssl.workers import expect_workers

        expect_workers([PRELOADED])


def add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        type=cluster_address,
        metavar="auto|local|HOST:PORT",
        help="share the recordings with the workers of a Ray cluster, with the same results: auto "
        "is the one of which this machine is a part, local one of this machine's own processes; "
        "--processes is then how many workers (auto: one for each core or GPU of the cluster). "
        "Model and recordings lie where all machines see them (needs the extra ray)",
    )


def cluster_address(text: str) -> str:
    from speechssl.workers.cluster_connection import checked_address

    try:
        return checked_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def cluster_of(args: argparse.Namespace) -> "AbstractContextManager[Cluster | None]":
    """The cluster that --cluster names, connected while the context is open; else None."""
    if args.cluster is None:
        return nullcontext()
    from speechssl.workers import Cluster

    return Cluster(args.cluster, args.processes)


def add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        type=number_of_processes,
        default="auto",
        metavar="auto|N",
        help="how many processes share the training on the cores of this machine: auto (default) "
        "measures for some seconds whether several are faster than one, and says so; 1 starts no "
        "further one. What is learned is the same, up to rounding",
    )


def add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--init",
        metavar="MODEL|scratch",
        help="a model that is compared too, as it is, pretrained on the recordings, and with a "
        "student of it (default: seed where this package has one, else scratch); one of 40 M "
        "weights or more is only fine-tuned, on a CPU by LoRA; scratch: only fresh weights",
    )


def number_of_processes(text: str) -> "Processes":
    """``auto``, or how many."""
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= MOST_PROCESSES:
        raise argparse.ArgumentTypeError(
            f"must be auto or a number from 1 to {MOST_PROCESSES}, got {text!r}"
        )
    return int(text)


def add_no_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-verify", action="store_true", help="do not compare outputs; meta.json says so"
    )
