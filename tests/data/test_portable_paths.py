"""Manifests that go from one system to another: drives, shares, backslashes, ends of lines."""

import json
import ntpath
import types
from pathlib import Path, PureWindowsPath

import pytest

from speechssl import audio
from speechssl.audio import opening
from speechssl.data import manifest
from speechssl.data.index import ManifestIndex
from speechssl.data.layouts import read_layout
from speechssl.data.manifest import read_manifest

LINE = {"id": "u", "start_s": 0.0, "duration_s": 1.0, "sample_rate": 16000, "text": "kɛ́"}


def write(path: Path, *names: str, end: str = "\n", mark: str = "") -> Path:
    lines = [json.dumps(LINE | {"id": f"u{i}", "audio": name}) for i, name in enumerate(names)]
    path.write_bytes((mark + "".join(line + end for line in lines)).encode())
    return path


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("clips/x.wav", "clips/x.wav"),
        (r"clips\x.wav", "clips/x.wav"),
        (r"clips\sub/x.wav", "clips/sub/x.wav"),
        (r".\clips\x.wav", "clips/x.wav"),
        (r"..\other\x.wav", "../other/x.wav"),
        ("./x.wav", "x.wav"),
    ],
)
def test_relative_paths_of_windows(written, place, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "data" / place).touch()
    [found] = read_manifest(write(tmp_path / "data" / "m.jsonl", written))
    assert found.audio == (tmp_path / "data" / place).resolve()


def test_a_backslash_in_the_name_of_a_file_that_is_there_is_no_folder(tmp_path):
    (tmp_path / r"a\b.wav").touch()
    [found] = read_manifest(write(tmp_path / "m.jsonl", r"a\b.wav"))
    assert found.audio == tmp_path / r"a\b.wav"


def test_what_is_not_there_keeps_the_name_that_is_written(tmp_path):
    [found] = read_manifest(write(tmp_path / "m.jsonl", r"a\b.wav"))
    assert found.audio == tmp_path / r"a\b.wav"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_ends_of_lines_and_byte_order_marks(end, mark, tmp_path):
    path = write(tmp_path / "m.jsonl", "a.wav", r"b\c.wav", end=end, mark=mark)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.wav").touch()
    read, opened = read_manifest(path), list(ManifestIndex.open(path))
    assert [u.audio for u in read] == [tmp_path / "a.wav", tmp_path / "b" / "c.wav"]
    assert read == opened
    assert read[0].text == "kɛ́"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (r"C:\data\x.wav", r"C:\data\x.wav"),
        ("C:/data/x.wav", "C:/data/x.wav"),
        (r"d:\x.wav", "d:"),
        (r"\\server\share\x.wav", r"\\server\share\x.wav"),
    ],
)
def test_a_path_with_a_drive_is_a_sentence_where_there_is_none(name, shown, tmp_path, monkeypatch):
    [found] = read_manifest(write(tmp_path / "m.jsonl", name))
    with pytest.raises(FileNotFoundError) as error:
        audio.read(found.audio)
    said = str(error.value)
    assert shown in said
    assert "is a path of Windows, and this system has no drives: put the recordings" in said
    assert str(tmp_path) not in said
    with pytest.raises(FileNotFoundError, match="is a path of Windows"):
        audio.read(name)  # as on the command line
    monkeypatch.setattr(opening.os, "sep", "\\")  # on Windows it is a file like any other
    assert opening._no_such(name) == f"No such recording: {name}."


@pytest.mark.parametrize("name", ["gone.wav", "a/b:c.wav", "a//gone.wav", "x/CC:/gone.wav"])
def test_other_paths_that_are_not_there_are_no_paths_of_windows(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such recording: .*wav\.$"):
        audio.read(tmp_path / name)


@pytest.mark.parametrize(
    ("path", "root", "written"),
    [
        (r"C:\data\clips\x.wav", r"C:\data", "clips/x.wav"),
        (r"C:\data\x.wav", r"C:\data", "x.wav"),
        (r"C:\clips\x.wav", r"C:\data\sub", "../../clips/x.wav"),
        (r"D:\clips\x.wav", r"C:\data", r"D:\clips\x.wav"),
        (r"\\server\share\x.wav", r"C:\data", r"\\server\share\x.wav"),
        (r"\\server\share\a\x.wav", r"\\server\share\m", "../a/x.wav"),
    ],
)
def test_what_windows_writes(path, root, written, monkeypatch):
    monkeypatch.setattr(manifest, "os", types.SimpleNamespace(path=ntpath))
    monkeypatch.setattr(manifest, "Path", PureWindowsPath)
    manifest._relative_folder.cache_clear()
    assert manifest.relative_path(PureWindowsPath(path), root) == written
    manifest._relative_folder.cache_clear()


@pytest.mark.parametrize(
    "name", [r"clips\x.wav", r"C:\corpus\clips\x.wav", r"\\server\clips\x.wav"]
)
def test_tables_with_paths_of_windows(name, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "x.wav").touch()
    (tmp_path / "m.tsv").write_bytes(f"\ufeffpath\ttext\r\n{name}\tkɛ́\r\n".encode())
    [found] = read_layout(tmp_path / "m.tsv", "tsv")
    assert found.audio == tmp_path / "clips" / "x.wav"
    assert found.text == "kɛ́"
