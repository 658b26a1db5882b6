"""Settings of a pretraining run that change nothing, because no task of it looks at what they are
about."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from speechssl.pretext.task import PretextTask
from speechssl.pretext.tasks import Tasks

if TYPE_CHECKING:
    from speechssl.training.pretrain import PretrainConfig

_OF_DISTORTION = ("distortion", "noise_dir", "rir_dir")


def unused_settings(config: "PretrainConfig", tasks: Tasks, given: Iterable[str]) -> list[str]:
    """A sentence for each kind of setting that was asked for and is not used.

    Args:
        config: of the run.
        tasks: of the run.
        given: dotted names of the settings that were asked for, e.g. ``mask.share``; with dashes or
            underscores.
    """
    views, names = tasks.needs.views, ", ".join(task.name for task in tasks)
    reasons = {
        _OF_DISTORTION: ""
        if any(_is_distorted(task) for task in tasks)
        else f"the input of {names} is clean",
        ("mask",): ""
        if any(view.mask == "run" for view in views)
        else f"{names} does not use the masks of the run",
        ("ema",): "" if tasks.uses_ema else f"{names} does not use a moving average of the model",
        ("balance",): ""
        if len(tasks.by_name) > 1
        else f"it weighs several tasks, and {names} is the only one",
        ("teacher_layer", "teacher_beside"): "" if config.teacher else "no --teacher is named",
    }
    found = []
    for about, reason in reasons.items():
        asked = [name for name in given if name.replace("-", "_").split(".")[0] in about]
        if reason and asked:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
            found.append(
                f"{options} {'change' if len(asked) > 1 else 'changes'} nothing: {reason}."
            )
    return found


def _is_distorted(task: PretextTask) -> bool:
    """Whether a task looks at distorted speech; one without views cuts pieces out of it."""
    views = task.needs.views
    return not views or any(view.wave != "clean" for view in views)
