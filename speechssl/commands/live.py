"""``speechssl transcribe`` of sound while it comes: ``--follow`` and ``--microphone``."""

import argparse
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from speechssl.commands.decoding import decoder_of
from speechssl.commands.exits import EXIT_BAD_INPUT, EXIT_DONE, tell
from speechssl.commands.subtitles import subtitle_config

if TYPE_CHECKING:
    from speechssl.inference.live import LiveTranscriber

FORMATS = ("txt", "jsonl", "srt", "vtt", "tsv", "ctm")
_NAME = "standard input"
_SETTINGS = ("pause_s", "max_s", "context_s", "partial_s")
_OPTIONS = {"follow", "microphone", "list_devices", "raw", *_SETTINGS}
_SHARED = {
    *("model", "audio", "format", "precision", "channels", "help", "debug"),
    *("beam", "lm", "lm_weight", "bonus", "word_lm", "word_weight", "word_bonus", "known_words"),
    *("hotwords", "tune_lm"),
}
"""Options of files that hold for streams too; so do those of subtitles."""


def add_live(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("live (--format txt, jsonl, srt, vtt, tsv or ctm)")
    group.add_argument(
        "--follow",
        action="store_true",
        help="transcribe standard input (-) or a file while it goes on growing: a WAV, or samples "
        "with --raw; jsonl has partial text too, a terminal shows it in its last line",
    )
    group.add_argument(
        "--microphone",
        action=_Microphone,
        nargs="?",
        const="",
        metavar="DEVICE",
        help="transcribe the microphone (the default one, or a number or name of --list-devices) "
        "until Ctrl-C, in place of AUDIO",
    )
    group.add_argument(
        "--list-devices", action=_ListDevices, nargs=0, help="list the microphones, and end"
    )
    group.add_argument(
        "--raw",
        metavar="CODING:RATE[:CHANNELS]",
        help="samples without a header, such as s16le:16000 or f32le:48000:2",
    )
    for name, text in (
        ("pause", "a pause so long makes what was said before it final (0.5)"),
        ("max", "without a pause text is final after so long (10)"),
        ("context", "sound before a stretch of speech that the model is given with it (2)"),
        ("partial", "sound between two partial texts at least (0.3); 0: none"),
    ):
        group.add_argument(f"--{name}-s", type=float, metavar="S", help=text)


class _Microphone(argparse.Action):
    """With it no AUDIO is needed."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, _option: Any = None
    ) -> None:
        namespace.microphone = values
        for action in parser._actions:
            action.required = action.required and action.dest != "audio"


class _ListDevices(argparse.Action):
    """Prints the microphones, and ends: no model is needed for that."""

    def __call__(self, *_: Any) -> NoReturn:
        from speechssl.audio.microphone import NO_DEVICE, devices

        try:
            found = devices()
            problem = "" if found else NO_DEVICE
        except ModuleNotFoundError:
            problem = "The package sounddevice is missing: pip install 'speechssl[live]'."
        except ValueError as error:
            problem = str(error)
        if problem:
            tell(problem)
            raise SystemExit(EXIT_BAD_INPUT)
        for each in found:
            mark = "\tdefault" if each.is_default else ""
            print(f"{each.number}\t{each.name}\t{each.sample_rate} Hz{mark}")
        raise SystemExit(EXIT_DONE)


def is_live(args: argparse.Namespace) -> bool:
    """Whether the options ask for it; ValueError where some are only for it."""
    if args.follow or args.microphone is not None:
        return True
    if given := _given(args, _OPTIONS):
        raise ValueError(f"{', '.join(given)}: only with --follow or --microphone.")
    if args.format == "jsonl":
        raise ValueError("--format jsonl is of live text: use json, or give --follow.")
    return False


def run_live(args: argparse.Namespace) -> int:
    """Transcribe until the stream ends, or Ctrl-C; ValueError for options that do not fit."""
    from speechssl.audio.growing import GrowingSound, parse_raw
    from speechssl.audio.microphone import Microphone
    from speechssl.commands.live_stream import Stream, Waiting
    from speechssl.inference.live_writers import LiveWriter

    _check(args)
    settings = {name: value for name in _SETTINGS if (value := getattr(args, name)) is not None}
    writer = LiveWriter(args.format, subtitle_config(args))
    if args.microphone is not None:
        live = _transcriber(args, settings)
        with Microphone(args.microphone or None, live.sample_rate) as microphone:
            tell(f"Listening to {microphone.name}; Ctrl-C ends.")
            waiting = Waiting(microphone.blocks(), stop=microphone.close)
            return Stream(live, microphone, waiting, microphone.name).run(writer)
    raw = None if args.raw is None else parse_raw(args.raw)
    (place,) = args.audio
    with _opened(place) as read:
        name = _NAME if place == "-" else place
        channel = 0 if args.channels == "first" else None
        sound = GrowingSound(read, raw, name=name, channel=channel)
        waiting = Waiting(sound.blocks())  # before the model is opened, which takes its time
        return Stream(_transcriber(args, settings), sound, waiting, name).run(writer)


def _transcriber(args: argparse.Namespace, settings: dict[str, float | None]) -> "LiveTranscriber":
    from speechssl.inference.confidence import calibration_of, why_not_calibrated
    from speechssl.inference.live import LiveConfig, LiveTranscriber
    from speechssl.interop.sources import open_model

    if settings.get("partial_s") == 0:
        settings["partial_s"] = None
    config = LiveConfig(**settings)  # type: ignore[arg-type]
    checkpoint = open_model(args.model)
    decode = decoder_of(checkpoint, args)
    if args.format in ("jsonl", "tsv", "ctm") and calibration_of(checkpoint, decode) is None:
        tell(why_not_calibrated(checkpoint))
    live = LiveTranscriber(checkpoint, decoder=decode, precision=args.precision, config=config)
    live.warm_up()
    return live


def _check(args: argparse.Namespace) -> None:
    """ValueError for options that do not fit, or each other."""
    how = "--follow" if args.follow else "--microphone"
    if args.follow and args.microphone is not None:
        raise ValueError("--follow and --microphone are two streams: give one of them.")
    if args.follow and len(args.audio) != 1:
        raise ValueError("--follow takes one stream: - for standard input, or a file.")
    if args.microphone is not None and args.audio:
        raise ValueError("--microphone takes the place of AUDIO: give none.")
    if args.microphone is not None and args.raw is not None:
        raise ValueError("--raw is the format of a stream: give it with --follow.")
    if args.format not in FORMATS:
        raise ValueError(
            f"--format {args.format} is written as a whole: with {how} choose one of "
            f"{', '.join(FORMATS)}."
        )
    if args.channels == "split":
        raise ValueError(f"--channels split is not for {how}: choose mix or first.")
    known = _OPTIONS | _SHARED
    others = {a.dest for a in args.parser._actions if not a.dest.startswith("subtitle_")} - known
    if given := _given(args, others):
        raise ValueError(f"{', '.join(given)}: only for recordings that are there, not {how}.")


def _given(args: argparse.Namespace, names: set[str]) -> list[str]:
    """The options among these that have another value than by default."""
    return [
        action.option_strings[0]
        for action in args.parser._actions
        if action.dest in names and getattr(args, action.dest, action.default) != action.default
    ]


@contextmanager
def _opened(place: str) -> Iterator[Callable[[int], bytes]]:
    """How the bytes of standard input or a file are read; a file may go on growing."""
    from speechssl.audio.growing import reader_of

    if place != "-":
        path = Path(place)
        if path.is_dir():
            raise ValueError(f"--follow takes one stream, and {place} is a folder.")
        with path.open("rb") as file:
            yield reader_of(file, follow=stat.S_ISREG(os.fstat(file.fileno()).st_mode))
        return
    stream: IO[bytes] | None = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise ValueError("There is no standard input to follow.")
    try:
        is_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # a stream of Python's own
        is_file = False
    yield reader_of(stream, follow=is_file)
