"""The whole comparison on tiny models: its report, its numbers, how it goes on, what it refuses."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from speechssl.cli import main
from speechssl.compare import pool as pools
from speechssl.compare import run as running
from speechssl.compare import work
from speechssl.compare.jobs import DONE, JOB, SCORES
from speechssl.compare.scores import Scores
from speechssl.data.manifest import read_manifest, write_manifest
from speechssl.training import pretrain as pretraining
from tests.compare.conftest import Here
from tests.experiment.job import bytes_in

pytestmark = pytest.mark.usefixtures("micro")
ASKED = (
    "--tasks masked_units masked_units+reconstruction=0.5 --labels 0.1 0.3 --seeds 0 "
    "--max-steps 2 --finetune-steps 2 --conditions clean snr-0 8khz --processes 1"
)


@pytest.fixture
def here(monkeypatch):
    """The pools that were made, which run jobs in this process."""
    made = []

    def make(out, num_processes):
        made.append(Here(out, num_processes))
        return made[-1]

    monkeypatch.setattr(running, "Pool", make)
    return made


def race(data: Path, out: Path, asked: str = ASKED) -> int:
    return main(["compare", str(data), "--out", str(out), *asked.split()])


@pytest.fixture(scope="module")
def once(prepared, tmp_path_factory):
    """The race, run once for all tests; and what it printed."""
    out, shown = tmp_path_factory.mktemp("race") / "out", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown):
        patch.setattr(running, "Pool", Here)
        assert race(prepared, out) == 0
    return out, shown.getvalue()


@pytest.fixture
def done(once, tmp_path, here):
    """A copy to go on with."""
    here.clear()
    return Path(shutil.copytree(once[0], tmp_path / "out"))


def test_the_report_the_table_and_the_numbers(once):
    out, shown = once
    assert "2 pretrainings of 2 updates, 6 fine-tunings (0.1 min x 2 updates" in shown
    assert "4 probes (digit)" in shown
    assert shown.count("| masked_units+reconstruction=0.5 |") == 2
    assert re.search(r"\| from scratch \| 0\.3 min \| \d+\.\d % \[", shown)
    data = json.loads((out / "compare.json").read_text())
    assert len(data["rows"]) == 6
    for row in data["rows"]:
        assert set(row["conditions"]) == {"clean", "snr-0", "8khz"}
        assert row["conditions"]["clean"] == row["cer"]
        place = out / f"finetune/{row['entry'].replace(' ', '-')}-{row['labels']}-min-seed-0"
        scores = Scores.read(place / SCORES / "clean.json")
        assert scores.ids == tuple(f"test-{i}" for i in range(8))
        rate = scores.counts[:, 3].sum() / scores.counts[:, 2].sum()
        assert row["cer"]["value"] == pytest.approx(rate)
        assert (row["cer_against_scratch"] is None) == (row["entry"] == "from scratch")
        assert row["compute_minutes"] > 0
        assert not (place / "cache").exists()  # nothing that only going on would need
    assert data["winner"]["entry"] in {e["name"] for e in data["entries"]}
    assert len(data["winner"]["others"]) == 2
    assert set(data["probes"]["layers"]) == {
        "masked_units",
        "masked_units+reconstruction=0.5",
        "untrained",
        "log-mel",
    }
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 4
    assert page.count("<table>") == 1
    assert "the 8 transcribed utterances of test.jsonl" in page
    assert "http" not in page
    assert len(list(out.glob(f"*/*/{DONE}"))) == 12


def test_labels_and_their_choice_are_the_same_for_all(done):
    tuned = sorted(done.glob("finetune/*-0.1-min-seed-0"))
    metas = [json.loads((run / "best" / "meta.json").read_text()) for run in tuned]
    assert len({meta["train_utterances"] for meta in metas}) == 1
    seen = {(run / "valid.jsonl").read_text() for run in tuned if (run / "valid.jsonl").exists()}
    assert len(seen) <= 1
    specs = [json.loads((run / JOB).read_text())["spec"] for run in tuned]
    for spec in specs:
        assert spec["config"] == specs[0]["config"]


def test_the_same_command_does_nothing_anew(prepared, done, here):
    before = bytes_in(done)
    assert race(prepared, done) == 0
    assert [made.begun for made in here] == [[]]
    assert bytes_in(done) == before


def test_interrupted_it_goes_on_with_what_is_left(prepared, done, here):
    page = (done / "compare.json").read_text()
    shutil.rmtree(done / "finetune/from-scratch-0.1-min-seed-0")
    (done / "finetune/masked_units-0.3-min-seed-0" / SCORES / "snr-0.json").unlink()
    assert race(prepared, done) == 0
    assert [made.begun for made in here] == [
        ["finetune/masked_units-0.3-min-seed-0", "finetune/from-scratch-0.1-min-seed-0"]
    ]
    again = json.loads((done / "compare.json").read_text())
    assert without_times(again) == without_times(json.loads(page))


def without_times(data):
    """compare.json without what a clock said."""
    for row in data["rows"]:
        del row["compute_minutes"], row["validation"]
    for entry in data["entries"]:
        del entry["pretraining_minutes"]
    return data


def test_more_is_added_to_what_is_there(prepared, done, here, capsys):
    more = ASKED.replace("--labels 0.1 0.3", "--labels 0.1 0.3 all").replace("8khz", "8khz reverb")
    assert race(prepared, done, more) == 0
    assert all("pretrain" not in name for made in here for name in made.begun)
    data = json.loads((done / "compare.json").read_text())
    assert {row["labels"] for row in data["rows"]} == {"0.1", "0.3", "all"}
    capsys.readouterr()
    assert race(prepared, done) == 0  # and less is asked for again
    assert "holds 3 jobs that this command does not ask for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("--max-steps 2", "--max-steps 3", "config.loop.max_steps 2 there, 3 now"),
        ("--finetune-steps 2", "--finetune-steps 3", "config.loop.max_steps 2 there, 3 now"),
        ("--seeds 0", "--seeds 0 --finetune optim.lr=0.5", "config.optim.lr"),
        ("--seeds 0", "--seeds 0 --lm", "lm False there, True now"),
    ],
)
def test_another_comparison_in_the_folder_is_refused(prepared, done, old, new, said, capsys):
    before = bytes_in(done)
    assert race(prepared, done, ASKED.replace(old, new)) == 2
    error = capsys.readouterr().err
    assert "holds a comparison with other settings" in error
    assert said in error
    assert error.count("\n") == 1
    assert bytes_in(done) == before


def test_other_transcripts_are_another_comparison(prepared, done, tmp_path, capsys):
    write_manifest(tmp_path / "less.jsonl", read_manifest(prepared / "test.jsonl")[:-1])
    assert race(prepared, done, f"{ASKED} --test {tmp_path / 'less.jsonl'}") == 2
    assert "data.test set" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_job_that_fails_is_named_and_the_rest_is_reported(
    prepared, tmp_path, monkeypatch, capsys
):
    real = pretraining.PretrainWork.backward

    def fails(self, *given):
        if "reconstruction" in self.config.tasks:
            raise RuntimeError("The disk is full.")
        return real(self, *given)

    monkeypatch.setattr(pretraining.PretrainWork, "backward", fails)
    assert race(prepared, tmp_path / "out") == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == (
        "speechssl: pretrain/masked_units+reconstruction=0.5-seed-0 and 3 more failed: The disk is "
        "full. The same command tries again."
    )
    data = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert {row["entry"] for row in data["rows"]} == {"masked_units", "from scratch"}
    assert len(data["failed"]) == 4
    assert "The disk is full." in (tmp_path / "out" / "report.html").read_text()
    monkeypatch.setattr(pretraining.PretrainWork, "backward", real)
    assert race(prepared, tmp_path / "out") == 0
    assert "Not done" not in (tmp_path / "out" / "report.html").read_text()


def test_a_dry_run_prints_the_plan_and_leaves_nothing(prepared, tmp_path, here, capsys):
    assert race(prepared, tmp_path / "out", f"{ASKED} --dry-run") == 0
    assert "12 jobs, 1 at a time with one thread each: about" in capsys.readouterr().out
    assert not here
    assert not (tmp_path / "out").exists()


def test_models_that_are_there_and_the_language_model(prepared, done, tmp_path):
    model = done / "pretrain/masked_units-seed-0"
    asked = (
        f"--models {model} --labels 0.3 --scratch-labels all --seeds 0 1 --finetune-steps 2 --lm "
        "--conditions clean --probe none"
    )
    assert race(prepared, tmp_path / "second", asked) == 0
    data = json.loads((tmp_path / "second" / "compare.json").read_text())
    found = {(row["entry"], row["labels"]) for row in data["rows"]}
    assert found == {
        ("masked_units-seed-0", "0.3"),
        ("from scratch", "0.3"),
        ("from scratch", "all"),
    }
    (own,) = (row for row in data["rows"] if row["entry"] == "masked_units-seed-0")
    assert len(own["cer_of_seeds"]) == 2
    assert own["label_minutes_saved"] is not None
    assert data["probes"] is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("--tasks wombat --minutes 1 --labels 0.1", "There is no task 'wombat'. "),
        ("--tasks masked_units --minutes 0", "minutes must be above 0"),
        ("--tasks masked_units --minutes 1 --labels 60", "--labels 60 is more than the 0.4 trans"),
        ("--minutes 1", "There is nothing to compare"),
        ("--tasks masked_units --minutes 1 --labels 0.1,0", "--labels must be minutes above 0"),
    ],
)
def test_bad_input_is_one_sentence(asked, said, prepared, tmp_path, capsys):
    assert race(prepared, tmp_path / "out", asked) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_real_process_does_a_job(done):
    """The command that the pool starts, on a job of which one score is missing."""
    import subprocess

    from speechssl.compare.jobs import read_job

    name = "finetune/masked_units-0.1-min-seed-0"
    path = done / name / SCORES / "snr-0.json"
    before = path.read_bytes()
    path.unlink()
    command = pools.command_of(done, read_job(done, name))
    assert subprocess.run(command, check=False).returncode == 0
    assert path.read_bytes() == before


def test_the_last_line_of_a_job_that_fails_says_why(done, monkeypatch, capsys):
    name = "finetune/masked_units-0.1-min-seed-0"
    monkeypatch.setattr("sys.argv", ["work", str(done), name])
    monkeypatch.setattr(work, "end_with_parent", lambda: None)
    assert work.main() == 0  # nothing is left to do
    (done / "data" / "dev.jsonl").unlink()
    assert work.main() == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("speechssl: No such manifest: ")
    assert "Traceback" in said  # for the log


def test_scores_are_read_as_they_were_written(tmp_path):
    scores = Scores(("a", "b"), ("x", None), np.arange(8).reshape(2, 4), ("ä", ""))
    scores.write(tmp_path / "s.json")
    again = Scores.read(tmp_path / "s.json")
    assert (again.ids, again.speakers, again.hypotheses) == (("a", "b"), ("x", None), ("ä", ""))
    assert np.array_equal(again.counts, scores.counts)
    assert again.pair("wer").tolist() == [[0, 1], [4, 5]]
    assert again.pair("cer").tolist() == [[2, 3], [6, 7]]
