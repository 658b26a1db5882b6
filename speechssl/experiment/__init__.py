"""The main job in one go: pretrain, fine-tune on few labels, fine-tune from scratch on the same
labels, compare on a test set, write the report.

`demo` does it on synthetic speech that it makes itself, `run_folder` on a person's own recordings.
"""

from speechssl.experiment.jobs import compare_with_scratch, demo, run_folder
from speechssl.experiment.plan import Budget, check_plan

__all__ = ["Budget", "check_plan", "compare_with_scratch", "demo", "run_folder"]
