"""``speechssl pretrain``."""

import argparse

from speechssl import torchrun
from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.overview import task_names
from speechssl.commands.parser import Parser
from speechssl.commands.training import (
    add_training_options,
    choose_size,
    default_config,
    loop_settings,
    pairs,
    print_verdict,
)

SUMMARY = "Self-supervised pretraining on recordings, which need no transcripts."
EXAMPLE = "speechssl pretrain --train data/train.jsonl --out runs/pretrain --budget-minutes 60"


def arguments(parser: Parser) -> None:
    add_training_options(parser)
    parser.add_argument(
        "--init",
        metavar="MODEL",
        help="model whose weights to start from (default: fresh ones); with seed, the one in this "
        "package, units of its best layer are predicted too",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="NAME[=WEIGHT]",
        help=f"the pretext tasks, each with its weight in the loss: {', '.join(task_names())} "
        "(explained in docs/tasks.md); default: those of the recipe or the size",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="first measure where the time of a step goes, and write a trace to RUN/profile",
    )
    parser.list_settings(default_config("pretrain"))


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace  # help does without it: it takes a fifth of its time

    from speechssl.config.json import override
    from speechssl.data.index import Corpora, open_manifest
    from speechssl.interop.sources import open_model
    from speechssl.training.pretrain import (
        PretrainConfig,
        going_on,
        preset,
        pretrain,
        task_defaults,
        with_own_units,
    )
    from speechssl.training.recipe import load_recipe

    init = open_model(args.init) if args.init else None
    size = choose_size(args, init.speech.config if init else None, args.init)
    config = load_recipe(args.recipe, "pretrain", size, PretrainConfig) or preset(size)
    if args.tasks:
        config = replace(config, tasks=config.tasks.chosen(args.tasks, task_defaults(size)))
    asked = pairs(args.overrides)
    if init is not None:
        names = [name.replace("-", "_") for name, _ in asked]
        config = with_own_units(going_on(config, init), args.init, init, names)
    config = override(config, [*loop_settings(args), *asked], args.parser.option_names())
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
        processes=args.processes,
        profile=args.profile,
        given=[name for name, _ in asked],
    )
    if not torchrun.is_first():  # of several processes the first one speaks
        return EXIT_DONE
    print(f"Done: {outcome.steps} updates in {outcome.elapsed_s / 60:.1f} min.")
    print(f"Best model: {args.out / 'best'} (update {outcome.best_step}).")
    print_verdict(args.out)
    return EXIT_DONE
