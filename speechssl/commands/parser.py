"""The parser of a command: errors in one sentence, with the name that was meant; help."""

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from speechssl.commands.exits import EXIT_BAD_INPUT, EXIT_DONE


class Formatter(argparse.HelpFormatter):
    """Breaks lines at spaces only: a name such as mask-share can be found and copied."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage.

    No part of an option's name is taken for the whole: what a run is must not depend on it.
    """

    config: Callable[[str], Any] | None = None
    """The default config of a size, whose fields are settings (:meth:`list_settings`)."""
    _given: Sequence[str] = ()

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"formatter_class": Formatter, "allow_abbrev": False, **given})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        text = f"{message}{self._hint(message)}"
        more = " See" if text.endswith("?") else "; see"
        print(f"{self.prog}: {text}{more} {self.prog} --help.", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT)

    def option_names(self) -> list[str]:
        """The options of the command, without dashes before them."""
        names = [name for name in self._option_string_actions if name.startswith("--")]
        return [name.removeprefix("--") for name in names]

    def list_settings(self, config: Callable[[str], Any]) -> None:
        """Show the settings of a config, made by size, in ``--help`` and ``--help-all``."""
        self.config = config
        self.add_argument(
            "--help-all",
            nargs="?",
            const="",
            metavar="WORD",
            action=_HelpAll,
            help="every setting with its meaning, range and default, or those with a word in them",
        )

    def format_help(self) -> str:
        if self.config is not None and self.usage is None:
            from speechssl.commands.overview import add_overview

            self.fix_usage()
            add_overview(self, self.prog.split()[-1])
        return super().format_help()

    def fix_usage(self) -> None:
        """Keep the usage as it is: it does not grow with the settings."""
        formatter = self.formatter_class(prog=self.prog)
        formatter.add_usage(None, self._actions, self._mutually_exclusive_groups, "usage: ")
        usage = formatter.format_help().removeprefix("usage: ").rstrip()
        below = "\n" + " " * len(f"usage: {self.prog} ")
        self.usage = f"{usage}{below}[--SETTING VALUE ...]".replace("%", "%%")

    def _hint(self, message: str) -> str:
        """The name that was meant where it is a misspelt one that an error is about."""
        from speechssl.config.names import closest

        if found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            known = re.findall(r"[\w.-]+", found[2])
            close = closest(found[1], known)
            return f". Perhaps {' or '.join(close)}?" if close else ""
        if "arguments are required" not in message:
            return ""
        missing = re.findall(r"--([\w-]+)", message)
        for option in self._given:
            name = option.partition("=")[0].removeprefix("--")
            unknown = option.startswith("--") and f"--{name}" not in self._option_string_actions
            if unknown and (close := closest(name, missing)):
                return f". Unknown: --{name}. Perhaps --{close[0]}?"
        return ""


class _HelpAll(argparse.Action):
    """Prints every setting, or those with a word in them."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, _option: Any = None
    ) -> NoReturn:
        from speechssl.config.flags import add_settings

        size = getattr(namespace, "size", None) or "tiny"
        parser.fix_usage()
        if not add_settings(parser, parser.config(size), values):
            parser.error(f"no setting has {values!r} in its name or its text")
        if values:  # the rest of the help is not what was asked for
            shown = [g for g in parser._action_groups if g.title not in _OTHERS]
            parser._action_groups[:] = shown
            parser.usage = f"{parser.prog} --SETTING VALUE ..."
        print(parser.format_help())
        raise SystemExit(EXIT_DONE)


_OTHERS = ("positional arguments", "options")
