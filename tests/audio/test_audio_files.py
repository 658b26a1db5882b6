"""What is read of a recording, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.audio import AudioError, AudioWarning, opening

RATE = 16000


def tone(duration_s: float = 0.5, rate: int = RATE, frequency: float = 440.0) -> np.ndarray:
    """A tone with a slow change of level, so that no two stretches are the same."""
    t = np.arange(round(duration_s * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * frequency * t) * (0.5 + 0.5 * np.sin(3 * t))).astype("f4")


CODINGS = [
    ("wav", "WAV", "PCM_16", 1e-4),
    ("wav", "WAV", "PCM_U8", 2e-2),
    ("wav", "WAV", "PCM_24", 1e-6),
    ("wav", "WAV", "FLOAT", 1e-7),
    ("wav", "WAV", "DOUBLE", 1e-7),
    ("flac", "FLAC", "PCM_16", 1e-4),
    ("aiff", "AIFF", "PCM_16", 1e-4),
    ("ogg", "OGG", "VORBIS", 0.1),
    ("opus", "OGG", "OPUS", 0.1),
    ("mp3", "MP3", "MPEG_LAYER_III", 0.1),
]


@pytest.mark.parametrize(("suffix", "container", "coding", "error"), CODINGS)
def test_reads_every_coding(
    tmp_path: Path, suffix: str, container: str, coding: str, error: float
) -> None:
    path = tmp_path / f"x.{suffix}"
    wave = tone()
    soundfile.write(path, wave, RATE, format=container, subtype=coding)
    info = audio.probe(path)
    assert (info.sample_rate, info.channels, info.subtype) == (RATE, 1, coding)
    assert info.duration_s == pytest.approx(0.5)
    found = audio.read(path)
    assert found.shape == (8000,)
    assert found.dtype == np.float32
    assert np.sqrt(np.mean((found - wave) ** 2)) < error
    assert np.array_equal(audio.read_bytes(path.read_bytes()), found)


@pytest.mark.parametrize(("suffix", "container", "coding"), [c[:3] for c in CODINGS])
def test_a_part_is_the_same_samples_as_in_the_whole(
    tmp_path: Path, suffix: str, container: str, coding: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, tone(3.0), RATE, format=container, subtype=coding)
    whole = audio.read(path)
    part = audio.read(path, start_s=1.7, duration_s=0.5)
    assert np.allclose(part, whole[27200:35200], atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resamples_to_the_length_and_the_tone(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(0.3, rate), rate, subtype="FLOAT")
    found = audio.read(path)
    assert len(found) == round(round(0.3 * rate) * RATE / rate)
    middle = slice(800, 4000)  # away from the edges, where a resampler sees the silence outside
    assert np.abs(found[middle] - tone(0.3)[middle]).max() < 1e-3
    assert np.array_equal(audio.read_bytes(path.read_bytes()), found)


@pytest.mark.parametrize(("suffix", "container", "coding"), [c[:3] for c in CODINGS])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_nothing_depends_on_the_blocks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    container: str,
    coding: str,
    rate: int,
) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, tone(0.5, rate), rate, format=container, subtype=coding)
    whole = audio.read(path)
    monkeypatch.setattr(opening, "BLOCK_SAMPLES", 777)
    assert np.allclose(audio.read(path), whole, atol=1e-6)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    left, right = tone(), tone(frequency=300)
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    assert np.allclose(audio.read(path), (left + right) / 2, atol=1e-7)


def test_samples_stay_in_range(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, 3 * tone(), RATE, subtype="FLOAT")
    with pytest.warns(AudioWarning, match=r"x\.wav has samples of up to 1\.198 times full scale"):
        wave = audio.read(path)
    assert np.abs(wave).max() == 1.0
    assert np.allclose(wave, tone() / np.abs(tone()).max(), atol=1e-6)  # nothing is clipped


def test_sixteen_bit_samples_survive_writing_and_reading(tmp_path: Path) -> None:
    samples = np.arange(-32768, 32768, 7).astype(np.float32) / 32768
    audio.write(tmp_path / "new" / "x.flac", samples, RATE)
    assert np.array_equal(audio.read(tmp_path / "new" / "x.flac"), samples)


def test_writing_an_unknown_format_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"x\.docx"):
        audio.write(tmp_path / "x.docx", tone(), RATE)


def test_three_samples_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    audio.write(path, np.array([0.1, 0.2, 0.3], np.float32), RATE)
    assert audio.read(path) == pytest.approx([0.1, 0.2, 0.3], abs=1e-4)
    assert audio.read(path, sample_rate=48000).shape == (9,)
    assert audio.read(path, sample_rate=1000).shape == (0,)


def test_part_of_no_length_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    audio.write(path, tone(), RATE)
    assert audio.read(path, start_s=0.1, duration_s=0.0).shape == (0,)


def test_missing_file_is_named(tmp_path: Path) -> None:
    for function in (audio.read, audio.probe):
        with pytest.raises(FileNotFoundError, match=r"nowhere\.wav"):
            function(tmp_path / "nowhere.wav")
        with pytest.raises(FileNotFoundError, match="No such recording"):
            function(tmp_path / f"{'x' * 300}.wav")  # longer than any file's name


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"this is a text, not sound\n" * 50, "cannot be opened as sound")],
)
def test_a_file_that_is_not_sound_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=rf"x\.wav.*{words}"):
        audio.read(path)
    with pytest.raises(AudioError, match="cannot be opened as sound"):
        audio.read_bytes(content)


def test_a_folder_is_not_a_recording(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder"):
        audio.read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_told_where_to_go(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=r"a\.wav is no file \(a pipe\?\): give - and pipe"):
        audio.probe(tmp_path / "a.wav")


def test_no_samples_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    audio.write(path, np.zeros(0, np.float32), RATE)
    with pytest.raises(AudioError, match="holds no samples"):
        audio.read(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_samples_are_an_error(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "x.wav"
    wave = tone()
    wave[7999] = bad
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"x\.wav holds NaN"):
        audio.read(path)
    assert audio.read(path, duration_s=0.25).shape == (4000,)  # the part before it is good


@pytest.mark.parametrize("rate", [8000, RATE])
@pytest.mark.parametrize("channels", [1, 2])
def test_impossible_samples_are_an_error(tmp_path: Path, rate: int, channels: int) -> None:
    """A flipped bit of an exponent is finite, but sums and filters make infinity and NaN of it."""
    path = tmp_path / "x.wav"
    wave = np.full((800, channels), 3e38, np.float32)
    soundfile.write(path, wave, rate, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"x\.wav holds .*impossible"):
        audio.read(path)


def test_blocks_are_no_larger_for_many_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros((900, 100)), RATE)
    monkeypatch.setattr(opening, "BLOCK_SAMPLES", 1000)
    _, blocks = audio.stream(path)
    assert [block.shape for block in blocks] == [(10, 100)] * 90


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "aiff"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_what_is_left_of_a_file_that_is_cut_off_is_read(
    tmp_path: Path, suffix: str, share: float
) -> None:
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE)
    soundfile.write(path, noise, RATE)
    whole, wave = path.read_bytes(), audio.read(path)
    path.write_bytes(whole[: round(share * len(whole))])
    with pytest.warns(
        AudioWarning, match=r"is cut off or damaged: .* s of the 4\.[01]\d\d s"
    ) as said:
        found = audio.read(path)
    assert len(said) == 1
    there_s = len(found) / RATE
    assert f"{there_s:.3f} s of the" in str(said[0].message)
    assert there_s == pytest.approx(4 * share, abs=0.3)  # FLAC has frames of a quarter of a second
    assert np.allclose(found[:-600], wave[: len(found) - 600], atol=1e-3)
    assert audio.probe(path).duration_s == pytest.approx(there_s)
    with pytest.raises(AudioError, match=r"ends at .* before 4\.000 s"):  # a part that is not there
        audio.read(path, duration_s=4.0)


def test_a_wav_written_into_a_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    audio.write(path, tone(), RATE)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"  # the length was not known when the header was
    path.write_bytes(content)
    assert audio.read(path).shape == (8000,)


def write_piped_flac(path: Path, duration_s: float) -> bytes:
    """Its header states 0 samples, which means that their number is not known."""
    audio.write(path, tone(duration_s), RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # total samples: 36 bits of STREAMINFO
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert soundfile.info(path).frames > 1 << 60
    return bytes(data)


def test_a_flac_written_into_a_pipe_is_read(tmp_path: Path) -> None:
    whole, piped = tmp_path / "whole.flac", tmp_path / "piped.flac"
    audio.write(whole, tone(3.0), RATE)
    data = write_piped_flac(piped, 3.0)
    assert audio.probe(piped).duration_s == 3.0
    assert np.array_equal(audio.read_bytes(data), audio.read(whole))
    for part in ((0.0, None), (1.0, None), (0.5, 1.2)):
        start_s, duration_s = part
        found = audio.read(piped, start_s=start_s, duration_s=duration_s)
        assert np.array_equal(found, audio.read(whole, start_s=start_s, duration_s=duration_s))
    with pytest.raises(AudioError, match=r"ends at 3\.000 s, before 4\.000 s"):
        audio.read(piped, duration_s=4.0)
    piped.write_bytes(data[: len(data) // 2])
    problem = audio.probe(piped).problem
    assert "piped.flac: 1.280 s of it decode, what follows does not" in problem
    with pytest.warns(AudioWarning, match=r"piped\.flac: 1\.280 s of it decode"):
        assert np.array_equal(audio.read(piped), audio.read(whole)[: round(1.28 * RATE)])


def test_the_samples_of_a_file_without_length_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    count = opening.count_samples
    monkeypatch.setattr(
        opening, "count_samples", lambda decoder: counted.append(1) or count(decoder)
    )
    path = tmp_path / "x.flac"
    data = write_piped_flac(path, 3.0)
    for number in range(6):
        audio.read(path, start_s=number / 2, duration_s=0.5)
    assert audio.probe(path).duration_s == 3.0
    assert counted == [1]
    write_piped_flac(path, 2.0)  # another recording in its place
    assert audio.probe(path).duration_s == 2.0
    assert len(audio.read_bytes(data, str(path))) == 3 * 16000  # in memory, whatever its name


@pytest.mark.parametrize("rate", [1, 999, 1_000_001])
def test_a_rate_that_cannot_be_is_an_error(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "x.wav"
    audio.write(path, tone(0.01), rate)
    with pytest.raises(AudioError, match=rf"x\.wav claims {rate} samples a second"):
        audio.read(path)


def test_asking_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    audio.write(path, tone(), RATE)
    with pytest.raises(AudioError, match=r"ends at 0\.500 s, before 0\.700 s"):
        audio.read(path, start_s=0.2, duration_s=0.5)
    with pytest.raises(AudioError, match=r"ends at 0\.500 s, before 2\.000 s"):
        audio.read(path, start_s=2.0)
    with pytest.raises(ValueError, match="must be 0 or more"):
        audio.read(path, start_s=-1.0)
    for time_s in (1e308, float("inf"), float("nan")):
        for part in ({"start_s": time_s}, {"duration_s": time_s}):
            with pytest.raises(ValueError, match="0 or more"):
                audio.read(path, **part)
