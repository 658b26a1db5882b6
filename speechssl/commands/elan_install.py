"""``speechssl elan-install``."""

import argparse
from pathlib import Path

from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.options import MODEL
from speechssl.files import output_folder

SUMMARY = "Let ELAN run a model, as one of the recognisers in its tab of that name."
EXAMPLE = "speechssl elan-install runs/finetune ELAN/extensions"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "place",
        type=output_folder,
        metavar="DIR",
        help="ELAN's folder of extensions: on Linux lib/app/extensions in the folder of ELAN, on "
        "macOS Contents/app/extensions in its package, on Windows app/extensions",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="of the recogniser in ELAN (default: of MODEL)"
    )


def run(args: argparse.Namespace) -> int:
    from speechssl.elan.install import install
    from speechssl.files import check_writable
    from speechssl.interop.sources import open_model

    open_model(args.model).require_ctc()  # which says what is wrong, before ELAN would
    check_writable(args.place)
    path = Path(args.model)
    model = str(path.absolute()) if path.exists() else args.model
    installed = install(model, args.place, args.name or _name_of(args.model))
    print(f"{installed.folder}: ELAN shows it as {installed.name!r} after its next start.")
    return EXIT_DONE


def _name_of(model: str) -> str:
    """The last parts of a path that say something: ``finetune`` of ``runs/finetune/best``."""
    parts = [part for part in Path(model).parts if part not in ("best", "model", "/", ".", "..")]
    return parts[-1] if parts else "model"
