"""A WAV through a pipe: what is read as it comes is what a file of it gives, sentences included."""

import io
import json
import struct
import sys
import tracemalloc
import types

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.audio import AudioError, opening
from speechssl.cli import main
from speechssl.inference import standard_input as module
from speechssl.inference.recordings import Clip, chunks
from speechssl.inference.standard_input import standard_input
from speechssl.rng import rng


def wav(seconds=1.0, rate=16000, channels=1, subtype="PCM_16", form="WAV", seed=0) -> bytearray:
    wave = rng(seed, "wave").uniform(-0.5, 0.5, (round(seconds * rate), channels))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=form, subtype=subtype)
    return bytearray(buffer.getvalue())


def sized(data: bytearray, size: int) -> bytes:
    place = data.find(b"data") + 4
    data[place : place + 4] = struct.pack("<I", size)
    return bytes(data)


def told(source, channel=None):
    """Chunks and sentences, or the one of the error."""
    notes: list[str] = []
    try:
        clip = Clip("-", source, channel=channel)
        made = list(chunks(clip, 16000, grid=320, max_chunk_s=2.0, notes=notes))
    except AudioError as error:
        return [], [str(error)]
    return np.concatenate([chunk.own for chunk in made]), notes


def same(data: bytes, head: int = 100, channel: int | None = None) -> list[str]:
    """That the pipe gives what memory does; the sentences."""
    with standard_input(io.BytesIO(data), head, once=True) as found:
        assert isinstance(found, audio.Piped)
        wave, notes = told(found, channel)
    expected, sentences = told(data, channel)
    assert notes == sentences
    assert np.array_equal(wave, expected)
    return notes


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (8000, 2), (44100, 3)])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_every_width(subtype, rate, channels, form):
    assert same(bytes(wav(3.3, rate, channels, subtype, form))) == []


@pytest.mark.parametrize("head", [44, 45, 1001, 31_999, 32_043])
def test_wherever_the_head_ends(head):
    assert same(bytes(wav()), head) == []


@pytest.mark.parametrize("size", [0, 0x7FFF0000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_size_that_the_writer_did_not_know(size):
    assert same(sized(wav(), size)) == []


@pytest.mark.parametrize("size", [32_002, 40_000, 1_000_000])
def test_what_is_cut_off_is_said(size):
    notes = same(sized(wav(), size))
    assert len(notes) == (size > 33_000)
    assert all("standard input is cut off or damaged: 1.000 s of the" in note for note in notes)


LIST = b"LIST\x0e\0\0\0INFOISFT\x02\0\0\0ab"


@pytest.mark.parametrize(
    "behind",
    [
        LIST,
        bytes(1000),
        bytes(2 << 20),
        b"junk" + bytes(7),
        bytes(wav(0.5, seed=1)),
        bytes(wav(0.5, 8000, 2, seed=1)),
        bytes(wav(0.5, 44100, seed=1)) + LIST,
        LIST + bytes(wav(0.5, seed=1)),
        bytes(wav(40.0, seed=1)),
        bytes(wav(40.0, 16000, 2, seed=1)),
        b"\x01\x02\x03\x04" * 999,
        bytes(wav(1.0, seed=2))[44:],
    ],
    ids=range(12),
)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_U8"])
def test_what_lies_behind_the_stated_end(behind, subtype):
    """Of an odd number of bytes too; of more than are kept in memory."""
    data = bytes(wav(0.50006, subtype=subtype)[: 44 + (8001 if subtype == "PCM_U8" else 16002)])
    same(sized(bytearray(data), len(data) - 44) + behind)


def test_one_channel():
    data = bytes(wav(1.0, 16000, 3))
    for channel in (0, 2, 3):
        same(data, channel=channel)


@pytest.mark.parametrize(
    "data",
    [
        bytes(wav(subtype="FLOAT")),
        bytes(wav(subtype="ULAW")),
        bytes(wav(form="FLAC")),
        bytes(wav(form="AIFF")),
        bytes(wav(form="RF64")),
        b"RIFF" + bytes(200),
        bytes(wav())[:30] + bytes(200),
        b"no sound" * 30,
    ],
    ids=range(8),
)
def test_what_is_not_read_as_it_comes_is_a_file(data):
    with standard_input(io.BytesIO(data), 100, once=True) as found:
        assert not isinstance(found, audio.Piped | bytes)
        assert found.read_bytes() == data


def test_nor_is_what_is_read_more_than_once():
    with standard_input(io.BytesIO(bytes(wav())), 100) as found:
        assert not isinstance(found, audio.Piped)


class Hours(io.RawIOBase):
    """A WAV that goes on and on."""

    def __init__(self, seconds: float) -> None:
        self.head = sized(wav(0.0), 0xFFFFFFFF)
        self.left = round(seconds * 32000)

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self.head[: len(buffer)] or b"\x01\x02" * (min(len(buffer), self.left) // 2)
        self.left -= 0 if self.head else len(data)
        self.head = self.head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def test_memory_does_not_grow_and_nothing_is_written(monkeypatch):
    monkeypatch.setattr(module.tempfile, "TemporaryDirectory", None)
    tracemalloc.start()
    with standard_input(io.BufferedReader(Hours(600)), 44, once=True) as found:
        num = sum(len(c.own) for c in chunks(Clip("-", found), 16000, grid=320))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num == 600 * 16000
    assert peak < 20e6  # all of it has 38 MB


def test_a_pipe_that_does_not_end(monkeypatch):
    monkeypatch.setattr(opening, "MOST_S", 60.0)
    with standard_input(io.BufferedReader(Hours(1e9)), 44, once=True) as found:
        _, (sentence,) = told(found)
    assert sentence.startswith("standard input lasts 0 hours or more")


def test_a_head_alone():
    assert same(sized(wav(0.0), 0xFFFFFFFF) + b"\0", 44) == ["standard input holds no samples."]


@pytest.mark.parametrize("more", [(), ("--channels", "first"), ("--channels", "split")])
def test_the_command_gives_what_the_file_gives(more, tiny_models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module.standard_input.__wrapped__, "__defaults__", (1000,))
    (tmp_path / "a.wav").write_bytes(wav(2.0, 16000, 2))
    found = []
    for place in (str(tmp_path / "a.wav"), "-"):
        data = (tmp_path / "a.wav").read_bytes()
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
        arguments = ["transcribe", str(tiny_models["ctc"]), place, "--format", "json", *more]
        assert main(arguments) == 0
        out = capsys.readouterr().out
        found.append([{**json.loads(line), "audio": ""} for line in out.splitlines()])
    assert found[0] == found[1]
    assert len(found[0]) == (2 if "split" in more else 1)
