"""The last training of an experiment: a student of the best model that began with the seed."""

import json
import shutil

import pytest

from speechssl import seed
from speechssl.checkpoint import load_model
from speechssl.decoding.beam import BeamDecoder
from speechssl.experiment import plan, self_training
from speechssl.experiment.plan import Budget
from speechssl.experiment.start import Start
from speechssl.interop.sources import open_model
from speechssl.selftraining import rounds, sets
from speechssl.selftraining.gate import Label
from speechssl.training.inputs import digest_of_model
from tests.experiment.job import MICRO, Job
from tests.seed.seeds import put_seed

STUDENT = "from-seed-self-trained"


@pytest.fixture
def job(monkeypatch, record, tmp_path) -> Job:
    put_seed(monkeypatch, tmp_path / "package" / "seed", MICRO)
    job = Job(record, tmp_path)
    job.add(*(f"r{i:02}" for i in range(30)))
    job.transcribe(*(f"r{i:02}" for i in range(20)))
    return job


@pytest.fixture
def written(monkeypatch):
    """A teacher that writes sentences, where one of two updates writes nothing, and a student with
    fewer errors."""
    seen = []

    def label_pool(_, pool, *__, decode, **___):
        seen.append((sorted(u.audio.stem for u in pool), decode))
        return [Label(u, f"sentence {u.audio.stem}", 0.9) for u in pool]

    monkeypatch.setattr(rounds, "label_pool", label_pool)
    monkeypatch.setattr(rounds, "decide", lambda made, **_: (len(made) - 1, ""))
    return seen


def test_the_student_is_compared_with_all_the_others(job, written, capsys):
    job.run()
    said = capsys.readouterr()
    [(pool, decode)] = written
    assert pool == [f"r{i}" for i in range(20, 30)]  # what has no transcript
    assert isinstance(decode, BeamDecoder)
    assert "transcribes 0 minutes without transcripts, and a model learns" in said.err
    results = json.loads((job.out / "results.json").read_text())
    others = ["from-seed-pretrained", "from-seed", "pretrained", "from-scratch"]
    assert list(results["models"]) == [STUDENT, *others]
    assert next(iter(results["differences"])) == f"{STUDENT} against from-scratch"
    assert {f"{STUDENT} against {other}" for other in others} <= set(results["differences"])
    assert STUDENT in said.out
    page = (job.out / "report.html").read_text()
    assert f">{STUDENT}<" in page
    assert ">student<" not in page
    meta = load_model(job.out / STUDENT).meta
    assert meta["selftraining_round"] == 1
    assert meta["label_minutes"] < meta["train_minutes"]


def test_it_is_done_once_and_anew_when_more_is_transcribed(job, written, capsys):
    job.run()
    before = job.model(STUDENT)
    job.run()
    assert job.model(STUDENT) == before
    assert len(written) == 1
    job.transcribe(*(f"r{i:02}" for i in range(20, 25)))
    capsys.readouterr()
    job.run()
    said = capsys.readouterr()
    assert f"{STUDENT} begun anew" in said.err
    assert job.model(f"earlier-1/{STUDENT}") == before
    assert len(written[1][0]) < len(written[0][0])
    changed = json.loads((job.out / "results.json").read_text())["changes"]
    assert changed[STUDENT]["minutes_before"] < changed[STUDENT]["minutes"] < 1
    # What it learned from is gone: it is not taken for a student of the model that is there.
    shutil.rmtree(job.out / "from-seed")
    job.run()
    assert "earlier-2" in capsys.readouterr().err
    assert job.model(f"earlier-2/{STUDENT}")


def test_a_student_that_is_no_better_is_not_offered(job, capsys):
    job.run()  # with labels of nothing, which the gate refuses
    said = capsys.readouterr()
    assert "The student is not kept: the gate of round 1 keeps no label" in said.err
    assert STUDENT not in json.loads((job.out / "results.json").read_text())["models"]
    assert STUDENT not in said.out


def test_without_a_recording_that_nobody_transcribed_there_is_none(job, written, capsys):
    job.transcribe(*(f"r{i:02}" for i in range(30)))
    job.run()
    assert "No self-training: every recording has a transcript." in capsys.readouterr().err
    assert written == []
    assert not (job.out / STUDENT).exists()


def test_transcripts_of_which_no_language_model_can_be_made_are_no_obstacle(
    job, written, monkeypatch, capsys
):
    def refuse(*_):
        raise ValueError("Too few.")

    monkeypatch.setattr(self_training, "labels_lm", refuse)
    job.run()
    assert "Transcribed without a language model: Too few." in capsys.readouterr().err
    assert written[0][1] is rounds.greedy_decode


def test_of_a_large_pool_a_random_part_is_transcribed(job, written, monkeypatch):
    """So that a budget is kept: the same part each time."""
    monkeypatch.setattr(self_training, "MOST", 4 / 60 / Budget.of(5.0, small()).selftrain)
    job.run()
    [(pool, _)] = written
    assert len(pool) == 4
    assert pool != [f"r{i}" for i in range(20, 24)]
    shutil.rmtree(job.out / STUDENT)
    job.run()
    assert written[1][0] == pool


def small() -> Start:
    return Start("seed", load_model(seed.FOLDER / "tiny"))


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("many", [False, True])
def test_of_models_that_began_with_the_start_the_best_teaches(many, job, monkeypatch):
    """Its student begins with what it began with itself, or with many labels with the teacher."""
    taught = []
    real = self_training.selftrain

    def noted(config, model, *args, init, **options):
        taught.append((digest_of_model(model), digest_of_model(init)))
        return real(config, model, *args, init=init, **options)

    monkeypatch.setattr(self_training, "selftrain", noted)
    if many:
        monkeypatch.setattr(sets, "MANY_LABELS_MIN", 0.0)
    job.run()
    begun = {"from-seed-pretrained": job.out / "pretrain-from-seed", "from-seed": seed.NAME}
    assert [run.name for run in plan.runs_of(small()) if run.is_teacher] == [*begun]
    best = min(begun, key=lambda name: load_model(job.out / name).meta["valid"]["cer"])
    teacher = digest_of_model(load_model(job.out / best))
    init = teacher if many else digest_of_model(open_model(str(begun[best])))
    assert taught == [(teacher, init)]
