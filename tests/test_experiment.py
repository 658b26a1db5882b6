"""The whole job on a folder, and what becomes of it when more is transcribed."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

from speechssl import cli
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.experiment import Budget, check_plan, demo, folder, jobs, plan, run_folder, stale
from speechssl.model.config import ContextConfig, FilterbankEncoderConfig, ModelConfig
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from speechssl.training import runfolder
from speechssl.training.loop import LoopConfig

MICRO = ModelConfig(
    encoder=FilterbankEncoderConfig(num_filters=8, stack=4),
    context=ContextConfig(
        dim=16, num_layers=1, num_heads=2, ffn_dim=16, pos_kernel=5, pos_groups=2, layerdrop=0.0
    ),
)
LOOP = LoopConfig(max_steps=2, num_validations=1, num_workers=0)


@pytest.fixture(autouse=True)
def _in_a_moment(monkeypatch):
    """Runs of two updates, one after the other in this process."""
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

    monkeypatch.setattr(jobs, "_at_the_same_time", before)


class Job:
    """A folder of recordings, of which some are transcribed."""

    def __init__(self, record, folder: Path) -> None:
        self.record, self.folder, self.out = record, folder, folder / "out"
        self.recordings = folder / "in"
        self.texts: dict[str, str] = {}

    def add(self, *names: str) -> None:
        for name in names:
            self.record(f"in/{name}.wav", 1.0)

    def transcribe(self, *names: str) -> None:
        self.texts |= {f"{name}.wav": f"sentence {name}" for name in names}

    def run(self, minutes: float = 5.0) -> None:
        lines = (f"{path}\t{text}\n" for path, text in self.texts.items())
        table = self.folder / "texts.tsv"
        table.write_text("path\ttext\n" + "".join(lines))
        assert run_folder(self.recordings, table, self.out, minutes, "tiny") == 0

    def transcribed(self, split: str, root: str = "data") -> set[str]:
        return {u.audio.name for u in read_manifest(self.out / root / f"{split}.jsonl") if u.text}

    def model(self, run: str) -> str:
        """What tells one model from another."""
        weights = self.out / run / "best" / "model.safetensors"
        return hashlib.sha256(weights.read_bytes()).hexdigest()

    def models(self) -> dict[str, str]:
        return {run: self.model(run) for run in ("pretrain", "pretrained", "from-scratch")}


def bytes_in(folder: Path) -> dict[Path, bytes]:
    """Everything in a folder but its locks."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in found}


TAKE = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def is_taken(folder: Path) -> bool:
    """Whether this process keeps others out of a folder."""
    other = [sys.executable, "-c", TAKE, str(folder / ".lock")]
    return subprocess.run(other, check=False, capture_output=True).returncode != 0


@contextmanager
def taken(folder: Path, monkeypatch) -> Iterator[None]:
    """Another process is at work in a folder, and nobody waits long for its end."""
    monkeypatch.setattr(runfolder, "_WAIT_S", 0.2)
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print(flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(folder / ".lock")], **pipes) as other:
        other.stdout.readline()
        yield


@pytest.fixture
def job(record, tmp_path) -> Job:
    """One that was done with half of forty recordings transcribed."""
    job = Job(record, tmp_path)
    job.add(*(f"r{i:02}" for i in range(40)))
    job.transcribe(*(f"r{i:02}" for i in range(20)))
    job.run()
    return job


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


def test_more_transcripts_make_new_models_on_all_of_them(job, capsys):
    models, held = job.models(), job.transcribed("dev") | job.transcribed("test")
    results = json.loads((job.out / "results.json").read_text())
    learned = job.transcribed("train")
    job.transcribe(*(f"r{i:02}" for i in range(20, 40)))
    job.run()
    said = capsys.readouterr().err
    assert "earlier-1, and pretrained, from-scratch begun anew" in said
    assert "The pretrained model stays" in said
    # What was held out stays so, and everything else is learned from.
    assert job.transcribed("dev") | job.transcribed("test") == held
    assert len(job.transcribed("train")) == 40 - len(held)
    assert learned < job.transcribed("train")
    meta = json.loads((job.out / "pretrained" / "best" / "meta.json").read_text())
    assert meta["train_utterances"] == 40 - len(held)
    now = job.models()
    assert now["pretrain"] == models["pretrain"]
    assert now["pretrained"] != models["pretrained"]
    assert now["from-scratch"] != models["from-scratch"]
    # Nothing of the earlier result is lost.
    aside = job.out / "earlier-1"
    assert job.model("earlier-1/pretrained") == models["pretrained"]
    assert job.model("earlier-1/from-scratch") == models["from-scratch"]
    assert json.loads((aside / "results.json").read_text()) == results
    assert (aside / "report.html").exists()
    assert job.transcribed("train", "earlier-1/data") == learned
    assert all(u.audio.exists() for u in read_manifest(aside / "data" / "train.jsonl"))
    job.run()
    assert job.models() == now
    assert not (job.out / "earlier-2").exists()


def test_a_test_set_that_has_become_small_is_told(job, capsys):
    new = [f"n{i:03}" for i in range(40)]
    job.add(*new)
    job.run()  # without transcripts: all of them are trained on
    assert "Tested on are" not in capsys.readouterr().err
    job.transcribe(*(f"r{i:02}" for i in range(20, 40)), *new)
    job.run()
    assert "Tested on are the 2 of 80 transcribed recordings" in capsys.readouterr().err


def test_more_recordings_are_pretrained_on_and_held_out(job):
    models, held = job.models(), job.transcribed("test")
    trained = job.transcribed("train")
    new = [f"n{i:02}" for i in range(40)]
    job.add(*new)
    job.transcribe(*new)
    job.run()
    test = job.transcribed("test")
    assert held < test  # they count for their share
    assert not test & trained
    assert test - held <= {f"{name}.wav" for name in new}
    now = job.models()
    assert all(now[run] != models[run] for run in models)
    assert job.model("earlier-1/pretrain") == models["pretrain"]


def test_a_corrected_test_sentence_is_scored_again_and_the_scores_are_kept(job):
    models, name = job.models(), min(job.transcribed("test"))
    results = (job.out / "results.json").read_bytes()
    job.texts[name] = "corrected"
    job.run()
    assert job.models() == models
    assert (job.out / "earlier-1" / "results.json").read_bytes() == results


def test_results_without_digests_are_not_taken_for_those_of_other_data(job):
    for run in job.models():
        for path in (job.out / run / "checkpoints").glob("*/progress.json"):
            told = json.loads(path.read_text())
            del told["inputs"]
            path.write_text(json.dumps(told))
            sums = path.with_name("checksums.json")
            own = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
            sums.write_text(json.dumps(json.loads(sums.read_text()) | own))
    models = job.models()
    job.run()
    assert job.models() == models
    assert not (job.out / "earlier-1").exists()
    job.transcribe("r30")
    job.run()
    assert job.model("pretrain") == models["pretrain"]
    assert job.model("earlier-1/pretrained") == models["pretrained"]
    assert job.model("pretrained") != models["pretrained"]


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


def test_parts_of_a_recording_keep_their_times_and_splits(record, tmp_path, monkeypatch):
    record("in/talk.wav", 9.0)
    record("in/other.wav", 2.0)
    rows = "talk.wav\tone\t0\t3\ttrain\ntalk.wav\ttwo\t3\t3\tdev\ntalk.wav\tsix\t6\t3\ttest\n"
    table = tmp_path / "t.tsv"
    table.write_text(f"path\ttext\tstart_s\tduration_s\tsplit\n{rows}")
    given = {}
    monkeypatch.setattr(jobs, "compare_with_scratch", lambda **told: given.update(told) or 0)
    assert run_folder(tmp_path / "in", table, tmp_path / "out", 1.0, "tiny") == 0
    found = {
        name: {(u.text, u.start_s, u.duration_s) for u in read_manifest(given[name])}
        for name in ("labeled", "valid")
    }
    assert found == {"labeled": {("one", 0, 3), (None, 0, 2)}, "valid": {("two", 3, 3)}}
    assert [(u.text, u.start_s) for u in given["test"]] == [("six", 6)]

    table.write_text(f"{table.read_text()}gone.wav\tx\t\t\t\n")
    with pytest.raises(ValueError, match=r"t\.tsv names 1 recordings that are not in .*gone\.wav"):
        run_folder(tmp_path / "in", table, tmp_path / "out", 1.0, "tiny")


def utterances(num: int, seconds: float, text: str | None = "ab") -> list[Utterance]:
    return [
        Utterance(f"u{i}", Path(f"{i}.wav"), 0.0, seconds, 16000, None, text) for i in range(num)
    ]


def test_a_plan_that_can_be_done_is_accepted():
    check_plan("tiny", Budget.of(3), utterances(10, 1.0), utterances(2, 1.0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"entries": 5000}, r"finds 5000 codes \(contrastive\.entries\), which takes 200 s of"),
        ({"seconds": 0.1, "num": 2}, r"finds 4 codes .* there are 0\.1 s: give more recordings"),
        ({"text": "a long sentence"}, "Each of the 10 transcripts .* more characters than its"),
        ({"free": 10_000}, "Two models of the size tiny .* give a smaller --size"),
    ],
)
def test_a_plan_that_cannot_be_done_is_refused_before_anything_begins(change, said, monkeypatch):
    free = change.get("free", 10**9)
    monkeypatch.setattr(plan, "memory", lambda _: SimpleNamespace(free=free))
    config = pretraining.preset("tiny")
    task = replace(config.contrastive, entries=change.get("entries", 4))
    monkeypatch.setattr(pretraining, "preset", lambda _: replace(config, contrastive=task))
    seconds, num = change.get("seconds", 0.5), change.get("num", 100)
    labeled = utterances(10, 0.1, change.get("text", "ab"))
    with pytest.raises(ValueError, match=said):
        check_plan("tiny", Budget.of(3), utterances(num, seconds, None), labeled)


def test_codes_that_cannot_be_found_stop_a_run_before_its_first_job(record, tmp_path, monkeypatch):
    config = pretraining.preset("tiny")
    task = replace(config.contrastive, entries=5000)
    monkeypatch.setattr(pretraining, "preset", lambda _: replace(config, contrastive=task))
    monkeypatch.setattr(jobs, "_at_the_same_time", lambda *_: pytest.fail("it has begun"))
    rows = []
    for i in range(25):
        record(f"in/r{i:02}.wav", 0.5)
        rows.append(f"r{i:02}.wav\ttext {i}\n")
    (tmp_path / "t.tsv").write_text("path\ttext\n" + "".join(rows))
    with pytest.raises(ValueError, match=r"finds 5000 codes \(contrastive\.entries\)"):
        run_folder(tmp_path / "in", tmp_path / "t.tsv", tmp_path / "out", 1.0, "tiny")
    assert not (tmp_path / "out" / "pretrain").exists()


@pytest.mark.parametrize("header", ["path\tspeaker", "file\tstart_s\tduration_s"])
def test_a_table_without_transcripts_is_refused_by_the_names_of_its_columns(
    record, tmp_path, header
):
    record("in/a.wav", 0.5)
    cells = "\t".join(["a.wav", *["0"] * header.count("\t")])
    (tmp_path / "t.tsv").write_text(f"{header}\n{cells}\n")
    with pytest.raises(ValueError, match="no column of transcripts: its header must hold") as said:
        run_folder(tmp_path / "in", tmp_path / "t.tsv", tmp_path / "out", 1.0, "tiny")
    assert all(name in str(said.value) for name in header.split("\t"))
    assert not (tmp_path / "out").exists()


def test_blank_cells_are_not_learned_from(record, tmp_path, monkeypatch):
    rows = []
    for i in range(40):
        record(f"in/r{i:02}.wav", 0.5)
        text = "\u200b" if i % 2 else f"text {i}"
        rows.append(f"r{i:02}.wav\t{text}\n")
    (tmp_path / "t.tsv").write_text("path\ttext\n" + "".join(rows))
    given = {}
    monkeypatch.setattr(jobs, "compare_with_scratch", lambda **told: given.update(told) or 0)
    assert run_folder(tmp_path / "in", tmp_path / "t.tsv", tmp_path / "out", 1.0, "tiny") == 0
    assert all(u.text and u.text.startswith("text") for u in given["test"])
    assert sum(not u.is_labeled for u in given["unlabeled"]) == 20


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


def another_model(pretrain: Path) -> None:
    """As a pretraining that is begun anew leaves it."""
    weights = pretrain / "best" / "model.safetensors"
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)


def test_a_run_without_a_model_is_not_what_a_fine_tuning_began_with(job):
    """As one that was stopped before its first validation."""
    tuned = stale.newest_progress(job.out / "pretrained")
    assert stale._began_with(tuned, job.out / "pretrain")
    for name in ("best", "model"):
        shutil.rmtree(job.out / "pretrain" / name)
    assert not stale._began_with(tuned, job.out / "pretrain")


@pytest.mark.parametrize("lose", [shutil.rmtree, another_model])
def test_without_the_pretrained_model_the_fine_tuned_one_is_begun_anew(job, lose, capsys):
    models = job.models()
    lose(job.out / "pretrain")
    job.run()
    assert "earlier-1, and pretrained begun anew" in capsys.readouterr().err
    assert job.model("earlier-1/pretrained") == models["pretrained"]
    assert job.model("from-scratch") == models["from-scratch"]
    job.run()
    assert not (job.out / "earlier-2").exists()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_setting_aside_may_be_broken_off(job, moved, monkeypatch):
    """After each of the three runs: the next command moves the others."""
    models, real, runs = job.models(), Path.rename, []

    def rename(self, target):
        if self.name in models:
            runs.append(self.name)
            if len(runs) > moved:
                raise KeyboardInterrupt
        return real(self, target)

    new = [f"n{i:02}" for i in range(40)]
    job.add(*new)
    job.transcribe(*new)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            job.run()
    job.run()
    for run, model in models.items():
        assert job.model(run) != model
        kept = [n for n in (1, 2) if (job.out / f"earlier-{n}" / run).exists()]
        assert [job.model(f"earlier-{n}/{run}") for n in kept] == [model]
