"""speechssl.data.layouts.finder: paths as tables write them, and the files on the disk."""

import unicodedata
from pathlib import Path

import pytest

from speechssl.data.layouts import read_transcribed
from speechssl.data.layouts.finder import Finder
from tests.data.layouts.files import put, read, unused

NFC, NFD = (unicodedata.normalize(form, "dég") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("clips/a.wav", "clips\\a.wav"),
        ("clips/a.wav", ".\\a.wav"),
        ("sub/a.wav", "C:\\Users\\me\\corpus\\sub\\a.wav"),
        ("sub/a.wav", "/home/me/corpus/sub/a.wav"),
        ("sub/a.wav", "file:///home/me/corpus/sub/a.wav"),
        ("a.wav", "a"),
        ("a.wav", "A.WAV"),
        ("Sub/A.WAV", "sub/a.wav"),
        ("a.v2.wav", "a.v2"),
        ("a.wav", "a.mp3"),
        (f"{NFD}/{NFD}.wav", f"{NFC}/{NFC}.wav"),
        (f"{NFC}.wav", NFD),
        (f"clips/{NFD}.wav", f"{NFC}.WAV"),
        ("a b.wav", "a b"),
    ],
)
def test_a_recording_is_found_however_its_path_is_written(
    tmp_path: Path, file: str, name: str
) -> None:
    put(tmp_path, {file: "", "t.tsv": f"path\ttext\n{name}\tyes\n"})
    assert [(r.audio, r.text) for r in read(tmp_path)] == [(tmp_path / file, "yes")]
    assert [r.audio for r in read(tmp_path / "t.tsv")] == [tmp_path / file]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["a.wav", "a.flac"], "a"),
        (["AB.wav", "ab.wav"], "Ab.wav"),
        (["y/a.wav"], "x/a.wav"),  # another folder is another recording
        (["y/a.wav"], "/data/x/a.wav"),
        (["a.wav"], "b"),
        (["a.wav"], "../x/a.wav"),
        (["text"], "text.wav"),
    ],
)
def test_a_doubtful_path_finds_nothing(tmp_path: Path, files: list[str], name: str) -> None:
    put(tmp_path, dict.fromkeys(files, ""))
    assert not Finder([tmp_path]).find(name).is_file()


def test_two_files_that_differ_in_their_unicode_form_stay_apart(tmp_path: Path) -> None:
    put(tmp_path, {f"{NFC}.wav": "", f"{NFD}.wav": ""})
    put(tmp_path, {"t.tsv": f"path\ttext\n{NFC}.wav\tone\n{NFD}.wav\ttwo\n"})
    found = {r.audio.name: r.text for r in read(tmp_path)}
    assert found == {f"{NFC}.wav": "one", f"{NFD}.wav": "two"}


def test_run_finds_them_too(tmp_path: Path) -> None:
    put(tmp_path, {f"in/{NFD}.wav": "", "in/b.WAV": ""})
    put(tmp_path, {"t.csv": f"path,text,speaker\n{NFC}.wav,yes,{NFD}\nb.wav,no,\n"})
    found = read_transcribed(tmp_path / "in", tmp_path / "t.csv").recordings
    assert {(r.id, r.text, r.speaker) for r in found} == {(NFC, "yes", NFC), ("b", "no", None)}
    put(tmp_path, {"in/b.eaf": "", "in/t.csv": (tmp_path / "t.csv").read_bytes()})
    source = read_transcribed(tmp_path / "in", tmp_path / "in" / "t.csv")
    assert [item.kind for item in source.unused] == [".eaf files"]


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"wav/a.wav": "", "meta/t.tsv": "path\ttext\na.wav\tyes\n"}, {"a": "yes"}),
        ({"wav/a.wav": "", "meta/t.tsv": "path\ttext\nwav/a.wav\tyes\n"}, {"a": "yes"}),
        (
            {"x/a.wav": "", "y/a.wav": "", "x/metadata.csv": "file_name,text\na.wav,yes\n"},
            {"x/a": "yes", "y/a": None},
        ),
        (
            {
                "train/a.wav": "",
                "test/b.wav": "",
                "train/metadata.jsonl": '{"file_name": "a.wav", "transcription": "yes"}\n',
                "test/metadata.jsonl": '{"file_name": "b.wav", "transcription": "no"}\n',
            },
            {"train/a": "yes", "test/b": "no"},
        ),
    ],
)
def test_tables_in_sub_folders(
    tmp_path: Path, files: dict[str, str | bytes], wanted: dict[str, str | None]
) -> None:
    found = read(put(tmp_path, files))
    assert {r.id.removeprefix("wav/"): r.text for r in found} == wanted
    assert {r.split for r in found} == ({"train", "test"} if "test/b" in wanted else {None})
    assert not unused(tmp_path)
