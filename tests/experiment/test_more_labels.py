"""What was corrected is learned from, and what is held out stays as it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, Corrections, checked
from speechssl.desk.labels import audio_digest
from speechssl.experiment.more_labels import keep_held_out, read_labels, with_labels
from speechssl.experiment.splits import read_splits


def correct(desk: Path, audio: Path, *spans: tuple[float, float, str]) -> None:
    """Corrections of a recording, all of them checked."""
    segments = tuple(
        checked(CorrectedSegment(f"s{n}", start, end, "hypothesis", ""), text, "ada")
        for n, (start, end, text) in enumerate(spans)
    )
    made = Corrections(audio, audio_digest(audio), segments)
    corrections.write(desk / f"{audio.stem}.corrections.json", made, "")


def test_a_run_goes_on_with_what_was_corrected(job, capsys):
    held = {name: (job.out / "data" / f"{name}.jsonl").read_bytes() for name in ("dev", "test")}
    models, desk = job.models(), job.folder / "desk"
    for i in range(20, 26):
        correct(desk, job.recordings / f"r{i}.wav", (0.0, 1.0, f"corrected {i}"))
    scored = min(job.transcribed("test"))
    correct(desk, job.recordings / scored, (0.0, 1.0, "cheating"))
    job.run(more_labels=[desk])
    said = capsys.readouterr()
    assert "The pretrained model stays" in said.err
    assert "1 of the 7 labels are not learned from (held out 1)" in said.err
    assert {n: (job.out / "data" / f"{n}.jsonl").read_bytes() for n in held} == held
    now = job.models()
    assert now["pretrain"] == models["pretrain"]
    assert now["pretrained"] != models["pretrained"]
    meta = json.loads((job.out / "pretrained" / "best" / "meta.json").read_text())
    assert meta["train_utterances"] == len(job.transcribed("train")) + 6
    assert "corrected 25" in {u.text for u in read_manifest(job.out / "data" / "labels.jsonl")}
    assert scored in (job.out / "data" / "dropped.jsonl").read_text()
    assert "\npretrained with 0.4 minutes of labels, before with 0.3" in said.out
    assert "points [" in said.out
    change = json.loads((job.out / "results.json").read_text())["changes"]["pretrained"]
    assert change["found"]["num_utterances"] == len(job.transcribed("test"))
    job.run(more_labels=[desk])
    assert job.models() == now
    assert not (job.out / "earlier-2").exists()


@pytest.fixture
def data(record, tmp_path) -> Path:
    """Manifests of recordings of a second: train a (transcribed), b and c; dev d, test e."""
    folder = tmp_path / "data"
    for split, names in {"train": "abc", "dev": "d", "test": "e"}.items():
        rows = [_utterance(record(f"{name}.wav", 1.0), f"said {name}") for name in names]
        rows[1:] = [replace(u, text=None) for u in rows[1:]]
        write_manifest(folder / f"{split}.jsonl", rows)
    (folder / "dropped.jsonl").touch()
    return folder


def _utterance(path: Path, text: str, start_s: float = 0.0, duration_s: float = 1.0) -> Utterance:
    return Utterance(path.stem, path, start_s, duration_s, 16000, None, text)


def test_labels_stand_beside_transcripts_or_in_their_place(data, tmp_path, capsys):
    labels = [
        replace(_utterance(tmp_path / "a.wav", "again"), id="x"),
        replace(_utterance(tmp_path / "b.wav", "first", 0.0, 0.5), id="x"),
        replace(_utterance(tmp_path / "b.wav", "second", 0.5, 0.5), id="y"),
    ]
    made = with_labels(data, read_splits(data), labels)
    assert [(u.id, u.text) for u in made] == [("x", "again"), ("x_2", "first"), ("y", "second")]
    assert "1 transcripts are replaced" in capsys.readouterr().err


def test_of_labels_of_one_stretch_the_last_counts(data, tmp_path, capsys):
    labels = [_utterance(tmp_path / "b.wav", text) for text in ("one", "two")]
    made = with_labels(data, read_splits(data), labels)
    assert [u.text for u in made] == ["said a", "two"]
    assert "1 labels are there again" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["same", "copy", "part", "flac", "other name"])
def test_labels_of_held_out_recordings_are_left_out_by_name(how, data, tmp_path, capsys):
    from speechssl import audio

    source = tmp_path / "e.wav"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place, start_s, duration_s = source, 0.0, 1.0
    if how == "part":
        start_s, duration_s = 0.25, 0.5
    elif how != "same":
        name = {"copy": "x.wav", "flac": "e.flac", "other name": "y.flac"}[how]
        place = elsewhere / name
        if how == "copy":
            place.write_bytes(source.read_bytes())
        else:
            audio.write(place, audio.read(source), 16000)
    label = replace(_utterance(place, "leak", start_s, duration_s), id="of-e")
    other = _utterance(tmp_path / "b.wav", "fine")
    made = with_labels(data, read_splits(data), [label, other])
    assert [u.text for u in made] == ["said a", "fine"]
    assert "1 of the 2 labels are not learned from (held out 1)" in capsys.readouterr().err
    assert "of-e" in (data / "dropped.jsonl").read_text()
    with pytest.raises(ValueError, match="None of the labels"):
        with_labels(data, read_splits(data), [label])


def test_a_held_out_sentence_is_no_label(data, tmp_path):
    texts = ["Said e!", "x", "y", "z"]
    labels = [
        replace(_utterance(tmp_path / "b.wav", text, n / 4, 0.25), id=text)
        for n, text in enumerate(texts)
    ]
    made = with_labels(data, read_splits(data), labels)
    assert [u.text for u in made] == ["said a", "x", "y", "z"]


@pytest.mark.parametrize("change", ["gone", "text"])
def test_what_was_held_out_must_still_be_there(change, data):
    before = read_splits(data)
    held = (data / "test.jsonl").read_bytes()
    other = [] if change == "gone" else [replace(before["test"][0], text="mended")]
    with pytest.raises(ValueError, match=r"1 recordings of .*test\.jsonl are gone or have another"):
        keep_held_out(data, before, {**before, "test": other})
    assert (data / "test.jsonl").read_bytes() == held


def test_what_is_new_in_a_held_out_set_is_named(data, tmp_path, capsys):
    before = read_splits(data)
    held = (data / "test.jsonl").read_bytes()
    new = replace(before["test"][0], id="new", audio=tmp_path / "c.wav")
    splits = {**before, "test": [new, *before["test"]]}
    write_manifest(data / "test.jsonl", splits["test"])
    keep_held_out(data, before, splits)
    assert splits["test"] == before["test"]
    assert (data / "test.jsonl").read_bytes() == held
    assert "1 new recordings (new) are of speakers or sentences" in capsys.readouterr().err
    assert '"id": "new"' in (data / "dropped.jsonl").read_text()


def test_more_labels_without_a_label_are_refused(tmp_path, record):
    desk = tmp_path / "desk"
    segment = CorrectedSegment("s", 0.0, 1.0, "a", "a")
    made = Corrections(record("a.wav", 1.0), "", (segment,))
    corrections.write(desk / "a.corrections.json", made, "")
    with pytest.raises(ValueError, match="no checked segment in which something is said"):
        read_labels([desk])
    with pytest.raises(FileNotFoundError, match="No such manifest"):
        read_labels([tmp_path / "x.jsonl"])
