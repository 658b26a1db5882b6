"""``speechssl next``: from a pool to a queue, and what is never in it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.checkpoint import load_model
from speechssl.cli import main
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.desk import corrections, propose
from speechssl.desk.corrections import checked
from speechssl.desk.held_out import HeldOut, known_sets
from speechssl.desk.pool import find_recordings
from speechssl.desk.queue import QueueItem, listing, open_items, read_queue
from speechssl.inference.done import model_digest


@pytest.fixture
def pool(record, tmp_path) -> Path:
    for i in range(4):
        record(f"pool/r{i}.wav", 1.0 + 0.5 * i)
    return tmp_path / "pool"


@pytest.fixture
def run(tiny_models, tmp_path, capsys):
    """``run("DIR", ...)``: (exit code, stdout, stderr) of the command with a desk in `tmp_path`."""

    def call(*given: object, code: int = 0) -> tuple[str, str]:
        arguments = ["next", str(tiny_models["ctc"]), *map(str, given)]
        if "--out" not in given:
            arguments += ["--out", str(tmp_path / "desk")]
        assert main([*arguments, "--processes", "1"]) == code
        said = capsys.readouterr()
        return said.out, said.err

    return call


def reasons(desk: Path) -> dict[str, str]:
    lines = (desk / propose.LEFT_OUT).read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, lines)}


def test_a_queue_with_corrections_for_each_of_its_segments(run, pool, tiny_models, tmp_path):
    out, err = run(pool, "--minutes", 1)
    desk = tmp_path / "desk"
    items = read_queue(desk)
    assert {item.audio for item in items} == set(pool.glob("*.wav"))
    assert [item.score for item in items] == sorted((i.score for i in items), reverse=True)
    assert "4 of 4 stretches" in out
    assert "No held-out set is known" in err
    digest = model_digest(load_model(tiny_models["ctc"]))
    for item in items:
        (segment,) = corrections.read(desk / item.corrections).segments
        assert (segment.id, segment.text) == (item.segment, item.hypothesis)
        assert segment.text == segment.hypothesis == " ".join(w.text for w in segment.words)
        assert segment.model_digest == digest
        assert not segment.is_label
        assert all(item.start_s <= w.start_s <= w.end_s <= item.end_s for w in segment.words)
    assert open_items(desk) == items
    assert (desk / "queue.txt").read_text(encoding="utf-8") == listing(items)


def test_the_same_command_gives_the_same_files(run, pool, tmp_path):
    run(pool, "--minutes", 0.05)
    first, again = tmp_path / "desk", tmp_path / "again"
    run(pool, "--minutes", 0.05, "--out", again)
    names = {path.name for path in first.iterdir()}
    assert names == {path.name for path in again.iterdir()}
    assert len([name for name in names if name.endswith(corrections.SUFFIX)]) < 4
    for name in names - {corrections.LOCK, "probe_cache.jsonl"}:
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_long_recordings_are_cut_where_they_are_quiet(run, record, tmp_path):
    long = record("long.wav", 40.0)
    run(long)
    segments = sorted(read_queue(tmp_path / "desk"), key=lambda item: item.start_s)
    assert len(segments) > 2
    assert all(item.duration_s <= 15.0 for item in segments)
    assert len({item.corrections for item in segments}) == 1
    starts, ends = [i.start_s for i in segments], [i.end_s for i in segments]
    assert starts[1:] == ends[:-1]
    assert (starts[0], ends[-1]) == (0.0, 40.0)


def manifest(path: Path, *utterances: Utterance) -> Path:
    write_manifest(path, utterances)
    return path


def held(path: Path, name: str, start_s: float = 0.0, duration_s: float = 1.5) -> Utterance:
    return Utterance(name, path, start_s, duration_s, 16000, None, "said")


@pytest.mark.parametrize("how", ["same", "link", "copy", "flac", "lossy", "utterance"])
def test_what_is_held_out_is_known_again(how, run, pool, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    source = pool / "r1.wav"
    place = elsewhere / {"copy": "x.wav", "flac": "y.flac", "lossy": "r1.ogg"}.get(how, "r1.wav")
    if how == "same":
        place = source
    elif how == "link":
        place.symlink_to(source)
    elif how in ("copy", "utterance"):
        shutil.copy(source, place)
    else:
        subtype = None if how == "lossy" else "PCM_16"
        audio.write(place, audio.read(source), 16000, subtype)
    if how == "utterance":  # r1.wav of the pool is a part of what is held out
        place = elsewhere / "whole.wav"
        silence = audio.read(source, duration_s=0.5)
        wave = audio.read(source)
        audio.write(place, np.concatenate([silence, wave, silence]), 16000)
        test = manifest(tmp_path / "test.jsonl", held(place, "part", 0.5))
    else:
        test = manifest(tmp_path / "test.jsonl", held(place, "t"))
    out, err = run(pool, "--exclude", test)
    desk = tmp_path / "desk"
    assert "r1.wav" not in {item.audio.name for item in read_queue(desk)}
    assert reasons(desk) == {"r1": f"held out: it is in {test}"}
    assert "Left out: held out 1" in out
    assert "No held-out set" not in err


def test_only_the_part_of_a_recording_that_is_held_out_is_left_out(run, record, tmp_path):
    long = record("long.wav", 40.0)
    test = manifest(tmp_path / "test.jsonl", held(long, "part", 2.0, 1.0))
    run(long, "--exclude", test)
    items = read_queue(tmp_path / "desk")
    assert items
    assert min(item.start_s for item in items) >= 3.0
    assert list(reasons(tmp_path / "desk")) == ["long-000"]


def test_a_namesake_of_another_length_is_another_recording(run, pool, record, tmp_path):
    other = record("elsewhere/r1.wav", 3.0)
    test = manifest(tmp_path / "test.jsonl", held(other, "r1", 0.0, 3.0))
    run(pool, "--exclude", test)
    assert len(read_queue(tmp_path / "desk")) == 4


def test_held_out_sets_whose_recordings_are_gone_are_refused(run, pool, tmp_path):
    test = manifest(tmp_path / "test.jsonl", held(tmp_path / "gone.wav", "gone"))
    _, err = run(pool, "--exclude", test, code=2)
    assert "1 recordings of" in err
    assert "cannot be told whether they are in the pool" in err
    assert not (tmp_path / "desk" / "queue.jsonl").exists()


def test_a_pool_that_is_all_held_out_is_refused(run, pool, tmp_path):
    rows = [held(path, path.stem) for path in pool.glob("*.wav")]
    _, err = run(pool, "--exclude", manifest(tmp_path / "test.jsonl", *rows), code=2)
    assert "Nothing of the pool can be corrected (held out 4)" in err
    assert len(reasons(tmp_path / "desk")) == 4


def test_the_sets_of_the_run_that_made_the_model_are_found(tiny_models, tmp_path):
    run, data = tmp_path / "out" / "pretrained", tmp_path / "out" / "data"
    shutil.copytree(tiny_models["ctc"], run / "best")
    names = ("dev", "test", "train", "labels")
    for name in names:
        manifest(data / f"{name}.jsonl", held(tmp_path / "x.wav", name))
    manifest(run / "valid.jsonl", held(tmp_path / "x.wav", "valid"))
    wanted = [run / "valid.jsonl", data / "dev.jsonl", data / "test.jsonl"]
    for model in (run, run / "best"):
        found, labeled = known_sets(str(model))
        assert found == wanted
        assert labeled == [data / "train.jsonl", data / "labels.jsonl"]
    assert known_sets("some/hub-id") == ([], [])


def test_labels_leave_out_what_is_transcribed_and_nothing_else(pool, tmp_path):
    rows = [held(pool / "r0.wav", "a", 0.0, 1.0)]
    rows.append(Utterance("b", pool / "r1.wav", 0.0, 1.5, 16000))
    found = HeldOut([], labels=[manifest(tmp_path / "train.jsonl", *rows)])
    assert found.files_of(pool / "r0.wav")
    assert not found.files_of(pool / "r1.wav")


def test_what_somebody_worked_on_stays_and_is_not_asked_for_again(run, pool, tmp_path):
    desk = tmp_path / "desk"
    run(pool)
    items = read_queue(desk)
    done, draft = items[0], items[1]
    for item, how in ((done, "checked"), (draft, "typed")):
        made = corrections.read(desk / item.corrections)
        (segment,) = made.segments
        if how == "checked":
            segment = checked(segment, "mine", "ada")
        else:
            segment = replace(segment, text="half", editor="eva")
        corrections.write(desk / item.corrections, replace(made, segments=(segment,)), made.digest)
    assert open_items(desk) == items[1:]
    out, _ = run(pool)
    assert read_queue(desk) == [
        item for item in read_queue(desk) if item.audio not in (done.audio, draft.audio)
    ]
    assert len(read_queue(desk)) == 2
    assert "corrected 2" in out
    assert [corrections.read(desk / i.corrections).segments[0].text for i in (done, draft)] == [
        "mine",
        "half",
    ]
    assert len(list(desk.glob(f"*{corrections.SUFFIX}"))) == 4


def test_recordings_of_one_name_have_files_of_their_own(run, record, tmp_path):
    first, second = record("a/x.wav", 1.0), record("b/x.wav", 1.5)
    run(first, second)
    names = {item.corrections: item.audio for item in read_queue(tmp_path / "desk")}
    assert set(names) == {"x.corrections.json", "x-2.corrections.json"}
    assert set(names.values()) == {first, second}


def test_silence_doubles_and_what_is_transcribed_are_left_out_by_name(run, pool, tmp_path):
    audio.write(tmp_path / "silent.wav", np.zeros(16000, np.float32), 16000)
    rows = [
        Utterance("silent", tmp_path / "silent.wav", 0.0, 1.0, 16000),
        Utterance("one", pool / "r0.wav", 0.0, 1.0, 16000, "ada"),
        Utterance("two", pool / "r0.wav", 0.0, 1.0, 16000, "ada"),
        Utterance("told", pool / "r1.wav", 0.0, 1.5, 16000, "ada", "said"),
        Utterance("gone", pool / "gone.wav", 0.0, 1.5, 16000),
    ]
    out, _ = run(manifest(tmp_path / "pool.jsonl", *rows))
    assert [item.speaker for item in read_queue(tmp_path / "desk")] == ["ada"]
    found = reasons(tmp_path / "desk")
    assert {name: reason.split(":")[0] for name, reason in found.items()} == {
        "silent": "silent",
        "two": "duplicate",
        "told": "transcribed",
        "gone": "missing",
    }
    assert "Minutes: ada 0.0" in out


def test_noise_is_left_out(tiny_models, pool, tmp_path, monkeypatch):
    """Where the model finds hardly anything to write."""
    real = propose.hypotheses

    def with_noise(*given):
        found, unread = real(*given)
        found[0] = replace(found[0], words=(), hypothesis="")
        word = found[1].words[0]
        found[1] = replace(found[1], words=(replace(word, parts=word.parts[:1]),))
        return found, unread

    monkeypatch.setattr(propose, "hypotheses", with_noise)
    monkeypatch.setattr(propose, "LEAST_SPEECH", 0.5)
    model, desk = load_model(tiny_models["ctc"]), tmp_path / "desk"
    records = find_recordings([str(pool)])
    found = propose.propose(
        model, records, desk, 1.0, HeldOut([]), source="", processes=1, say=print
    )
    assert len(found.items) == 2
    assert [item.reason.split(":")[0] for item in found.left_out] == ["hardly any speech"] * 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--minutes", "0"], "--minutes must be above 0"),
        (["--minutes", "nan"], "--minutes must be above 0"),
        (["--minutes", "0.001"], "No stretch is as short as 0.001 minutes"),
        (["--exclude", "nothing.jsonl"], "No such manifest: nothing.jsonl"),
    ],
)
def test_wrong_options_are_refused(given, said, run, pool):
    _, err = run(pool, *given, code=2)
    assert said in err


@pytest.mark.parametrize(("place", "said"), [("x", "No such"), ("-", "not standard input")])
def test_wrong_pools_are_refused(place, said, run):
    _, err = run(place, code=2)
    assert said in err


def test_a_model_that_was_not_fine_tuned_is_refused(tiny_models, pool, tmp_path, capsys):
    given = ["next", str(tiny_models["speech"]), str(pool), "--out", str(tmp_path / "desk")]
    assert main(given) == 2
    assert "fine-tune" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["{", "3", '{"corrections": "x"}', "[]"])
def test_a_broken_queue_is_refused_by_line(line, tmp_path):
    (tmp_path / "queue.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match="line 1 is no line of a queue"):
        read_queue(tmp_path)


def test_without_a_queue_there_is_nothing_to_do(tmp_path):
    assert read_queue(tmp_path) == []
    item = QueueItem("gone.corrections.json", "s", tmp_path / "x.wav", 0.0, 1.0, "a", 0.5)
    assert open_items(tmp_path, [item]) == []
