"""Many requests at once, and such whose client goes away."""

import io
import socket
import struct

import numpy as np
import soundfile

from speechssl.service import engine
from tests.service.conftest import until
from tests.service.test_requests import (
    BOUNDARY,
    MULTIPART,
    PATH,
    Later,
    assert_refused,
    form,
    head,
    part,
    post,
    raw,
    wav,
)


def test_too_many_are_told_to_come_again(service, gate, clip):
    """Two at work and one that waits are all that this service takes."""
    admission = service.app.state.service.admission
    threads = [Later(service, wav(clip)) for _ in range(3)]
    until(lambda: admission.inside == 3 and admission.active == 2)
    response = post(service, wav(clip))
    assert_refused(response, 429, "come again", "queue_full")
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    gate.open.set()
    for thread in threads:
        thread.join()
        assert thread.found.status_code == 200
    assert len({thread.found.text for thread in threads}) == 1


def test_a_service_that_ends_says_503(service, clip, monkeypatch):
    monkeypatch.setattr(service.app.state.service.admission, "is_closing", True)
    response = post(service, wav(clip))
    assert_refused(response, 503, "stopped", "closing")
    assert response.headers["retry-after"] == "5"
    with service.client() as client:
        assert client.get("/healthz").status_code == 503


def test_a_full_disk_is_503(service, clip, monkeypatch):
    from speechssl.service.upload import _Form

    def full(*_given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_Form, "flush", full)
    response = post(service, wav(clip))
    assert_refused(response, 503, "No space left", "no_space")
    assert int(response.headers["retry-after"]) > 0
    assert service.spooled() == []


def in_small_chunks(service, monkeypatch):
    """Of two seconds, each a batch."""
    monkeypatch.setattr(service.engine.transcriber, "max_chunk_s", 2.0)
    monkeypatch.setattr(service.engine.turns, "_batch_samples", 32000)


def long_wav(seconds):
    made = io.BytesIO()
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, seconds * 16000).astype(np.float32)
    soundfile.write(made, wave, 16000, format="FLAC")
    return form(part("file", made.getvalue(), "long.flac"))


def test_nothing_is_computed_for_a_client_that_went_away(service, gate, monkeypatch):
    in_small_chunks(service, monkeypatch)
    content = long_wav(18)
    connection = raw(service, head(len(content)) + content)
    threads = service.engine.turns._threads
    until(lambda: gate.entered == len(threads) and service.spooled())
    connection.close()
    until(lambda: service.engine.turns.waiting == 0)
    before = len(gate.samples)
    gate.open.set()
    until(lambda: service.app.state.service.admission.inside == 0)
    until(lambda: service.spooled() == [])
    assert len(gate.samples) == before < 9


def test_a_client_that_goes_away_while_it_sends_leaves_nothing(service):
    connection = raw(service, head(10_000) + part("file", b"RIFF" * 100, "a.wav"))
    until(service.spooled)
    # a reset, not a polite end
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    until(lambda: service.spooled() == [])
    until(lambda: service.app.state.service.admission.inside == 0)


def test_a_stream_that_is_given_up_stops(service, gate, monkeypatch):
    monkeypatch.setattr(engine, "STREAM_BATCH_S", 0.2)
    in_small_chunks(service, monkeypatch)
    gate.open.set()
    content = long_wav(18).removesuffix(f"--{BOUNDARY}--\r\n".encode())
    content = content + form(part("stream", b"true"))
    with (
        service.client() as client,
        client.stream("POST", PATH, content=content, headers=MULTIPART) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        first = next(response.iter_lines())
        gate.open.clear()
        assert "transcript.text.delta" in first
    until(lambda: service.engine.turns.waiting == 0)
    before = len(gate.samples)
    gate.open.set()
    until(lambda: service.app.state.service.admission.inside == 0)
    assert len(gate.samples) - before <= 1


def test_a_short_clip_does_not_wait_for_a_long_recording(service, gate, clip, monkeypatch):
    """While the long one has its chunks in the queue, the short one is answered first."""
    in_small_chunks(service, monkeypatch)
    long = Later(service, long_wav(18))
    threads = service.engine.turns._threads
    until(lambda: gate.entered == len(threads))
    short = Later(service, wav(clip))
    until(lambda: service.engine.turns.waiting > 3)
    until(lambda: 32000 in {len(p.wave) for p in service.engine.turns._places})
    gate.open.set()
    short.join()
    assert short.found.status_code == 200
    long.join()
    assert long.found.status_code == 200
    after = gate.samples[len(threads) :]
    assert after.index(32000) < 2  # the clip's chunk came before most of the long one's
