"""Sound that is there is read whatever a header says, and what is missing is said."""

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.audio import AudioError, AudioWarning
from speechssl.audio.containers import Source, chunked, find_parts, ogg

RATE = 16000

CODINGS = {
    "wav": ("WAV", "PCM_16"),
    "wavex": ("WAVEX", "PCM_24"),
    "float": ("WAV", "FLOAT"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
LOSSLESS = ["wav", "wavex", "float", "rf64", "w64", "aiff", "au", "flac"]


def speech(duration_s: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """A quiet second and noise that comes and goes: no two stretches are the same, and a coder
    spends more on some than on others."""
    t = np.arange(round(duration_s * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(t)) * np.clip(t - 0.4, 0, 1) * 0.05
    return (0.3 * np.sin(2 * np.pi * (250 + 50 * seed) * t) * np.sin(3 * t) + noise).astype("f4")


def encoded(wave: np.ndarray, coding: str, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    container, subtype = CODINGS[coding]
    soundfile.write(file, wave, rate, format=container, subtype=subtype)
    return file.getvalue()


def read(data: bytes, path: Path) -> tuple[np.ndarray, str]:
    """What is read of a file with these bytes, and what is said of it; the same from memory."""
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        wave = audio.read(path)
        assert np.array_equal(audio.read_bytes(data, str(path)), wave)
    sentences = sorted({str(warning.message) for warning in said})
    assert all(warning.category is AudioWarning for warning in said)
    assert audio.probe(path).duration_s == pytest.approx(len(wave) / RATE, abs=0.01)
    return wave, " ".join(sentences)


def is_like(found: np.ndarray, wave: np.ndarray, at_least: float = 0.97) -> bool:
    """The same sound, as far as a lossy coder keeps it."""
    length = min(len(found), len(wave))
    same_length = abs(len(found) - len(wave)) <= 0.06 * RATE
    return same_length and float(np.corrcoef(found[:length], wave[:length])[0, 1]) > at_least


# ---- several recordings in one file -------------------------------------------------------------


@pytest.mark.parametrize("coding", CODINGS)
def test_recordings_that_were_joined_are_read_one_after_the_other(coding, tmp_path):
    first, second = speech(1.5), speech(1.0, seed=1)
    data = encoded(first, coding) + encoded(second, coding)
    found, said = read(data, tmp_path / "x")
    assert is_like(found, np.concatenate([first, second]))
    assert not said


@pytest.mark.parametrize("coding", ["wav", "flac", "vorbis", "opus", "mp3", "aiff"])
def test_a_recording_that_was_joined_to_itself(coding, tmp_path):
    """Serial numbers, lengths and headers are the same; three, as two may be a special case."""
    wave = speech(1.5)
    found, said = read(3 * encoded(wave, coding), tmp_path / "x")
    assert is_like(found, np.concatenate([wave] * 3))
    assert not said


@pytest.mark.parametrize("coding", ["wav", "flac", "vorbis", "opus", "mp3", "aiff", "au"])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (48000, 2)])
def test_a_second_recording_may_have_another_rate_and_channels(coding, rate, channels, tmp_path):
    first, second = speech(1.0), speech(1.0, seed=1, rate=rate)
    data = encoded(first, coding)
    data += encoded(np.stack([second] * channels, axis=1), coding, rate)
    found, said = read(data, tmp_path / "x")
    assert is_like(found, np.concatenate([first, speech(1.0, seed=1)]), at_least=0.9)
    assert not said


@pytest.mark.parametrize("coding", ["wav", "flac", "opus", "mp3"])
def test_parts_of_joined_recordings(coding, tmp_path):
    path = tmp_path / "x"
    second = encoded(np.stack([speech(1.0, 1, 8000)] * 2, axis=1), coding, 8000)
    path.write_bytes(encoded(speech(1.0), coding) + second + encoded(speech(1.0, seed=2), coding))
    whole = audio.read(path)
    for start_s, duration_s in ((0.2, 0.3), (0.8, 0.5), (1.3, 0.4), (0.5, 2.0), (2.2, 0.5)):
        part = audio.read(path, start_s=start_s, duration_s=duration_s)
        expected = whole[round(start_s * RATE) :][: round(duration_s * RATE)]
        assert part.shape == expected.shape
        assert np.abs(part - expected).max() < 0.02
    blocks = np.concatenate(list(audio.stream(path)[1].mono()))
    assert np.array_equal(np.clip(blocks, -1, 1), whole)


def test_something_else_behind_a_recording_is_named(tmp_path):
    wave = speech(1.0)
    data = encoded(wave, "flac") + b"fLaC\0\0\0\x22" + bytes(300)
    found, said = read(data, tmp_path / "x.flac")
    assert np.array_equal(found, read(encoded(wave, "flac"), tmp_path / "y.flac")[0])
    assert "x.flac: its part 2 of 2 cannot be opened" in said


# ---- WAV and its like: the size of the sound ----------------------------------------------------


def resized(data: bytes, name: bytes, size: int, form: str) -> bytes:
    at = data.index(name) + len(name)
    packed = struct.pack(form, size)
    return data[:at] + packed + data[at + len(packed) :]


@pytest.mark.parametrize("size", [0, 2, 6, 8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize(
    ("coding", "name", "form"),
    [
        ("wav", b"data", "<I"),
        ("wavex", b"data", "<I"),
        ("aiff", b"SSND", ">I"),
        ("au", b".snd\0\0\0\x18", ">I"),
        ("w64", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", "<Q"),
        ("rf64", b"ds64\x1c\0\0\0" + bytes(8), "<Q"),
    ],
)
def test_a_size_that_was_never_filled_in_hides_no_sound(coding, name, form, size, tmp_path):
    wave = speech(1.0)
    data = encoded(wave, coding)
    if coding == "rf64":  # the size of the file comes before that of the sound
        at = data.index(b"ds64") + 16
        data = data[:at] + struct.pack("<Q", size) + data[at + 8 :]
    else:
        data = resized(data, name, size, form)
    if coding in ("w64", "rf64") and size > 8000:
        found, said = read(data, tmp_path / "x")
        assert "is cut off or damaged: 1.000 s of the" in said
    else:
        found, said = read(data, tmp_path / "x")
        assert not said
    assert np.abs(found[: len(wave)] - wave).max() < 1e-3
    assert len(wave) <= len(found) <= len(wave) + 8


@pytest.mark.parametrize("size", [-1, 0, 4, 8004])
def test_a_caf_may_state_no_size(size, tmp_path):
    wave = speech(1.0)
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="CAF", subtype="PCM_16")
    found, said = read(resized(file.getvalue(), b"data", size, ">q"), tmp_path / "x.caf")
    assert np.abs(found - wave).max() < 1e-3
    assert not said


@pytest.mark.parametrize(
    "behind",
    [
        b"LIST\x04\0\0\0abcd",
        b"id3 \x03\0\0\0abc\0LIST\x04\0\0\0abcd",
        b"LIST\xff\xff\0\0INFO",  # cut
        b"odd!\x02\0\0\0xy",  # no chunk of ours, but one that ends where the file does
        bytes(5000),
        b"\0",
        b"abc",
    ],
)
def test_what_is_no_sound_behind_a_wav_is_not_read(behind, tmp_path):
    wave = speech(0.5)
    found, said = read(encoded(wave, "wav") + behind, tmp_path / "x.wav")
    assert len(found) == len(wave)
    assert not said


def test_chunks_before_the_sound_do_not_matter(tmp_path):
    wave = speech(0.5)
    data = encoded(wave, "wav")
    at = data.index(b"data")
    data = data[:at] + b"JUNK\x03\0\0\0abc\0bext\x04\0\0\0abcd" + data[at:]
    data = resized(data, b"data", 0, "<I")
    assert np.abs(read(data, tmp_path / "x.wav")[0] - wave).max() < 1e-3


# ---- FLAC ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", [0, 1, 8000, 23999, 24001])
def test_a_flac_is_as_long_as_its_frames_are(stated, tmp_path):
    data = bytearray(encoded(speech(1.5), "flac"))
    whole = audio.read_bytes(bytes(data))
    number = int.from_bytes(data[18:26]) >> 36 << 36 | stated
    data[18:26] = number.to_bytes(8)
    found, said = read(bytes(data), tmp_path / "x.flac")
    assert np.array_equal(found, whole)
    assert not said


def test_a_flac_that_states_more_than_it_has_says_so(tmp_path):
    data = bytearray(encoded(speech(1.5), "flac"))
    data[18:26] = (int.from_bytes(data[18:26]) + 8000).to_bytes(8)
    found, said = read(bytes(data), tmp_path / "x.flac")
    assert len(found) == 24000
    assert "x.flac is cut off or damaged: 1.500 s of the 2.000 s in its header" in said


def test_a_flac_with_tags_around_it(tmp_path):
    wave = speech(0.5)
    data = b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + encoded(wave, "flac")
    assert np.abs(read(data, tmp_path / "x.flac")[0] - wave).max() < 1e-3


@pytest.mark.parametrize("at", [0.2, 0.6, 0.9])
@pytest.mark.parametrize("joined", [False, True])
def test_damage_within_a_flac_costs_its_frames_alone(at, joined, tmp_path):
    """They are silence, so that the times of what follows stay as they are."""
    wave, front = speech(3.0), encoded(speech(0.5, seed=1), "flac") if joined else b""
    data = bytearray(encoded(wave, "flac"))
    whole = audio.read_bytes(front + bytes(data))
    place = round(at * len(data))
    data[place : place + 20] = bytes(20)
    path = tmp_path / "x.flac"
    path.write_bytes(front + bytes(data))
    with pytest.warns(AudioWarning, match=r"x\.flac is damaged: 0\.256 s of its 3\.\d00 s do not"):
        found = audio.read(path)
    assert found.shape == whole.shape
    assert np.count_nonzero(found != whole) in range(3800, 4097)
    assert not found[found != whole].any()
    with pytest.warns(AudioWarning, match="is damaged"):
        part = audio.read(path, start_s=0.3, duration_s=len(found) / RATE - 0.3)
    assert np.array_equal(part, found[4800:])


def test_a_flac_of_which_nothing_decodes_is_refused(tmp_path):
    data = encoded(speech(1.0), "flac")
    (tmp_path / "x.flac").write_bytes(data[:100] + bytes(len(data) - 100))
    with pytest.raises(AudioError, match=r"x\.flac (holds no samples|cannot be)"):
        audio.read(tmp_path / "x.flac")


# ---- MP3 ----------------------------------------------------------------------------------------


def mp3(duration_s: float = 3.0) -> tuple[bytes, int]:
    """One with an information frame, and the size of that."""
    data = encoded(speech(duration_s), "mp3")
    size = data.index(b"\xff\xf3", 10)
    assert b"Xing" in data[:size]
    return data, size


def test_an_mp3_without_a_length_is_read_to_its_end(tmp_path):
    """The decoder guesses from the first frame, which is small where a recording begins quietly."""
    data, size = mp3()
    whole = audio.read_bytes(data)
    assert soundfile.info(io.BytesIO(data[size:])).frames < 0.8 * len(whole)
    found, said = read(data[size:], tmp_path / "x.mp3")
    assert len(whole) <= len(found) <= len(whole) + 2 * 1152
    lag = int(np.argmax(np.correlate(found[16000:24000], whole[16000:23000])))
    assert is_like(found[lag:], whole[: len(found) - lag])
    assert not said


@pytest.mark.parametrize("frames", [0, 1, 30, 5000])
def test_a_wrong_number_of_frames_changes_nothing(frames, tmp_path):
    data, _ = mp3()
    found, said = read(resized(data, b"Xing\0\0\0\x0f", frames, ">I"), tmp_path / "x.mp3")
    assert np.array_equal(found, audio.read_bytes(data))
    assert not said


def test_an_information_frame_without_numbers(tmp_path):
    data, _ = mp3()
    whole = audio.read_bytes(data)
    found, said = read(resized(data, b"Xing", 0, ">I"), tmp_path / "x.mp3")
    assert len(whole) <= len(found) <= len(whole) + 2 * 1152
    assert not said


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"ID3\x04\0\0\0\0\x10\0" + bytes(range(256)) * 8, b""),
        (b"", b"TAG" + bytes(125)),
        (b"", b"APETAGEX" + bytes(200)),
        (b"ID3\x03\0\0\0\0\x02\0" + b"\xff\xfb\x90\x00" * 64, b"TAG" + bytes(125)),
    ],
)
def test_tags_around_an_mp3(before, behind, tmp_path):
    data, _ = mp3(1.0)
    found, said = read(before + data + behind, tmp_path / "x.mp3")
    assert np.array_equal(found, audio.read_bytes(data))
    assert not said


def test_joined_mp3s_with_tags_between_them(tmp_path):
    tag = b"ID3\x04\0\0\0\0\x04\0" + bytes(512)
    waves = [speech(1.0, seed=seed) for seed in range(3)]
    data = b"".join(tag + encoded(wave, "mp3") + b"TAG" + bytes(125) for wave in waves)
    found, said = read(data, tmp_path / "x.mp3")
    assert is_like(found, np.concatenate(waves))
    assert not said


def test_something_else_within_an_mp3_is_left_out(tmp_path):
    data, _ = mp3(1.0)
    at = data.index(b"\xff\xf3", len(data) // 2)
    found, said = read(data[:at] + b"\0garbage" * 100 + data[at:], tmp_path / "x.mp3")
    assert np.array_equal(found, audio.read_bytes(data))
    assert not said


def test_an_mp3_of_layer_two_is_found_too(tmp_path):
    """Frames of silence, made by hand: no allocation, no scale factors."""
    frame = b"\xff\xfd\x14\xc0" + bytes(96 - 4)  # 32 kbit/s, 48 kHz, mono
    found, said = read(20 * frame, tmp_path / "x.mp2")
    assert len(found) == pytest.approx(20 * 1152 / 3, abs=400)
    assert not found.any()
    assert not said


# ---- Ogg ----------------------------------------------------------------------------------------


def pages(data: bytes) -> list[tuple[int, int]]:
    """Start and size of every page."""
    found = []
    with Source(data) as source:
        for page in ogg._pages(source):
            found.append((page.start, page.size))
    return found


def with_page(data: bytes, index: int, change: Callable[[bytearray], None]) -> bytes:
    """A page changed, and its checksum put right."""
    start, size = pages(data)[index]
    page = bytearray(data[start : start + size])
    change(page)
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", ogg._crc(bytes(page)))
    return data[:start] + bytes(page) + data[start + size :]


@pytest.mark.parametrize("coding", ["vorbis", "opus"])
def test_the_checksum_is_that_of_the_encoder(coding):
    data = encoded(speech(1.0), coding)
    for start, size in pages(data):
        page = data[start : start + size]
        assert ogg._crc(page[:22] + bytes(4) + page[26:]) == struct.unpack("<I", page[22:26])[0]


@pytest.mark.parametrize("coding", ["vorbis", "opus"])
def test_an_ogg_without_an_end_mark_is_read_to_its_end(coding, tmp_path):
    data = encoded(speech(3.0), coding)

    def unmark(page: bytearray) -> None:
        page[5] &= ~4

    found, said = read(with_page(data, -1, unmark), tmp_path / "x.ogg")
    whole, _ = read(data, tmp_path / "whole.ogg")
    assert len(found) == len(whole)  # to the sample
    assert is_like(found, speech(3.0))
    assert not said


@pytest.mark.parametrize("coding", ["vorbis", "opus"])
@pytest.mark.parametrize("position", [0xFFFFFFFFFFFFFFFF, 1, 1 << 60])
def test_an_ogg_with_a_wrong_end_is_read_to_its_end(coding, position, tmp_path):
    def move(page: bytearray) -> None:
        page[6:14] = struct.pack("<Q", position)

    found, said = read(with_page(encoded(speech(3.0), coding), -1, move), tmp_path / "x.ogg")
    assert is_like(found[: 3 * RATE], speech(3.0))
    assert len(found) < 3.2 * RATE
    assert not said


@pytest.mark.parametrize("coding", ["vorbis", "opus"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_an_ogg_that_is_cut_within_a_page(coding, share, tmp_path):
    """The packets that are whole are read: more than the pages that are."""
    data = encoded(speech(4.0), coding)
    start, size = pages(data)[-2]
    whole_pages, _ = read(data[:start], tmp_path / "pages.ogg")
    found, said = read(data[: start + round(share * size)], tmp_path / "x.ogg")
    assert is_like(found, speech(4.0)[: len(found)])
    assert "x.ogg is cut off" in said
    assert f"{len(found) / RATE:.3f} s of " in said
    assert len(found) > len(whole_pages) + 0.5 * share * (len(found) - len(whole_pages))
    if share >= 0.5:
        assert len(found) > len(whole_pages) + 400


@pytest.mark.parametrize("left", [1, 4, 20, 26, 27, 30])
def test_an_ogg_that_is_cut_in_the_head_of_a_page(left, tmp_path):
    data = encoded(speech(3.0), "opus")
    start, _ = pages(data)[-1]
    found, said = read(data[: start + left], tmp_path / "x.ogg")
    assert is_like(found, speech(3.0)[: len(found)])
    assert ("is cut off" in said) == (left >= 4)  # one byte tells nothing


@pytest.mark.parametrize("coding", ["vorbis", "opus"])
def test_damage_to_the_last_page_is_said(coding, tmp_path):
    data = bytearray(encoded(speech(3.0), coding))
    data[-10] ^= 255
    path = tmp_path / "x.ogg"
    path.write_bytes(data)
    with pytest.warns(AudioWarning, match=r"x\.ogg is cut off or damaged: .* of the 3\.000 s"):
        assert 1.5 * RATE < len(audio.read(path)) < 3 * RATE


def test_an_ogg_whose_beginning_is_missing(tmp_path):
    data = encoded(speech(2.0), "vorbis")
    (tmp_path / "x.ogg").write_bytes(data[pages(data)[2][0] :])
    with pytest.raises(AudioError, match=r"x\.ogg cannot be opened as sound \(it is Ogg"):
        audio.read(tmp_path / "x.ogg")


# ---- in general ---------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", [c for c in CODINGS if c != "mp3"])
def test_a_file_that_is_right_is_given_to_the_decoder_as_it_is(coding):
    with Source(encoded(speech(1.0), coding)) as source:
        assert find_parts(source, "x") is None


def test_an_mp3_that_is_right_is_given_to_the_decoder_as_it_is():
    with Source(mp3()[0]) as source:
        assert find_parts(source, "x.mp3") is None


@pytest.mark.parametrize("coding", ["wav", "flac", "vorbis", "opus", "mp3", "aiff", "au"])
def test_windows_of_a_few_bytes_find_the_same(coding, monkeypatch):
    data = encoded(speech(1.0), coding) + encoded(speech(0.5), coding)
    with Source(data) as source:
        parts = find_parts(source, "x")
    for module in ("source", "ogg", "mpeg"):
        monkeypatch.setattr(f"speechssl.audio.containers.{module}.WINDOW", 70000)
    with Source(data) as source:
        assert find_parts(source, "x") == parts


@pytest.mark.parametrize("coding", ["wav", "flac", "opus", "mp3"])
def test_a_part_that_is_not_there_any_more_is_an_error(coding, tmp_path):
    """A manifest of before knows of more than the file holds now: its text is of the whole."""
    data, path = encoded(speech(3.0), coding), tmp_path / "x"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"ends at .* s, before 3\.000 s"):
        audio.read(path, duration_s=3.0)
    assert len(audio.read(path, duration_s=0.5)) == 8000  # this part is


def test_what_is_found_is_kept_as_long_as_the_file_is_the_same(tmp_path, monkeypatch):
    path, looked = tmp_path / "x.opus", []
    path.write_bytes(encoded(speech(1.0), "opus"))

    def counting(source: Source, name: str) -> object:
        looked.append(name)
        return find_parts(source, name)

    monkeypatch.setattr("speechssl.audio.opening.find_parts", counting)
    for number in range(4):
        audio.read(path, start_s=0.2 * number, duration_s=0.2)
    assert len(looked) == 1
    path.write_bytes(encoded(speech(2.0), "opus"))
    assert len(audio.read(path)) == 2 * RATE
    assert len(looked) == 2


def test_a_plain_wav_is_told_as_the_walk_through_its_chunks_tells_it() -> None:
    """The quick look says of no file what the chunks deny: any size, form or chunk may be wrong."""
    rng = np.random.default_rng(5)
    file = io.BytesIO()
    soundfile.write(file, speech(1.0), RATE, format="WAV", subtype="PCM_16")
    right = file.getvalue()
    num_plain = 0
    for _ in range(2000):
        data = bytearray(right[: int(rng.choice([len(right), 44, 46, 300]))])
        if rng.random() < 0.3:
            struct.pack_into("<I", data, 40, len(data) - 44)
        for place in rng.integers(0, 44, int(rng.integers(0, 3))):
            data[place] = int(rng.choice([0, 0x10, 0xFF, int(rng.integers(256))]))
        with Source(bytes(data)) as source:
            plain = chunked.is_plain_wav(bytes(data[:44]), len(data))
            num_plain += plain
            assert not plain or chunked.find_parts(source) is None
    assert 300 < num_plain < 1700


@pytest.mark.parametrize("name", [b"id3 ", b"cue ", b"MD5 ", b"LIST"])
def test_metadata_that_was_cut_off_is_no_sound(tmp_path, name):
    """Names of chunks have four bytes, a space where they have three letters."""
    path = tmp_path / "a.wav"
    audio.write(path, np.zeros(4000, np.float32), 16000)
    path.write_bytes(path.read_bytes() + name + (900).to_bytes(4, "little") + b"only this")
    assert audio.probe(path).num_samples == 4000
