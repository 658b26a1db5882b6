"""The `speechssl` command. Each subcommand imports what it needs when it runs: help is quick."""

import argparse
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from speechssl import __version__

if TYPE_CHECKING:
    from speechssl.checkpoint import Checkpoint
    from speechssl.inference.recordings import Clip
    from speechssl.inference.transcribe import Decoder
    from speechssl.model.config import ModelConfig

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
SIZES = ("tiny", "tiny-conv", "small", "base", "large")
MODEL = "a model or run folder, a folder of transformers, a hub id, a fairseq .pt, torchaudio:NAME"
FORMATS = ("txt", "json", "srt", "vtt", "tsv")


SPINS = "10000"
"""How often a thread of GNU OpenMP, which torch loads, looks for work before it sleeps: for half a
millisecond. The library's own 14 ms are taken from whatever else runs on the cores, at each
operation: beside a second run of two threads on two cores a step took 35 times its time
(RESULTS.md)."""

EXTRAS = {
    "espeakng_loader": "demo",
    "tensorboard": "tensorboard",
    "huggingface_hub": "hf",
    "peft": "lora",
    "transformers": "hf",
    "pyarrow": "parquet",
}
"""Optional packages, and the extra that installs each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0 done, 1 failed, 2 bad input, 130 interrupted."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    parser = build_parser()
    args, extra = parser.parse_known_args([a for a in argv if a != "--debug"])
    if extra and args.command not in ("pretrain", "finetune"):
        from speechssl.fields import nearest

        known = [f"--{name}" for name in _options(args)]
        hint = f". {nearest(extra[0].split('=')[0], known)}" if extra[0].startswith("--") else ""
        parser.error(f"unknown arguments: {' '.join(extra)}{hint}")
    args.overrides = extra
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # transcripts are UTF-8, whatever the terminal
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        with _preemptible(args.command):
            code: int = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has seen enough, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except KeyboardInterrupt:
        return _fail(EXIT_INTERRUPTED, "Interrupted.", debug)
    except Exception as error:
        return _fail(_exit_code(error), _sentence(error), debug)


@contextmanager
def _preemptible(command: str) -> Iterator[None]:
    """SIGTERM and SIGUSR1 end a training with 0 from its first moment on, while torch is imported
    too: to a cluster it has not failed. The loop takes over when there is something to save."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        print("speechssl: Stopped before the updates. The same command goes on.", file=sys.stderr)
        raise SystemExit(EXIT_DONE)

    numbers = (signal.SIGTERM, signal.SIGUSR1) if command in ("pretrain", "finetune") else ()
    try:
        before = {number: signal.signal(number, end) for number in numbers}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(error: Exception) -> int:
    """Whose fault it was: the person's input, the work, or a stop that was asked for."""
    loop = sys.modules.get("speechssl.training.loop")
    if loop is not None and isinstance(error, loop.PreemptedRunError):
        return EXIT_DONE  # no failure: a scheduler starts the command again
    if loop is not None and isinstance(error, loop.InterruptedRunError):
        return EXIT_INTERRUPTED
    # UnicodeError is a ValueError too; the other OSErrors (a full disk) are not in the input.
    paths = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
    if isinstance(error, (ValueError, ImportError, PermissionError, *paths)):
        return EXIT_BAD_INPUT
    return EXIT_FAILED


def _sentence(error: Exception) -> str:
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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help.", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT)


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = _Parser(
        prog="speechssl",
        description="Learn speech from unlabeled audio, transcribe it after a few labeled minutes.",
        epilog="Each command has its own help: speechssl pretrain --help. "
        "--debug anywhere shows the traceback of an error.",
        allow_abbrev=False,
    )
    parser.add_argument("-v", "--version", action="version", version=f"speechssl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_demo,
        _add_run,
        _add_prepare,
        _add_pretrain,
        _add_finetune,
        _add_evaluate,
        _add_check,
        _add_transcribe,
        _add_lm,
        _add_extract,
        _add_probe,
        _add_import,
        _add_export,
        _add_report,
        _add_doctor,
    ):
        add(commands)
    return parser


def _command(
    commands: Any, name: str, text: str, example: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=f"Example: {example}", allow_abbrev=False
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


# ---- the whole job ------------------------------------------------------------------------------


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        "The whole job on synthetic speech, no download: pretrain, fine-tune, compare.",
        "speechssl demo --out demo --minutes 9",
        _run_demo,
    )
    parser.add_argument(
        "--out", type=Path, default=Path("speechssl-demo"), help="folder (default %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="time to spend (default %(default)s)"
    )


def _run_demo(args: argparse.Namespace) -> int:
    from speechssl.experiment import demo

    return demo(args.out, args.minutes)


def _add_run(commands: Any) -> None:
    parser = _command(
        commands,
        "run",
        "The whole job on a folder of recordings, a few of them transcribed in a table.",
        "speechssl run recordings --transcripts texts.tsv --out result --budget-minutes 120",
        _run_folder,
    )
    parser.add_argument("folder", type=Path, help="recordings, in any sub-folders")
    parser.add_argument(
        "--transcripts",
        type=Path,
        required=True,
        help="TSV or CSV whose header names path and text",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for everything that is made"
    )
    parser.add_argument("--budget-minutes", type=float, default=60.0, help="default %(default)s")
    parser.add_argument(
        "--size", choices=SIZES, default="tiny", help="model size (default %(default)s)"
    )


def _run_folder(args: argparse.Namespace) -> int:
    from speechssl.experiment import run_folder

    return run_folder(args.folder, args.transcripts, args.out, args.budget_minutes, args.size)


# ---- data ---------------------------------------------------------------------------------------


def _add_prepare(commands: Any) -> None:
    parser = _command(
        commands,
        "prepare",
        "Probe recordings, cut long ones, drop and name unusable ones, split, write manifests.",
        "speechssl prepare recordings --out data",
        _run_prepare,
    )
    parser.add_argument("source", type=Path, help="folder, table, Kaldi or fairseq data")
    parser.add_argument("--out", type=Path, required=True, help="folder for the manifests")
    parser.add_argument(
        "--layout", choices=("auto", "folder", "tsv", "kaldi", "fairseq", "shards"), default="auto"
    )
    parser.add_argument(
        "--max-duration-s",
        type=float,
        default=30.0,
        help="longer recordings without a transcript are cut (default %(default)s)",
    )
    parser.add_argument(
        "--max-labeled-duration-s",
        type=float,
        default=60.0,
        help="longer ones with a transcript, which cannot be cut, are dropped (default "
        "%(default)s)",
    )
    parser.add_argument("--dev-share", type=float, default=0.1, help="default %(default)s")
    parser.add_argument("--test-share", type=float, default=0.1, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default %(default)s)")


def _run_prepare(args: argparse.Namespace) -> int:
    from speechssl.data.layouts import READ_AS, detect_layout, read_layout
    from speechssl.data.prepare import PrepareConfig, prepare

    config = PrepareConfig(
        max_duration_s=args.max_duration_s,
        max_labeled_duration_s=args.max_labeled_duration_s,
        dev_share=args.dev_share,
        test_share=args.test_share,
        seed=args.seed,
    )
    layout = detect_layout(args.source) if args.layout == "auto" else args.layout
    summary = prepare(read_layout(args.source, layout), args.out, config)
    print(f"layout {layout}: {READ_AS[layout]}")
    print(summary.describe())
    return EXIT_DONE


# ---- training -----------------------------------------------------------------------------------


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train", type=Path, nargs="+", required=True, metavar="MANIFEST")
    parser.add_argument("--valid", type=Path, metavar="MANIFEST")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--size", choices=SIZES, help="default: that of --init, else tiny")
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="a recipe of recipes/NAME, a .py file, or the config.json of a run; its function "
        "named as the size is used, or NAME:FUNCTION",
    )
    parser.add_argument(
        "--budget-minutes", type=float, help="wall time; the schedule ends inside it"
    )
    parser.add_argument("--max-steps", type=int, help="updates")
    parser.add_argument("--checkpoint-every", type=int, metavar="N", help="updates")
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--parallel",
        choices=("ddp", "fsdp"),
        help="what each of several processes holds: a whole model (default) or a part of it",
    )
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="auto goes on with a run that lies in RUN (default); never begins anew",
    )


def _add_pretrain(commands: Any) -> None:
    parser = _command(
        commands,
        "pretrain",
        "Self-supervised pretraining. Any setting of the run's config.json can be given by its "
        "dotted name, e.g. --optim.lr 1e-4.",
        "speechssl pretrain --train data/train.jsonl --out runs/pretrain --budget-minutes 60",
        _run_pretrain,
    )
    _add_training_options(parser)
    parser.add_argument("--init", metavar="MODEL", help="go on from this model's weights")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="first say where the time of a step goes, and write a trace to RUN/profile",
    )


def _run_pretrain(args: argparse.Namespace) -> int:
    from speechssl.data.index import Corpora, open_manifest
    from speechssl.interop.sources import open_model
    from speechssl.training.pretrain import PretrainConfig, going_on, preset, pretrain
    from speechssl.training.recipe import load_recipe
    from speechssl.training.runfolder import override

    init = open_model(args.init) if args.init else None
    size = _size(args, init.speech.config if init else None)
    config = load_recipe(args.recipe, "pretrain", size, PretrainConfig) or preset(size)
    if init is not None:
        config = going_on(config, init)
    config = override(config, [*_loop_settings(args), *_pairs(args.overrides)], _options(args))
    train_set = Corpora([open_manifest(path) for path in args.train])
    valid_set = open_manifest(args.valid) if args.valid else []
    outcome = pretrain(
        config,
        train_set,
        args.out,
        valid_set=valid_set,
        init=init,
        resume=args.resume == "auto",
        announce=True,
        profile=args.profile,
    )
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return EXIT_DONE
    print(f"Done: {outcome.steps} updates in {outcome.elapsed_s / 60:.1f} min.")
    print(f"Best model: {args.out / 'best'} (update {outcome.best_step}).")
    _say_verdict(args.out)
    return EXIT_DONE


def _add_finetune(commands: Any) -> None:
    parser = _command(
        commands,
        "finetune",
        "CTC fine-tuning on transcribed speech. Settings as for pretrain.",
        "speechssl finetune --init runs/pretrain --train data/train.jsonl --valid data/dev.jsonl "
        "--out runs/finetune --label-minutes 60 --budget-minutes 20",
        _run_finetune,
    )
    parser.add_argument("--init", metavar="MODEL|scratch", required=True)
    _add_training_options(parser)
    parser.add_argument("--tokenizer", help="char or spm:SIZE, learned from the training text")
    parser.add_argument(
        "--label-minutes",
        type=float,
        metavar="N",
        help="use only N minutes of transcripts, by seed",
    )


def _run_finetune(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from speechssl.checkpoint import load_model
    from speechssl.data.index import Corpora
    from speechssl.data.manifest import read_manifest
    from speechssl.training.finetune import (
        FinetuneConfig,
        finetune,
        load_init,
        preset,
        take_minutes,
    )
    from speechssl.training.recipe import load_recipe
    from speechssl.training.runfolder import override

    if args.valid is None:
        raise ValueError("finetune needs --valid MANIFEST: the best model is chosen on it.")
    init = load_init(args.init)
    size = _size(args, init.speech.config if init else None)
    config = load_recipe(args.recipe, "finetune", size, FinetuneConfig) or preset(size)
    if init is not None:
        config = replace(config, model=init.speech.config)
    settings = _loop_settings(args)
    if args.tokenizer:
        settings.append(("tokenizer", args.tokenizer))
    config = override(config, [*settings, *_pairs(args.overrides)], _options(args))
    changed = [f"--{name}" for name, _ in _pairs(args.overrides) if name.startswith("model.")]
    if init is not None and changed and config.model != init.speech.config:
        raise ValueError(
            f"{', '.join(changed)}: the model of --init {args.init} is as it is. Leave this out "
            "(dropout in the run is --dropout), or give --init scratch."
        )
    train_set = list(Corpora([read_manifest(path) for path in args.train]))
    if args.label_minutes is not None:
        train_set = take_minutes(train_set, args.label_minutes, config.loop.seed)
    outcome = finetune(
        config,
        train_set,
        read_manifest(args.valid),
        args.out,
        init=init,
        resume=args.resume == "auto",
        announce=True,
    )
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return EXIT_DONE
    best = args.out / "best"
    scores = load_model(best).meta["valid"]
    print(f"Done: {outcome.steps} updates in {outcome.elapsed_s / 60:.1f} min.")
    print(
        f"Best model: {best} (update {outcome.best_step}), validation WER "
        f"{100 * scores['wer']:.1f} %, CER {100 * scores['cer']:.1f} %."
    )
    _say_verdict(args.out)
    return EXIT_DONE


def _size(args: argparse.Namespace, model: "ModelConfig | None") -> str:
    """The size asked for, else that of the model to start from, else tiny.

    Raises ValueError where a size is asked for and the recipe has its own.
    """
    from speechssl.model.config import nearest_size

    recipe = args.recipe or ""
    if args.size and (recipe.endswith(".json") or ":" in recipe):
        raise ValueError(
            f"--size {args.size} changes nothing of the recipe {recipe}, which has its own size: "
            "leave one of them out."
        )
    if args.size or model is None:
        return args.size or "tiny"
    return nearest_size(model)


def _loop_settings(args: argparse.Namespace) -> list[tuple[str, str]]:
    named = {
        "loop.budget_minutes": args.budget_minutes,
        "loop.max_steps": args.max_steps,
        "loop.checkpoint_every": args.checkpoint_every,
        "loop.seed": args.seed,
        "loop.parallel": args.parallel,
    }
    return [(name, str(value)) for name, value in named.items() if value is not None]


def _options(args: argparse.Namespace) -> list[str]:
    """What the command takes beside settings, without ``--``."""
    return list(dict.fromkeys(re.findall(r"--([a-z][a-z-]*)", args.parser.format_help())))


def _pairs(extra: Sequence[str]) -> list[tuple[str, str]]:
    """``--optim.lr 1e-4`` or ``--optim.lr=1e-4`` -> names and values."""
    pairs, rest = [], list(extra)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ValueError(
                f"Unexpected argument {name!r}; a setting is given as --optim.lr 1e-4."
            )
        if "=" in name:
            name, value = name.split("=", 1)
        elif rest:
            value = rest.pop(0)
        else:
            raise ValueError(f"The setting {name} needs a value.")
        pairs.append((name.removeprefix("--"), value))
    return pairs


# ---- using a model ------------------------------------------------------------------------------


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        "WER and CER with intervals, raw and normalised, and the worst utterances.",
        "speechssl evaluate runs/finetune data/test.jsonl --out scores.json",
        _run_evaluate,
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST")
    parser.add_argument(
        "--normalize",
        default="basic",
        metavar="NAME",
        help="none, lower or basic (default %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="the normalised scores and every utterance"
    )
    parser.add_argument(
        "--worst", type=int, default=5, help="utterances to show (default %(default)s)"
    )
    _add_decoding(parser)
    _add_precision(parser, auto=True)


def _run_evaluate(args: argparse.Namespace) -> int:
    from speechssl.data.manifest import read_manifest
    from speechssl.inference.evaluate import describe, hear, write_result
    from speechssl.interop.sources import open_model
    from speechssl.text import NORMALIZERS

    if args.normalize not in NORMALIZERS:
        names = ", ".join(NORMALIZERS)
        raise ValueError(f"--normalize must be one of {names}, got {args.normalize!r}.")
    utterances = [u for path in args.manifests for u in read_manifest(path)]
    checkpoint = open_model(args.model)
    decode = _decoder(checkpoint, args)
    evaluation = hear(checkpoint, utterances, decode=decode, precision=args.precision)
    normalizers = dict.fromkeys(("none", args.normalize))
    results = [evaluation.score(name) for name in normalizers]
    if args.out:
        manifests = [str(path) for path in args.manifests]
        write_result(args.out, results[-1], evaluation, manifests, _decoding(args))
    print(describe(evaluation, results, args.worst))
    return EXIT_DONE


def _add_check(commands: Any) -> None:
    parser = _command(
        commands,
        "check",
        "Transcripts that look wrong, the most suspicious first.",
        "speechssl check runs/finetune data/train.jsonl --out suspicious.tsv",
        _run_check,
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="all of them in order, as .tsv or .jsonl"
    )
    parser.add_argument("--top", type=int, default=10, help="how many to show (default 10)")
    _add_precision(parser, auto=False)


def _run_check(args: argparse.Namespace) -> int:
    from speechssl.data.manifest import read_manifest
    from speechssl.inference.check import check, check_suffix, describe, write_check
    from speechssl.interop.sources import open_model

    if args.out:
        check_suffix(args.out)
    utterances = [u for path in args.manifests for u in read_manifest(path)]
    found = check(open_model(args.model), utterances, precision=args.precision)
    if args.out:
        write_check(args.out, found)
    print(describe(found, args.top))
    for unreadable in found.unreadable:
        print(f"speechssl: {unreadable}", file=sys.stderr)
    return _unread(len(found.unreadable), len(found.judged) + len(found.unreadable))


def _add_transcribe(commands: Any) -> None:
    parser = _command(
        commands,
        "transcribe",
        "Text for recordings of any length: files, folders, or - for standard input.",
        "speechssl transcribe runs/finetune interview.mp3 --format srt --out subtitles",
        _run_transcribe,
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("audio", nargs="+", metavar="AUDIO|DIR|-", help="recordings")
    parser.add_argument("--format", choices=FORMATS, default="txt", help="default %(default)s")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="one file per recording; else to stdout"
    )
    parser.add_argument(
        "--batch-s", type=float, default=60.0, metavar="S", help="seconds in a batch (default 60)"
    )
    _add_decoding(parser)
    _add_precision(parser, auto=True)


def _run_transcribe(args: argparse.Namespace) -> int:
    from speechssl.files import writing
    from speechssl.inference.hearing import Unreadable
    from speechssl.inference.recordings import find_clips
    from speechssl.inference.transcribe import transcribe_all
    from speechssl.inference.writers import WRITERS
    from speechssl.interop.sources import open_model

    clips = find_clips(args.audio, sys.stdin.buffer.read() if "-" in args.audio else b"")
    if len(clips) > 1 and args.format in ("srt", "vtt") and not args.out:
        raise ValueError(
            f"{len(clips)} recordings cannot be in one {args.format}: give --out DIR, which gets a "
            "file for each."
        )
    write = WRITERS[args.format]
    checkpoint = open_model(args.model)
    results = transcribe_all(
        checkpoint,
        clips,
        decode=_decoder(checkpoint, args),
        precision=args.precision,
        batch_s=args.batch_s,
    )
    failed = header = 0
    narrow: list[str] = []
    for target, result in zip(
        _targets(clips, args.out, args.format), _bar(results, clips), strict=True
    ):
        if isinstance(result, Unreadable):
            failed += 1
            print(f"speechssl: {result}", file=sys.stderr)
            continue
        if result.narrow_band:
            narrow.append(result.audio)
        text = write(result)
        if target is not None:
            with writing(target) as file:
                file.write(text)
            continue
        if args.format == "txt" and len(clips) > 1:
            text = f"{result.audio}\t{text}"
        if args.format == "tsv":
            text, header = text.split("\n", 1)[1] if header else text, 1
        sys.stdout.write(text)
        sys.stdout.flush()
    if narrow:
        print(
            f"speechssl: {len(narrow)} of {len(clips)} recordings (the first: {narrow[0]}) carry "
            "nothing above 4 kHz, as over a telephone; a model that learned from wider recordings "
            "makes more errors on them.",
            file=sys.stderr,
        )
    return _unread(failed, len(clips))


def _targets(clips: "Sequence[Clip]", out: Path | None, suffix: str) -> list[Path | None]:
    """A file for each clip's result; None for stdout."""
    from speechssl.inference.recordings import output_names

    if out is None:
        return [None] * len(clips)
    return [out / f"{name}.{suffix}" for name in output_names(clips)]


def _bar(results: Iterable[Any], clips: "Sequence[Clip]") -> Iterable[Any]:
    """`results` with a progress bar, where there is someone to see it."""
    from tqdm import tqdm

    hidden = len(clips) == 1 or not sys.stderr.isatty() or sys.stdout.isatty()
    bar: Iterable[Any] = tqdm(results, total=len(clips), unit="rec", disable=hidden)
    return bar


def _unread(failed: int, total: int) -> int:
    """The exit code of work on many files; none could be read: then the input was wrong."""
    if failed and total > 1:
        print(f"speechssl: {failed} of {total} recordings could not be read.", file=sys.stderr)
    return EXIT_DONE if not failed else EXIT_BAD_INPUT if failed == total else EXIT_FAILED


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam",
        type=int,
        metavar="N",
        help="beam search that follows N texts at a time (default: greedy; 16 with --lm)",
    )
    parser.add_argument(
        "--lm", type=Path, metavar="ARPA", help="language model, as of speechssl lm"
    )
    parser.add_argument(
        "--lm-weight", type=float, metavar="X", help="factor on the language model (default 0.5)"
    )
    parser.add_argument(
        "--bonus",
        type=float,
        metavar="X",
        help="added for each character or word of the language model (default 1.0)",
    )


def _decoder(checkpoint: "Checkpoint", args: argparse.Namespace) -> "Decoder":
    from speechssl.inference.transcribe import choose_decoder

    return choose_decoder(
        checkpoint, beam=args.beam, lm=args.lm, lm_weight=args.lm_weight, bonus=args.bonus
    )


def _decoding(args: argparse.Namespace) -> str:
    """How the options of :func:`_add_decoding` have it, in words."""
    told = [("beam", args.beam), ("lm", args.lm), ("weight", args.lm_weight), ("bonus", args.bonus)]
    return ", ".join(f"{name} {value}" for name, value in told if value is not None) or "greedy"


def _add_lm(commands: Any) -> None:
    parser = _command(
        commands,
        "lm",
        "An n-gram language model of text (interpolated Kneser-Ney), as an ARPA file.",
        "speechssl lm data/train.jsonl --order 6 --out lm.arpa",
        _run_lm,
    )
    parser.add_argument(
        "text",
        type=Path,
        nargs="+",
        metavar="TEXT",
        help="a sentence a line, or a manifest (.jsonl) or a table (.tsv, .csv) of recordings, "
        "of which the transcripts are taken",
    )
    parser.add_argument(
        "--unit",
        choices=("char", "word"),
        default="char",
        help="what is counted: char (default), for up to some hours of transcripts, or word",
    )
    parser.add_argument(
        "--order", type=int, metavar="N", help="longest n-gram (default: 6 of char, 3 of word)"
    )
    parser.add_argument("--normalize", default="none", metavar="NAME", help="none, lower or basic")
    parser.add_argument(
        "--label-minutes",
        type=float,
        metavar="N",
        help="take N minutes of the manifests, those that finetune takes with the same --seed",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="ARPA", help="with .gz at its end compressed"
    )


def _run_lm(args: argparse.Namespace) -> int:
    from speechssl.data.manifest import read_manifest, read_texts
    from speechssl.decoding.lm import train_lm, write_arpa
    from speechssl.text import normalize

    if args.label_minutes is None:
        lines = [text for path in args.text for text in read_texts(path)]
    else:
        from speechssl.training.finetune import take_minutes

        utterances = [utterance for path in args.text for utterance in read_manifest(path)]
        chosen = take_minutes(utterances, args.label_minutes, args.seed)
        lines = [utterance.text or "" for utterance in chosen]
    texts = [normalize(line, args.normalize) for line in lines]
    order = args.order if args.order is not None else {"char": 6, "word": 3}[args.unit]
    lm = train_lm(texts, order=order, unit=args.unit)
    write_arpa(lm, args.out)
    print(
        f"{args.out}: {len(lm.entries):,} n-grams of up to {order} {args.unit}s, from "
        f"{sum(map(bool, texts)):,} sentences."
    )
    return EXIT_DONE


def _add_precision(parser: argparse.ArgumentParser, *, auto: bool) -> None:
    more = (
        ", int8 on most and rounds most; auto (default) takes what pays on this machine, for "
        "models of 20 M parameters or more"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "int8") if auto else ("fp32", "bf16"),
        default="auto" if auto else "fp32",
        help="bf16 is faster on some CPUs and rounds more" + (more if auto else ""),
    )


def _add_extract(commands: Any) -> None:
    parser = _command(
        commands,
        "extract",
        "Representations as NAME.npy (T, D) float32, with NAME.times.npy in seconds, for each "
        "recording; or all of them in one Parquet file.",
        "speechssl extract runs/pretrain a.wav --layer 4 --out features",
        _run_extract,
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("audio", nargs="+", metavar="AUDIO|DIR", help="recordings")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--layer",
        type=int,
        default=-1,
        metavar="K",
        help="0: first layer's input; -1: last (default)",
    )
    chosen.add_argument(
        "--weights",
        metavar="W0,W1,...|mean",
        help="the sum of all layers from 0 on with these weights, or their mean",
    )
    parser.add_argument(
        "--pool",
        choices=("mean",),
        help="one vector (D,) for each recording: the mean of its frames",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR|FILE.parquet",
        help="a file per recording, or one table (extra parquet)",
    )
    parser.add_argument(
        "--batch-s", type=float, default=60.0, metavar="S", help="seconds in a batch (default 60)"
    )
    _add_precision(parser, auto=False)


def _run_extract(args: argparse.Namespace) -> int:
    import contextlib
    from functools import partial

    from speechssl.audio import AudioError
    from speechssl.inference.extract import choose_layers, extract_all
    from speechssl.inference.feature_files import write_features, write_mean
    from speechssl.inference.recordings import find_clips, output_names
    from speechssl.interop.sources import open_model

    clips = find_clips([place for place in args.audio if place != "-"])
    if "-" in args.audio:
        raise ValueError("extract reads files and folders, not standard input.")
    with contextlib.ExitStack() as stack:
        table = None
        if args.out.suffix == ".parquet":
            from speechssl.inference.feature_table import FeatureTable

            about = {"model": args.model, "layer": args.layer, "weights": args.weights}
            table = stack.enter_context(FeatureTable(args.out, pool=bool(args.pool), about=about))
        checkpoint = open_model(args.model)
        layers = choose_layers(checkpoint, args.layer, _layer_weights(args.weights))
        found = extract_all(
            checkpoint, clips, layers, precision=args.precision, batch_s=args.batch_s
        )
        write = write_mean if args.pool else write_features
        failed = 0
        names = output_names(clips, beside=".times")
        for clip, name, parts in zip(clips, names, found, strict=True):
            put = (
                partial(table.add, clip.name) if table else partial(write, out=args.out, name=name)
            )
            try:
                num_frames, width = put(parts)
            except (AudioError, FileNotFoundError) as error:
                failed += 1
                print(f"speechssl: {error}", file=sys.stderr)
                continue
            place = clip.name if table else f"{args.out / name}.npy"
            print(
                f"{place}: {num_frames} frames of {width}" + (", their mean" if args.pool else "")
            )
    return _unread(failed, len(clips))


def _layer_weights(given: str | None) -> "Sequence[float] | Literal['mean'] | None":
    """``0.5,0.25,0.25`` or ``mean``."""
    if given is None:
        return None
    if given == "mean":
        return "mean"
    try:
        return [float(weight) for weight in given.split(",")]
    except ValueError:
        raise ValueError(
            f"--weights must be numbers with commas between them, or mean; got {given!r}."
        ) from None


def _add_probe(commands: Any) -> None:
    parser = _command(
        commands,
        "probe",
        "What each layer of frozen models knows: linear probes side by side with log-mel, as a "
        "table, probe.json and a plot, probe.html.",
        "speechssl probe runs/pretrain --task digit --train data/train.jsonl "
        "--test data/test.jsonl --out probe-digit",
        _run_probe,
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--task",
        choices=("digit", "speaker", "character"),
        required=True,
        help="digit: which word, from text; speaker: who, of speakers that are in both manifests; "
        "character: CER of a linear CTC layer",
    )
    parser.add_argument("--train", type=Path, nargs="+", required=True, metavar="MANIFEST")
    parser.add_argument("--test", type=Path, nargs="+", required=True, metavar="MANIFEST")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--label-minutes", type=float, metavar="N", help="learn from N minutes of transcripts"
    )
    parser.add_argument(
        "--steps", type=int, default=500, help="updates of a character probe (default %(default)s)"
    )
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="beside each model one of its form with fresh weights",
    )
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")


def _run_probe(args: argparse.Namespace) -> int:
    import time

    from speechssl.data.manifest import read_manifest
    from speechssl.interop.sources import open_model
    from speechssl.probing.probe import make_task, probe_models
    from speechssl.probing.result import Result, head_text, row_text, write_result

    train, test = (
        [u for p in paths for u in read_manifest(p)] for paths in (args.train, args.test)
    )
    task = make_task(
        args.task,
        train,
        test,
        seed=args.seed,
        label_minutes=args.label_minutes,
        steps=args.steps,
    )
    models = [(name, open_model(name)) for name in args.models]
    width = max(len(name) for name in args.models) + (len(", untrained") if args.untrained else 0)
    started = time.monotonic()
    print(f"{task.describe()}.\n\n{head_text(task.metric, width)}")
    rows = []
    for row in probe_models(task, models, seed=args.seed, with_untrained=args.untrained):
        print(row_text(row, width), flush=True)
        rows.append(row)
    settings = {
        "train": [str(path) for path in args.train],
        "test": [str(path) for path in args.test],
        "label_minutes": args.label_minutes,
        "steps": args.steps if args.task == "character" else None,
        "seed": args.seed,
    }
    result = Result(
        args.task,
        task.metric,
        task.higher_is_better,
        task.describe(),
        settings,
        tuple(rows),
        time.monotonic() - started,
    )
    write_result(result, args.out)
    print("\nBest layers:")
    for model in result.models:
        print(row_text(result.best(model), width))
    print(f"Plot: {args.out / 'probe.html'}")
    return EXIT_DONE


# ---- other people's models, and ours for others -------------------------------------------------


def _add_import(commands: Any) -> None:
    parser = _command(
        commands,
        "import",
        "Make a model folder of somebody else's model, proved to compute the same.",
        "speechssl import facebook/wav2vec2-base-960h --out models/base-960h",
        _run_import,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder of transformers, a hub id, a fairseq .pt, or torchaudio:WAV2VEC2_BASE",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL")
    parser.add_argument("--language", help="of an MMS model, e.g. wol")
    parser.add_argument("--revision", help="of the hub: a branch, tag or commit")
    parser.add_argument("--cache-dir", type=Path, help="of the hub (default: HF_HOME)")
    parser.add_argument("--offline", action="store_true", help="only what the hub's cache holds")
    parser.add_argument("--token", help="for the hub (default: HF_TOKEN)")
    parser.add_argument("--dictionary", type=Path, help="of a fairseq CTC model: dict.ltr.txt")
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="read a fairseq .pt that holds more than tensors",
    )
    _add_no_verify(parser)


def _run_import(args: argparse.Namespace) -> int:
    from speechssl.checkpoint import load_model
    from speechssl.interop.sources import Hub, Reading, import_model

    reading = Reading(
        Hub(args.revision, args.cache_dir, args.offline, args.token),
        language=args.language,
        trust_pickle=args.trust_pickle,
        dictionary=args.dictionary,
    )
    proof = import_model(args.source, args.out, reading=reading, verify=not args.no_verify)
    print(proof.describe() if proof else "Not verified.")
    for part in load_model(args.out).meta.get("left_out", ()):
        print(f"Left out: {part}")
    print(f"Model: {args.out}")
    return EXIT_DONE


def _add_export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        "Write a model so that other tools open it, proved to compute the same.",
        "speechssl export runs/finetune --format onnx --out onnx-model",
        _run_export,
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "--format",
        choices=("hf", "onnx", "fairseq"),
        required=True,
        help="hf (transformers) and fairseq hold tiny-conv, base and large; onnx holds every model",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--int8", action="store_true", help="onnx with weights of 8 bits")
    parser.add_argument("--license", metavar="SPDX", help="for the model card, e.g. CC-BY-4.0")
    parser.add_argument(
        "--language", nargs="+", default=[], metavar="ISO639", help="for the model card"
    )
    _add_no_verify(parser)


def _run_export(args: argparse.Namespace) -> int:
    from speechssl.interop.card import Said
    from speechssl.interop.export import export_model
    from speechssl.interop.folders import leaves_heads_out
    from speechssl.interop.sources import open_model

    checkpoint = open_model(args.model)
    proof = export_model(
        checkpoint,
        args.out,
        args.format,
        verify=not args.no_verify,
        int8=args.int8,
        said=Said(args.license, args.language),
    )
    print(proof.describe() if proof else "Not verified.")
    if args.format == "hf" and leaves_heads_out(checkpoint):
        print("Left out: the quantizer and projections of its pretraining; its form has none.")
    print(f"Export: {args.out}")
    return EXIT_DONE


def _add_no_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-verify", action="store_true", help="skip the proof; meta.json says that it was"
    )


def _add_report(commands: Any) -> None:
    parser = _command(
        commands,
        "report",
        "One static HTML page that shows one or several runs: curves, sound, codes, errors.",
        "speechssl report runs/pretrain runs/finetune --out report.html",
        _run_report,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: report.html in the first run"
    )


def _run_report(args: argparse.Namespace) -> int:
    from speechssl.report.page import write_report

    print(write_report(args.runs, args.out or args.runs[0] / "report.html"))
    return EXIT_DONE


def _add_doctor(commands: Any) -> None:
    parser = _command(
        commands,
        "doctor",
        "What a run's curves say: healthy, or what is wrong and what to change. Without a run: "
        "what is installed, what is missing, and the machine.",
        "speechssl doctor runs/pretrain",
        _run_doctor,
    )
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN")


def _run_doctor(args: argparse.Namespace) -> int:
    from speechssl.doctor import describe_machine, describe_run

    told = [describe_run(run) for run in args.runs] or [describe_machine()]
    print("\n\n".join(told))
    return EXIT_DONE


def _say_verdict(run: Path) -> None:
    """A line where the run that has just ended is not healthy."""
    from speechssl.doctor import in_short, judge_run

    if line := in_short(judge_run(run)):
        print(f"{line} More: speechssl doctor {run}")


if __name__ == "__main__":
    sys.exit(main())
