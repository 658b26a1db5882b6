"""The jobs of a comparison: how many, in which order, on which labels, and how long they take."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from speechssl.compare import plan as planning
from speechssl.compare import work
from speechssl.compare.config import CompareConfig
from speechssl.compare.corpus import Corpus
from speechssl.compare.jobs import Job, minutes_of_jobs
from speechssl.compare.plan import choose_probe, make_plan, num_cores
from speechssl.data.manifest import Utterance
from speechssl.pretext.task import PretextTask, TaskConfig
from speechssl.pretext.tasks import TASKS

pytestmark = pytest.mark.usefixtures("micro")


@dataclass(frozen=True)
class ReaderConfig(TaskConfig):
    """A task that learns from transcripts."""

    name: ClassVar[str] = "reader"
    uses_text: ClassVar[bool] = True

    def build(self, _model, resources):
        assert resources.tokenizer is not None
        task = PretextTask()
        task.name = "reader"
        return task


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setitem(TASKS, "reader", ReaderConfig)
    monkeypatch.setattr(planning, "update_s", lambda *_: 0.01)


def utterances(num, seconds, name, text="text") -> tuple[Utterance, ...]:
    return tuple(
        Utterance(f"{name}{i}", Path("x.wav"), 0.0, seconds, 16000, None, f"{text} {i}")
        for i in range(num)
    )


CORPUS = Corpus(
    (utterances(400, 6.0, "train"), utterances(100, 6.0, "train")),
    utterances(20, 6.0, "dev"),
    utterances(20, 6.0, "test"),
    "the rule",
)


def asked(*tasks, **settings) -> CompareConfig:
    return CompareConfig(**{"tasks": tasks, "minutes": 12.0, **settings})


def names(plan, kind) -> list[str]:
    return [job.name.partition("/")[2] for job in plan.jobs if job.kind == kind]


def test_every_entry_label_budget_and_seed():
    plan = make_plan(asked("masked_units", labels=("1", "all"), scratch_labels=("2.5",)), CORPUS)
    assert names(plan, "pretrain") == ["masked_units-seed-0"]
    assert names(plan, "finetune") == [
        "masked_units-1-min-seed-0",
        "masked_units-1-min-seed-1",
        "masked_units-all-seed-0",
        "masked_units-all-seed-1",
        *(f"from-scratch-{b}-seed-{s}" for b in ("1-min", "all", "2.5-min") for s in (0, 1)),
    ]
    assert names(plan, "probe") == ["masked_units", "untrained", "log-mel"]
    tuned = {job.name: job for job in plan.jobs if job.kind == "finetune"}
    assert tuned["finetune/masked_units-all-seed-1"].after == ("pretrain/masked_units-seed-0",)
    assert tuned["finetune/from-scratch-all-seed-1"].after == ()
    kinds = [job.kind for job in plan.jobs]
    assert kinds == sorted(kinds, key=["pretrain", "finetune", "probe"].index)


def test_all_have_the_same_updates_settings_and_seeds():
    plan = make_plan(asked("masked_units", "contrastive", labels=("1",)), CORPUS)
    for seed in (0, 1):
        specs = [j.spec for j in plan.jobs if j.kind == "finetune" and j.seed == seed]
        assert len(specs) == 3
        assert all(spec["config"] == specs[0]["config"] for spec in specs)
        assert specs[0]["config"]["loop"]["seed"] == seed
    first = [j.spec["config"]["loop"] for j in plan.jobs if j.kind == "pretrain"]
    assert [loop["budget_minutes"] for loop in first] == [12.0, 12.0]


def test_pretraining_anew_for_each_seed():
    plan = make_plan(asked("masked_units", labels=("1",), pretrain_each_seed=True), CORPUS)
    assert names(plan, "pretrain") == ["masked_units-seed-0", "masked_units-seed-1"]
    after = [j.after for j in plan.jobs if j.name.startswith("finetune/masked_units")]
    assert after == [("pretrain/masked_units-seed-0",), ("pretrain/masked_units-seed-1",)]
    seeds = [j.spec["config"]["loop"]["seed"] for j in plan.jobs if j.kind == "pretrain"]
    assert seeds == [0, 1]


def test_a_task_that_learns_from_transcripts_is_pretrained_for_each_label_budget(
    tmp_path, monkeypatch
):
    plan = make_plan(asked("reader", labels=("1", "2"), probe="none"), CORPUS)
    assert names(plan, "pretrain") == [f"reader-{b}-min-seed-{s}" for b in (1, 2) for s in (0, 1)]
    assert "learns from the transcripts of the label budget" in plan.describe()
    seen = []

    def pretrain(_config, train_set, _folder, *, valid_set):
        seen.append(list(train_set))
        assert len(valid_set) == 20
        return SimpleNamespace(steps=1, elapsed_s=1.0, best_step=1, best_score=0.0)

    monkeypatch.setattr(work, "pretrain", pretrain)
    CORPUS.write(tmp_path / work.DATA)
    for job in (job for job in plan.jobs if job.kind == "pretrain"):
        job.write(tmp_path)
        work.run_job(tmp_path, job.name)
        chosen = {u.id for u in work.choose_labels(CORPUS, job.labels, job.seed)}
        assert {u.id for u in seen[-1] if u.is_labeled} == chosen
        assert len(seen[-1]) == 500  # all of the recordings
    assert [sum(u.is_labeled for u in each) for each in seen] == [10, 10, 20, 20]


def test_other_tasks_get_the_corpora_as_they_are(tmp_path, monkeypatch):
    plan = make_plan(asked("masked_units", labels=("1",), probe="none"), CORPUS)
    seen = []

    def pretrain(_config, train_set, _folder, **_):
        seen.append(train_set.sizes())
        return SimpleNamespace(steps=1, elapsed_s=1.0, best_step=1, best_score=0.0)

    monkeypatch.setattr(work, "pretrain", pretrain)
    CORPUS.write(tmp_path / work.DATA)
    plan.jobs[0].write(tmp_path)
    work.run_job(tmp_path, plan.jobs[0].name)
    assert seen == [[400, 100]]


def test_the_labels_are_the_same_for_all_and_others_for_each_seed():
    one, again, other = (
        [u.id for u in work.choose_labels(CORPUS, "1", seed)] for seed in (0, 0, 1)
    )
    assert one == again != other
    assert len(one) == 10
    assert len(work.choose_labels(CORPUS, "all", 0)) == 500


def test_the_plan_in_words():
    plan = make_plan(asked("masked_units", labels=("1", "all"), processes=3), CORPUS)
    said = plan.describe()
    assert said.startswith(
        "2 entries: masked_units, from scratch.\n1 pretrainings of 12 min, 8 fine"
    )
    assert "(1 min x 400 updates, all x 1850 updates; seeds 0, 1; 1 from scratch)" in said
    assert "Train 50.0 min, of which 50.0 min are transcribed; test: the rule." in said
    assert "12 jobs, 3 at a time with one thread each: about " in said


@pytest.mark.parametrize(
    ("steps", "found"),
    [((), {"1": 400, "all": 1850}), ((7,), {"1": 7, "all": 7}), ((7, 9), {"1": 7, "all": 9})],
)
def test_updates_for_all_label_budgets_or_for_each(steps, found):
    assert (
        make_plan(asked("masked_units", labels=("1", "all"), finetune_steps=steps), CORPUS).steps
        == found
    )


def test_about_how_long_it_takes():
    jobs = [Job(str(i), "pretrain", "", {}, minutes=30.0) for i in range(4)]
    assert minutes_of_jobs([], 2) == 0
    assert minutes_of_jobs(jobs, 2) == 60
    assert minutes_of_jobs(jobs, 100) == 30
    later = replace(jobs[0], after=("1",), minutes=10.0)
    assert minutes_of_jobs([*jobs, later], 100) == 40  # it has to wait


@pytest.mark.parametrize(
    ("words", "asked_for", "found"),
    [
        (("one", "two"), "auto", "digit"),
        (("one", "two", *map(str, range(200))), "auto", "character"),
        (("one",), "auto", "character"),
        (("one", "two"), "character", "character"),
        (("one", "two"), "speaker", "speaker"),
        (("one", "two"), "none", None),
    ],
)
def test_what_the_probes_ask(words, asked_for, found):
    made = tuple(
        Utterance(f"u{i}", Path("x.wav"), 0.0, 1.0, 16000, None, w) for i, w in enumerate(words)
    )
    assert choose_probe(asked("x", probe=asked_for), Corpus((made,), made, made, "")) == found
    unknown = (replace(made[0], text="nobody says this"),)
    expected = {"digit": "character"}.get(found, found) if asked_for == "auto" else found
    assert choose_probe(asked("x", probe=asked_for), Corpus((made,), unknown, made, "")) == expected


def test_cores():
    assert 1 <= num_cores() <= (os.cpu_count() or 1)
