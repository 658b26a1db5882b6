"""The runs of an experiment, one stage after the other."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from speechssl.data.manifest import Utterance, read_manifest
from speechssl.experiment.plan import Budget, Run, config_of, runs_of, student_config
from speechssl.experiment.results import validation_cer
from speechssl.experiment.self_training import self_train
from speechssl.experiment.splits import minutes_of, say, transcribed
from speechssl.experiment.start import Start
from speechssl.interop.sources import open_model
from speechssl.selftraining.sets import has_many_labels
from speechssl.system import NEW_GROUP, ask_to_end
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from speechssl.training.processes import Processes


@dataclass(frozen=True)
class Trainings:
    """The runs of an experiment."""

    out: Path
    unlabeled: Sequence[Utterance]
    labeled: Path
    valid: Path
    size: str
    budget: Budget
    processes: Processes
    start: Start | None

    def do(self, stage: Sequence[Run]) -> bool:
        """The first run in here, the second, if there is one, in a process of its own -> whether
        each has a model to show."""
        first, *others = stage
        if first.self_trains:
            return self._self_train(first)
        if first.pretrains:
            self._pretrain(first)
            return True
        processes = self.processes
        if others and processes != "auto":
            processes = max(processes // 2, 1)
        with ExitStack() as beside:
            for run in others:
                command = self._command(run, processes)
                beside.enter_context(_at_the_same_time(command, self.out / run.name))
            self._finetune(first, processes)
        return True

    def _self_train(self, run: Run) -> bool:
        assert self.start is not None
        teachers = [each for each in runs_of(self.start) if each.is_teacher]
        teacher = min(teachers, key=lambda each: validation_cer(self.out / each.name))
        labeled = transcribed(read_manifest(self.labeled))
        init = teacher.init(self.out, self.start)
        if has_many_labels(labeled):
            init = str(self.out / teacher.name)
        return self_train(
            self.out / run.name,
            self.out / teacher.name,
            init=open_model(init),
            unlabeled=self.unlabeled,
            labeled=labeled,
            valid=transcribed(read_manifest(self.valid)),
            config=student_config(self.size, self.budget, self.start),
            processes=self.processes,
        )

    def _pretrain(self, run: Run) -> None:
        source = f", from {self._called(run)}" if self.start is not None else ""
        minutes = minutes_of(self.unlabeled)
        say(f"\nPretraining on {minutes:.0f} minutes without transcripts{source} ...")
        config = config_of(run, self.size, self.budget, self.start)
        assert isinstance(config, pretraining.PretrainConfig)
        pretraining.pretrain(
            config,
            self.unlabeled,
            self.out / run.name,
            init=self.start.model if run.from_start and self.start is not None else None,
            announce=True,
            processes=self.processes,
        )

    def _finetune(self, run: Run, processes: Processes) -> None:
        train_set, valid_set = (
            transcribed(read_manifest(path)) for path in (self.labeled, self.valid)
        )
        source = f", from {self._called(run)}" if self.start is not None else ""
        minutes = minutes_of(train_set)
        say(f"\nFine-tuning on {minutes:.1f} minutes with transcripts{source} ...")
        config = config_of(run, self.size, self.budget, self.start)
        assert isinstance(config, finetuning.FinetuneConfig)
        init = run.init(self.out, self.start)
        try:
            finetuning.finetune(
                config,
                train_set,
                valid_set,
                self.out / run.name,
                init=open_model(init),
                announce=True,
                processes=processes,
            )
        except ValueError as error:
            if "--batch_s" not in str(error):  # what would fit in memory
                raise
            raise ValueError(f"{error} `speechssl finetune --init {init}` takes these.") from error

    def _called(self, run: Run) -> str:
        """What a run begins with, in words."""
        return run.after or (
            self.start.source if run.from_start and self.start else "fresh weights"
        )

    def _command(self, run: Run, processes: Processes) -> list[str]:
        """The command that fine-tunes with the minutes that the run beside it gets."""
        init = run.init(self.out, self.start)
        command = [sys.executable, "-m", "speechssl.cli", "finetune", "--init", init]
        if init == "scratch":
            command += ["--size", self.size]
        command += ["--train", str(self.labeled), "--valid", str(self.valid)]
        command += ["--out", str(self.out / run.name)]
        minutes = str(self.budget.finetune)
        return [*command, "--budget-minutes", minutes, "--processes", str(processes)]


@contextmanager
def _at_the_same_time(command: Sequence[str], run: Path) -> Iterator[None]:
    """Run a command beside what is done in here, each on half of the cores; its lines go to
    ``RUN.log``, and the last one into the RuntimeError if it fails."""
    all_threads = torch.get_num_threads()
    threads = max(all_threads // 2, 1)
    torch.set_num_threads(threads)
    log = run.with_name(f"{run.name}.log")
    source = command[command.index("--init") + 1]
    how = "from scratch" if source == "scratch" else f"from {source}"
    say(f"\nMeanwhile a model learns {how} on the same transcripts: {log}")
    with log.open("w", encoding="utf-8", newline="\n") as lines:
        beside = subprocess.Popen(
            command,
            stdout=lines,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            creationflags=NEW_GROUP,
        )
    try:
        yield
        code = beside.wait()
    finally:
        torch.set_num_threads(all_threads)
        if beside.poll() is None:
            ask_to_end(beside)  # it saves its state
            beside.wait()
    if code:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"Fine-tuning {how} failed: {''.join(last)} See {log}.")
