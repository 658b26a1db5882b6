"""What of a plan is refused before anything begins, and what is learned from."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from speechssl.data.manifest import Utterance, read_manifest
from speechssl.experiment import Budget, check_plan, jobs, plan, run_folder, stages
from speechssl.training import pretrain as pretraining


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
        ({"units": 5000}, r"with masked_units\.num_units 5000 takes 200 s of recordings at least"),
        (
            {"seconds": 0.1, "num": 2},
            r"num_units 4 takes .* there are 0\.1 s: give more recordings",
        ),
        ({"text": "a long sentence"}, "Each of the 10 transcripts .* more characters than its"),
        ({"free": 10_000}, "Two models of the size tiny .* give a smaller --size"),
    ],
)
def test_a_plan_that_cannot_be_done_is_refused_before_anything_begins(change, said, monkeypatch):
    free = change.get("free", 10**9)
    monkeypatch.setattr(plan, "memory", lambda _: SimpleNamespace(free=free))
    config = pretraining.preset("tiny")
    task = replace(config.tasks["masked_units"], num_units=change.get("units", 4))
    config = replace(config, tasks=config.tasks.having(task))
    monkeypatch.setattr(pretraining, "preset", lambda _: config)
    seconds, num = change.get("seconds", 0.5), change.get("num", 100)
    labeled = utterances(10, 0.1, change.get("text", "ab"))
    with pytest.raises(ValueError, match=said):
        check_plan("tiny", Budget.of(3), utterances(num, seconds, None), labeled)


def test_codes_that_cannot_be_found_stop_a_run_before_its_first_job(record, tmp_path, monkeypatch):
    config = pretraining.preset("tiny")
    config = replace(
        config, tasks=config.tasks.having(replace(config.tasks["masked_units"], num_units=5000))
    )
    monkeypatch.setattr(pretraining, "preset", lambda _: config)
    monkeypatch.setattr(stages, "_at_the_same_time", lambda *_: pytest.fail("it has begun"))
    rows = []
    for i in range(25):
        record(f"in/r{i:02}.wav", 0.5)
        rows.append(f"r{i:02}.wav\ttext {i}\n")
    (tmp_path / "t.tsv").write_text("path\ttext\n" + "".join(rows))
    with pytest.raises(ValueError, match=r"masked_units\.num_units 5000 takes"):
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
