"""The server itself: its port, its signals, its files, and what it tells of itself."""

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from speechssl.checkpoint import load_model, save_model
from speechssl.cli import main
from speechssl.service.config import ServiceConfig
from speechssl.service.metrics import Metrics
from speechssl.service.server import bind
from speechssl.service.spool import PREFIX, Spool
from tests.service.conftest import running, until
from tests.service.test_requests import Later, head, part, raw, wav


def test_two_servers_on_one_port(service, config, capsys):
    code = main(["serve", config.model, "--port", str(service.port)])
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith(f"speechssl: Port {service.port} of 127.0.0.1 is in use")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--host", "0.0.0.0"], "give a token"),
        (["--host", "no.such.host.invalid"], "give a token"),
        (["--port", "70000"], "65535"),
        (["--port", "-1"], "65535"),
        (["--max-upload-mb", "0"], "max_upload_mb"),
        (["--max-active", "0"], "max_active"),
        (["--desk", "no-such-folder"], "no-such-folder"),
        (["--token-file", "no-such-file"], "no-such-file"),
    ],
)
def test_wrong_options_are_one_sentence(options, word, capsys, monkeypatch):
    monkeypatch.delenv("SPEECHSSL_TOKEN", raising=False)
    assert main(["serve", "no-model", *options]) == 2
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"two words\n", b"\xff\xfe", "é".encode()])
def test_a_token_file_without_a_token(tmp_path, content, capsys):
    path = tmp_path / "token"
    path.write_bytes(content)
    assert main(["serve", "no-model", "--token-file", str(path)]) == 2
    assert "holds no token" in capsys.readouterr().err


def test_an_address_that_is_not_here():
    with pytest.raises(ValueError, match="not known here"):
        bind(ServiceConfig("model", host="no.such.host.invalid", token="t"))
    with pytest.raises(ValueError, match=r"no address|cannot listen"):
        bind(ServiceConfig("model", host="192.0.2.1", token="t", port=0))


def test_a_model_that_was_not_fine_tuned(tiny_models, capsys):
    assert main(["serve", str(tiny_models["speech"]), "--port", "0"]) == 2
    assert "transcription head" in capsys.readouterr().err


@pytest.fixture
def own(config, checkpoint):
    """A further service, for tests that end it."""
    with running(dataclasses.replace(config, read_timeout_s=20.0), checkpoint) as found:
        yield found


def test_a_signal_ends_it_and_uploads_are_gone(own, monkeypatch):
    monkeypatch.setattr(own.server.config, "timeout_graceful_shutdown", 0.2)
    connection = raw(own, head(10_000) + part("file", b"RIFF" * 100, "a.wav"))
    until(own.spooled)
    folder = own.engine.spool.folder
    own.server.handle_exit(signal.SIGTERM, None)
    until(lambda: not folder.exists())
    connection.close()
    assert own.server.signals == [signal.SIGTERM]


def test_a_request_at_work_may_end_at_a_signal(own, clip, monkeypatch):
    import threading

    forward, gate = own.engine.turns._forward, threading.Event()
    entered = threading.Event()

    def held(waves):
        entered.set()
        assert gate.wait(20)
        return forward(waves)

    monkeypatch.setattr(own.engine.turns, "_forward", held)
    request = Later(own, wav(clip))
    assert entered.wait(20)
    own.server.handle_exit(signal.SIGTERM, None)
    gate.set()
    request.join()
    assert request.found.status_code == 200


def test_a_model_folder_that_is_replaced_while_it_serves(tmp_path, config, clip, tiny_models):
    """The old model goes on, whatever becomes of its files, and /healthz says so."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_models["ctc"], folder)
    mine = dataclasses.replace(config, model=str(folder))
    with running(mine, load_model(folder)) as own, own.client() as client:
        before = client.get("/healthz").json()
        assert (before["status"], before["model_replaced"]) == ("ok", False)
        files = {"file": ("a.wav", clip.read_bytes())}
        text = client.post("/v1/audio/transcriptions", files=files).json()["text"]
        weights = folder / "model.safetensors"
        with weights.open("r+b") as file:  # in place, where pages of the file would change too
            file.seek(-4000, os.SEEK_END)
            file.write(bytes(4000))
        save_model(folder, load_model(tiny_models["conv"]))
        after = client.get("/healthz").json()
        assert after["model_replaced"] is True
        assert "start it again" in after["note"]
        assert client.post("/v1/audio/transcriptions", files=files).json()["text"] == text
        assert "speechssl_model_replaced 1\n" in client.get("/metrics").text


def test_health_and_metrics(service, clip):
    import httpx

    health = httpx.get(f"{service.url}/healthz").json()  # without a token
    assert health["status"] == "ok"
    assert httpx.get(f"{service.url}/metrics").status_code == 401
    with service.client() as client:
        client.post("/v1/audio/transcriptions", files={"file": ("a.wav", clip.read_bytes())})
        found = client.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(
        line.rsplit(" ", 1) for line in found.text.splitlines() if not line.startswith("#")
    )
    assert float(values["speechssl_audio_seconds_total"]) >= 2
    assert float(values['speechssl_requests_total{status="200"}']) >= 1
    assert values["speechssl_requests_inside"] == "0"
    assert (
        values["speechssl_request_seconds_count"]
        == values['speechssl_request_seconds_bucket{le="+Inf"}']
    )
    assert float(values["speechssl_memory_bytes"]) > 1e7


def test_a_session_is_a_cookie(service):
    import httpx

    with service.client() as client:
        cookie = client.post("/session").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    value = cookie.split(";")[0]
    assert httpx.get(f"{service.url}/metrics", headers={"cookie": value}).status_code == 200
    assert httpx.post(f"{service.url}/session").status_code == 401


def test_counts_of_metrics():
    metrics = Metrics()
    metrics.count("requests", status="200")
    metrics.count("requests", 2, status="200")
    metrics.took(0.2)
    metrics.took(1000)
    text = metrics.text({"memory": ("Bytes.", 12345678901)})
    assert 'speechssl_requests_total{status="200"} 3\n' in text
    assert 'speechssl_request_seconds_bucket{le="0.1"} 0\n' in text
    assert 'speechssl_request_seconds_bucket{le="0.25"} 1\n' in text
    assert 'speechssl_request_seconds_bucket{le="300"} 1\n' in text
    assert 'speechssl_request_seconds_bucket{le="+Inf"} 2\n' in text
    assert "speechssl_memory 12345678901\n" in text


# ---- the spool --------------------------------------------------------------------------------


def test_the_spool_is_private_and_goes(tmp_path):
    spool = Spool(tmp_path)
    place = spool.place()
    place.write_bytes(b"12345")
    assert place.parent == spool.folder
    assert spool.used_bytes() == 5
    if os.name == "posix":
        assert spool.folder.stat().st_mode & 0o077 == 0
    assert spool.place() != place
    spool.remove(place)
    spool.remove(place)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_two_services_of_one_process_keep_their_own(tmp_path):
    first, second = Spool(tmp_path), Spool(tmp_path)
    third = Spool(tmp_path)
    for spool in (first, second, third):
        assert spool.folder.is_dir()
        spool.close()


def test_what_a_killed_service_left_is_removed_and_what_another_uses_is_not(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from speechssl.service.spool import Spool; "
        "s = Spool(Path(sys.argv[1])); s.place().write_bytes(b'a'); print(s.folder, flush=True); "
        "sys.stdin.read(1); os._exit(9)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        theirs = other.stdout.readline().strip()
        spool = Spool(tmp_path)
        assert os.path.isdir(theirs)  # it is at work
        spool.close()
        other.communicate("x")
    assert os.path.isdir(theirs)
    (tmp_path / f"{PREFIX}unknown").mkdir()  # being made, or somebody else's
    Spool(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}unknown"]


def test_a_port_that_the_system_chooses():
    with bind(ServiceConfig("model", port=0)) as first, bind(ServiceConfig("model", port=0)) as two:
        assert first.getsockname()[1] != two.getsockname()[1]
        assert first.family == socket.AF_INET
