"""``speechssl selftrain``."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from speechssl.commands.decoding import add_decoding, decoder_of, describe_decoding
from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.options import MODEL, add_processes
from speechssl.commands.parser import Parser
from speechssl.commands.training import default_config, pairs
from speechssl.files import output_folder, sha256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechssl.checkpoint import Checkpoint
    from speechssl.data.manifest import Utterance

SUMMARY = "Self-training: a model learns from its own surest transcripts of unlabeled recordings."
EXAMPLE = (
    "speechssl selftrain runs/finetune --unlabeled data/train.jsonl --labeled data/labels.jsonl "
    "--valid data/dev.jsonl --out runs/selftrain"
)


def arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help=f"the first teacher: {MODEL}")
    _add_sets(parser)
    parser.add_argument(
        "--out", type=output_folder, required=True, metavar="RUN", help="folder of the run"
    )
    parser.add_argument(
        "--init",
        metavar="MODEL|scratch",
        help="what each student starts from (default: with less than 30 minutes of labels what "
        "MODEL was fine-tuned from, where its folder says so and it is still there, else MODEL)",
    )
    parser.add_argument(
        "--max-steps", type=int, metavar="N", help="updates of a student in a round, at most"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of everything random (default 0)")
    parser.add_argument(
        "--score-pool",
        action="store_true",
        help="measure the labels by the transcripts of --unlabeled, to see whether the gate works",
    )
    parser.add_argument(
        "--recipe", metavar="FILE.json", help="settings to begin with: a run's config.json"
    )
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="auto goes on with the run in RUN, if there is one (default); never begins a new one",
    )
    add_processes(parser)
    add_decoding(parser)
    parser.list_settings(default_config("selftrain"))


def _add_sets(parser: Parser) -> None:
    parser.add_argument(
        "--unlabeled",
        type=Path,
        nargs="+",
        required=True,
        metavar="MANIFEST",
        help="the pool: recordings to be transcribed; transcripts in it are not learned from",
    )
    parser.add_argument(
        "--labeled",
        type=Path,
        nargs="+",
        required=True,
        metavar="MANIFEST",
        help="transcribed speech, which every student learns from too",
    )
    parser.add_argument(
        "--label-minutes",
        type=float,
        metavar="N",
        help="use only N minutes of --labeled, drawn by --seed as finetune does; its other "
        "utterances may be in --unlabeled",
    )
    parser.add_argument(
        "--valid",
        type=Path,
        required=True,
        metavar="MANIFEST",
        help="transcribed speech by which each round is judged",
    )


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from speechssl.config.json import override
    from speechssl.data.index import Corpora
    from speechssl.data.manifest import read_manifest
    from speechssl.interop.sources import open_model
    from speechssl.model.config import nearest_size
    from speechssl.selftraining.config import SelfTrainConfig, preset
    from speechssl.selftraining.result import table
    from speechssl.selftraining.rounds import Decoding, selftrain
    from speechssl.training.labels import take_minutes
    from speechssl.training.recipe import load_recipe

    model = open_model(args.model)
    ctc, _ = model.require_ctc()
    size = nearest_size(model.speech.config)
    config = load_recipe(args.recipe, "selftrain", size, SelfTrainConfig)
    if config is None:
        config = preset(size)
        student = replace(config.student, upsample=ctc.head.upsample)
        config = replace(config, student=student)
    given = {"student.loop.max_steps": args.max_steps, "student.loop.seed": args.seed}
    settings = [(name, str(value)) for name, value in given.items() if value is not None]
    typed = pairs(args.overrides)
    if changed := [f"--{name}" for name, _ in typed if name.startswith("student.model.")]:
        raise ValueError(f"{', '.join(changed)}: a student has the form of --init. Leave this out.")
    config = override(config, [*settings, *typed], args.parser.option_names())
    decoder_of(model, args)  # what is wrong with it is said before any work
    unlabeled, labeled = (
        list(Corpora([read_manifest(path) for path in paths]))
        for paths in (args.unlabeled, args.labeled)
    )
    if args.label_minutes is not None:
        labeled = take_minutes(labeled, args.label_minutes, config.student.loop.seed)
    state = selftrain(
        config,
        model,
        unlabeled,
        labeled,
        read_manifest(args.valid),
        args.out,
        init=_init(args.init, model, labeled),
        decoding=Decoding(lambda teacher: decoder_of(teacher, args), _decoding_key(args)),
        score_pool=args.score_pool,
        resume=args.resume == "auto",
        processes=args.processes,
    )
    print(table(state))
    print(f"It is over: {state.ended}.")
    if state.best:
        print(f"Best model: {args.out / 'best'} (round {state.best}).")
    else:
        print(f"No round is better than the given model, which is kept: {args.out / 'best'}.")
    return EXIT_DONE


def _init(
    name: str | None, model: "Checkpoint", labeled: "Sequence[Utterance]"
) -> "Checkpoint | None":
    """What the students start from; says which one is chosen where none is named."""
    from speechssl.interop.sources import open_model
    from speechssl.selftraining.sets import has_many_labels

    if name == "scratch":
        return None
    if name is not None:
        return open_model(name)
    if has_many_labels(labeled):
        minutes = sum(u.duration_s for u in labeled if u.is_labeled) / 60
        print(
            f"Students start from MODEL: there are {minutes:.0f} minutes of labels.",
            file=sys.stderr,
        )
        return model
    folder = model.meta.get("init_folder")
    if isinstance(folder, str):
        try:
            found = open_model(folder)
            print(f"Students start from {folder}.", file=sys.stderr)
            return found
        except (FileNotFoundError, ValueError) as error:
            print(f"Students start from MODEL: {error}", file=sys.stderr)
            return model
    print(
        "Students start from MODEL, whose folder names no model that it was fine-tuned from; "
        "--init names another.",
        file=sys.stderr,
    )
    return model


def _decoding_key(args: argparse.Namespace) -> str:
    """How the labels are decoded, the content of language models and hotwords included."""
    key = describe_decoding(args)
    for path in (args.lm, args.word_lm, args.hotwords):
        if path is not None and path.is_file():
            key = key.replace(str(path), sha256(path)[:16])
    return key
