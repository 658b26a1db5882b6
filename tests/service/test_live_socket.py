"""Live audio over a WebSocket."""

import json
import time

import numpy as np
import pytest

from speechssl import audio
from speechssl.inference.live import LiveTranscriber
from speechssl.service import live_socket
from speechssl.service.errors import ApiError
from speechssl.service.live_socket import read_live_options
from tests.service.conftest import HEADERS, until

websockets = pytest.importorskip("websockets.sync.client")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402


def connect(service, query="", headers=HEADERS):
    return websockets.connect(
        f"ws://127.0.0.1:{service.port}/v1/audio/live{query}", additional_headers=headers
    )


def samples_of(clip):
    return audio.read(clip, sample_rate=16000)


def talk(socket, data, step=6400):
    for start in range(0, len(data), step):
        socket.send(data[start : start + step])
    socket.send(json.dumps({"type": "finish"}))
    return [json.loads(message) for message in socket]


@pytest.fixture(scope="module")
def expected(checkpoint, clip):
    live = LiveTranscriber(checkpoint)
    events = [*live.feed(samples_of(clip)), *live.finish()]
    return " ".join(event.text for event in events if event.kind == "final")


def test_text_comes_and_is_that_of_the_live_transcriber(service, clip, expected):
    data = np.round(samples_of(clip) * 32768).clip(-32768, 32767).astype("<i2").tobytes()
    with connect(service) as socket:
        ready, *events, done = talk(socket, data)
    assert ready == {"type": "ready", "sample_rate": 16000}
    assert done == {"type": "done", "text": expected, "duration_s": 2.0}
    finals = [event for event in events if event["type"] == "final"]
    assert " ".join(event["text"] for event in finals) == expected
    for event in finals:
        assert " ".join(word["word"] for word in event["words"]) == event["text"]
        assert event["start_s"] <= event["end_s"] <= 2.0


def test_other_rates_and_floats(service, clip):
    wave = audio.read(clip, sample_rate=8000)
    with connect(service, "?sample_rate=8000&format=f32le&partials=false") as socket:
        _, *events, done = talk(socket, wave.astype("<f4").tobytes(), step=4000)
    assert {event["type"] for event in events} <= {"final"}
    assert done["duration_s"] == pytest.approx(2.0, abs=0.05)


def test_a_connection_outlives_the_time_for_the_head_of_a_request(service):
    """Which is 0.4 s here."""
    with connect(service) as socket:
        socket.recv()
        time.sleep(0.6)
        assert talk(socket, b"")[-1]["type"] == "done"


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (b"123", "whole number of samples"),
        ("hello", "finish"),
        ('{"type": "start"}', "finish"),
        ("[1]", "finish"),
    ],
)
def test_messages_that_are_wrong(service, message, word):
    with connect(service) as socket:
        socket.recv()
        socket.send(message)
        error = json.loads(socket.recv())
        assert error["type"] == "error"
        assert word in error["error"]["message"]
        with pytest.raises(ConnectionClosed):
            socket.recv()
    until(lambda: service.app.state.service.live == 0)


def test_samples_that_are_no_numbers(service):
    with connect(service, "?format=f32le") as socket:
        socket.recv()
        socket.send(np.full(16000, np.nan, "<f4").tobytes())
        error = json.loads(socket.recv())
        assert error["type"] == "error", error
    until(lambda: service.app.state.service.live == 0)


def test_one_connection_too_many(service):
    with connect(service) as socket:
        socket.recv()
        with pytest.raises(InvalidStatus) as caught:
            connect(service)
        response = caught.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
        assert b"live_full" in response.body
    until(lambda: service.app.state.service.live == 0)
    with connect(service):
        pass
    until(lambda: service.app.state.service.live == 0)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({**HEADERS, "Origin": "http://evil.example"}, 403),
    ],
)
def test_who_may_not_connect(service, headers, status):
    with pytest.raises(InvalidStatus) as caught:
        connect(service, headers=headers)
    assert caught.value.response.status_code == status


def test_nothing_is_computed_for_whoever_left(service, gate):
    with connect(service) as socket:
        socket.recv()
        for _ in range(10):  # more than the longest segment
            socket.send(np.random.default_rng(0).integers(-9000, 9000, 32000, "<i2").tobytes())
        until(lambda: gate.entered)
    gate.open.set()
    until(lambda: service.app.state.service.live == 0)
    assert not service.engine._tickets


def test_a_client_that_is_silent_for_too_long(service, monkeypatch):
    monkeypatch.setattr(live_socket, "IDLE_S", 0.1)
    with connect(service) as socket:
        socket.recv()
        assert "0.1 s" in json.loads(socket.recv())["error"]["message"]
    until(lambda: service.app.state.service.live == 0)


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ({"sample_rate": "fast"}, "sample_rate"),
        ({"sample_rate": "100"}, "sample_rate"),
        ({"sample_rate": "9" * 400}, "sample_rate"),
        ({"sample_rate": "-16000"}, "sample_rate"),
        ({"format": "mp3"}, "format"),
        ({"partials": "1"}, "partials"),
        ({"rate": "16000"}, "'rate'"),
    ],
)
def test_an_address_that_asks_for_what_there_is_not(query, word):
    with pytest.raises(ApiError, match=word):
        read_live_options(query)
