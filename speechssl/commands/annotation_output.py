"""The options of transcripts that are files of annotations."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechssl.inference.eaf_files import EafFiles


def add_annotation_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("files of annotations (--format eaf or flextext)")
    group.add_argument(
        "--into",
        type=Path,
        metavar="EAF|DIR",
        help="your own files of ELAN: those in --out are copies of them with the transcript as one "
        "tier more, all else as it is",
    )
    group.add_argument("--tier-name", metavar="NAME", help="of that tier (default: speechssl)")
    group.add_argument(
        "--tiers",
        choices=("saymore",),
        help="the tiers and file names that SayMore looks for",
    )
    group.add_argument(
        "--language", metavar="CODE", help="of the text, as FLEx has it (flextext; default: und)"
    )


def eaf_files(args: argparse.Namespace) -> "EafFiles | None":
    """What makes the files, with --format eaf; ValueError where an option has no use."""
    given = [
        f"--{name.replace('_', '-')}"
        for name in ("into", "tier_name", "tiers")
        if getattr(args, name) is not None
    ]
    if args.language is not None and args.format != "flextext":
        raise ValueError(f"--language is of --format flextext, got --format {args.format}.")
    if args.format != "eaf":
        if given:
            raise ValueError(f"{', '.join(given)}: only with --format eaf, got {args.format}.")
        return None
    if args.tier_name is not None and args.into is None:
        raise ValueError(
            "--tier-name is the name of the tier that is added to the files of --into."
        )
    if args.into is not None and (args.tiers is not None or args.out is None or args.skip_existing):
        raise ValueError(
            "--into needs --out DIR, where the files with the new tier go, and is given without "
            "--tiers and --skip-existing."
        )
    from speechssl.inference.eaf_files import TIER, EafFiles

    return EafFiles(args.into, args.tier_name or TIER, saymore=args.tiers == "saymore")
