"""The names of all settings below the options in ``pretrain --help`` and ``finetune --help``.

They are read from ``overview.json``, since to find them in the configs takes longer than the rest
of help. ``python -m speechssl.commands.overview`` writes that file; a test says that it is current.
"""

import argparse
import json
from pathlib import Path

FILE = Path(__file__).with_name("overview.json")


def add_overview(parser: argparse.ArgumentParser, command: str) -> None:
    """Into a parser's help: the names of all settings, a line for each config."""
    section = parser.add_argument_group(
        "settings",
        "Each is given as --GROUP.NAME VALUE. --help-all shows meaning, range and default of each, "
        "--help-all WORD of those with the word in their name or meaning.",
    )
    for flag, names in json.loads(FILE.read_text(encoding="utf-8"))[command].items():
        section.add_argument(flag, metavar="VALUE", help=", ".join(names))


def current() -> dict[str, dict[str, list[str]]]:
    """What the file should hold, from the configs."""
    from speechssl.commands.training import default_config
    from speechssl.config.flags import overview

    return {name: overview(default_config(name)("tiny")) for name in ("pretrain", "finetune")}


if __name__ == "__main__":
    FILE.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8")
