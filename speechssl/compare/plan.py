"""The jobs of a comparison, and what they will cost, before any of them begins."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from speechssl.compare.config import ALL, CompareConfig, default_steps
from speechssl.compare.corpus import Corpus, check_budgets
from speechssl.compare.entries import Entry, check_settings_are_used, configs, find_entries
from speechssl.compare.jobs import Job, minutes_of_jobs
from speechssl.config.json import to_json
from speechssl.durations import duration_text
from speechssl.model.config import ModelConfig
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.speech_model import SpeechModel
from speechssl.probing.classify import MAX_WORDS
from speechssl.probing.probe import STEPS, TaskName
from speechssl.spelling import name_key
from speechssl.system import num_cpus
from speechssl.training.finetune import FinetuneConfig

LOG_MEL, UNTRAINED = "log-mel", "untrained"
"""What is probed beside the entries."""
_SCORING_SPEED = 60.0
"""Times real time at which one core transcribes the test set, for the estimate."""
_MEASURED_S = 6.0
"""Seconds of noise on which an update is measured."""


@dataclass(frozen=True)
class Plan:
    """All of a comparison."""

    config: CompareConfig
    corpus: Corpus
    entries: tuple[Entry, ...]
    jobs: tuple[Job, ...]
    steps: dict[str, int]
    """Updates of fine-tuning by label budget."""
    probe: TaskName | None
    num_processes: int

    @property
    def minutes(self) -> float:
        """Wall time of all jobs, about: no less than the longest chain of jobs that wait."""
        return minutes_of_jobs(self.jobs, self.num_processes)

    def describe(self) -> str:
        """For a person, before anything begins."""
        kinds = [job.kind for job in self.jobs]
        num_scratch = sum(not e.baseline for e in self.entries)
        lines = [
            f"{len(self.entries)} entries: {', '.join(e.name for e in self.entries)}.",
            f"{kinds.count('pretrain')} pretrainings of {self._length()}, "
            f"{kinds.count('finetune')} fine-tunings ({self._budgets()}; seeds "
            f"{', '.join(map(str, self.config.seeds))}; {num_scratch} from scratch), "
            f"{kinds.count('probe')} probes ({self.probe or 'none'}).",
            f"Train {self.corpus.train_minutes:.1f} min, of which {self.corpus.label_minutes:.1f} "
            f"min are transcribed; test: {self.corpus.test_rule}.",
            f"{len(self.jobs)} jobs, {self.num_processes} at a time with one thread each: about "
            f"{duration_text(60 * self.minutes)}.",
        ]
        lines += [f"{e.name}: {note}." for e in self.entries for note in e.notes]
        return "\n".join(lines)

    def _length(self) -> str:
        if self.config.minutes is not None:
            return f"{self.config.minutes:g} min"
        return f"{self.config.max_steps} updates"

    def _budgets(self) -> str:
        return ", ".join(f"{title(b)} x {steps} updates" for b, steps in self.steps.items())


def title(budget: str) -> str:
    """A label budget as it is shown."""
    return budget if budget == ALL else f"{float(budget):g} min"


def make_plan(config: CompareConfig, corpus: Corpus) -> Plan:
    """The jobs, in the order in which they should begin.

    Raises ValueError for what cannot be done.
    """
    budgets = list(dict.fromkeys([*config.labels, *config.scratch_labels]))
    check_budgets(corpus, budgets)
    check_settings_are_used(config)
    entries = find_entries(config)
    _, tuning = configs(config)
    steps = _steps(config, corpus, budgets)
    probe = choose_probe(config, corpus)
    costs = {entry.name: update_s(entry.form, tuning) for entry in entries}
    jobs = [job for entry in entries for job in _pretrainings(entry, config, corpus, costs)]
    for entry in entries:
        own = config.labels if entry.baseline else budgets
        for budget in own:
            for seed in config.seeds:
                cost = steps[budget] * costs[entry.name] / 60
                jobs.append(_tuning(entry, config, corpus, tuning, budget, seed, steps, cost))
    if probe:
        jobs += _probes(entries, config, corpus, probe)
    order = {"pretrain": 0, "finetune": 1, "probe": 2}
    jobs.sort(key=lambda job: order[job.kind])
    num = min(config.processes or num_cores(), len(jobs))
    return Plan(config, corpus, tuple(entries), tuple(jobs), steps, probe, num)


def _steps(config: CompareConfig, corpus: Corpus, budgets: Sequence[str]) -> dict[str, int]:
    given = config.finetune_steps
    if len(given) > 1:
        return dict(zip(config.labels, given, strict=True))
    minutes = {b: corpus.label_minutes if b == ALL else float(b) for b in budgets}
    return {b: given[0] if given else default_steps(m) for b, m in minutes.items()}


def pretraining_name(entry: Entry, config: CompareConfig, budget: str, seed: int) -> str:
    """The job that an entry's fine-tuning goes on from."""
    seed = seed if config.pretrain_each_seed or entry.uses_text else config.seed
    labels = f"-{folder_name(budget)}" if entry.uses_text else ""
    return f"pretrain/{entry.slug}{labels}-seed-{seed}"


def folder_name(budget: str) -> str:
    return budget if budget == ALL else f"{float(budget):g}-min"


def _pretrainings(
    entry: Entry, config: CompareConfig, corpus: Corpus, costs: dict[str, float]
) -> list[Job]:
    """One; one for each seed where asked for; one for each label budget and seed where it learns
    from the transcripts."""
    if entry.pretrain is None:
        return []
    run, jobs = entry.pretrain, {}
    update = costs[entry.name] * run.batch_s * run.loop.accumulate  # per second of audio
    minutes = config.minutes or run.loop.max_steps * update / 60
    for budget in config.labels:
        for seed in config.seeds:
            name = pretraining_name(entry, config, budget, seed)
            own = int(name.rsplit("-", 1)[1])
            spec: dict[str, Any] = {
                "config": to_json(replace(run, loop=replace(run.loop, seed=own))),
                "labels": budget if entry.uses_text else None,
                "data": corpus.digests(),
            }
            jobs[name] = Job(
                name, "pretrain", entry.name, spec, minutes=minutes, labels=budget, seed=own
            )
    return list(jobs.values())


def _tuning(
    entry: Entry,
    config: CompareConfig,
    corpus: Corpus,
    tuning: FinetuneConfig,
    budget: str,
    seed: int,
    steps: dict[str, int],
    cost: float,
) -> Job:
    """A fine-tuning and its scores."""
    loop = replace(tuning.loop, max_steps=steps[budget], seed=seed)
    first = pretraining_name(entry, config, budget, seed) if entry.pretrain else ""
    spec = {
        "config": to_json(replace(tuning, model=entry.form, loop=loop)),
        "from": first,
        "model": entry.source and [entry.source, entry.digest],
        "labels": budget,
        "data": corpus.digests(),
        "normalize": config.normalize,
        "lm": config.lm,
    }
    conditions = tuple(dict.fromkeys(("clean", *config.conditions)))
    test_s = sum(u.duration_s for u in corpus.test)
    return Job(
        f"finetune/{entry.slug}-{folder_name(budget)}-seed-{seed}",
        "finetune",
        entry.name,
        spec,
        (first,) if first else (),
        cost * tuning.batch_s * tuning.loop.accumulate
        + len(conditions) * test_s / 60 / _SCORING_SPEED,
        budget,
        seed,
        conditions,
    )


def _probes(
    entries: Sequence[Entry], config: CompareConfig, corpus: Corpus, task: TaskName
) -> list[Job]:
    """Of each pretrained entry, and of log-mel and a model with fresh weights beside them."""
    pretrained = [entry for entry in entries if entry.baseline]
    jobs = []
    for name in (*(entry.name for entry in pretrained), UNTRAINED, LOG_MEL):
        entry = next((e for e in pretrained if e.name == name), entries[-1])
        first = ""
        if entry.pretrain and entry.name == name:
            first = pretraining_name(entry, config, config.labels[0], config.seed)
        form = next(e for e in entries if not e.baseline).form
        spec = {
            "task": task,
            "minutes": config.probe_minutes,
            "steps": STEPS,
            "seed": config.seed,
            "from": first,
            "model": entry.source and [entry.source, entry.digest],
            "form": to_json(form) if name in (UNTRAINED, LOG_MEL) else None,
            "data": corpus.digests(),
        }
        slug = entry.slug if entry.name == name else name
        after = (first,) if first else ()
        minutes = 0.2 if task != "character" else 1.5
        jobs.append(Job(f"probe/{slug}", "probe", name, spec, after, minutes))
    return jobs


def choose_probe(config: CompareConfig, corpus: Corpus) -> TaskName | None:
    """What the probes tell; see :class:`CompareConfig`."""
    if config.probe == "none":
        return None
    if config.probe != "auto":
        return config.probe
    learned = {name_key(u.text or "") for u in corpus.labeled}
    judged = {name_key(u.text or "") for u in corpus.dev}
    return "digit" if 2 <= len(learned) <= MAX_WORDS and judged <= learned else "character"


def update_s(form: ModelConfig, tuning: FinetuneConfig) -> float:
    """Seconds of one core for an update, for each second of audio: measured."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            model = accelerate(SpeechModel(form)).train()
            wave = 0.1 * torch.randn(2, int(_MEASURED_S / 2 * form.sample_rate))
        lengths = torch.tensor([wave.shape[1]] * 2)
        best = float("inf")
        for _ in range(3):
            started = time.monotonic()
            model(wave, lengths).context.square().mean().backward()
            best = min(best, time.monotonic() - started)
    finally:
        torch.set_num_threads(threads)
    views = 2 if tuning.consistency else 1
    return views * best / _MEASURED_S


def num_cores() -> int:
    """Physical cores that this process may use; one where a GPU does the work."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    if not hasattr(os, "sched_getaffinity"):
        return num_cpus()
    cores = set()
    for number in os.sched_getaffinity(0):
        path = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        cores.add(path.read_text(encoding="ascii") if path.exists() else str(number))
    return len(cores)
