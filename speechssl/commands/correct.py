"""``speechssl correct``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from speechssl.commands.exits import EXIT_DONE
from speechssl.files import output_file

if TYPE_CHECKING:
    from speechssl.desk.labels import Checked

SUMMARY = "What was corrected, as labels to learn from, and how right the model was on it."
EXAMPLE = "speechssl correct desk --take desk/corrections.csv --editor ada --out desk/labels.jsonl"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "desk", type=Path, metavar="DESK", help="folder of corrections that `speechssl next` wrote"
    )
    parser.add_argument(
        "--take",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="take over what was corrected in files of `next --format`: the table, or .eaf, .srt, "
        ".textgrid, ... named as the recording",
    )
    parser.add_argument(
        "--editor", metavar="NAME", help="who corrected them (default: the name of this user)"
    )
    parser.add_argument(
        "--checked",
        choices=("marked", "changed", "all"),
        default="marked",
        help="which segments of the files were checked: those with a mark in the column or on the "
        "tier `checked` (default), those whose text was changed, or all; only checked ones are "
        "labels",
    )
    parser.add_argument(
        "--out",
        type=output_file,
        metavar="MANIFEST",
        help="the labels (default DESK/labels.jsonl), for `finetune --train` and `run "
        "--more-labels`",
    )


def run(args: argparse.Namespace) -> int:
    from speechssl.data.manifest import write_manifest
    from speechssl.desk import corrections
    from speechssl.desk.exchange import Taken, take
    from speechssl.desk.labels import checked_in, to_manifest

    if not args.desk.is_dir():
        raise FileNotFoundError(f"There is no folder {args.desk}: `speechssl next` makes one.")
    if args.out and args.out.suffix != ".jsonl":
        raise ValueError(f"--out must end in .jsonl, got {args.out}.")
    if args.take:
        editor, taken = args.editor or _user(), Taken()
        for path in args.take:
            taken += take(args.desk, path, editor, args.checked)
        print(
            f"Taken over as {editor}: {taken.num_checked} checked segments, {taken.num_changed} of "
            f"them with another text than the hypothesis; {taken.num_open} are not checked."
        )
    found = checked_in(args.desk)
    total = sum(len(corrections.read(path).segments) for path in corrections.find(args.desk))
    if not found:
        raise ValueError(
            f"None of the {total} segments in {args.desk} is checked yet, so that there is no "
            "label: check them on the page, or in a file and give it as --take."
        )
    labels = to_manifest(args.desk)
    minutes = sum(u.duration_s for u in labels) / 60
    nothing = len(found) - len(labels)
    print(
        f"{len(found)} of {total} segments are checked: {len(labels)} labels, {minutes:.1f} "
        f"minutes" + (f"; in {nothing} nothing is said." if nothing else ".")
    )
    _print_rates(found)
    if not labels:
        raise ValueError(f"In none of the {len(found)} checked segments something is said.")
    out = args.out or args.desk / "labels.jsonl"
    write_manifest(out, labels)
    print(f"Labels: {out}")
    return EXIT_DONE


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # this system does not tell
        return "somebody"


def _print_rates(found: "list[Checked]") -> None:
    """How right each model was on what was checked of its hypotheses."""
    from speechssl.desk.labels import error_rate

    models = list(dict.fromkeys(item.segment.model_digest for item in found))
    for model in models:
        rate = error_rate([item for item in found if item.segment.model_digest == model])
        if rate is None:
            continue
        name = f"The model {model[:8]}" if len(models) > 1 else "The model"
        print(
            f"{name} had CER {100 * rate.cer:.1f} % [{100 * rate.cer_low:.1f}, "
            f"{100 * rate.cer_high:.1f}], WER {100 * rate.wer:.1f} % on them. They were chosen as "
            "hard ones: this is no estimate for other recordings."
        )
