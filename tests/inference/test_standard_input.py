"""Standard input: in memory where it is short, else in a file; text and sentences are the same."""

import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.cli import main
from speechssl.inference import standard_input as module
from speechssl.inference.recordings import Clip, chunks, find_clips, output_names
from speechssl.inference.standard_input import standard_input


class Pipe(io.RawIOBase):
    """What can be read once, in small pieces, and not sought in."""

    def __init__(self, data: bytes) -> None:
        self.rest = io.BytesIO(data)
        self.largest = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        self.largest = max(self.largest, len(buffer))
        return self.rest.readinto(memoryview(buffer)[:1000])


@pytest.mark.parametrize("num", [0, 1, 9, 10])
def test_what_is_short_is_in_memory(num):
    with standard_input(io.BufferedReader(Pipe(b"x" * num)), 10) as found:
        assert found == b"x" * num


def test_nothing_is_read_where_nothing_is_asked_for():
    with standard_input(None) as found:
        assert found == b""


@pytest.mark.parametrize("num", [11, 5000, 3 << 20])
def test_what_is_long_is_a_file_that_goes(num):
    data = np.random.default_rng(0).bytes(num)
    pipe = Pipe(data)
    with standard_input(io.BufferedReader(pipe), 10) as found:
        assert isinstance(found, Path)
        assert found.read_bytes() == data
        assert output_names(find_clips(["-"], found)) == ["stdin"]
    assert not found.parent.exists()
    assert pipe.largest <= 1 << 20


def test_the_file_goes_after_an_error_too():
    with pytest.raises(KeyError), standard_input(io.BytesIO(b"x" * 11), 10) as found:
        raise KeyError
    assert not found.parent.exists()


def test_a_full_disk_is_an_error_that_leaves_nothing(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module.shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="No space"), standard_input(io.BytesIO(b"x" * 11), 10):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_blocks_and_sentences_are_those_of_memory(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    wave = np.sin(np.arange(48_000) / 20).astype(np.float32) / 2
    audio.write(path, wave, 16000, None)
    for data in (path.read_bytes(), path.read_bytes()[: path.stat().st_size // 2], b"no sound" * 9):
        told = []
        for most in (1 << 24, 10):
            with standard_input(io.BytesIO(data), most) as found:
                notes: list[str] = []
                try:
                    made = [
                        c.wave.sum() for c in chunks(Clip("-", found), 16000, grid=320, notes=notes)
                    ]
                except audio.AudioError as error:
                    made, notes = [], [str(error)]
                told.append((made, notes))
                assert "speechssl-" not in " ".join(notes)
        assert told[0] == told[1]


@pytest.mark.parametrize("most", [1 << 24, 100])
def test_the_command_does_not_see_the_difference(most, tiny_models, record, capsys, monkeypatch):
    monkeypatch.setattr(module.standard_input.__wrapped__, "__defaults__", (most,))
    path = record("a.wav", 1.0)
    assert main(["transcribe", str(tiny_models["ctc"]), str(path), "--format", "json"]) == 0
    own = json.loads(capsys.readouterr().out)
    pipe = types.SimpleNamespace(buffer=io.BufferedReader(Pipe(path.read_bytes())))
    monkeypatch.setattr(sys, "stdin", pipe)
    assert main(["transcribe", str(tiny_models["ctc"]), "-", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**own, "audio": "-"}
    broken = types.SimpleNamespace(buffer=io.BytesIO(b"this is no sound " * 20))
    monkeypatch.setattr(sys, "stdin", broken)
    assert main(["transcribe", str(tiny_models["ctc"]), "-"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("speechssl: standard input cannot be opened as sound")
