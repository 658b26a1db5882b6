"""Requests that are wrong, too large, too slow, too many, or given up."""

import http.client
import io
import socket
import threading
import time

import httpx
import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.service import errors
from tests.service.conftest import HEADERS, TOKEN

PATH = "/v1/audio/transcriptions"
BOUNDARY = "x" * 20


def part(name, content, file_name=None):
    shown = f'; filename="{file_name}"' if file_name is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts):
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def post(service, content, headers=MULTIPART, path=PATH):
    with service.client() as client:
        return client.post(path, content=content, headers=headers)


def assert_refused(response, status, word, code=None):
    error = response.json()["error"]
    assert response.status_code == status, error
    assert word in error["message"]
    assert error["message"].endswith(".")
    assert set(error) == {"message", "type", "param", "code"}
    if code:
        assert error["code"] == code


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "ends in the middle"),
        (b"no form at all", "malformed"),
        (part("file", b"RIFF", "a.wav"), "ends in the middle"),
        (form(), "file"),
        (form(part("model", b"tiny")), "file"),
        (form(part("file", b"", "a.wav")), "empty"),
        (form(part("file", b"a", "a.wav"), part("file", b"b", "b.wav")), "Several"),
        (form(part("audio", b"a", "a.wav")), "'audio'"),
        (form(part("file", b"a", "a.wav"), part("model", b"\xff")), "UTF-8"),
        (form(part("", b"a")), "no name"),
        (form(b"--" + BOUNDARY.encode() + b"\r\nX: y\r\n\r\nz\r\n"), "no name"),
        (form(*(part("keywords[]", b"") for _ in range(10_101))), "parts"),
        (form(part("file", b"a"), b"--" + BOUNDARY.encode() + b"\r\n" + b"A" * 9000), "malformed"),
    ],
)
def test_malformed_forms(service, content, word):
    assert_refused(post(service, content), 400, word)
    assert service.spooled() == []


@pytest.mark.parametrize(
    "kind", ["", "application/json", "text/plain", "audio/wav", "application/x-www-form-urlencoded"]
)
def test_a_wrong_content_type(service, kind):
    headers = {"Content-Type": kind} if kind else {}
    assert_refused(post(service, b"{}", headers), 415, "multipart/form-data", "wrong_content_type")


@pytest.mark.parametrize(
    ("kind", "status"),
    [("multipart/form-data", 400), (f"multipart/form-data; boundary={'y' * 300}", 400)],
)
def test_a_form_without_a_usable_boundary(service, kind, status):
    assert post(service, b"x", {"Content-Type": kind}).status_code == status


def test_fields_beside_the_recording_are_limited(service):
    content = form(part("prompt", b"a" * ((1 << 20) + 1)), part("file", b"a", "a.wav"))
    assert_refused(post(service, content), 413, "1,048,576")


@pytest.mark.parametrize(
    "content",
    [
        b"hello, this is text",
        b"\0" * 1000,
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"#EXTM3U\nhttp://example.org/a.ts\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        bytes(range(256)) * 20,
    ],
)
def test_what_is_no_sound(service, content):
    response = post(service, form(part("file", content, "a.wav")))
    assert_refused(response, 400, "a.wav", "unreadable_audio")
    assert str(service.engine.spool.folder) not in response.text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../../../etc/passwd", "passwd"),
        ("/etc/shadow", "shadow"),
        ("C:\\\\Windows\\\\win.ini", "win.ini"),
        ("..", ".."),
        ("", "the recording"),
        ("a\x00b\x1b[31m.wav", "a b"),
        ("x.tar:member.wav", "x.tar:member.wav"),
        ("\u202egpj.wav", "gpj.wav"),
        ("n" * 500, "n" * 80),
    ],
)
def test_no_file_named_by_a_client_is_opened(service, name, shown, monkeypatch):
    """The recording is what was sent, whatever it is called; the name is shown, and made plain."""
    opened = []
    stream = audio.stream
    monkeypatch.setattr(audio, "stream", lambda path, **k: opened.append(path) or stream(path, **k))
    response = post(service, form(part("file", b"not sound", name)))
    assert_refused(response, 400, shown)
    assert all(path.parent == service.engine.spool.folder for path in opened)
    assert service.spooled() == []


def wav(clip):
    return form(part("file", clip.read_bytes(), "clip.wav"))


class Later(threading.Thread):
    """A request in a thread."""

    def __init__(self, service, content, path=PATH):
        super().__init__()
        self.work = lambda: post(service, content, path=path)
        self.start()

    def run(self):
        self.found = self.work()


# ---- size and time ----------------------------------------------------------------------------


def test_two_gigabytes_by_content_length_are_not_read(service):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.putrequest("POST", PATH)
    for name, value in {**HEADERS, **MULTIPART, "Content-Length": str(2 << 30)}.items():
        connection.putheader(name, value)
    connection.endheaders(part("file", b"RIFF", "a.wav"))
    begun = time.monotonic()
    response = connection.getresponse()
    assert (response.status, response.getheader("connection")) == (413, "close")
    assert b"upload_too_large" in response.read()
    assert time.monotonic() - begun < 5
    connection.close()
    assert service.spooled() == []


def test_two_gigabytes_in_chunks_are_never_held(service, monkeypatch):
    """What is beyond the limit is thrown away, the client reads why, and then it is cut off."""
    monkeypatch.setattr(errors, "DRAIN_S", 0.2)
    sent, largest = 0, 0

    def body():
        nonlocal sent, largest
        yield part("file", b"", "a.wav").removesuffix(b"\r\n")
        piece = bytes(1 << 16)
        while sent < 2 << 30:
            sent += len(piece)
            largest = max(largest, service.engine.spool.used_bytes())
            yield piece

    with service.client() as client:
        response = client.post(PATH, content=body(), headers=MULTIPART)
    assert_refused(response, 413, "2 MB", "upload_too_large")
    assert sent < 2 << 30
    assert largest <= 2e6
    assert service.spooled() == []


def raw(service, data):
    made = socket.create_connection(("127.0.0.1", service.port), timeout=10)
    made.sendall(data)
    return made


def head(length, path=PATH):
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}"]
    lines += [f"Content-Type: {MULTIPART['Content-Type']}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def everything(connection):
    found = b""
    while data := connection.recv(1 << 16):
        found += data
    return found


def test_an_upload_that_stands_still_is_given_up(service):
    with raw(service, head(10_000) + part("file", b"RI", "a.wav")) as connection:
        found = everything(connection)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"nothing came for 0.4 s" in found
    assert service.spooled() == []


def test_a_slow_drip_is_given_up(service, monkeypatch):
    from speechssl.service import upload

    monkeypatch.setattr(upload, "GRACE_S", 0.2)
    with raw(service, head(10_000)) as connection:
        stop = threading.Event()

        def drip():
            for byte in part("file", b"RIFF" * 100, "a.wav"):
                if stop.wait(0.02):
                    return
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        found = everything(connection)
        stop.set()
        thread.join()
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"less than 2 kB/s" in found


def test_a_head_that_never_ends_is_cut_off(service):
    with raw(
        service, b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nX-A: "
    ) as made:
        assert everything(made) == b""


def flac_of_silence(seconds, rate=8000):
    made = io.BytesIO()
    soundfile.write(made, np.zeros(seconds * rate, np.int16), rate, format="FLAC")
    return made.getvalue()


def test_a_bomb_of_days_is_refused_by_its_header(service):
    """Some kilobytes that decompress to hours; the limit of a request here is 20 s."""
    content = flac_of_silence(600)
    assert len(content) < 200_000
    response = post(service, form(part("file", content, "bomb.flac")))
    assert_refused(response, 413, "minutes", "audio_too_long")


def test_a_recording_that_is_longer_than_it_states_is_stopped(service, monkeypatch):
    """Where the header is not to be believed, the sound itself is counted, as it comes."""
    from speechssl.service import engine, work

    monkeypatch.setattr(work, "_stated_s", lambda _: 0.0)
    monkeypatch.setattr(engine, "BATCH_S", 1.0)
    response = post(service, form(part("file", flac_of_silence(90), "bomb.flac")))
    assert_refused(response, 413, "minutes", "audio_too_long")


# ---- faults and paths --------------------------------------------------------------------------


def test_an_unknown_path_and_method(service):
    with service.client() as client:
        assert_refused(client.get("/v2"), 404, "/v2", "not_found")
        assert_refused(client.get(PATH), 405, "GET", "method_not_allowed")
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert client.get(path).status_code == 404


def test_a_fault_of_our_own_is_500_in_the_same_form(service, clip, monkeypatch):
    def broken(*_args, **_settings):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(service.engine, "transcribe", broken)
    response = post(service, wav(clip))
    assert_refused(response, 500, "RuntimeError")
    assert "secret" not in response.text


def test_http_errors_of_the_protocol_are_no_500(service):
    with httpx.Client(base_url=service.url) as client:
        assert client.post(PATH, content=b"x").status_code == 401
