"""Sound from a pipe: the samples of the file, whatever its header says; sentences for the rest."""

import io
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.audio import AudioError
from speechssl.audio.growing import GrowingSound, RawFormat, parse_raw, reader_of
from speechssl.rng import rng

WAVE = rng(0, "growing").uniform(-0.9, 0.9, 12345).astype(np.float32)


def reader(data: bytes, pieces=1000):
    """Gives what a pipe gives: less than was asked for."""
    stream = io.BytesIO(data)
    return lambda most: stream.read(min(most, pieces))


def read(data: bytes, raw: RawFormat | None = None, pieces=1000, **given) -> np.ndarray:
    sound = GrowingSound(reader(data, pieces), raw, **given)
    read.notes = sound.notes
    return np.concatenate(list(sound.blocks()))


def wav(subtype="PCM_16", *, rate=16000, wave=WAVE, form="WAV", endian="FILE") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, subtype=subtype, format=form, endian=endian)
    return file.getvalue()


SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
def test_a_wav_is_read_as_the_file(subtype, form):
    data = wav(subtype, form=form)
    assert np.array_equal(read(data), audio.read_bytes(data))


def test_big_endian():
    data = wav(endian="BIG")
    assert data[:4] == b"RIFX"
    assert np.array_equal(read(data), audio.read_bytes(data))


@pytest.mark.parametrize("pieces", [1, 3, 999, 1 << 20])
def test_pieces_change_nothing(pieces):
    data = wav("PCM_24", wave=WAVE[:3000])
    assert np.array_equal(read(data, pieces=pieces), audio.read_bytes(data))


@pytest.mark.parametrize("size", [0, 100, 8000, 0x7FFFF000, 0xFFFFFFFF])
def test_the_stated_size_is_not_believed(size):
    data = wav()
    place = data.index(b"data") + 4
    data = data[:place] + struct.pack("<I", size) + data[place + 4 :]
    assert len(read(data)) == len(WAVE)


@pytest.mark.parametrize("num", [12345, 12344])
@pytest.mark.parametrize("name", [b"LIST", b"id3 ", b"bext"])
def test_metadata_behind_the_sound_is_none(num, name):
    plain = wav("PCM_U8", wave=WAVE[:num])
    data = plain[: 44 + num] + b"\0" * (num % 2) + name + struct.pack("<I", 4) + b"abcd"
    assert len(read(data)) == num


def test_one_wav_behind_another():
    first, second = wav(wave=WAVE[:5000]), wav(wave=WAVE[5000:])
    assert np.array_equal(read(first + second), audio.read_bytes(wav()))
    with pytest.raises(AudioError, match="goes on with a WAV of another format"):
        read(first + wav(rate=8000))


def test_chunks_before_the_sound():
    data = wav()
    extra = b"junk" + struct.pack("<I", 5) + b"12345\0"
    assert np.array_equal(read(data[:12] + extra + data[12:]), audio.read_bytes(data))


@pytest.mark.parametrize(
    ("coding", "kind"),
    [("s16le", "<i2"), ("s16be", ">i2"), ("s32le", "<i4"), ("f32le", "<f4"), ("f64be", ">f8")],
)
def test_raw_samples(coding, kind):
    scale = 1 if "f" in kind else 2 ** (8 * int(kind[2]) - 1)
    data = (WAVE.astype(np.float64) * scale).astype(kind).tobytes()
    found = read(data, parse_raw(f"{coding}:16000"))
    assert np.allclose(found, WAVE, atol=1 / 30000)


def test_raw_silence_is_sound():
    assert not read(bytes(4000), RawFormat("s16le", 8000)).any()


@pytest.mark.parametrize("left_over", [1, 3])
def test_a_stream_that_stops_within_a_sample(left_over):
    data = (WAVE * 32767).astype("<i2").tobytes()[: 4 * 2000 + left_over]
    assert len(read(data, RawFormat("s16le", 16000, 2))) == 2000
    assert read.notes == [
        f"standard input stops in the middle of a sample: its last {left_over} bytes were left out."
    ]


def test_channels_are_mixed_or_one_is_taken():
    data = wav(wave=np.stack([WAVE, -0.5 * WAVE], axis=1))
    assert np.allclose(read(data), 0.25 * WAVE, atol=1e-4)
    assert np.allclose(read(data, channel=1), -0.5 * WAVE, atol=1e-4)
    inverted = wav(wave=np.stack([WAVE, -WAVE], axis=1))
    assert np.allclose(np.abs(read(inverted)), np.abs(WAVE), atol=1e-4)
    assert len(read.notes) == 1
    assert "cancel each other" in read.notes[0]
    with pytest.raises(AudioError, match="has 1 channels, no channel 1"):
        read(wav(), channel=1)


def test_blocks_are_of_one_length():
    sizes = [len(block) for block in GrowingSound(reader(wav(), 777)).blocks()]
    assert sizes[:-1] == [800] * (len(WAVE) // 800)
    assert sum(sizes) == len(WAVE)


def test_beyond_full_scale():
    loud = wav("FLOAT", wave=3 * WAVE)
    assert np.abs(read(loud)).max() == 1.0
    assert read.notes == ["standard input has samples beyond full scale: they were limited."]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_impossible_samples_say_when(value):
    wave = WAVE.copy()
    wave[9000] = value
    sound = GrowingSound(reader(wav("FLOAT", wave=wave)))
    blocks = sound.blocks()
    before = [next(blocks) for _ in range(11)]  # what is good is given
    assert np.allclose(np.concatenate(before), WAVE[:8800])
    with pytest.raises(AudioError, match=r"impossible ones, at 0\.6 s"):
        next(blocks)


FLAC = io.BytesIO()
soundfile.write(FLAC, WAVE, 16000, format="FLAC")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "standard input is empty"),
        (b"this is no sound at all " * 30, "is no WAV but text: let `ffmpeg"),
        (FLAC.getvalue(), "is no WAV but FLAC: let `ffmpeg"),
        (b"OggS" + bytes(600), "is no WAV but Ogg"),
        (b"\x89PNG" + bytes(range(256)) * 3, "is no WAV but a PNG picture"),
        (rng(1, "x").bytes(900), "is no WAV: for samples without a header .* --raw s16le:16000"),
        (bytes(900), "is no WAV: for samples without a header"),
        (wav()[:30], "ends within its WAV header"),
        (wav()[:12] + wav()[36:], "does not tell its format"),
        (wav()[:44], "holds no samples"),
        (wav()[:24] + bytes(4) + wav()[28:], "wrong WAV header. A sample rate must be from 1000"),
        (wav()[:22] + bytes(2) + wav()[24:], "There must be 1 to 256 channels, got 0"),
        (wav("MS_ADPCM"), "coding that is not read from a stream .format 2, 4 bits"),
        (wav()[:12] + b"fmt \xff\xff\xff\x7f" + bytes(900), "damaged WAV header"),
    ],
)
def test_what_is_no_wav(data, message):
    with pytest.raises(AudioError, match=message):
        read(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\x01", "holds no samples"),
        (wav(), "is a WAV, which states its format: leave out --raw"),
        (b"this is no sound at all " * 30, "holds no raw samples but text"),
        (b"<html><body>" * 50, "holds no raw samples but an html page"),
        (FLAC.getvalue(), "holds no raw samples but FLAC"),
    ],
)
def test_what_is_no_raw_sound(data, message):
    with pytest.raises(AudioError, match=message):
        read(data, RawFormat("s16le", 16000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s16le", "must be CODING:RATE"),
        ("16000", "must be CODING:RATE"),
        ("s16le:16k", "must be CODING:RATE"),
        ("s16le:16000:1:1", "must be CODING:RATE"),
        ("s17le:16000", "must be one of u8, s8"),
        ("s16le:16", "from 1000 to 1000000 Hz, got 16"),
        ("s16le:16000:0", "1 to 256 channels, got 0"),
    ],
)
def test_raw_formats_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        parse_raw(text)


def test_a_file_that_grows_is_followed(tmp_path: Path):
    path = tmp_path / "growing.wav"
    data = wav()
    path.write_bytes(data[:9000])

    def grow() -> None:
        for at in range(9000, len(data), 6000):
            time.sleep(0.02)
            with path.open("ab") as file:
                file.write(data[at : at + 6000])

    writer = threading.Thread(target=grow)
    writer.start()
    with path.open("rb") as file:
        sound = GrowingSound(reader_of(file, follow=True, idle_s=0.5, poll_s=0.01))
        found = np.concatenate(list(sound.blocks()))
    writer.join()
    assert np.array_equal(found, audio.read_bytes(data))


def test_a_pipe_of_python_is_read_without_waiting_for_more():
    class Slow(io.BytesIO):
        def read1(self, most=-1):
            return super().read1(min(most, 7))

    once = reader_of(Slow(b"0123456789"), follow=False)
    assert [once(100), once(100), once(100)] == [b"0123456", b"789", b""]
