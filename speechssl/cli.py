"""The `speechssl` command. Each subcommand imports what it needs when it runs, so that help is quick."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from speechssl import __version__

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
SIZES = ("tiny", "tiny-conv", "small", "base", "large")
FORMATS = ("txt", "json", "srt", "vtt", "tsv")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0 done, 1 failed, 2 bad input, 130 interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    parser = build_parser()
    args, extra = parser.parse_known_args([a for a in argv if a != "--debug"])
    if extra and args.command not in ("pretrain", "finetune"):
        parser.error(f"unknown arguments: {' '.join(extra)}")
    args.overrides = extra
    try:
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except KeyboardInterrupt:
        return _fail(EXIT_INTERRUPTED, "Interrupted.", debug)
    except (ValueError, OSError, ImportError) as error:
        return _fail(EXIT_BAD_INPUT, str(error), debug)
    except Exception as error:
        code = EXIT_INTERRUPTED if type(error).__name__ == "InterruptedRunError" else EXIT_FAILED
        return _fail(code, str(error) or type(error).__name__, debug)


def _fail(code: int, reason: str, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(f"speechssl: {reason}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="speechssl",
        description="Learn speech from unlabeled audio, transcribe it after a few labelled minutes.",
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
        _add_transcribe,
        _add_extract,
        _add_report,
    ):
        add(commands)
    return parser


def _command(
    commands: Any, name: str, text: str, example: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=f"Example: {example}", allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


# ---- the whole job ------------------------------------------------------------------------------


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        "The whole job on synthetic speech, no download: pretrain, fine-tune, compare with scratch.",
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
        "--layout", choices=("auto", "folder", "tsv", "kaldi", "fairseq"), default="auto"
    )
    parser.add_argument("--max-duration-s", type=float, default=30.0, help="default %(default)s")
    parser.add_argument("--dev-share", type=float, default=0.1, help="default %(default)s")
    parser.add_argument("--test-share", type=float, default=0.1, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the split (default %(default)s)")


def _run_prepare(args: argparse.Namespace) -> int:
    from speechssl.data.layouts import read_layout
    from speechssl.data.prepare import PrepareConfig, prepare

    config = PrepareConfig(
        max_duration_s=args.max_duration_s,
        dev_share=args.dev_share,
        test_share=args.test_share,
        seed=args.seed,
    )
    summary = prepare(read_layout(args.source, args.layout), args.out, config)
    print(summary.describe())
    return EXIT_DONE


# ---- training -----------------------------------------------------------------------------------


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train", type=Path, nargs="+", required=True, metavar="MANIFEST")
    parser.add_argument("--valid", type=Path, metavar="MANIFEST")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="default %(default)s")
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="a recipe of recipes/NAME, a .py file, or the config.json of a run; its function named "
        "as the size is used, or NAME:FUNCTION",
    )
    parser.add_argument(
        "--budget-minutes", type=float, help="wall time; the schedule ends inside it"
    )
    parser.add_argument("--max-steps", type=int, help="updates")
    parser.add_argument("--checkpoint-every", type=int, metavar="N", help="updates")
    parser.add_argument("--seed", type=int)
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


def _run_pretrain(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from speechssl.checkpoint import load_model
    from speechssl.data.manifest import read_manifest
    from speechssl.training.pretrain import PretrainConfig, preset, pretrain
    from speechssl.training.recipe import load_recipe
    from speechssl.training.runfolder import override

    config = load_recipe(args.recipe, "pretrain", args.size, PretrainConfig) or preset(args.size)
    init = load_model(args.init).speech if args.init else None
    if init is not None:
        config = replace(config, model=init.config)
    config = override(config, [*_loop_settings(args), *_pairs(args.overrides)])
    train_set = [u for path in args.train for u in read_manifest(path)]
    valid_set = read_manifest(args.valid) if args.valid else []
    outcome = pretrain(
        config, train_set, args.out, valid_set=valid_set, init=init, resume=args.resume == "auto"
    )
    print(
        f"Done: {outcome.steps} updates in {outcome.elapsed_s / 60:.1f} min; model in {args.out}/best."
    )
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
    config = load_recipe(args.recipe, "finetune", args.size, FinetuneConfig) or preset(args.size)
    settings = _loop_settings(args)
    if args.tokenizer:
        settings.append(("tokenizer", args.tokenizer))
    config = override(config, [*settings, *_pairs(args.overrides)])
    train_set = [u for path in args.train for u in read_manifest(path)]
    if args.label_minutes is not None:
        train_set = take_minutes(train_set, args.label_minutes, config.loop.seed)
    outcome = finetune(
        config,
        train_set,
        read_manifest(args.valid),
        args.out,
        init=load_init(args.init),
        resume=args.resume == "auto",
    )
    print(
        f"Done: {outcome.steps} updates in {outcome.elapsed_s / 60:.1f} min; best validation CER "
        f"{outcome.best_score:.3f} at update {outcome.best_step}; model in {args.out}/best."
    )
    return EXIT_DONE


def _loop_settings(args: argparse.Namespace) -> list[tuple[str, str]]:
    named = {
        "loop.budget_minutes": args.budget_minutes,
        "loop.max_steps": args.max_steps,
        "loop.checkpoint_every": args.checkpoint_every,
        "loop.seed": args.seed,
    }
    return [(name, str(value)) for name, value in named.items() if value is not None]


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
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST")
    parser.add_argument(
        "--normalize",
        default="basic",
        metavar="NAME",
        help="none, lower or basic (default %(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument(
        "--worst", type=int, default=5, help="utterances to show (default %(default)s)"
    )


def _run_evaluate(args: argparse.Namespace) -> int:
    import json
    import time

    from speechssl.checkpoint import load_model
    from speechssl.data.manifest import read_manifest
    from speechssl.inference.evaluate import hypotheses, score_texts
    from speechssl.scoring.wer import format_alignment
    from speechssl.text import NORMALIZERS

    if args.normalize not in NORMALIZERS:
        raise ValueError(
            f"--normalize must be one of {', '.join(NORMALIZERS)}, got {args.normalize!r}."
        )
    checkpoint = load_model(args.model)
    checkpoint.require_ctc()
    utterances = [u for path in args.manifests for u in read_manifest(path)]
    began = time.monotonic()
    written = hypotheses(checkpoint, utterances)
    elapsed_s = time.monotonic() - began
    raw = score_texts(utterances, written, normalizer="none")
    normalized = score_texts(utterances, written, normalizer=args.normalize)
    print(
        f"{raw.num_utterances} utterances, {raw.num_words} words; 95 % intervals by {raw.resampled}"
    )
    for name, result in (("raw", raw), (args.normalize, normalized)):
        print(
            f"  {name:8} WER {result.wer:.4f} [{result.wer_low:.4f}, {result.wer_high:.4f}]  "
            f"CER {result.cer:.4f} [{result.cer_low:.4f}, {result.cer_high:.4f}]  "
            f"sub {result.substitutions} del {result.deletions} ins {result.insertions}"
        )
    for utterance in raw.worst(args.worst):
        print(f"\n{utterance.id}: WER {utterance.wer:.2f}")
        print(format_alignment(utterance.reference, utterance.hypothesis))
    if args.out:
        data = normalized.to_json(
            manifest=", ".join(str(path) for path in args.manifests),
            audio_s=sum(u.duration_s for u in utterances),
            elapsed_s=elapsed_s,
        )
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return EXIT_DONE


def _add_transcribe(commands: Any) -> None:
    parser = _command(
        commands,
        "transcribe",
        "Text for recordings of any length: files, folders, or - for standard input.",
        "speechssl transcribe runs/finetune interview.mp3 --format srt --out subtitles",
        _run_transcribe,
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("audio", nargs="+", metavar="AUDIO|DIR|-")
    parser.add_argument("--format", choices=FORMATS, default="txt", help="default %(default)s")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="one file per recording; else to stdout"
    )


def _run_transcribe(args: argparse.Namespace) -> int:
    from speechssl import audio
    from speechssl.checkpoint import load_model
    from speechssl.inference.transcribe import transcribe_files, transcribe_waves
    from speechssl.inference.writers import WRITERS

    checkpoint = load_model(args.model)
    model, _ = checkpoint.require_ctc()
    write = WRITERS[args.format]
    paths = _audio_paths([a for a in args.audio if a != "-"])
    failed = 0
    if "-" in args.audio:
        rate = model.speech.config.sample_rate
        wave = audio.read_bytes(sys.stdin.buffer.read(), sample_rate=rate)
        (transcript,) = transcribe_waves(checkpoint, [wave], names=["stdin"])
        _emit(write(transcript), "stdin", args, alone=not paths)
    for path, result in zip(paths, transcribe_files(checkpoint, paths), strict=True):
        if isinstance(result, audio.AudioError):
            failed += 1
            print(f"speechssl: {result}", file=sys.stderr)
            continue
        _emit(write(result), str(path), args, alone=len(args.audio) == 1 and len(paths) == 1)
    if failed and failed == len(args.audio) == len(paths):
        return EXIT_BAD_INPUT
    if failed:
        print(f"speechssl: {failed} of {len(paths)} recordings could not be read.", file=sys.stderr)
    return EXIT_FAILED if failed else EXIT_DONE


def _audio_paths(names: Sequence[str]) -> list[Path]:
    """Files as given, folders as the recordings in them."""
    from speechssl import audio

    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if not path.exists():
            raise FileNotFoundError(f"There is no file or folder {name}.")
        found = audio.list_audio(path) if path.is_dir() else [path]
        if not found:
            raise ValueError(f"There is no recording in the folder {name}.")
        paths += found
    return paths


def _emit(text: str, name: str, args: argparse.Namespace, *, alone: bool) -> None:
    """To a file of DIR, or to stdout; several plain texts are told apart by their file's name."""
    if args.out is None:
        if args.format == "txt" and not alone:
            text = f"{name}\t{text}"
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / f"{Path(name).stem}.{args.format}"
    number = 2
    while target in _written:
        target = args.out / f"{Path(name).stem}_{number}.{args.format}"
        number += 1
    _written.add(target)
    target.write_text(text, encoding="utf-8")


_written: set[Path] = set()
"""Files of this call, so that recordings of one name in two folders do not replace each other."""


def _add_extract(commands: Any) -> None:
    parser = _command(
        commands,
        "extract",
        "Representations of a layer as NAME.npy (T, D) float32, with NAME.times.npy in seconds.",
        "speechssl extract runs/pretrain a.wav --layer 4 --out features",
        _run_extract,
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("audio", nargs="+", metavar="AUDIO|DIR")
    parser.add_argument(
        "--layer",
        type=int,
        default=-1,
        metavar="K",
        help="0: first layer's input; -1: last (default)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def _run_extract(args: argparse.Namespace) -> int:
    import numpy as np

    from speechssl.checkpoint import load_model
    from speechssl.inference.extract import extract

    checkpoint = load_model(args.model)
    paths = _audio_paths(args.audio)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        features = extract(checkpoint, path, args.layer)
        np.save(args.out / f"{path.stem}.npy", features.frames)
        np.save(args.out / f"{path.stem}.times.npy", features.times_s)
        print(f"{path}: {features.frames.shape[0]} frames of {features.frames.shape[1]}")
    return EXIT_DONE


def _add_report(commands: Any) -> None:
    parser = _command(
        commands,
        "report",
        "One static HTML page with the curves of one or several runs.",
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


if __name__ == "__main__":
    sys.exit(main())
