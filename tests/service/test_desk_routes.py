"""What the page asks of the service: recordings by number, corrections, downloads, learning."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from speechssl import audio
from speechssl.desk import corrections
from speechssl.desk.queue import QueueItem, write_queue
from speechssl.service import desk_routes
from speechssl.service.app import create_app
from speechssl.service.config import ServiceConfig
from speechssl.service.desk_index import safe_name
from tests.service.desk_samples import add_recording, ids, opened, save, tone

PAGE = Path(desk_routes.__file__).parent / "page"


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
    elsewhere = replace(items[0], corrections="b.corrections.json")  # not there
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
    write_queue(desk, [replace(items[0], corrections="../b.corrections.json")])
    assert client.get("/desk/queue").status_code == 422


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
