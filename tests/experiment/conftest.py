"""Runs of two updates."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from speechssl import cli
from speechssl.experiment import jobs, stages
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from tests.experiment.job import LOOP, MICRO, Job


@pytest.fixture(autouse=True)
def _in_a_moment(monkeypatch):
    """Runs of two updates, one after the other in this process; with a language model they are
    scored in `test_with_lm.py` alone, which takes as long as the rest."""
    tasks = pretraining.tiny().tasks
    tasks = tasks.having(replace(tasks["masked_units"], num_units=4, target_dim=8))
    first = replace(pretraining.tiny(), model=MICRO, tasks=tasks, loop=LOOP, precision="fp32")
    second = finetuning.FinetuneConfig(model=MICRO, loop=LOOP, precision="fp32")
    monkeypatch.setattr(pretraining, "preset", lambda _: first)
    monkeypatch.setattr(finetuning, "preset", lambda _: second)

    @contextmanager
    def before(command: Sequence[str], _: Path) -> Iterator[None]:
        assert cli.main(command[3:]) == 0  # without python -m speechssl.cli
        yield

    monkeypatch.setattr(stages, "_at_the_same_time", before)
    monkeypatch.setattr(jobs, "score_with_lm", lambda rows, best, **_: ([], best or rows[0]))


@pytest.fixture
def job(record, tmp_path) -> Job:
    """One that was done with half of forty recordings transcribed."""
    job = Job(record, tmp_path)
    job.add(*(f"r{i:02}" for i in range(40)))
    job.transcribe(*(f"r{i:02}" for i in range(20)))
    job.run()
    return job
