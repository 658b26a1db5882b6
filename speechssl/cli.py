"""The `speechssl` command. Each subcommand imports what it needs when it runs: help is quick."""

import argparse
import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from speechssl import __version__
from speechssl.commands.exits import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED
from speechssl.commands.overview import command_module, summaries
from speechssl.commands.parser import Parser
from speechssl.config.names import nearest
from speechssl.system import preemption_signals, utf8_streams

COMMANDS = (
    "demo",
    "run",
    "prepare",
    "pretrain",
    "finetune",
    "selftrain",
    "evaluate",
    "check",
    "next",
    "correct",
    "transcribe",
    "align",
    "lm",
    "extract",
    "find",
    "probe",
    "compare",
    "import",
    "export",
    "elan-install",
    "serve",
    "report",
    "doctor",
)
"""As ``--help`` lists them; each is a file in `speechssl/commands`."""

TRAINING = ("pretrain", "finetune", "selftrain")
"""Those that go on where they were stopped, as does ``compare``."""

SPINS = "10000"
"""How often a thread of GNU OpenMP, which torch loads, looks for work before it sleeps: for half a
millisecond. The library's own 14 ms are taken from whatever else runs on the cores, at each
operation: beside a second run of two threads on two cores a step took 35 times its time
(docs/log)."""

PRIMITIVES, TRAINING_PRIMITIVES = "64", "20000"
"""How many products, each compiled for its shape, oneDNN keeps. Its own 1024 are those of a dozen
batches of different length in training: in bfloat16 most products of `tiny` were compiled anew at
each step, which took a quarter to a third of it. Files are transcribed by length, where a shape
that is over does not come back, and 1024 took 100 MB in each process (docs/log)."""

EXTRAS = {
    "av": "media",
    "espeakng_loader": "demo",
    "fastapi": "serve",
    "huggingface_hub": "hf",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "peft": "lora",
    "praatio": "linguist",
    "pyarrow": "parquet",
    "pympi": "linguist",
    "pysubs2": "linguist",
    "ray": "ray",
    "sounddevice": "live",
    "python_multipart": "serve",
    "tensorboard": "tensorboard",
    "transformers": "hf",
    "uroman": "seed",
    "uvicorn": "serve",
    "websockets": "serve",
}
"""Optional packages, and the extra that installs each."""


_STARTUP = 500_000
"""Objects that can be in a cycle, a little more than the imports of `transcribe` make."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0 done, 1 failed, 2 bad input, 130 interrupted."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    utf8_streams()
    if argv is None:  # a program of its own
        _collect_later()
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [a for a in argv if a != "--debug"]
    try:
        args = _parse(argv)
        trains = args.command in (*TRAINING, "compare", "demo", "doctor", "run")
        kept = TRAINING_PRIMITIVES if trains else PRIMITIVES
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", kept)
        with _preemptible(args.command), _plain_warnings():
            code: int = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has seen enough, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except KeyboardInterrupt:
        return _fail(EXIT_INTERRUPTED, "Interrupted.", debug)
    except Exception as error:
        return _fail(_exit_code(error), sentence_of(error), debug)


def _collect_later() -> None:
    """Look for no cycles of garbage while modules are imported, which took a fifth of the time in
    which a command starts; after _STARTUP objects as always, but for those."""
    usual = gc.get_threshold()

    def as_always(phase: str, _: object) -> None:
        if phase == "start":
            gc.callbacks.remove(as_always)
            gc.freeze()
            gc.set_threshold(*usual)

    gc.callbacks.append(as_always)
    gc.set_threshold(_STARTUP, *usual[1:])


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command and its options; what is no option of it is left as `overrides` of settings.

    SystemExit after help that was asked for, and for what no command understands.
    """
    command = next((a for a in argv if not a.startswith("-")), "")
    parser = build_parser([command] if command in COMMANDS else [])
    try:
        args, extra = parser.parse_known_args(argv)
    except SystemExit:
        sys.stdout.flush()  # so that a reader who has seen enough of the help is noticed here
        raise
    if extra and args.parser.config is None:
        name = extra[0].partition("=")[0]
        known = args.parser.option_names()
        hint = f". {nearest(name[2:], known, '--')}" if name.startswith("--") else ""
        args.parser.error(f"unknown arguments: {' '.join(extra)}{hint}")
    args.overrides = extra
    return args


@contextmanager
def _preemptible(command: str) -> Iterator[None]:
    """A signal of preemption ends a training with 0 from its first moment on, while torch is
    imported too: to a cluster it has not failed. The loop takes over when there is something to
    save."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        print("speechssl: Stopped before the updates. The same command goes on.", file=sys.stderr)
        raise SystemExit(EXIT_DONE)

    numbers = preemption_signals() if command in (*TRAINING, "compare") else ()
    try:
        before = {number: signal.signal(number, end) for number in numbers}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """What is wrong with a recording is told like everything else, without a line of code."""
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category.__name__ == "AudioWarning":  # whose module is imported by those who need it
            print(f"speechssl: {message}", file=sys.stderr, flush=True)
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def _exit_code(error: Exception) -> int:
    """Whose fault it was: the person's input, the work, or a stop that was asked for."""
    loop = sys.modules.get("speechssl.training.interrupts")
    if loop is not None and isinstance(error, loop.PreemptedRunError):
        return EXIT_DONE  # no failure: a scheduler starts the command again
    if loop is not None and isinstance(error, loop.InterruptedRunError):
        return EXIT_INTERRUPTED
    # UnicodeError is a ValueError too; the other OSErrors (a full disk) are not in the input.
    paths = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
    if isinstance(error, (ValueError, ImportError, PermissionError, *paths)):
        return EXIT_BAD_INPUT
    return EXIT_FAILED


def sentence_of(error: Exception) -> str:
    """One line for the person."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        how = f"speechssl[{EXTRAS[package]}]" if package in EXTRAS else package
        return f"The package {package} is missing: pip install '{how}'."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    ours = isinstance(error, (ValueError, OSError, ImportError)) or type(
        error
    ).__module__.startswith("speechssl")
    return text if ours and text else f"{type(error).__name__}: {text} (--debug shows where)."


def _fail(code: int, reason: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(f"speechssl: {reason}", file=sys.stderr)
    return code


def build_parser(chosen: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of all commands, with the options of the chosen ones.

    Help is quick: a command's file is imported for its options only.
    """
    parser = Parser(
        prog="speechssl",
        description="Learn speech from unlabeled audio, transcribe it after a few labeled minutes.",
        epilog="Each command has its own help: speechssl pretrain --help. "
        "--debug anywhere shows the traceback of an error.",
    )
    parser.add_argument("-v", "--version", action="version", version=f"speechssl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lines = {} if chosen else summaries()
    for name in COMMANDS:
        if name not in chosen:
            if name in lines:
                commands.add_parser(name, help=lines[name].replace("%", "%%"))
            else:
                commands.add_parser(name)
            continue
        made = command_module(name)
        sub = commands.add_parser(
            name,
            help=made.SUMMARY.replace("%", "%%"),
            description=made.SUMMARY,
            epilog=f"Example: {made.EXAMPLE}",
        )
        sub.set_defaults(run=made.run, parser=sub)
        made.arguments(sub)
    return parser


if __name__ == "__main__":
    sys.exit(main())
