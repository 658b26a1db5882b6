"""What is no sound is named as what it is, and decoders keep silent about it."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import audio
from speechssl.audio import FOREIGN_SUFFIXES, SUFFIXES, AudioError, media, mpg123
from speechssl.audio.sniff import name_content

RATE = 16000


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("a.wav", b"x")
    return file.getvalue()


CONTENTS = [
    (b"<!DOCTYPE html><html><body>Log in</body></html>", "an html page"),
    (b"\n  <HTML>\n<head>", "an html page"),
    (b"\xef\xbb\xbf<html>", "an html page"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
    (b'{"error": "not found"}', "JSON"),
    (b"not found\n", "text"),
    ("nicht gefunden: \u00e4".encode("utf-16"), "text"),
    (b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(100), "MPEG-4"),
    (b"\0\0\0\x18ftypqt  " + bytes(100), "MPEG-4"),
    (b"\x1aE\xdf\xa3" + bytes(100), "Matroska"),
    (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(100), "Windows Media"),
    (b"#!AMR\n" + bytes(100), "AMR"),
    (b"\xff\xf1\x50\x80" + bytes(100), "AAC"),
    (b"DSD " + bytes(100), "DSD"),
    (archive(), "a zip archive"),
    (b"\x1f\x8b\x08" + bytes(100), "compressed with gzip"),
    (b"%PDF-1.7\n" + bytes(100), "a PDF document"),
    (bytes(4000), "nothing but zero bytes"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
    (b"OggS" + bytes(100), "Ogg, in a coding"),
]


@pytest.mark.parametrize(("content", "words"), CONTENTS)
@pytest.mark.parametrize("suffix", ["mp3", "wav", "flac", ""])
def test_a_file_that_is_something_else_is_named(tmp_path, content, words, suffix, monkeypatch):
    monkeypatch.setattr(media, "is_installed", lambda: False)  # which makes silence of some
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"x\..* cannot be opened as sound \(it is ") as error:
        audio.read(path)
    assert f"(it is {words}" in str(error.value)
    assert "does not exist" not in str(error.value)
    is_sound = words in (
        "MPEG-4",
        "Matroska",
        "Windows Media",
        "AMR",
        "AAC",
        "DSD",
        "Ogg, in a coding",
    )
    assert ("ffmpeg" in str(error.value)) == is_sound
    assert str(error.value).count("\n") == 0
    with pytest.raises(AudioError, match="standard input cannot be opened as sound"):
        audio.read_bytes(content, "standard input")


def test_noise_is_not_named(tmp_path):
    noise = np.random.default_rng(0).bytes(2000)
    assert name_content(noise) is None
    (tmp_path / "x.mp3").write_bytes(noise)
    with pytest.raises(AudioError, match=r"x\.mp3 cannot be opened as sound \(its format is not"):
        audio.read(tmp_path / "x.mp3")


@pytest.mark.parametrize("suffix", sorted(SUFFIXES | FOREIGN_SUFFIXES))
def test_every_suffix_is_listed(tmp_path, suffix):
    for name in (f"a{suffix}", f"B{suffix.upper()}"):
        (tmp_path / name).write_bytes(b"")
    assert len(audio.list_audio(tmp_path)) == 2


@pytest.mark.parametrize("suffix", [".wave", ".mpga", ".mp4", ".mkv", ".mov", ".m4b", ".bwf"])
def test_common_suffixes_are_among_them(suffix):
    assert suffix in SUFFIXES | FOREIGN_SUFFIXES


@pytest.mark.parametrize(
    ("suffix", "container"),
    [(".wave", "WAV"), (".bwf", "WAV"), (".mpga", "MP3"), (".oga", "OGG"), (".mp4", "WAV")],
)
def test_a_file_is_opened_by_what_it_is_not_by_its_name(tmp_path, suffix, container):
    path = tmp_path / f"x{suffix}"
    wave = 0.5 * np.sin(np.arange(8000) / 9).astype(np.float32)
    with path.open("wb") as file:
        soundfile.write(file, wave, RATE, format=container)
    assert np.corrcoef(audio.read(path)[:8000], wave)[0, 1] > 0.9


def damaged_mp3() -> bytes:
    """Of which libmpg123 says several things."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).standard_normal(4 * RATE) * 0.1
    soundfile.write(file, noise, RATE, format="MP3")
    data = bytearray(file.getvalue())
    for at in range(1500, len(data), 977):
        data[at] ^= 0xFF
    comment = b"COMM\0\0\0\x05\0\0\x03eng\0"
    tag = b"ID3\x03\0\0\0\0\0" + bytes((len(comment),)) + comment
    return tag + bytes(data[: len(data) * 3 // 4])


CODE = """
import sys, threading, warnings
import soundfile
from speechssl import audio
warnings.simplefilter("ignore")
def read():
    try:
        audio.read(sys.argv[1])
    except audio.AudioError:
        pass
{work}
sys.stderr.write("python's own line\\n")
"""


@pytest.mark.skipif(mpg123._find_stream().variable is None, reason="needs glibc")
@pytest.mark.parametrize(
    "work",
    [
        "read()",
        "threads = [threading.Thread(target=read) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]",
    ],
)
def test_libmpg123_s_lines_do_not_reach_the_person(tmp_path: Path, work: str) -> None:
    path = tmp_path / "x.mp3"
    path.write_bytes(damaged_mp3())

    def said(code: str) -> str:
        command = [sys.executable, "-c", code, str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr

    assert "arning" in said("import sys, soundfile; soundfile.read(sys.argv[1])")  # it does say so
    assert said(CODE.format(work=work)) == "python's own line\n"
    # and what C prints elsewhere still arrives
    late = "import ctypes; libc = ctypes.CDLL(None); libc.perror(b'late')"
    assert "late" in said(CODE.format(work=f"read()\n{late}"))


@pytest.mark.parametrize("suffix", ["raw", "pcm", "RAW"])
def test_samples_without_a_header_are_listed_and_named(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(bytes(range(1, 256)) * 40)
    assert audio.list_audio(tmp_path) == [path]
    with pytest.raises(AudioError, match=r"samples without a header.*ffmpeg -f s16le"):
        audio.read(path)
