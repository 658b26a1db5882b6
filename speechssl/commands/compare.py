"""``speechssl compare``."""

import argparse
from pathlib import Path
from typing import Any

from speechssl.commands.exits import EXIT_DONE
from speechssl.commands.options import SIZES
from speechssl.files import output_folder

SUMMARY = (
    "The race of pretext tasks on your own data: pretrain each for the same time, fine-tune each "
    "on few labels, compare with training from scratch, one report."
)
EXAMPLE = (
    'speechssl compare data --tasks masked_units "masked_units+reconstruction=0.5" contrastive '
    "--labels 10 60 --minutes 30 --seeds 0 1 --out race"
)
_LISTS = {
    "tasks": "NAME[=WEIGHT][+NAME...]",
    "models": "MODEL",
    "labels": "MINUTES",
    "scratch_labels": "MINUTES",
    "seeds": "N",
    "finetune_steps": "N",
    "pretrain": "NAME=VALUE",
    "finetune": "NAME=VALUE",
    "conditions": "NAME",
}
_NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("seeds", "finetune_steps", "max_steps", "processes"), int),
    **dict.fromkeys(("minutes", "probe_minutes"), float),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    from speechssl.compare.config import CompareConfig
    from speechssl.config.flags import setting_groups

    parser.add_argument(
        "data",
        type=Path,
        nargs="?",
        metavar="DATA",
        help="folder that `speechssl prepare` made: train.jsonl, dev.jsonl, test.jsonl",
    )
    parser.add_argument(
        "--train", type=Path, nargs="+", default=[], metavar="MANIFEST", help="what is trained on"
    )
    parser.add_argument(
        "--valid", type=Path, metavar="MANIFEST", help="what the best model of a run is chosen on"
    )
    parser.add_argument(
        "--test",
        type=Path,
        metavar="MANIFEST",
        help="what is scored; default: a half of --valid, by speaker",
    )
    parser.add_argument(
        "--out",
        type=output_folder,
        required=True,
        metavar="DIR",
        help="folder of the comparison; the same command goes on with one that lies there",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and its hours, and do nothing"
    )
    (group,) = setting_groups(_defaults(CompareConfig))
    for setting in group.settings:
        _add(parser, setting)


def _defaults(kind: Any) -> Any:
    """The config with its defaults, unchecked: what is to be compared has none."""
    made = object.__new__(kind)
    made.__dict__.update({name: field.default for name, field in kind.__dataclass_fields__.items()})
    return made


def _add(parser: argparse.ArgumentParser, setting: Any) -> None:
    """The option of a field of the config."""
    name, options = setting.name, {"help": setting.help.replace("%", "%%").replace("`", "")}
    kind = _NUMBERS.get(name, str)
    if setting.default is False:
        parser.add_argument(setting.flag, action="store_true", **options)
    elif setting.default is True:
        parser.add_argument(setting.flag, choices=("true", "false"), default="true", **options)
    elif name in _LISTS:
        if name == "conditions":
            options["choices"] = setting.default
        parser.add_argument(
            setting.flag,
            nargs="+",
            type=kind,
            default=list(setting.default),
            metavar=_LISTS[name],
            **options,
        )
    else:
        if name == "size":
            options["choices"] = SIZES
        elif setting.metavar.startswith("{"):
            options["choices"] = setting.metavar.strip("{}").split(",")
        else:
            options["metavar"] = setting.metavar.split("|")[0]
        parser.add_argument(setting.flag, type=kind, default=setting.default, **options)


def run(args: argparse.Namespace) -> int:
    from speechssl.compare.config import CompareConfig
    from speechssl.compare.corpus import read_corpus
    from speechssl.compare.plan import make_plan
    from speechssl.compare.run import compare

    config = config_of(args, CompareConfig)
    plan = make_plan(config, read_corpus(args.data, args.train, args.valid, args.test))
    print(plan.describe(), flush=True)
    if args.dry_run:
        return EXIT_DONE
    return compare(plan, args.out)


def config_of(args: argparse.Namespace, kind: Any) -> Any:
    """The config that the options give; a comma separates entries as a space does."""
    values = {}
    for name in kind.__dataclass_fields__:
        value = getattr(args, name)
        if name in ("tasks", "labels", "scratch_labels"):
            value = [part for text in value for part in text.split(",") if part]
        if name in ("causal_baseline", "model_baseline"):
            value = value == "true"
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
