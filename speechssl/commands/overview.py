"""What help shows of other files: a line for each command, and the names of all settings below the
options of ``--help`` of the commands that train.

They are read from ``overview.json``, since to find them in the commands and configs takes longer
than the rest of help. ``python -m speechssl.commands.overview`` writes that file; a test says that
it is current.
"""

import argparse
import json
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from types import ModuleType
from typing import Any

FILE = Path(__file__).with_name("overview.json")


def command_module(name: str) -> ModuleType:
    """The file of a command; ``import`` and ``elan-install`` are no names for files of Python."""
    file_name = name.replace("-", "_")
    return import_module(f"speechssl.commands.{file_name}{'_' * iskeyword(name)}")


def summaries() -> dict[str, str]:
    """A line for each command."""
    found: dict[str, str] = json.loads(FILE.read_text(encoding="utf-8"))["commands"]
    return found


def add_overview(parser: argparse.ArgumentParser, command: str) -> None:
    """Into a parser's help: the names of all settings, a line for each config."""
    section = parser.add_argument_group(
        "settings",
        "Each is given as --GROUP.NAME VALUE. --help-all shows meaning, range and default of each, "
        "--help-all WORD of those with the word in their name or meaning.",
    )
    for flag, names in json.loads(FILE.read_text(encoding="utf-8"))[command].items():
        section.add_argument(flag, metavar="VALUE", help=", ".join(names))


def task_names() -> list[str]:
    """The pretext tasks."""
    found: list[str] = json.loads(FILE.read_text(encoding="utf-8"))["tasks"]
    return found


def current() -> dict[str, Any]:
    """What the file should hold, from the commands and the configs."""
    from speechssl.cli import COMMANDS, TRAINING
    from speechssl.commands.training import default_config
    from speechssl.config.flags import overview
    from speechssl.pretext.tasks import TASKS

    lines = {name: command_module(name).SUMMARY for name in COMMANDS}
    names = {name: overview(default_config(name)("tiny")) for name in TRAINING}
    return {"commands": lines, "tasks": list(TASKS), **names}


if __name__ == "__main__":
    FILE.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8", newline="\n")
