"""The options by which a person names the tiers of files of annotations."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechssl.annotations import TierChoice


def add_tiers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("files of annotations (.eaf, .TextGrid, ...)")
    group.add_argument(
        "--tier",
        action="append",
        default=[],
        metavar="NAME",
        help="the tier of the transcripts: its name, a pattern (tx@*) or its number from 1 on; may "
        "be given several times; needed where it is not clear",
    )
    group.add_argument(
        "--tier-type",
        action="append",
        default=[],
        metavar="TYPE",
        help="the same by ELAN's linguistic type",
    )
    group.add_argument(
        "--tiers",
        choices=("saymore",),
        help="the same by the conventions of SayMore: Transcription, without what is %%ignore%%d",
    )


def tier_choice(args: argparse.Namespace) -> "TierChoice":
    from speechssl.annotations import TierChoice

    return TierChoice(tuple(args.tier), tuple(args.tier_type), args.tiers == "saymore")
