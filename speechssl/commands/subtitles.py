"""The options of subtitles."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechssl.inference.subtitles import SubtitleConfig

SUBTITLES = ("srt", "vtt")
PROFILES = ("adults", "children", "teletext")
_OPTIONS: tuple[tuple[str, type, str, str], ...] = (
    ("lines", int, "N", "of a subtitle at most (2)"),
    ("characters", int, "N", "of a line at most (42; teletext 37); wide letters count twice"),
    ("speed", float, "X", "characters a second at most (17; children 13)"),
    ("min-s", float, "S", "shortest time of a subtitle (5/6)"),
    ("max-s", float, "S", "longest time of a subtitle (7)"),
    ("gap-frames", int, "N", "frames between two subtitles at least (2)"),
    ("fps", float, "X", "frames a second of the picture (24; teletext 25)"),
    ("delay-s", float, "S", "how much later than fast speech a subtitle may begin (3)"),
)


def add_subtitles(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("subtitles (--format srt or vtt)")
    group.add_argument(
        "--subtitle-profile",
        choices=PROFILES,
        help="adults (default), children or teletext: what the following are where not given",
    )
    for name, kind, metavar, text in _OPTIONS:
        group.add_argument(f"--subtitle-{name}", type=kind, metavar=metavar, help=text)


def subtitle_config(args: argparse.Namespace) -> "SubtitleConfig":
    """What the options say; ValueError where they are out of range, or the format is none of
    subtitles."""
    from speechssl.inference import subtitles

    names = [name.replace("-", "_") for name, *_ in _OPTIONS]
    given = {name: getattr(args, f"subtitle_{name}") for name in ("profile", *names)}
    given = {name: value for name, value in given.items() if value is not None}
    if given and args.format not in SUBTITLES:
        flags = ", ".join(f"--subtitle-{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{flags}: only with --format srt or vtt, got --format {args.format}.")
    return replace(subtitles.PROFILES[given.pop("profile", PROFILES[0])], **given)
