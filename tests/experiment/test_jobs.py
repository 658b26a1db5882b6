"""The whole job on a folder, and what becomes of it when more is transcribed."""

import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

from speechssl.data.manifest import read_manifest
from speechssl.experiment import demo, folder, jobs, stages, stale
from speechssl.experiment.plan import Budget
from speechssl.training import finetune as finetuning
from speechssl.training import precision, runfolder
from speechssl.training import pretrain as pretraining
from speechssl.training.resume import newest_progress
from tests.experiment.job import Job, bytes_in, is_taken, taken


def test_the_same_command_again_does_nothing_anew(job, capsys):
    models, data = job.models(), (job.out / "data" / "train.jsonl").read_bytes()
    job.run()
    assert job.models() == models
    assert (job.out / "data" / "train.jsonl").read_bytes() == data
    assert not (job.out / "earlier-1").exists()
    assert "begun anew" not in capsys.readouterr().err


@pytest.mark.parametrize("how", ["copied", "moved", "linked"])
def test_recordings_that_are_elsewhere_now_are_the_same_ones(job, how):
    held = job.transcribed("dev"), job.transcribed("test")
    job.transcribe(*(f"r{i:02}" for i in range(20, 40)))
    job.run()  # another split than one that is made anew
    models, old, job.recordings = job.models(), job.recordings, job.folder / "elsewhere"
    if how == "copied":
        shutil.copytree(old, job.recordings)
    elif how == "moved":
        old.rename(job.recordings)
    else:
        job.recordings.symlink_to(old)
    job.run()
    assert (job.transcribed("dev"), job.transcribed("test")) == held
    assert job.models() == models
    assert not (job.out / "earlier-2").exists()


def test_manifests_that_were_deleted_are_made_again(job):
    models, data = job.models(), (job.out / "data" / "train.jsonl").read_bytes()
    shutil.rmtree(job.out / "data")
    job.run()
    assert job.models() == models
    assert (job.out / "data" / "train.jsonl").read_bytes() == data


def test_a_test_set_that_has_become_small_is_told(job, capsys):
    new = [f"n{i:03}" for i in range(40)]
    job.add(*new)
    job.run()  # without transcripts: all of them are trained on
    assert "Tested on are" not in capsys.readouterr().err
    job.transcribe(*(f"r{i:02}" for i in range(20, 40)), *new)
    job.run()
    assert "Tested on are the 2 of 80 transcribed recordings" in capsys.readouterr().err


def test_other_settings_are_refused_before_anything_is_changed(job):
    models, data = job.models(), (job.out / "data" / "train.jsonl").read_bytes()
    job.transcribe("r30")
    with pytest.raises(ValueError, match="of another --budget-minutes or --size"):
        job.run(minutes=6.0)
    assert job.models() == models
    assert (job.out / "data" / "train.jsonl").read_bytes() == data
    assert not (job.out / "earlier-1").exists()
    job.run()
    assert job.model("earlier-1/pretrained") == models["pretrained"]


def test_a_wrong_table_does_not_undo_what_was_held_out(job):
    held, texts = job.transcribed("test"), job.texts
    job.texts = {"r00.wav": "alone"}
    with pytest.raises(ValueError, match="transcribe at least twenty"):
        job.run()
    job.texts = texts
    job.run()
    assert job.transcribed("test") == held
    assert not (job.out / "earlier-1").exists()


def test_a_folder_with_too_few_transcripts_is_split_anew(record, tmp_path):
    job = Job(record, tmp_path)
    job.add(*(f"r{i:02}" for i in range(30)))
    job.transcribe("r00")
    with pytest.raises(ValueError, match="transcribe at least twenty"):
        job.run()
    job.transcribe(*(f"r{i:02}" for i in range(25)))
    job.run()
    assert job.transcribed("dev")
    assert job.transcribed("test")


def test_a_finished_run_has_nothing_left_to_do(job, capsys):
    job.run()
    said = capsys.readouterr().err
    assert said.count("The run has ended at step 2 of 2.") == 3
    assert "Going on from" not in said


needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="no fcntl")


@needs_locks
@pytest.mark.parametrize("place", ["", "from-scratch"])
def test_a_second_command_is_kept_out_before_anything_is_changed(job, place, monkeypatch):
    """Also where the first was killed, and the fine-tuning that it started lives on."""
    before = bytes_in(job.out)
    job.transcribe("r30")
    with (
        taken(job.out / place, monkeypatch),
        pytest.raises(runfolder.BusyRunError, match=f"at work in .*out/?{place}: "),
    ):
        job.run()
    assert bytes_in(job.out) == before
    job.run()
    assert (job.out / "earlier-1" / "from-scratch").exists()


@needs_locks
def test_others_are_kept_out_from_the_first_file_to_the_last(job, monkeypatch):
    seen = {}

    def watch(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def watched(*args, **options):
            seen[name] = is_taken(job.out)
            return real(*args, **options)

        monkeypatch.setattr(module, name, watched)

    names = {"prepare": folder, "_set_aside": stale}
    names |= dict.fromkeys(("evaluate", "write_results", "in_words"), jobs)
    for name, module in names.items():
        watch(module, name)
    job.transcribe("r30")
    job.run()
    assert seen == dict.fromkeys(names, True)
    assert not is_taken(job.out)


@needs_locks
def test_a_second_demo_is_kept_out(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "make_corpus", lambda *_, **__: pytest.fail("it is made"))
    with taken(tmp_path, monkeypatch), pytest.raises(runfolder.BusyRunError, match="at work in"):
        demo(tmp_path, 3.0)


@pytest.mark.parametrize("gone", [(), ("pretrain",), ("pretrain", "pretrained")])
def test_other_settings_of_any_run_are_refused_before_the_work(job, gone):
    for run in gone:
        shutil.rmtree(job.out / run)
    before = bytes_in(job.out)
    with pytest.raises(ValueError, match="another --budget-minutes or --size") as refused:
        job.run(minutes=6.0)
    assert "--resume" not in str(refused.value)
    assert bytes_in(job.out) == before


@pytest.mark.parametrize("began", ["fp32", "bf16"])
def test_the_precision_that_was_fastest_is_no_other_setting(job, monkeypatch, began):
    """It is timed: of a CPU with or without units for bfloat16 either may be the fastest one."""
    first = replace(pretraining.preset("tiny"), precision="auto")
    second = replace(finetuning.preset("tiny"), precision="auto")
    monkeypatch.setattr(pretraining, "preset", lambda _: first)
    monkeypatch.setattr(finetuning, "preset", lambda _: second)
    monkeypatch.setattr(
        precision, "timed_choice", lambda *_: SimpleNamespace(precision=began, sentence=str)
    )
    shutil.rmtree(job.out)
    job.run()
    job.transcribe("r30")
    job.run()
    for run in ("pretrain", "from-scratch"):
        assert newest_progress(job.out / run).config["precision"] == began


def test_demo_refuses_other_minutes_in_its_own_words(job, monkeypatch):
    paths = {name: job.out / "data" / f"{name}.jsonl" for name in ("train", "dev", "test")}
    corpus = SimpleNamespace(**paths, unlabeled=paths["train"], note="", sha256="0" * 64)
    out = job.folder / "demo"
    monkeypatch.setattr(jobs, "make_corpus", lambda *_, **__: corpus)
    assert demo(out, 3.0) == 0
    before = bytes_in(out)
    monkeypatch.setattr(jobs, "make_corpus", lambda *_, **__: pytest.fail("it is made"))
    with pytest.raises(ValueError, match=r"the result of another --minutes, or .*another --out\.$"):
        demo(out, 4.0)
    assert bytes_in(out) == before


@pytest.mark.parametrize(("asked", "half"), [("auto", "auto"), (1, 1), (2, 1), (5, 2), (8, 4)])
def test_pretraining_has_all_processes_and_each_fine_tuning_half(asked, half, job, monkeypatch):
    """The model from scratch learns beside the fine-tuning, not beside the pretraining."""
    seen = []

    def noted(name):
        return lambda *_, processes, **__: seen.append((name, processes))

    @contextmanager
    def beside(command, _):
        seen.append(("from scratch", command[command.index("--processes") + 1]))
        yield

    monkeypatch.setattr(pretraining, "pretrain", noted("pretrain"))
    monkeypatch.setattr(finetuning, "finetune", noted("finetune"))
    monkeypatch.setattr(stages, "_at_the_same_time", beside)
    data = job.out / "data"
    jobs.compare_with_scratch(
        unlabeled=read_manifest(data / "train.jsonl"),
        labeled=data / "train.jsonl",
        valid=data / "dev.jsonl",
        test=read_manifest(data / "test.jsonl"),
        out=job.out,
        size="tiny",
        budget=Budget.of(5.0),
        title="",
        processes=asked,
    )
    assert seen == [("pretrain", asked), ("from scratch", str(half)), ("finetune", half)]
