"""What the page lets the service do: transcribe, take texts home, learn from what was checked."""

import os
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")


from speechssl.data.manifest import read_manifest
from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, SpokenWord
from speechssl.service import desk_routes
from speechssl.service.app import create_app
from speechssl.service.config import ServiceConfig
from speechssl.service.desk_learning import Learning, TooFewLabels, part_labels
from speechssl.service.desk_texts import FORMATS, timed_words
from tests.service.desk_samples import add_recording, ids, opened, save

PAGE = Path(desk_routes.__file__).parent / "page"


def wait(client, url: str, states: set[str]):
    for _ in range(400):
        answer = client.get(url).json()
        if answer["state"] in states:
            return answer
        time.sleep(0.05)
    raise AssertionError(answer)


def test_a_recording_is_transcribed_and_never_twice(desk, client):
    path = add_recording(desk, "a.wav", 3.0, text=False)
    url = f"/desk/recordings/{ids(client)['a.wav']}/transcription"
    assert client.get(url).json()["state"] == "none"
    assert client.post(url).status_code == 202
    done = {"state": "done", "share": 1.0, "message": ""}
    assert wait(client, url, {"done", "failed"}) == done
    made = corrections.read(path.with_suffix(corrections.SUFFIX))
    assert made.segments
    for segment in made.segments:
        assert segment.text == segment.hypothesis
        assert segment.words
        assert segment.model_digest
        assert not segment.checked
    assert client.post(url).status_code == 409


CHANGED = [
    # a text of a person, and the times of its words
    ("a b c", [("a", 1.0, 1.5), ("b", 2.0, 2.5), ("c", 3.0, 3.5)]),
    ("a x c", [("a", 1.0, 1.5), ("x", 2.0, 2.5), ("c", 3.0, 3.5)]),
    ("a c", [("a", 1.0, 1.5), ("c", 3.0, 3.5)]),
    ("a b xx c", [("a", 1.0, 1.5), ("b", 2.0, 2.5), ("xx", 2.5, 3.0), ("c", 3.0, 3.5)]),
    ("a x yyy c", [("a", 1.0, 1.5), ("x", 2.0, 2.125), ("yyy", 2.125, 2.5), ("c", 3.0, 3.5)]),
    ("x a b c", [("x", 0.5, 1.0), ("a", 1.0, 1.5), ("b", 2.0, 2.5), ("c", 3.0, 3.5)]),
    ("a b c x", [("a", 1.0, 1.5), ("b", 2.0, 2.5), ("c", 3.0, 3.5), ("x", 3.5, 4.0)]),
    ("x", [("x", 1.0, 3.5)]),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), CHANGED)
def test_words_of_a_person_get_the_time_between_their_neighbours(text, expected):
    words = tuple(SpokenWord(w, k + 1.0, k + 1.5, 0.5) for k, w in enumerate("abc"))
    segment = CorrectedSegment("s", 0.5, 4.0, "a b c", text, 0.5, words)
    made = timed_words(segment)
    assert [(word.text, word.start_s, word.end_s) for word in made] == expected
    assert all(word.confidence == (0.5 if word.text in "abc" else 1.0) for word in made)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_transcript_is_taken_home_in_every_format(desk, client, name):
    add_recording(desk, "ñ a.wav", 9.0)
    row, tag = opened(client, "ñ a.wav")
    rows = [{**row["segment_list"][0], "text": "mbóngo x", "checked": True}, row["segment_list"][1]]
    assert save(client, row["id"], rows, tag).status_code == 204
    answer = client.get(f"/desk/recordings/{row['id']}/download", params={"format": name})
    assert answer.status_code == 200
    suffix, kind, _ = FORMATS[name]
    assert answer.headers["content-type"].startswith(kind)
    disposition = answer.headers["content-disposition"]
    assert disposition.endswith(f"filename*=UTF-8''{quote('ñ a')}{suffix}")
    text = answer.content.decode("utf-8")
    assert "mbóngo" in text or name == "rttm"  # which has speakers alone
    assert str(desk) not in text


def test_what_is_not_offered_is_not_downloaded(desk, client):
    add_recording(desk, "a.wav", 9.0)
    add_recording(desk, "b.wav", 9.0, text=False)
    numbers = ids(client)
    answer = client.get(f"/desk/recordings/{numbers['a.wav']}/download?format=exe")
    assert answer.status_code == 400
    assert "textgrid" in answer.json()["error"]["message"]
    answer = client.get(f"/desk/recordings/{numbers['b.wav']}/download")
    assert answer.status_code == 409


def check_all(client, name: str) -> None:
    row, tag = opened(client, name)
    rows = [{**segment, "checked": True} for segment in row["segment_list"]]
    assert save(client, row["id"], rows, tag).status_code == 204


def test_too_few_labels_are_not_learned_from(desk, client):
    add_recording(desk, "a.wav", 9.0)
    answer = client.post("/desk/learn")
    assert answer.status_code == 409
    assert "0 segments" in answer.json()["error"]["message"]
    check_all(client, "a.wav")
    assert "2 segments" in client.post("/desk/learn").json()["error"]["message"]
    assert not (desk / "models").exists()
    assert client.post("/desk/learn?minutes=0").status_code == 400
    assert client.post("/desk/learn?minutes=nan").status_code == 400


def fake_command(lines: str):
    """In the place of the fine-tuning: a program that writes metrics, and ends when asked to."""
    code = (
        "import json, os, pathlib, sys, time\n"
        "out = pathlib.Path(sys.argv[1]); out.mkdir(parents=True)\n"
        "(out / 'metrics.jsonl').write_text("
        '\'{"step": 20, "time_s": 3.0, "loss/ctc": 2.5}\\n\''
        '\'{"step": 40, "time_s": 6.0, "loss/ctc": 1.5, "valid/wer": 0.5, "valid/cer": 0.2}\\n\''
        "'{\"step\": 6', encoding='utf-8')\n"
        f"{lines}\n"
    )
    return lambda _self, run, _minutes: [sys.executable, "-c", code, str(run / "run")]


def test_learning_is_a_command_whose_progress_is_told(desk, client, monkeypatch):
    add_recording(desk, "a.wav", 80.0)
    check_all(client, "a.wav")
    ends = (
        "print('well', flush=True)\n(out / 'best').mkdir(); (out / 'best' / 'config.json').touch()"
    )
    monkeypatch.setattr(Learning, "_command", fake_command(ends))
    answer = client.post("/desk/learn?minutes=5")
    assert answer.status_code == 202
    assert answer.json()["state"] == "running"
    done = wait(client, "/desk/learn", {"done", "failed"})
    assert done["state"] == "done"
    assert (done["step"], done["loss"], done["wer"], done["cer"]) == (40, 1.5, 0.5, 0.2)
    assert done["said"] == ["well"]
    assert done["model"].endswith(os.path.join("models", "1", "run", "best"))
    assert done["labels"] + done["held_out"] == 20
    train = read_manifest(desk / "models" / "1" / "train.jsonl")
    held = read_manifest(desk / "models" / "1" / "valid.jsonl")
    assert len(train) + len(held) == 20
    assert held
    ends = "print('no room', flush=True); sys.exit(1)"
    monkeypatch.setattr(Learning, "_command", fake_command(ends))
    assert client.post("/desk/learn").json()["number"] == 2
    failed = wait(client, "/desk/learn", {"done", "failed"})
    assert (failed["state"], failed["said"], failed["model"]) == ("failed", ["no room"], "")


def test_one_learning_at_a_time_which_can_be_stopped(desk, client, monkeypatch):
    add_recording(desk, "a.wav", 80.0)
    check_all(client, "a.wav")
    waits = "print('ready', flush=True)\ntime.sleep(60)"
    monkeypatch.setattr(Learning, "_command", fake_command(waits))
    assert client.post("/desk/learn").status_code == 202
    again = client.post("/desk/learn")
    assert again.status_code == 409
    assert "runs already" in again.json()["error"]["message"]
    assert client.delete("/desk/learn").status_code == 202
    assert wait(client, "/desk/learn", {"stopped", "failed", "done"})["state"] == "stopped"


def test_the_command_is_one_that_a_person_could_type(tmp_path):
    from speechssl.cli import build_parser

    command = Learning(tmp_path, "runs/finetune")._command(tmp_path / "models" / "1", 5.0)
    assert command[1:3] == ["-m", "speechssl"]
    args = build_parser(["finetune"]).parse_args(command[3:])
    assert (args.init, args.budget_minutes) == ("runs/finetune", 5.0)


def test_what_is_held_out_stays_held_out(desk, client):
    from speechssl.desk.labels import to_manifest

    add_recording(desk, "a.wav", 80.0)
    check_all(client, "a.wav")
    labels = to_manifest(desk)
    _, few = part_labels(labels[:14])
    train, held = part_labels(labels)
    assert {label.id for label in few} <= {label.id for label in held}
    assert not {label.id for label in train} & {label.id for label in held}
    with pytest.raises(TooFewLabels, match="11 segments"):
        part_labels(labels[:11])


def test_the_validation_set_of_the_models_run_is_the_measure(desk, client, tmp_path):
    from speechssl.data.manifest import write_manifest
    from speechssl.desk.labels import to_manifest

    add_recording(desk, "a.wav", 80.0)
    check_all(client, "a.wav")
    labels = to_manifest(desk)
    model = tmp_path / "run" / "best"
    model.mkdir(parents=True)
    write_manifest(model.parent / "valid.jsonl", labels[:3])
    train, held = part_labels(labels, str(model))
    assert [label.id for label in held] == [label.id for label in labels[:3]]
    assert [label.id for label in train] == [label.id for label in labels[3:]]


def test_a_file_in_the_place_of_the_desk_is_refused(tmp_path, checkpoint):
    (tmp_path / "desk").touch()
    with pytest.raises(NotADirectoryError, match="give --desk a folder"):
        create_app(ServiceConfig("tiny", desk=tmp_path / "desk"), checkpoint)
