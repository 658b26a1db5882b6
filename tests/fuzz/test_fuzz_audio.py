"""speechssl.audio: whatever the bytes are, a wave comes out or an AudioError."""

import contextlib
import io
import struct
import warnings

import numpy as np
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl import audio
from speechssl.audio import AudioError
from speechssl.rng import rng
from tests.fuzz.damage import damaged

CODINGS = {
    "wav": ("WAV", "PCM_16"),
    "float": ("WAV", "FLOAT"),
    "adpcm": ("WAV", "IMA_ADPCM"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_24"),
    "au": ("AU", "ULAW"),
    "caf": ("CAF", "ALAC_16"),
    "w64": ("W64", "PCM_16"),
}


def recording(coding: str) -> bytes:
    """A tenth of a second in two channels."""
    container, subtype = CODINGS[coding]
    rate = 16000
    wave = 0.3 * rng(0, "fuzz", coding).uniform(-1, 1, (rate // 10, 2))
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=container, subtype=subtype)
    return file.getvalue()


WHOLE = {coding: recording(coding) for coding in CODINGS}


def is_read_or_refused(data: bytes, path) -> None:
    path.write_bytes(data)
    said = []
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            wave = audio.read(path)
        except AudioError as error:
            wave, said = np.zeros(0, np.float32), [str(error)]
    said += [str(note.message) for note in noted]
    assert all(str(path) in sentence for sentence in said)
    assert wave.ndim == 1
    assert wave.dtype == np.float32
    assert np.isfinite(wave).all()
    assert np.abs(wave).max(initial=0) <= 1
    assert len(wave) <= 4_000_000


@settings(max_examples=2 * settings.default.max_examples)
@given(data=st.sampled_from(sorted(CODINGS)).flatmap(lambda coding: damaged(WHOLE[coding])))
def test_a_damaged_recording_is_read_or_refused(data, tmp_path):
    is_read_or_refused(data, tmp_path / "x")


@settings(max_examples=2 * settings.default.max_examples)
@given(
    data=st.lists(st.sampled_from(sorted(CODINGS)), min_size=2, max_size=3).flatmap(
        lambda codings: damaged(b"".join(WHOLE[coding] for coding in codings))
    ),
    suffix=st.sampled_from(["", ".mp3"]),
)
def test_joined_and_damaged_recordings_are_read_or_refused(data, suffix, tmp_path):
    is_read_or_refused(data, tmp_path / f"x{suffix}")


@given(
    magic=st.sampled_from([b"", *{whole[:n] for whole in WHOLE.values() for n in (4, 12, 40)}]),
    rest=st.binary(max_size=400),
)
def test_random_bytes_are_read_or_refused(magic, rest, tmp_path):
    is_read_or_refused(magic + rest, tmp_path / "x.wav")


@given(
    coding=st.sampled_from([0, 1, 2, 3, 6, 7, 0x11, 0x31, 0xFFFE, 0xFFFF]),
    channels=st.sampled_from([0, 1, 2, 3, 255, 1024, 65535]),
    rate=st.sampled_from([0, 1, 999, 1000, 16000, 1_000_000, 2**31 - 1, 2**32 - 1]),
    bits=st.sampled_from([0, 1, 8, 12, 16, 24, 32, 64, 65535]),
    promised=st.sampled_from([0, 1, 400, 2**31, 2**32 - 1]),
    body=st.binary(max_size=400),
)
def test_odd_wav_headers_are_read_or_refused(
    coding, channels, rate, bits, promised, body, tmp_path
):
    block = min(channels * max(bits, 8) // 8, 65535)
    fields = (coding, channels, rate, min(rate * block, 2**32 - 1), block, bits)
    form = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", 16, *fields)
    data = form + struct.pack("<4sI", b"data", promised) + body
    is_read_or_refused(data, tmp_path / "x.wav")


@given(
    start_s=st.floats(allow_nan=False, min_value=0),
    duration_s=st.none() | st.floats(allow_nan=False, min_value=0),
    coding=st.sampled_from(sorted(CODINGS)),
)
def test_any_part_of_a_recording_is_read_or_refused(start_s, duration_s, coding, tmp_path):
    path = tmp_path / coding
    path.write_bytes(WHOLE[coding])
    for start in (start_s, start_s % 0.1):
        with contextlib.suppress(ValueError):
            wave = audio.read(path, start_s=start, duration_s=duration_s)
            assert np.isfinite(wave).all()
            assert len(wave) <= 2100  # ADPCM fills its last block
