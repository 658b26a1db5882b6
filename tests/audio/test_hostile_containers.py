"""Playlists and scripts under the names of sound: refused, and nothing that they name is opened."""

import contextlib
import ctypes
import io
import os
import sys
import types

import numpy as np
import pytest

from speechssl import audio
from speechssl.cli import main
from tests.audio.test_media import SCRIPTS, make

pytestmark = [pytest.mark.extras, pytest.mark.skipif(sys.platform != "linux", reason="inotify")]
SUFFIXES = ("wav", "mp3", "ogg", "opus", "flac", "m4a", "mp4", "webm", "wma", "amr", "g722", "aac")
OPENED = 0x20
"""IN_OPEN of inotify(7)."""


class Watch:
    """Whether anything has opened a file, C libraries included: the system is asked."""

    def __init__(self, path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._fd >= 0
        assert self._libc.inotify_add_watch(self._fd, os.fsencode(path), OPENED) >= 0

    def was_opened(self) -> bool:
        try:
            return bool(os.read(self._fd, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """Sound in the folder of the scripts, which is the working directory, too."""
    path = tmp_path / "secret.wav"
    audio.write(path, np.sin(np.arange(16000) / 9).astype(np.float32) / 3, 16000)
    monkeypatch.chdir(tmp_path)
    watch = Watch(path)
    yield watch
    watch.close()


def test_the_watch_sees_what_ffmpeg_opens(secret, tmp_path):
    """Or the tests below show nothing."""
    av = pytest.importorskip("av")
    assert not secret.was_opened()
    (tmp_path / "list.m4a").write_text(SCRIPTS["ffconcat"])
    with av.open(str(tmp_path / "list.m4a"), options={"safe": "0"}) as found:
        next(found.decode(audio=0))
    assert secret.was_opened()
    assert not secret.was_opened()
    audio.read(tmp_path / "secret.wav")
    assert secret.was_opened()


@pytest.mark.parametrize("kind", SCRIPTS)
def test_nothing_else_is_opened(kind, secret, tmp_path, tiny_models, capsys):
    lists = [tmp_path / f"list-{suffix}.{suffix}" for suffix in SUFFIXES]
    for path in lists:
        path.write_text(SCRIPTS[kind])
    model = str(tiny_models["ctc"])
    assert main(["transcribe", model, *map(str, lists), "--processes", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    for path in lists:
        assert f"{path} cannot be opened as sound" in err
    assert not secret.was_opened()


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("most", [1 << 24, 10])
def test_nor_from_standard_input(kind, most, secret, tiny_models, capsys, monkeypatch):
    from speechssl.inference import standard_input as module

    monkeypatch.setattr(module.standard_input.__wrapped__, "__defaults__", (most,))
    pipe = types.SimpleNamespace(buffer=io.BytesIO(SCRIPTS[kind].encode()))
    monkeypatch.setattr(sys, "stdin", pipe)
    assert main(["transcribe", str(tiny_models["ctc"]), "-"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("speechssl: standard input cannot be opened as sound")
    assert not secret.was_opened()


def test_an_mp4_that_refers_to_another_file(secret, tmp_path):
    """A data reference (dref) may name a file that holds the samples (ISO/IEC 14496-12, 8.7.2)."""
    path = make(tmp_path / "a.mov", "alac")
    data = path.read_bytes()
    place = data.find(b"dref")
    assert place > 0
    own = data[place + 12 : place + 24]  # one entry of 12 bytes: "in this file"
    assert own[4:8] in (b"url ", b"alis")
    for name in (b"alis", b"url ", b"rsrc"):
        other = own[:4] + name + b"\0\0\0\0"  # not in this file
        path.write_bytes(data[: place + 12] + other + data[place + 24 :])
        with contextlib.suppress(audio.AudioError):
            audio.read(path)
        assert not secret.was_opened()


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 999, b"this is text", b"<html><body>log in", b"PK\x03\x04" + b"x" * 99,
     b"\x1f\x8b\x08" + bytes(99), bytes(range(256)) * 9, b"RIFF", b"OggS", b"fLaC", b"ID3\x04"],
    ids=range(11),
)  # fmt: skip
@pytest.mark.parametrize("most", [1 << 24, 3])
def test_standard_input_that_is_no_sound(content, most, tiny_models, capsys, monkeypatch):
    from speechssl.inference import standard_input as module

    monkeypatch.setattr(module.standard_input.__wrapped__, "__defaults__", (most,))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))
    assert main(["transcribe", str(tiny_models["ctc"]), "-"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("speechssl: standard input ")
    assert "/tmp" not in line
