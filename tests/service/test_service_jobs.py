"""Jobs: submitted, asked after, fetched, cancelled."""

import pytest

from tests.service.conftest import until
from tests.service.test_abandoned import in_small_chunks, long_wav
from tests.service.test_requests import assert_refused, flac_of_silence, form, part

PATH = "/v1/audio/jobs"


@pytest.fixture
def client(service):
    with service.client() as made:
        yield made
        for job in made.get(PATH).json()["data"]:
            made.delete(f"{PATH}/{job['id']}")


def submit(client, path, **fields):
    return client.post(PATH, files={"file": ("talk.wav", path.read_bytes())}, data=fields)


def result(client, number):
    found = client.get(f"{PATH}/{number}/result")
    while found.status_code == 202:
        found = client.get(f"{PATH}/{number}/result")
    return found


def test_a_job_gives_what_the_request_gives(service, client, clip):
    response = submit(client, clip, response_format="srt")
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"{PATH}/{job['id']}"
    assert (job["file_name"], job["audio_s"]) == ("talk.wav", 2.0)
    same = client.post(
        "/v1/audio/transcriptions",
        files={"file": ("talk.wav", clip.read_bytes())},
        data={"response_format": "srt"},
    )
    assert result(client, job["id"]).text == same.text
    status = client.get(response.headers["location"]).json()
    assert (status["status"], status["progress"], status["error"]) == ("completed", 1.0, None)
    assert service.spooled() == []
    assert [each["id"] for each in client.get(PATH).json()["data"]] == [job["id"]]


def test_a_job_that_is_at_work_tells_how_far_it_is(service, client, gate, monkeypatch):
    from speechssl.service import engine

    in_small_chunks(service, monkeypatch)
    monkeypatch.setattr(engine, "BATCH_S", 0.2)
    gate.open.set()
    made = client.post(
        PATH,
        content=long_wav(18),
        headers={"Content-Type": "multipart/form-data; boundary=" + "x" * 20},
    ).json()
    seen = set()
    while (job := client.get(f"{PATH}/{made['id']}").json())["status"] in ("queued", "running"):
        seen.add(job["progress"])
    assert job["progress"] == 1.0
    assert job["ended_at"] >= job["created_at"]
    assert all(0 <= share <= 1 for share in seen)


@pytest.mark.parametrize("delete", [False, True])
def test_a_cancelled_job_is_computed_no_further(service, client, gate, clip, delete):
    number = submit(client, clip).json()["id"]
    until(lambda: gate.entered)
    if delete:
        assert client.delete(f"{PATH}/{number}").json()["deleted"] is True
        assert client.get(f"{PATH}/{number}").status_code == 404
    else:
        assert client.post(f"{PATH}/{number}/cancel").json()["status"] == "cancelled"
        assert_refused(client.get(f"{PATH}/{number}/result"), 410, "cancelled", "job_cancelled")
        assert client.post(f"{PATH}/{number}/cancel").json()["status"] == "cancelled"
    gate.open.set()
    until(lambda: service.spooled() == [])
    if not delete:
        assert client.get(f"{PATH}/{number}").json()["status"] == "cancelled"


def test_a_job_that_fails_says_why(client):
    made = client.post(PATH, files={"file": ("talk.wav", b"no sound")}).json()
    assert_refused(result(client, made["id"]), 400, "talk.wav", "unreadable_audio")
    job = client.get(f"{PATH}/{made['id']}").json()
    assert job["status"] == "failed"
    assert job["error"]["code"] == "unreadable_audio"


def test_too_many_jobs(client, gate, clip):
    numbers = [submit(client, clip).json()["id"] for _ in range(2)]
    response = submit(client, clip)
    assert_refused(response, 429, "2 jobs", "queue_full")
    assert response.headers["retry-after"]
    gate.open.set()
    for number in numbers:
        assert result(client, number).status_code == 200
    third = submit(client, clip).json()["id"]  # the oldest that is over makes room
    assert client.get(f"{PATH}/{numbers[0]}").status_code == 404
    assert result(client, third).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [({"stream": "true"}, 400, "stream"), ({"model": "other"}, 404, "other")],
)
def test_wrong_jobs_leave_nothing(service, client, clip, fields, status, word):
    assert_refused(submit(client, clip, **fields), status, word)
    assert client.get(PATH).json()["data"] == []
    assert service.spooled() == []


def test_jobs_may_be_longer_than_requests_and_not_endless(client):
    headers = {"Content-Type": "multipart/form-data; boundary=" + "x" * 20}
    fits = client.post(
        PATH, content=form(part("file", flac_of_silence(30), "a.flac")), headers=headers
    )
    assert result(client, fits.json()["id"]).json()["text"] == ""
    response = client.post(
        PATH, content=form(part("file", flac_of_silence(60), "a.flac")), headers=headers
    )
    assert_refused(response, 413, "minutes", "audio_too_long")


@pytest.mark.parametrize("number", ["x", "..", "%2e%2e%2fetc", "0" * 300])
def test_an_unknown_job(client, number):
    response = client.get(f"{PATH}/{number}")
    assert response.status_code in (404, 405)
