"""What pretrain and finetune share: their options, and settings by dotted name."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechssl.commands.options import SIZES, add_processes
from speechssl.files import output_folder

if TYPE_CHECKING:
    from speechssl.model.config import ModelConfig


def add_training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--train",
        type=Path,
        nargs="+",
        required=True,
        metavar="MANIFEST",
        help="what is trained on",
    )
    parser.add_argument(
        "--valid", type=Path, metavar="MANIFEST", help="what the best model is chosen on"
    )
    parser.add_argument(
        "--out", type=output_folder, required=True, metavar="RUN", help="folder of the run"
    )
    parser.add_argument(
        "--size", choices=SIZES, help="of the model (default: that of --init, else tiny)"
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="settings to begin with: a folder of recipes/, a .py file (NAME:FUNCTION, or the "
        "function named as the size), or the config.json of a run",
    )
    parser.add_argument(
        "--budget-minutes",
        type=float,
        metavar="M",
        help="wall time in minutes; the schedule of the learning rate ends inside it",
    )
    parser.add_argument(
        "--max-steps", type=int, metavar="N", help="updates of the weights, at most"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, metavar="N", help="updates between two saved states"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of everything random (default 0)")
    parser.add_argument(
        "--parallel",
        choices=("ddp", "fsdp"),
        help="what each of several processes holds: all of the model (ddp, default) or a part",
    )
    add_processes(parser)
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="auto goes on with the run in RUN, if there is one (default); never begins a new one",
    )


def choose_size(
    args: argparse.Namespace, model: "ModelConfig | None", source: str | None = None
) -> str:
    """The size asked for, else that of the model to start from, else tiny; `source` is what a
    person calls that model.

    Raises ValueError where a size is asked for and the recipe or the seed has its own.
    """
    from speechssl import seed
    from speechssl.model.config import nearest_size

    recipe = args.recipe or ""
    if args.size and (recipe.endswith(".json") or ":" in recipe):
        raise ValueError(
            f"--size {args.size} changes nothing of the recipe {recipe}, which has its own size: "
            "leave one of them out."
        )
    if args.size and model is not None and source and seed.size_of(source) is not None:
        seed.check_size(args.size, source, nearest_size(model))
    if args.size or model is None:
        return args.size or "tiny"
    return nearest_size(model)


def default_config(task: str) -> Callable[[str], Any]:
    """What makes the config of a size without a recipe, for help: torch is not imported.

    `task` is ``pretrain``, ``finetune`` or ``selftrain``.
    """
    module = "selftraining.config" if task == "selftrain" else f"training.{task}"

    def make(size: str) -> Any:
        from speechssl.config.source import load

        return load(f"speechssl.{module}", "preset")(size)

    return make


def loop_settings(args: argparse.Namespace) -> list[tuple[str, str]]:
    named = {
        "loop.budget_minutes": args.budget_minutes,
        "loop.max_steps": args.max_steps,
        "loop.checkpoint_every": args.checkpoint_every,
        "loop.seed": args.seed,
        "loop.parallel": args.parallel,
    }
    return [(name, str(value)) for name, value in named.items() if value is not None]


def _unexpected(word: str, before: tuple[str, str | None] | None) -> str:
    """A word that belongs to no setting, after the setting `before`, in a sentence."""
    if before is None or before[1] is None:
        return f"Unexpected argument {word!r}; a setting is given as --optim.lr 1e-4."
    name, value = f"--{before[0]}", before[1]
    return (
        f"Unexpected argument {word!r} after {name} {value}: a setting has one value, in which "
        f"several are joined by commas ({value},{word})."
    )


def pairs(extra: Sequence[str]) -> list[tuple[str, str | None]]:
    """``--optim.lr 1e-4`` or ``--optim.lr=1e-4`` -> names and values; None where there is none."""
    pairs: list[tuple[str, str | None]] = []
    rest = list(extra)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ValueError(_unexpected(name, pairs[-1] if pairs else None))
        value: str | None = None
        if "=" in name:
            name, value = name.split("=", 1)
        elif rest and not rest[0].startswith("--"):
            value = rest.pop(0)
        pairs.append((name.removeprefix("--"), value))
    return pairs


def print_verdict(run: Path) -> None:
    """A line where the run that has just ended is not healthy."""
    from speechssl.doctor import in_short, judge_run

    if line := in_short(judge_run(run)):
        print(f"{line} More: speechssl doctor {run}")
