"""What becomes of earlier results when the data are others."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from speechssl.data.manifest import read_manifest
from speechssl.experiment import stale


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
