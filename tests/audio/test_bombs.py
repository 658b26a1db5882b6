"""Files that hold, or claim, far more than their size lets expect."""

import io
import struct
import time
import tracemalloc

import numpy as np
import pytest

from speechssl import audio
from speechssl.audio import AudioError, opening
from speechssl.audio.containers.flac import _crc8
from speechssl.cli import main
from speechssl.inference.recordings import Clip, as_clip, chunks
from tests.audio.test_media import make

BLOCK = 65535


def crc16(data: bytes) -> int:
    """Of a FLAC frame (RFC 9639, 9.3)."""
    found = 0
    for byte in data:
        found ^= byte << 8
        for _ in range(8):
            found = (found << 1 ^ (0x8005 if found & 0x8000 else 0)) & 0xFFFF
    return found


def flac(seconds: float, rate: int, value: int = 0, *, stated: int | None = None) -> bytes:
    """One value for `seconds`: a frame of 65,535 samples takes 15 bytes."""
    num = int(seconds * rate) // BLOCK
    total = num * BLOCK if stated is None else stated
    info = struct.pack(">HH", BLOCK, BLOCK) + bytes(6)
    info += (rate << 44 | 15 << 36 | total).to_bytes(8, "big") + bytes(16)
    parts = [b"fLaC\x80\0\0\x22" + info]
    for number in range(num):
        coded = chr(number).encode() if number < 0xD800 else b""  # up to 3 bytes: as UTF-8
        head = b"\xff\xf8\x70\x08" + coded + struct.pack(">H", BLOCK - 1)
        body = head + bytes([_crc8(head)]) + b"\0" + struct.pack(">h", value)
        parts.append(body + struct.pack(">H", crc16(body)))
    return b"".join(parts)


@pytest.fixture
def an_hour(monkeypatch):
    """The most that a recording may last, so that tests are short."""
    monkeypatch.setattr(opening, "MOST_S", 3600.0)


@pytest.mark.parametrize("value", [0, 500])
def test_an_hour_in_two_kilobytes_is_an_hour(value, tmp_path):
    (tmp_path / "a.flac").write_bytes(flac(3600, 1000, value))
    assert (tmp_path / "a.flac").stat().st_size < 2000
    assert audio.probe(tmp_path / "a.flac").num_samples == 3600 * 1000 // BLOCK * BLOCK
    part = audio.read(tmp_path / "a.flac", sample_rate=1000, start_s=3000.0, duration_s=1.0)
    assert part == pytest.approx(np.full(1000, value / 32768))


def test_silence_takes_no_time_and_no_memory(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(flac(1200, 16000))
    began = time.process_time()
    tracemalloc.start()
    num = sum(c.end - c.start for c in chunks(as_clip(path), 16000, grid=640, context=64000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num == 1200 * 16000 // BLOCK * BLOCK
    assert peak < 20e6  # all of it has 77 MB
    assert time.process_time() - began < 10  # less than a second on a quiet core


@pytest.mark.parametrize("stated", [None, 0, 1, 1000 * 7200, (1 << 36) - 1])
@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.usefixtures("an_hour")
def test_what_lasts_for_too_long_is_one_sentence(stated, in_memory, tmp_path):
    """Whatever its header says."""
    path = tmp_path / "a.flac"
    path.write_bytes(flac(7300, 1000, stated=stated))
    clip = Clip("-", path.read_bytes()) if in_memory else as_clip(path)
    with pytest.raises(AudioError, match=r"lasts [12] hours or more: up to 1 are read as one"):
        next(chunks(clip, 16000, grid=640))


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.mp3", "a.wav", "a.aiff", "a.w64", "a.caf"])
def test_so_it_is_with_every_container(name, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "MOST_S", 2.0)
    coding = {"a.opus": "OPUS"}.get(name)
    path = tmp_path / name.replace(".opus", ".ogg")
    audio.write(path, np.zeros(3 * 16000, np.float32), 16000, coding)
    with pytest.raises(AudioError, match="read as one recording"):
        audio.read(path)
    with pytest.raises(AudioError, match="read as one recording"):
        audio.read_bytes(path.read_bytes())
    with pytest.raises(AudioError, match="read as one recording"):
        audio.probe(path)


@pytest.mark.extras
@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mkv", "flac")])
def test_so_it_is_through_pyav(name, codec, tmp_path, monkeypatch):
    path = make(tmp_path / name, codec)
    assert len(audio.read(path)) > 2.5 * 16000
    monkeypatch.setattr(opening, "MOST_S", 2.0)
    opening._counted_once.cache_clear()
    with pytest.raises(AudioError, match="read as one recording"):
        audio.read(path)


def wav_of(size: int, form: bytes = b"RIFF", more: bytes = b"") -> bytes:
    """1,000 samples behind a header that states `size` bytes."""
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    data = np.full(1000, 3000, "<i2").tobytes()
    return (
        form + b"\xff\xff\xff\xff" + b"WAVE" + more + fmt + b"data" + struct.pack("<I", size) + data
    )


def rf64(size: int) -> bytes:
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, size, size, size // 2, 0)
    return wav_of(0xFFFFFFFF, b"RF64", ds64)


def au(size: int) -> bytes:
    return struct.pack(">4sIIIII", b".snd", 24, size, 3, 16000, 1) + bytes([9, 99]) * 1000


@pytest.mark.parametrize(
    "data",
    [
        wav_of(0x7FFF_FFFE),
        wav_of(0xFFFF_FFFE),
        wav_of(0xFFFF_FFFF),
        rf64(1 << 40),
        rf64((1 << 63) - 1),
        rf64((1 << 64) - 1),
        au(0x7FFE_0000),
        au(0xFFFF_FFFF),
    ],
    ids=range(8),
)
def test_a_size_that_is_absurd_allocates_nothing(data, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    tracemalloc.start()
    found = []
    for clip in (as_clip(path), Clip("-", data)):
        notes: list[str] = []
        try:
            found.append(sum(len(c.wave) for c in chunks(clip, 16000, grid=640, notes=notes)))
        except AudioError as error:
            found.append(str(error))
        assert len(notes) <= 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [1000, 1000]
    assert peak < 20e6


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_an_ogg_whose_pages_state_centuries(coding, tmp_path):
    buffer = io.BytesIO()
    import soundfile

    wave = np.sin(np.arange(16000) / 9).astype(np.float32) / 3
    soundfile.write(buffer, wave, 16000, format="OGG", subtype=coding)
    data = bytearray(buffer.getvalue())
    last = data.rfind(b"OggS")
    for position in (1 << 40, (1 << 62) + 1, (1 << 63) - 1):
        data[last + 6 : last + 14] = struct.pack("<Q", position)
        (tmp_path / "a.ogg").write_bytes(data)
        assert len(audio.read(tmp_path / "a.ogg")) == pytest.approx(16000, abs=1000)


@pytest.mark.extras
def test_an_m4a_whose_index_states_years(tmp_path):
    path = make(tmp_path / "a.m4a", "aac")
    data = bytearray(path.read_bytes())
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        place = data.find(name) + (24 if name == b"tkhd" else 20)
        data[place : place + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(data)
    notes: list[str] = []
    found = sum(len(c.own) for c in chunks(as_clip(path), 16000, grid=640, notes=notes))
    assert 2.5 * 16000 < found < 3.3 * 16000
    assert len(notes) <= 1


@pytest.mark.usefixtures("an_hour")
def test_the_command_says_it_and_goes_on(tmp_path, tiny_models, record, capsys):
    bomb = tmp_path / "bomb.flac"
    bomb.write_bytes(flac(7300, 1000))
    good, model = str(record("good.wav", 0.5)), str(tiny_models["ctc"])
    assert main(["transcribe", model, str(bomb), good, "--out", str(tmp_path / "out")]) == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith(
        f"speechssl: {bomb} lasts 2 hours or more: up to 1 are read as one recording"
    )
    assert "1 of 2 recordings could not be read" in last
    assert (tmp_path / "out" / "good.txt").is_file()
    assert main(["transcribe", model, str(bomb)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
