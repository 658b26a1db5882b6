"""The folder of a comparison whose numbers are known, without any training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from speechssl.compare.config import CONDITIONS, CompareConfig
from speechssl.compare.corpus import Corpus
from speechssl.compare.entries import SCRATCH, Entry, causal
from speechssl.compare.jobs import SCORES, Job, write_done
from speechssl.compare.plan import LOG_MEL, UNTRAINED, Plan
from speechssl.compare.scores import Scores
from speechssl.data.manifest import Utterance
from speechssl.rng import rng
from speechssl.training.pretrain import PretrainConfig
from tests.experiment.job import MICRO

CERS = {
    "masked_units": {"10": 0.45, "60": 0.33},
    "masked_units+reconstruction=0.5": {"10": 0.447, "60": 0.328},
    "wav2vec": {"10": 0.60, "60": 0.47},
    "future_frames": {"10": 0.56, "60": 0.41},
    SCRATCH: {"10": 0.58, "60": 0.40, "all": 0.30},
    f"{SCRATCH}, causal": {"10": 0.64, "60": 0.49, "all": 0.41},
}
"""Of each entry by label budget."""
CAUSAL = ("wav2vec", "future_frames", f"{SCRATCH}, causal")
HARDER = dict(zip(CONDITIONS, (1.0, 1.05, 1.3, 1.5, 1.8, 1.6, 1.1, 1.25), strict=True))
"""How many times as many errors each condition makes."""
NUM_UTTERANCES, LENGTH, SPEAKERS = 120, 40, 8


def utterances(num: int, seconds: float, name: str) -> tuple[Utterance, ...]:
    return tuple(
        Utterance(f"{name}{i}", Path("x.wav"), 0.0, seconds, 16000, f"s{i % SPEAKERS}", f"text {i}")
        for i in range(num)
    )


def scores(cer: float, *key: str | int) -> Scores:
    """Of so many errors, spread by chance; speakers differ."""
    hard = np.array([0.7 + 0.6 * (i % SPEAKERS) / (SPEAKERS - 1) for i in range(NUM_UTTERANCES)])
    errors = rng(0, "errors", *key).binomial(LENGTH, np.clip(cer * hard, 0, 1))
    words = np.minimum(1 + errors // 6, 8)
    counts = np.stack(
        [np.full(NUM_UTTERANCES, 8), words, np.full(NUM_UTTERANCES, LENGTH), errors], 1
    )
    names = utterances(NUM_UTTERANCES, 3.0, "test")
    return Scores(tuple(u.id for u in names), tuple(u.speaker for u in names), counts, ())


def finished(out: Path, seeds: tuple[int, ...] = (0, 1), without: tuple[str, ...] = ()) -> Plan:
    """Write it, but for the jobs `without`, and return its plan."""
    config = CompareConfig(
        tasks=tuple(name for name in CERS if SCRATCH not in name),
        minutes=30.0,
        scratch_labels=("all",),
        seeds=seeds,
    )
    entries, jobs = [], []
    for name, cers in CERS.items():
        form = causal(MICRO) if name in CAUSAL else MICRO
        baseline = "" if SCRATCH in name else SCRATCH + ", causal" * (name in CAUSAL)
        entry = Entry(name, form, baseline, PretrainConfig(model=form) if baseline else None)
        entries.append(entry)
        if baseline:
            first = Job(f"pretrain/{entry.slug}-seed-0", "pretrain", name, {})
            jobs.append(first)
            write_done(first.folder(out), {"steps": 5000, "minutes": 30.0})
            jobs.append(Job(f"probe/{entry.slug}", "probe", name, {}))
            _probe(jobs[-1].folder(out), [0.5 - 0.2 * cers["10"] * i for i in (0, 1, 2, 1.5)])
        for labels, cer in cers.items():
            for seed in seeds:
                job = Job(f"finetune/{entry.slug}-{labels}-{seed}", "finetune", name, {})
                job = replace(job, labels=labels, seed=seed, conditions=CONDITIONS)
                jobs.append(job)
                _finetuning(job, out, cer + 0.01 * seeds.index(seed))
    for name, rates in {UNTRAINED: [0.5, 0.55, 0.6, 0.6], LOG_MEL: [0.52]}.items():
        jobs.append(Job(f"probe/{name}", "probe", name, {}))
        _probe(jobs[-1].folder(out), rates)
    for job in jobs:
        if job.name in without:
            (job.folder(out) / "done.json").unlink()
    corpus = Corpus(
        (utterances(2400, 3.0, "train"),),
        utterances(60, 3.0, "dev"),
        utterances(NUM_UTTERANCES, 3.0, "test"),
        "the 120 transcribed utterances of test.jsonl",
    )
    steps = {"10": 1000, "60": 2000, "all": 2650}
    return Plan(config, corpus, tuple(entries), tuple(jobs), steps, "character", 2)


def _finetuning(job: Job, out: Path, cer: float) -> None:
    folder = job.folder(out)
    write_done(folder, {"steps": 1000, "minutes": 6.0 if job.labels == "10" else 11.0})
    for condition in job.conditions:
        found = scores(cer * HARDER[condition], job.entry, job.labels, job.seed, condition)
        found.write(folder / SCORES / f"{condition}.json")
    curve = [
        {"step": i, "time_s": 30.0 * i, "valid/cer": cer + (1 - cer) * np.exp(-i / 4)}
        for i in range(1, 13)
    ]
    lines = (json.dumps(record) for record in curve)
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def _probe(folder: Path, rates: list[float]) -> None:
    result = {
        "metric": "character error rate",
        "higher_is_better": False,
        "about": "27 characters; 10.0 minutes to learn from, 3.0 to judge",
        "layers": [[rate, rate - 0.02, rate + 0.02] for rate in rates],
        "minutes": 1.0,
    }
    write_done(folder, result)
