"""A recipe is a Python function that returns a frozen config; here it is found by name."""

import importlib.util
import json
from pathlib import Path
from typing import Any, TypeVar

from speechssl.config.json import from_json

Config = TypeVar("Config")


def load_recipe(name: str | None, task: str, size: str, kind: type[Config]) -> Config | None:
    """The config that a recipe describes; None where there is no name.

    Args:
        name: ``mboshi`` (``recipes/mboshi/TASK.py``), a ``.py`` file, either with ``:FUNCTION``
            behind it, or a ``.json`` file: the resolved config of a run.
        task: ``pretrain`` or ``finetune``.
        size: the function to call where none is named.
        kind: the config's class.

    Raises FileNotFoundError naming where it looked, ValueError naming the functions there are.
    """
    if name is None:
        return None
    if name.endswith(".json"):
        try:
            data = json.loads(Path(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no recipe {name}.") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name} is not JSON: {error}.") from error
        return from_json(kind, data)
    name, _, function = name.partition(":")
    path = _find(name, task)
    module = _load(path)
    made = getattr(module, function or size.replace("-", "_"), None)
    config = made() if callable(made) else None
    if not isinstance(config, kind):
        known = [
            name
            for name, made in vars(module).items()
            if callable(made) and made.__module__ == module.__name__ and name[0] != "_"
        ]
        raise ValueError(f"{path} has no recipe {function or size!r}; it has {', '.join(known)}.")
    return config


def _find(name: str, task: str) -> Path:
    if name.endswith(".py"):
        places = [Path(name)]
    else:
        roots = (Path.cwd(), Path(__file__).parents[2])
        places = [root / "recipes" / name / f"{task}.py" for root in roots]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(
        f"There is no recipe {name}: looked for {' and '.join(map(str, places))}."
    )


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"recipe_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
