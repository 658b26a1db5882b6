"""A service of a tiny model on a free port of this machine, one for all tests."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from speechssl import audio
from speechssl.caches import VARIABLE
from speechssl.checkpoint import Checkpoint, load_model
from speechssl.interop.sources import open_model
from speechssl.rng import rng
from speechssl.service.app import create_app
from speechssl.service.config import ServiceConfig
from speechssl.service.engine import Engine
from speechssl.service.server import Server, bind, make_server

TOKEN = "s3cret"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Running:
    """A service at work."""

    app: FastAPI
    server: Server
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def engine(self) -> Engine:
        return self.app.state.service.engine

    def client(self, **settings) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=HEADERS, timeout=20, **settings)

    def spooled(self) -> list[Path]:
        return [path for path in self.engine.spool.folder.iterdir() if path.name != "lock"]


@contextmanager
def running(config: ServiceConfig, checkpoint: Checkpoint) -> Iterator[Running]:
    with bind(config) as listener:
        app = create_app(config, checkpoint)
        server = make_server(app, config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            yield Running(app, server, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def config(tiny_models) -> ServiceConfig:
    return ServiceConfig(
        str(tiny_models["ctc"]),
        name="tiny",
        port=0,
        token=TOKEN,
        max_upload_mb=2.0,
        max_audio_s=20.0,
        max_job_audio_s=40.0,
        max_active=2,
        max_waiting=1,
        max_jobs=2,
        max_live=1,
        read_timeout_s=0.4,
    )


@pytest.fixture(scope="session")
def checkpoint(config) -> Checkpoint:
    return open_model(config.model)


@pytest.fixture(scope="session")
def service(config, checkpoint) -> Iterator[Running]:
    with running(config, checkpoint) as found:
        yield found


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """Two seconds of noise whose loudness changes, at the model's rate."""
    loudness = np.repeat(rng(0, "loudness").uniform(0.01, 0.5, 16), 2000)
    wave = (loudness * rng(0, "clip").uniform(-1, 1, 32000)).astype(np.float32)
    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    audio.write(path, wave, 16000)
    return path


@pytest.fixture
def gate(service, monkeypatch) -> Iterator["Gate"]:
    """Holds the model back until it is opened."""
    made = Gate(service.engine.turns._forward)
    monkeypatch.setattr(service.engine.turns, "_forward", made)
    yield made
    made.open.set()
    until(lambda: service.app.state.service.admission.inside == 0)


class Gate:
    """In the place of the model's forward pass."""

    def __init__(self, forward) -> None:
        self.forward, self.open = forward, threading.Event()
        self.entered = 0
        self.samples: list[int] = []

    def __call__(self, waves):
        self.entered += 1
        self.samples += [len(wave) for wave in waves]
        assert self.open.wait(30)
        return self.forward(waves)


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A folder for recordings and corrections, and a cache of its own."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    folder = tmp_path / "desk"
    folder.mkdir()
    return folder


@pytest.fixture
def client(desk, tiny_models):
    config = ServiceConfig("tiny", desk=desk, max_upload_mb=0.5)
    with TestClient(
        create_app(config, load_model(tiny_models["ctc"])), base_url="http://localhost"
    ) as made:
        yield made
