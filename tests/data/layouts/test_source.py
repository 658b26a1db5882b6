"""speechssl.data.layouts.source: what a source is taken for, and what is refused."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.cli import main
from speechssl.data.layouts import detect_layout, read_source
from tests.data.layouts.files import fill, put, read, unused


def test_nothing_there(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere", "folder")
    with pytest.raises(ValueError, match="'sphinx' is none of auto, folder"):
        read(tmp_path, "sphinx")


def test_a_manifest_is_not_prepared_again(tmp_path: Path) -> None:
    fill(tmp_path, train_dot_jsonl="{}")
    with pytest.raises(ValueError, match="is a manifest already"):
        detect_layout(tmp_path / "train.jsonl")


def test_a_manifest_in_a_folder_is_no_table(tmp_path: Path) -> None:
    line = {"id": "a", "audio": "a.wav", "sample_rate": 8000, "duration_s": 1.0, "text": "no"}
    put(tmp_path, {"a.wav": "", "old.jsonl": json.dumps(line) + "\n"})
    assert [r.text for r in read(tmp_path)] == [None]
    with pytest.raises(ValueError, match="is a manifest already"):
        read(tmp_path / "old.jsonl")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("t.xlsx", "save it as CSV in UTF-8"),
        ("T.ODS", "save it as CSV in UTF-8"),
        ("a.trs", "as a table with the columns path, start_s, end_s and text"),
        ("a.CHA", "as a table with the columns path, start_s, end_s and text"),
        ("a.rttm", "as a table with the columns path, start_s, end_s and text"),
        ("x.tar.gz", "unpack it"),
        ("x.tgz", "unpack it"),
        ("x.zip", "unpack it"),
        ("x.parquet", "export its sound as files and its texts as a table"),
        ("x.docx", "save its text as x.txt beside x.wav"),
    ],
)
def test_files_that_are_no_source_are_refused_with_what_to_do(
    tmp_path: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, {name: b"PK\x03\x04\xff\x00"})
    assert main(["prepare", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"{name} is not read: " in error
    assert words in error
    assert error.count("\n") == 1
    with pytest.raises(ValueError, match="There is no recording in"):
        read(tmp_path)  # nor is its folder empty


@pytest.mark.parametrize("beside", ["a.txt", "A.TXT", "a.lab"])
def test_a_single_recording_is_a_source(tmp_path: Path, beside: str) -> None:
    put(
        tmp_path, {"a.wav": "", beside: "yes", "b.wav": "", "b.txt": "no", "a.trs": "", "c.csv": ""}
    )
    source = read_source(tmp_path / "a.wav")
    assert source.layout == "folder"
    assert [(r.id, r.audio, r.text) for r in source.recordings] == [
        ("a", tmp_path / "a.wav", "yes")
    ]
    assert [item.kind for item in source.unused] == [".trs files"]


@pytest.mark.parametrize("place", [".", "in", "in/", "../{name}/in"])
def test_a_folder_may_be_given_in_any_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    put(tmp_path, {"in/x/a.wav": "", "in/x/a.txt": "yes", "in/y/b.wav": "", "in/z.srt": ""})
    monkeypatch.chdir(tmp_path / "in" if place == "." else tmp_path)
    source = Path(place.format(name=tmp_path.name))
    assert [(r.id, r.text, r.speaker) for r in read(source)] == [
        ("x/a", "yes", "x"),
        ("y/b", None, "y"),
    ]
    assert [(item.kind, item.first) for item in unused(source).values()] == [
        (".srt files", "z.srt")
    ]


def pack(shard: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(shard, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return shard


def test_members_of_a_shard_that_are_not_used_are_named(tmp_path: Path) -> None:
    files = {"a.wav": b"", "a.txt": b"yes", "b.wav": b"", "b.lab": b"no", "b.srt": b"1"}
    files |= {"all.csv": b"path,text", "notes.md": b"", "c.txt": b"x", "d.wav": b"", "d.txt": b" "}
    shard = pack(tmp_path / "x.tar", files)
    assert [r.text for r in read(shard)] == ["yes", None, ""]
    found = unused(shard)
    assert set(found) == {".lab files", ".srt files", ".csv files", ".txt files"}
    assert found[".txt files"].first == "x.tar/c.txt"
    assert unused(tmp_path) == found


def test_prepare_says_what_it_has_not_used(
    record: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):
        record(f"in/{i}.wav", 0.5)
    put(tmp_path, {"in/0.cha": "x", "in/1.cha": "x", "in/t.xlsx": "PK"})
    assert main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "not used: " in line]
    assert [line.split(":")[1] for line in lines] == [
        " 2 .cha files, the first is 0.cha",
        " 1 .xlsx file, t.xlsx",
    ]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["unused"][0] == {
        "kind": ".cha files",
        "count": 2,
        "first": "0.cha",
        "advice": "write its parts as a table with the columns path, start_s, end_s and text",
    }


def test_prepare_inside_the_folder_of_the_recordings_reads_nothing_of_its_own(
    record: Callable[..., Path], tmp_path: Path
) -> None:
    for i in range(4):
        record(f"in/{i}.wav", 0.5)
    arguments = ["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "in" / "data")]
    for _ in range(2):
        assert main(arguments) == 0
    summary = json.loads((tmp_path / "in" / "data" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["utterances"], summary["unused"]) == (4, [])
