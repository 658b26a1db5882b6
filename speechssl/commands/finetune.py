"""``speechssl finetune``."""

import argparse

from speechssl import torchrun
from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.parser import Parser
from speechssl.commands.training import (
    add_training_options,
    choose_size,
    default_config,
    loop_settings,
    pairs,
    print_verdict,
)

SUMMARY = "CTC fine-tuning of a pretrained model on transcribed speech."
EXAMPLE = (
    "speechssl finetune --init runs/pretrain --train data/train.jsonl --valid data/dev.jsonl "
    "--out runs/finetune --label-minutes 60 --budget-minutes 20"
)


def arguments(parser: Parser) -> None:
    parser.add_argument(
        "--init",
        metavar="MODEL|scratch",
        required=True,
        help="model to start from (seed: the one in this package, where it has one), or scratch: "
        "fresh weights",
    )
    add_training_options(parser)
    parser.add_argument(
        "--tokenizer",
        metavar="char|spm:SIZE",
        help="characters (default), or pieces of words, learned from the transcripts of --train",
    )
    parser.add_argument(
        "--label-minutes",
        type=float,
        metavar="N",
        help="use only N minutes of --train, drawn by --seed",
    )
    parser.list_settings(default_config("finetune"))


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from speechssl.checkpoint import load_model
    from speechssl.config.json import override
    from speechssl.data.index import Corpora
    from speechssl.data.manifest import read_manifest
    from speechssl.training.finetune import (
        FinetuneConfig,
        finetune,
        load_init,
        preset,
    )
    from speechssl.training.labels import take_minutes
    from speechssl.training.recipe import load_recipe

    if args.valid is None:
        raise ValueError("finetune needs --valid MANIFEST: the best model is chosen on it.")
    init = load_init(args.init)
    size = choose_size(args, init.speech.config if init else None, args.init)
    config = load_recipe(args.recipe, "finetune", size, FinetuneConfig) or preset(size)
    if init is not None:
        config = replace(config, model=init.speech.config)
    settings = loop_settings(args)
    if args.tokenizer:
        settings.append(("tokenizer", args.tokenizer))
    config = override(config, [*settings, *pairs(args.overrides)], args.parser.option_names())
    changed = [f"--{name}" for name, _ in pairs(args.overrides) if name.startswith("model.")]
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
        processes=args.processes,
    )
    if not torchrun.is_first():  # of several processes the first one speaks
        return EXIT_DONE
    best = args.out / "best"
    scores = load_model(best).meta["valid"]
    print(f"Done: {outcome.steps} updates in {outcome.elapsed_s / 60:.1f} min.")
    print(
        f"Best model: {best} (update {outcome.best_step}), validation WER "
        f"{100 * scores['wer']:.1f} %, CER {100 * scores['cer']:.1f} %."
    )
    print_verdict(args.out)
    return EXIT_DONE
