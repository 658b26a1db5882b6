"""Where a run begins: anew, or from its newest state, which must be of the same run."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from speechssl import distributed
from speechssl.config.json import differences
from speechssl.training.inputs import changed
from speechssl.training.loop_config import FREE_TO_CHANGE, LoopConfig
from speechssl.training.precision import precision_of_run
from speechssl.training.runfolder import write_config
from speechssl.training.states import Progress, clear_leftovers, newest_progress, newest_state
from speechssl.training.version_0_1 import (
    upgraded_config,
    values_of_before,
    with_later_settings,
)
from speechssl.training.work import Work

AnyConfig = TypeVar("AnyConfig", bound=Any)


def starting_point(
    run: Path, loop: LoopConfig, config: dict[str, Any], inputs: dict[str, str], *, resume: bool
) -> Progress:
    """Where a run that begins anew is; every process calls this before the folder is changed.

    Args:
        run: folder of the run.
        loop, config: its settings, and the resolved config that they are a part of.
        inputs: digests of what it is started on, by name.
        resume: whether it goes on from what lies in `run`.

    Raises ValueError where that is a run with other settings or of other inputs.
    """
    config = json.loads(json.dumps(config))  # tuples as lists, as they will be read back
    micro_batches = loop.accumulate * distributed.world()
    fresh = Progress(
        max_steps=loop.max_steps, micro_batches=micro_batches, config=config, inputs=inputs
    )
    before = distributed.broadcast(lambda: newest_progress(run) if resume else None)
    if before is not None:
        _check_same(run, before, fresh)
    return fresh


def as_begun(config: AnyConfig, run: Path, *, resume: bool) -> AnyConfig:
    """The config of a run that goes on: settings that came after it began, and that are not given
    (stand at their defaults), have the values with which it was run. Every process calls this."""
    before = distributed.broadcast(lambda: newest_progress(run) if resume else None)
    if before is None or not before.config:
        return config
    defaults = {field.name: field.default for field in fields(config)}
    later = values_of_before(upgraded_config(before.config), vars(config))
    return replace(config, **{n: v for n, v in later.items() if vars(config)[n] == defaults[n]})


def begin(
    run: Path, work: Work, optimizer: torch.optim.Optimizer, fresh: Progress, resume: bool
) -> Progress:
    """Where the run is: its newest state, restored, else `fresh`; the folder is made ready."""
    if distributed.rank() == 0:
        clear_leftovers(run, resume=resume)
    distributed.barrier()
    state = distributed.broadcast(lambda: newest_state(run) if resume else None)
    progress = fresh
    if state is not None:
        before = state.progress
        _check_same(run, before, fresh)
        before.micro_batches = before.micro_batches or fresh.micro_batches
        state.restore(work.modules, optimizer)
        progress = before
        progress.config, progress.inputs = fresh.config, fresh.inputs
    if distributed.rank() == 0:
        write_config(run, fresh.config)
    return progress


def _check_same(run: Path, before: Progress, fresh: Progress) -> None:
    """ValueError where a run has other inputs or settings than the one that lies in its folder."""
    if others := changed(before.inputs, fresh.inputs):
        raise ValueError(
            f"{run} holds a run that was started on other inputs ({', '.join(others)}): give "
            "those, another --out, or --resume never to begin anew."
        )
    same_update = before.micro_batches in (0, fresh.micro_batches)
    free = FREE_TO_CHANGE | ({"accumulate"} if same_update else set())
    old, new = (_deciding(p.config, free) for p in (before, fresh))
    if old != new:
        raise ValueError(
            f"{run} holds a run with other settings ({differences(old, new)}): give those "
            "settings, another --out, or --resume never to begin anew."
        )


def _deciding(config: dict[str, Any], free: set[str]) -> dict[str, Any]:
    """The settings on which a run's numbers depend: those of the loop that are `free` may change
    when it goes on."""
    config = with_later_settings(upgraded_config(config))
    loop = config.get("loop", {})
    kept = {k: v for k, v in loop.items() if k not in free}
    return {**config, "loop": kept, "precision": precision_of_run(config)}
