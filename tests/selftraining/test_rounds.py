"""Whole rounds on the toy: it gains, it stops by itself, it goes on where it was."""

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from speechssl.checkpoint import load_model
from speechssl.data.manifest import read_manifest
from speechssl.inference.evaluate import evaluate
from speechssl.rng import rng
from speechssl.selftraining import rounds
from speechssl.selftraining.gate import Label
from speechssl.selftraining.result import FILE
from speechssl.selftraining.rounds import Decoding, resolved, selftrain
from speechssl.selftraining.sets import Sets
from speechssl.training.finetune_work import FinetuneWork
from speechssl.training.inputs import digest_of_model
from speechssl.training.resume import has_state


def run_it(config, model, toy, run, **given):
    options = {"init": None, **given}
    return selftrain(config, model, toy.pool, toy.labeled, toy.valid, run, **options)


def test_a_round_gains(toy, teacher, config, tmp_path):
    state = run_it(config, teacher, toy, tmp_path, score_pool=True)
    first, made = state.rounds
    assert state.best == 1
    assert state.ended == "all 1 rounds are done"
    assert made.cer.value < 0.7 * first.cer.value  # 0.21 and 0.05 where it was written
    assert made.cer_change.high < 0
    assert made.kept_cer < made.refused_cer  # the gate works
    assert made.kept == len(toy.pool) // 2
    best = load_model(tmp_path)
    assert best.folder == tmp_path / "best"
    assert evaluate(best, toy.valid, precision="fp32").cer == made.cer.value
    assert best.meta["selftraining_round"] == 1
    assert made.weights == best.meta["weights"]

    folder = tmp_path / "round-1"
    labels = read_manifest(folder / "pseudo.jsonl")
    assert len(labels) == made.kept
    lines = [json.loads(line) for line in (folder / "pseudo.jsonl").read_text().splitlines()]
    for line, utterance in zip(lines, labels, strict=True):
        assert utterance.weight == line["weight"] == line["confidence"] >= made.threshold
        assert line["teacher"] == digest_of_model(teacher)
    refused = [json.loads(line) for line in (folder / "refused.jsonl").read_text().splitlines()]
    assert len(refused) + len(labels) == len(toy.pool)
    assert {line["reason"] for line in refused} == set(made.refused)
    assert not (folder / "student" / "cache").exists()


def random_labels(_teacher, pool, _path, **_options):
    """A broken gate: letters and confidences that have nothing to do with the recordings."""
    made = []
    for index, utterance in enumerate(pool):
        generator = rng(0, "broken", index)
        text = "".join("abcdef"[i] for i in generator.integers(0, 6, 5))
        made.append(Label(utterance, text, float(generator.uniform(0.5, 1))))
    return made


def test_with_a_broken_gate_it_stops_by_itself_and_keeps_the_teacher(
    toy, teacher, config, tmp_path, monkeypatch
):
    monkeypatch.setattr(rounds, "label_pool", random_labels)
    broken = replace(config, rounds=5, keep=1.0, labeled_share=0.1)
    state = run_it(broken, teacher, toy, tmp_path, score_pool=True)
    assert [r.number for r in state.rounds] == [0, 1]
    assert state.best == 0
    assert "round 1 is worse than its teacher" in state.ended
    assert state.rounds[1].kept_cer > 0.5
    kept = load_model(tmp_path)
    assert digest_of_model(kept) == digest_of_model(teacher)
    assert run_it(broken, teacher, toy, tmp_path, score_pool=True) == state  # and it stays so


def files(run: Path) -> dict[str, bytes]:
    """What a run leaves that does not tell the time."""
    names = ("pseudo.jsonl", "refused.jsonl", "valid.json", FILE, "model.safetensors")
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.name in names and "checkpoints" not in path.parts
    }


STAGES = (
    "infer",
    "label_pool",
    "_write_labels",
    "finetune",
    "load_model",
    "save_model",
    "write_state",
)
"""Of a self-training: before or after each of them the process may be gone."""


class Stopped(BaseException):
    """What nothing catches: the process is gone."""


def small(toy: Sets) -> Sets:
    return Sets(toy.pool[:12], toy.labeled[:6], toy.valid[:6])


def test_it_goes_on_to_the_same_files_wherever_it_was_stopped(
    toy, teacher_folder, short, tmp_path, monkeypatch
):
    """A life of the process ends at each stage that begins with files at which none has ended."""
    config, sets = replace(short, rounds=2, patience=2), small(toy)
    run_it(config, load_model(teacher_folder), sets, tmp_path / "whole")
    ends: set[tuple[str, int]] = set()
    state = None

    def dying(name, real):
        def stage(*args, **kwargs):
            place = (name, len(files(tmp_path / "killed")))
            if place not in ends:
                ends.add(place)
                raise Stopped
            return real(*args, **kwargs)

        return stage

    for name in STAGES:
        monkeypatch.setattr(rounds, name, dying(name, getattr(rounds, name)))
    while state is None:
        with suppress(Stopped):
            state = run_it(config, load_model(teacher_folder), sets, tmp_path / "killed")
    assert len(ends) > 12
    killed, whole = (files(tmp_path / name) for name in ("killed", "whole"))
    assert killed.keys() == whole.keys()
    assert [name for name in whole if killed[name] != whole[name]] == []
    assert len(files(tmp_path / "whole")) > 8


def test_a_stop_in_the_updates_goes_on_there(toy, teacher, short, tmp_path, monkeypatch):
    real, sets = FinetuneWork.backward, small(toy)

    def stops(self, step, max_steps, batches):
        if step == 3:
            raise Stopped
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(FinetuneWork, "backward", stops)
    with pytest.raises(Stopped):
        run_it(short, teacher, sets, tmp_path)
    assert has_state(tmp_path / "round-1" / "student")
    steps = []

    def noted(self, step, max_steps, batches):
        steps.append(step)
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(FinetuneWork, "backward", noted)
    run_it(short, teacher, sets, tmp_path)
    assert steps == [2, 3]  # a state is written every second update; nothing is measured again


@pytest.fixture
def finished(toy, teacher, short, tmp_path):
    """A run of one round that has ended, with its config and sets."""
    sets = small(toy)
    return short, sets, run_it(short, teacher, sets, tmp_path / "run")


def test_a_finished_run_does_nothing_and_says_so(finished, teacher, tmp_path, monkeypatch, capsys):
    config, sets, state = finished
    for name in ("label_pool", "finetune", "infer", "save_model"):
        monkeypatch.setattr(rounds, name, None)
    assert run_it(config, teacher, sets, tmp_path / "run") == state
    assert "The run has ended after round 1." in capsys.readouterr().err


def test_more_rounds_go_on(toy, teacher, short, tmp_path):
    config = replace(short, patience=2)
    one = run_it(config, teacher, small(toy), tmp_path)
    assert one.ended == "all 1 rounds are done"
    two = run_it(replace(config, rounds=2), teacher, small(toy), tmp_path)
    assert two.rounds[:2] == one.rounds
    assert len(two.rounds) == 3
    assert two.rounds[2].kept > one.rounds[1].kept


OTHERS = {
    "keep": (lambda c, s: (replace(c, keep=0.4), s), r"other settings \(keep 0.5 there, 0.4 now\)"),
    "student": (
        lambda c, s: (replace(c, student=replace(c.student, mask_share=0.3)), s),
        r"other settings \(student.mask_share 0.1 there",
    ),
    "pool": (lambda c, s: (c, replace(s, pool=s.pool[1:])), "other inputs .unlabeled recordings."),
    "labels": (
        lambda c, s: (c, replace(s, labeled=s.labeled[1:])),
        "other inputs .labeled recordings, labeled transcripts, ",
    ),
    "validation": (
        lambda c, s: (c, replace(s, valid=s.valid[1:])),
        "other inputs .validation recordings, validation transcripts.",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_something_else_is_refused_and_changes_nothing(name, finished, teacher, tmp_path):
    config, sets, _ = finished
    change, message = OTHERS[name]
    before = files(tmp_path / "run")
    other, others = change(config, sets)
    with pytest.raises(ValueError, match=f"{message}.*another --out, or --resume never"):
        run_it(other, teacher, others, tmp_path / "run")
    assert files(tmp_path / "run") == before


def test_another_model_or_decoder_is_refused_too(finished, teacher, tmp_path):
    config, sets, _ = finished
    with pytest.raises(ValueError, match=r"other inputs \(decoding\)"):
        run_it(config, teacher, sets, tmp_path / "run", decoding=Decoding(key="beam 4"))
    with pytest.raises(ValueError, match=r"other inputs \(--init\)"):
        run_it(config, teacher, sets, tmp_path / "run", init=teacher)
    teacher.model.head.linear.bias.data += 1
    with pytest.raises(ValueError, match=r"other inputs \(model\)"):
        run_it(config, teacher, sets, tmp_path / "run")


def test_begun_anew(finished, teacher, tmp_path):
    config, sets, _ = finished
    other = replace(config, min_confidence=0.999999, keep=0.5)
    (tmp_path / "run" / "round-9").mkdir()
    state = run_it(other, teacher, sets, tmp_path / "run", resume=False)
    assert not (tmp_path / "run" / "round-9").exists()
    assert "the gate of round 1 keeps no label" in state.ended
    assert len(state.rounds) == 1
    assert state.best == 0
    assert digest_of_model(load_model(tmp_path / "run")) == digest_of_model(teacher)
    assert run_it(other, teacher, sets, tmp_path / "run") == state
    lower = replace(other, rounds=7)  # more rounds are the same gate
    assert run_it(lower, teacher, sets, tmp_path / "run") == state


def test_a_folder_of_something_else_stays(toy, teacher_folder, teacher, short, tmp_path):
    shutil.copytree(teacher_folder, tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    for resume in (True, False):
        with pytest.raises(ValueError, match="holds best of something else"):
            run_it(short, teacher, small(toy), tmp_path / "run", resume=resume)
    assert {p for p in tmp_path.rglob("*") if p.name != ".lock"} == {
        p for p in before if p.name != ".lock"
    }


def test_the_given_models_stay_as_they_are(finished, teacher, tmp_path):
    config, sets, _ = finished
    before = digest_of_model(teacher)
    run_it(config, teacher, sets, tmp_path / "two", init=teacher)
    assert digest_of_model(teacher) == before


def test_a_student_has_dropout_and_the_form_of_its_start(teacher, config):
    bare = replace(config, student=replace(config.student, dropout=None))
    none = replace(teacher.speech.config.context, dropout=0.0)
    teacher.speech.config = replace(teacher.speech.config, context=none)
    made = resolved(bare, teacher)
    assert made.student.dropout == rounds.LEAST_DROPOUT
    assert made.student.model == teacher.speech.config
    assert resolved(config, teacher).student.dropout == 0.1
    own = replace(teacher.speech.config.context, dropout=0.3)
    teacher.speech.config = replace(teacher.speech.config, context=own)
    assert resolved(bare, teacher).student.dropout is None  # its own


def test_several_processes_are_refused(toy, teacher, short, tmp_path, monkeypatch):
    for name, value in [("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_PORT", "29500")]:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    with pytest.raises(ValueError, match="one process"):
        run_it(short, teacher, toy, tmp_path)
