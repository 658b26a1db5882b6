"""What the page asks of the service: recordings by number, corrections, downloads, learning."""

import json
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from speechssl import audio
from speechssl.caches import VARIABLE
from speechssl.checkpoint import load_model
from speechssl.data.manifest import read_manifest
from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, SpokenWord
from speechssl.desk.queue import QueueItem, write_queue
from speechssl.service import desk_routes
from speechssl.service.app import create_app
from speechssl.service.config import ServiceConfig
from speechssl.service.desk_index import safe_name
from speechssl.service.desk_learning import Learning, TooFewLabels, part_labels
from speechssl.service.desk_texts import FORMATS, timed_words
from tests.service.desk_samples import add_recording, tone

PAGE = Path(desk_routes.__file__).parent / "page"


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    folder = tmp_path / "desk"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def checkpoint(tiny_models):
    return load_model(tiny_models["ctc"])


@pytest.fixture
def client(desk, checkpoint):
    config = ServiceConfig("tiny", desk=desk, max_upload_mb=0.5)
    with TestClient(create_app(config, checkpoint), base_url="http://localhost") as made:
        yield made


def ids(client) -> dict[str, str]:
    answer = client.get("/desk/recordings").json()
    return {row["name"]: row["id"] for row in answer["recordings"]}


def opened(client, name: str):
    answer = client.get(f"/desk/recordings/{ids(client)[name]}")
    return answer.json(), answer.headers["etag"]


def save(client, number: str, segments, tag: str):
    return client.put(
        f"/desk/recordings/{number}/corrections",
        json={"segments": segments},
        headers={"if-match": tag},
    )


def test_the_page_names_nothing_outside_of_it(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    nonce = re.search(r"'nonce-([^']+)'", policy)[1]
    assert f'content="{nonce}"' in answer.text
    assert nonce not in client.get("/").text  # another one each time
    names = set(re.findall(r'(?:href|src)="([^"#]+)"', answer.text))
    assert {"/page/app.js", "/page/store.js", "/page/style.css"} <= names
    for name in names:
        assert client.get(name).status_code == 200, name
    for path in PAGE.rglob("*"):
        if path.suffix in (".js", ".css", ".html") and "vendor" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"https?://|@import|\beval\(|innerHTML|style=", text), path
            assert len(text.splitlines()) <= 400, path


def test_the_vendored_waveform_has_its_licence():
    folder = PAGE / "vendor" / "wavesurfer"
    assert "BSD 3-Clause" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert re.search(r"wavesurfer\.js \d+\.\d+\.\d+", (folder / "README.md").read_text("utf-8"))


def test_files_of_the_page_are_asked_about_and_not_sent_again(client):
    answer = client.get("/page/app.js")
    assert answer.headers["content-type"].startswith("text/javascript")
    tag = {"if-none-match": answer.headers["etag"]}
    assert client.get("/page/app.js", headers=tag).status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "/page/../desk_routes.py",
        "/page/%2e%2e/desk_routes.py",
        "/page//etc/passwd",
        "/page/index.html",
        "/page/vendor/wavesurfer/LICENSE",
        "/desk/recordings/nothing",
        "/desk/recordings/..%2f..%2fetc%2fpasswd",
        "/desk/recordings/%2fetc%2fpasswd/audio",
        "/desk/recordings/a.wav/audio",
        "/desk/recordings/a.corrections.json/download",
    ],
)
def test_only_what_is_in_the_lists_is_opened(desk, client, path):
    add_recording(desk, "a.wav", 1.0)
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"]


def test_without_a_desk_the_page_says_so(checkpoint):
    with TestClient(
        create_app(ServiceConfig("tiny"), checkpoint), base_url="http://localhost"
    ) as made:
        assert made.get("/").status_code == 200
        answer = made.get("/desk/recordings")
        assert answer.status_code == 404
        assert "--desk FOLDER" in answer.json()["error"]["message"]


def test_the_list_has_what_is_done_and_what_is_wrong(desk, client):
    add_recording(desk, "a.wav", 9.0)
    add_recording(desk, "b.wav", 1.0, text=False)
    add_recording(desk, "b.flac", 1.0, text=False)  # of the same name but its suffix
    (desk / "broken.corrections.json").write_text("{", encoding="utf-8")
    gone = add_recording(desk, "gone.wav", 5.0)
    gone.unlink()
    (desk / "models" / "1").mkdir(parents=True)
    add_recording(desk / "models" / "1", "hidden.wav", 1.0, text=False)
    rows = {row["name"]: row for row in client.get("/desk/recordings").json()["recordings"]}
    assert set(rows) == {"a.wav", "b.wav", "b.flac", "broken", "gone.wav"}
    assert rows["a.wav"]["segments"] == 2
    assert rows["a.wav"]["is_transcribed"]
    assert not rows["b.wav"]["is_transcribed"]
    assert len({row["id"] for row in rows.values()}) == 5
    assert "is not there" in rows["gone.wav"]["problem"]
    assert "no JSON" in rows["broken"]["problem"] or "not there" in rows["broken"]["problem"]
    for name in ("gone.wav", "broken"):
        number = rows[name]["id"]
        assert client.get(f"/desk/recordings/{number}/audio").status_code == 422
    assert client.get(f"/desk/recordings/{rows['broken']['id']}").status_code == 422
    text = client.get(f"/desk/recordings/{rows['gone.wav']['id']}/download?format=txt")
    assert text.status_code == 200  # the text is there without the sound


def test_an_id_stays_when_other_recordings_come(desk, client):
    add_recording(desk, "b.wav", 1.0)
    before = ids(client)
    add_recording(desk, "a.wav", 1.0)
    assert ids(client)["b.wav"] == before["b.wav"]


def test_sound_comes_in_ranges(desk, client):
    path = add_recording(desk, "a.wav", 2.0)
    url = f"/desk/recordings/{ids(client)['a.wav']}/audio"
    answer = client.get(url, headers={"range": "bytes=1000-1999"})
    assert answer.status_code == 206
    assert answer.content == path.read_bytes()[1000:2000]
    assert answer.headers["content-range"].startswith("bytes 1000-1999/")
    assert client.get(url, headers={"range": "bytes=99999999-"}).status_code == 416


def test_of_a_compressed_recording_there_is_a_copy_to_seek_in(desk, client):
    add_recording(desk, "a.mp3", 2.0)
    number = ids(client)["a.mp3"]
    row, _ = opened(client, "a.mp3")
    assert row["audio"] == {"is_exact": False, "plays_original": True}
    url = f"/desk/recordings/{number}/audio"
    assert client.get(url, params={"form": "original"}).headers["content-type"] == "audio/mpeg"
    copy = client.get(url)
    assert copy.headers["content-type"] == "audio/wav"
    assert copy.content[:4] == b"RIFF"
    assert opened(client, "a.mp3")[0]["audio"]["is_exact"]


def test_peaks_and_tiles(desk, client):
    add_recording(desk, "a.wav", 12.0)
    url = f"/desk/recordings/{ids(client)['a.wav']}"
    for level, per_second in enumerate((10, 50, 200)):
        answer = client.get(f"{url}/peaks", params={"level": level})
        assert answer.headers["x-peaks-per-second"] == str(per_second)
        assert len(answer.content) == 2 * 12 * per_second
    assert client.get(f"{url}/peaks?level=3").status_code == 400
    assert client.get(f"{url}/peaks?level=x").status_code == 400
    for number, frames in ((0, 1000), (1, 200), (2, 0)):
        answer = client.get(f"{url}/spectrogram", params={"tile_number": number})
        assert len(answer.content) == 128 * frames
    assert client.get(f"{url}/spectrogram?tile_number=-1").status_code == 400
    assert client.get(f"{url}/spectrogram?gain_db=nan").status_code == 400


def test_a_recording_is_opened_with_its_segments_and_their_version(desk, client):
    path = add_recording(desk, "a.wav", 9.0)
    row, tag = opened(client, "a.wav")
    file = path.with_suffix(corrections.SUFFIX)
    assert tag == f'"{corrections.digest(file)}"'
    assert row["segment_list"] == json.loads(file.read_text(encoding="utf-8"))["segments"]
    assert row["duration_s"] == 9.0


def test_the_second_of_two_people_is_told(desk, client):
    path = add_recording(desk, "a.wav", 9.0)
    row, tag = opened(client, "a.wav")
    number, rows = row["id"], row["segment_list"]
    mine = [
        {**rows[0], "text": "mine", "editor": "ada", "time": "2026-01-01T00:00:00+00:00"},
        rows[1],
    ]
    first = save(client, number, mine, tag)
    assert first.status_code == 204
    made = corrections.read(path.with_suffix(corrections.SUFFIX))
    assert (made.segments[0].text, made.segments[0].editor) == ("mine", "ada")
    assert made.audio == path
    assert first.headers["etag"] == f'"{made.digest}"'
    second = save(client, number, [{**rows[0], "text": "theirs"}, rows[1]], tag)
    assert second.status_code == 412
    assert "by ada" in second.json()["error"]["message"]
    assert corrections.read(path.with_suffix(corrections.SUFFIX)).segments[0].text == "mine"
    assert save(client, number, mine, first.headers["etag"]).status_code == 204


@pytest.mark.parametrize("tag", [None, "*", '"', "abc"])
def test_whoever_does_not_say_what_was_changed_saves_nothing(desk, client, tag):
    add_recording(desk, "a.wav", 9.0)
    row, _ = opened(client, "a.wav")
    answer = client.put(
        f"/desk/recordings/{row['id']}/corrections",
        json={"segments": row["segment_list"]},
        headers={"if-match": tag} if tag else {},
    )
    assert answer.status_code == 428


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, "id"),
        ({"id": "s00001"}, "id"),
        ({"end_s": -1}, "end_s"),
        ({"start_s": 5.0}, "start_s"),
        ({"start_s": float("1e999")}, "start_s"),
        ({"text": 3}, "text"),
        ({"checked": "yes"}, "checked"),
        ({"audio": "/etc/passwd"}, "audio"),
        ({"time": "yesterday"}, "time"),
        ({"words": {}}, "words"),
    ],
)
def test_what_is_no_segment_is_not_saved(desk, client, change, message):
    path = add_recording(desk, "a.wav", 9.0)
    before = path.with_suffix(corrections.SUFFIX).read_bytes()
    row, tag = opened(client, "a.wav")
    rows = [{**row["segment_list"][0], **change}, row["segment_list"][1]]
    answer = client.put(
        f"/desk/recordings/{row['id']}/corrections",
        content=json.dumps({"segments": rows}),
        headers={"if-match": tag},
    )
    assert answer.status_code == 400
    assert "Nothing was saved" in answer.json()["error"]["message"]
    assert message in answer.json()["error"]["message"]
    assert path.with_suffix(corrections.SUFFIX).read_bytes() == before


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'"x"', b"\xff", b"[" * 100000])
def test_a_body_that_is_no_json_of_segments_is_refused(desk, client, body):
    add_recording(desk, "a.wav", 9.0)
    row, tag = opened(client, "a.wav")
    url = f"/desk/recordings/{row['id']}/corrections"
    assert client.put(url, content=body, headers={"if-match": tag}).status_code == 400


def test_a_body_that_is_too_large_is_refused(desk, client, monkeypatch):
    monkeypatch.setattr(desk_routes, "MAX_CORRECTIONS_BYTES", 100)
    add_recording(desk, "a.wav", 9.0)
    row, tag = opened(client, "a.wav")
    assert save(client, row["id"], row["segment_list"], tag).status_code == 413


def test_a_text_is_written_by_hand(desk, client):
    path = add_recording(desk, "a.wav", 9.0, text=False)
    row, tag = opened(client, "a.wav")
    assert (row["segment_list"], tag) == (None, '""')
    segment = {
        "id": "n1",
        "start_s": 0,
        "end_s": 2,
        "hypothesis": "",
        "text": "wó",
        "checked": True,
    }
    assert save(client, row["id"], [segment], tag).status_code == 204
    made = corrections.read(path.with_suffix(corrections.SUFFIX))
    assert made.audio_sha256
    assert made.labels


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.wav", "a.wav"),
        ("../../etc/passwd", "passwd.wav"),
        ("C:\\Users\\x\\b.MP3", "b.mp3"),
        (".hidden.wav", "hidden.wav"),
        ("", "recording.wav"),
        ("....", "recording.wav"),
        ("a b/ç ö.flac", "ç_ö.flac"),
        ("con.wav", "_con.wav"),
        ("models", "_models.wav"),
        ("a\0b\n.wav", "a_b.wav"),
        ("x" * 300 + ".wav", "x" * 80 + ".wav"),
        ("run.sh", "run.sh.wav"),
        ("a.corrections.json", "a.corrections.json.wav"),
    ],
)
def test_names_of_uploads_are_names(given, name):
    assert safe_name(given) == name


def wav_bytes(folder, duration_s=1.0) -> bytes:
    path = folder / "upload.wav"
    audio.write(path, tone(duration_s), 16000)
    return path.read_bytes()


def test_a_recording_is_dropped_into_the_desk(desk, client, tmp_path):
    content = wav_bytes(tmp_path)
    for expected in ("a.wav", "a-2.wav", "a-3.wav"):
        answer = client.post("/desk/recordings?name=" + quote("../a.wav"), content=content)
        assert answer.status_code == 201
        assert answer.json()["name"] == expected
        assert (desk / expected).read_bytes() == content
    assert sorted(os.listdir(desk)) == ["a-2.wav", "a-3.wav", "a.wav"]


@pytest.mark.parametrize("content", [b"", b"hello", b"RIFF" + bytes(100)])
def test_what_is_no_sound_leaves_nothing(desk, client, content):
    answer = client.post("/desk/recordings?name=a.wav", content=content)
    assert answer.status_code == 422
    assert "a.wav" in answer.json()["error"]["message"]
    assert str(desk) not in answer.json()["error"]["message"]
    assert os.listdir(desk) == []


def test_a_recording_that_is_too_large_leaves_nothing(desk, client):
    def parts():  # without a length that is known before
        for _ in range(12):
            yield bytes(50_000)

    assert client.post("/desk/recordings", content=bytes(600_000)).status_code == 413
    assert client.post("/desk/recordings", content=parts()).status_code == 413
    assert os.listdir(desk) == []


def test_the_queue_names_recordings_by_their_ids(desk, client):
    path = add_recording(desk, "a.wav", 9.0)
    assert client.get("/desk/queue").json() == {"items": []}
    first, second = corrections.read(path.with_suffix(corrections.SUFFIX)).segments
    items = [
        QueueItem("a.corrections.json", s.id, path, s.start_s, s.end_s, s.hypothesis, s.confidence)
        for s in (second, first)
    ]
    elsewhere = replace(items[0], corrections="../b.corrections.json")
    write_queue(desk, [*items, elsewhere])
    rows = client.get("/desk/queue").json()["items"]
    assert [row["segment"] for row in rows] == [second.id, first.id]
    assert {row["recording"] for row in rows} == {ids(client)["a.wav"]}
    assert not {"audio", "corrections"} & set(rows[0])
    row, tag = opened(client, "a.wav")
    checked = [row["segment_list"][0], {**row["segment_list"][1], "checked": True}]
    save(client, row["id"], checked, tag)
    assert [row["segment"] for row in client.get("/desk/queue").json()["items"]] == [first.id]
    (desk / "queue.jsonl").write_text("{\n", encoding="utf-8")
    assert client.get("/desk/queue").status_code == 422


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


def _luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark", "chosen dark"])
def test_text_can_be_read_in_both_themes(theme):
    """4.5 to 1, as WCAG 2.2 asks."""
    text = (PAGE / "colors.css").read_text(encoding="utf-8")
    blocks = re.findall(r"\{([^{}]*)\}", text)
    block = blocks[["light", "dark", "chosen dark"].index(theme)]
    colors = dict(re.findall(r"--([\w-]+): (#\w{6});", block))
    pairs = [(front, back) for front in ("ink", "dim", "bad", "checked") for back in ("paper",)]
    pairs += [("ink", "select"), ("dim", "select"), ("ink", "said"), ("ink", "checked-soft")]
    pairs += [("on-accent", "accent"), ("ink", "soft"), ("dim", "soft"), ("checked", "select")]
    for front, back in pairs:
        a, b = sorted((_luminance(colors[front]), _luminance(colors[back])))
        assert (b + 0.05) / (a + 0.05) >= 4.5, (front, back)
