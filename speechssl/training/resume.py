"""Training state on disk: weights, optimizer, step. Tensors in safetensors, the rest in JSON.

`checkpoints/step-N/` folders are written beside their place and moved there whole; the newest
whole one is where a run goes on.
"""

import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from speechssl.checkpoint import replace_folder


@dataclass
class Progress:
    """Where a run is; what is not a function of this is a function of the config."""

    step: int = 0
    max_steps: int = 0
    elapsed_s: float = 0.0
    audio_s: float = 0.0
    best_score: float | None = None
    """Lowest validation score so far."""
    best_step: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    """The run's resolved config, to be compared on resume."""


def save_state(
    run: Path, modules: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, keep: int
) -> None:
    """Write `checkpoints/step-N`, then remove all but the newest `keep`."""
    folder = run / "checkpoints" / f"step-{progress.step:08d}"
    fresh = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        save_file(_contiguous(modules.state_dict()), fresh / "model.safetensors")
        save_file(_optimizer_tensors(optimizer), fresh / "optimizer.safetensors")
        (fresh / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    replace_folder(fresh, folder)
    for old in _folders(run)[keep:]:
        shutil.rmtree(old, ignore_errors=True)


def load_state(run: Path, modules: nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None:
    """Restore the newest whole state in place; None where there is none.

    A damaged folder is passed over for the one before, with a warning sentence on stderr.
    """
    for folder in _folders(run):
        try:
            weights = load_file(folder / "model.safetensors")
            moments = load_file(folder / "optimizer.safetensors")
            progress = Progress(
                **json.loads((folder / "progress.json").read_text(encoding="utf-8"))
            )
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            line = f"The checkpoint {folder} is damaged ({error}); trying the one before."
            print(line, file=sys.stderr)
            continue
        modules.load_state_dict(weights)
        _restore_optimizer(optimizer, moments)
        return progress
    return None


def _folders(run: Path) -> list[Path]:
    """Newest first."""
    return sorted((run / "checkpoints").glob("step-*"), reverse=True)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {}
    for number, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{number}.{name}"] = value.detach().contiguous()
    return tensors


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = _parameters(optimizer)
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        parameter = parameters[int(number)]
        place = parameter.device if value.dim() else torch.device("cpu")
        optimizer.state[parameter][name] = value.to(place, copy=True)
