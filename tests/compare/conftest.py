"""A comparison in a moment: tiny models, two updates, jobs one after the other in this process."""

from dataclasses import replace

import pytest

from speechssl import audio
from speechssl.compare.jobs import LOG, Job
from speechssl.compare.work import run_job
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from tests.data.waves import RATE, noise_wave
from tests.experiment.job import LOOP, MICRO

WORDS = ("one", "two", "ten", "six", "nil")


class Here:
    """In place of the pool of processes."""

    def __init__(self, out, _num_processes=1):
        self.out, self.begun = out, []

    def run(self, jobs: list[Job]) -> dict[str, str]:
        failed = {}
        for job in jobs:
            if job.is_done(self.out):
                continue
            if any(name in failed for name in job.after):
                failed[job.name] = f"not begun, as {job.after[0]} failed."
                continue
            job.write(self.out)
            self.begun.append(job.name)
            try:
                run_job(self.out, job.name)
            except Exception as error:
                failed[job.name] = str(error)
                (job.folder(self.out) / LOG).write_text(f"a line\nspeechssl: {error}\n")
        return failed


@pytest.fixture(scope="module")
def micro():
    """The sizes are of models that learn for two updates."""
    tasks = pretraining.tiny().tasks
    tasks = tasks.having(replace(tasks["masked_units"], num_units=4, target_dim=8))
    first = replace(pretraining.tiny(), model=MICRO, tasks=tasks, loop=LOOP, precision="fp32")
    second = finetuning.FinetuneConfig(model=MICRO, loop=LOOP, precision="fp32", upsample=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "preset", lambda _: first)
        patch.setattr(finetuning, "preset", lambda _: second)
        yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared folder: 24 utterances of a second to train on, 8 and 8 to choose and to score."""
    folder = tmp_path_factory.mktemp("data")
    number = 0
    for split, num in {"train": 24, "dev": 8, "test": 8}.items():
        made = []
        for i in range(num):
            path = folder / f"{split}-{i}.wav"
            audio.write(path, noise_wave(seed=number), RATE)
            text = WORDS[i % len(WORDS)]
            made.append(Utterance(f"{split}-{i}", path, 0.0, 1.0, 16000, f"s{number % 6}", text))
            number += 1
        write_manifest(folder / f"{split}.jsonl", made)
    return folder
