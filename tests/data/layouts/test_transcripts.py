"""speechssl.data.layouts.transcripts: texts in a folder find their recordings, or are named."""

import unicodedata
from pathlib import Path

import pytest

from tests.data.layouts.files import put, read, texts, unused

NFC, NFD = (unicodedata.normalize(form, "dég") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"A0.WAV": "", "A0.TXT": "yes"}, {"A0": "yes"}),
        ({"a.wav": "", "A.txt": "yes"}, {"a": "yes"}),
        ({"a.wav": "", "a.lab": "yes\n"}, {"a": "yes"}),
        ({"a.wav": "", "a.lab": "no", "a.txt": "yes"}, {"a": "yes"}),
        ({f"{NFD}.wav": "", f"{NFC}.txt": "yes"}, {NFC: "yes"}),
        ({f"{NFC}.wav": "", f"{NFD}.txt": "yes"}, {NFC: "yes"}),
        ({"a.wav": "", "A.wav": "", "a.txt": "yes"}, {"a": "yes", "A": None}),
        ({"a.wav": "", "a.mp3": "", "a.TXT": "yes"}, {"a.wav": "yes", "a.mp3": "yes"}),
        ({"a.wav": "", "a.txt": "yes, \u20ac".encode("utf-16")}, {"a": "yes, \u20ac"}),
        ({"a.wav": "", "a.txt": "\ufeff \n"}, {"a": ""}),
        (
            {"wav48/p1/p1_001.wav": "", "wav48/p2/p2_001.wav": "", "txt/p1/p1_001.txt": "yes"},
            {"wav48/p1/p1_001": "yes", "wav48/p2/p2_001": None},
        ),
        (
            {"wav48/p1/p1_1_mic1.flac": "", "wav48/p1/p1_1_mic2.flac": "", "txt/p1/p1_1.txt": "y"},
            {"wav48/p1/p1_1_mic1": "y", "wav48/p1/p1_1_mic2": "y"},
        ),
        ({"a.wav": "", "transcripts/a.txt": "yes"}, {"a": "yes"}),
        ({"x/wav/a.wav": "", "x/txt/a.txt": "yes", "y/a.txt": "no"}, {"x/wav/a": "yes"}),
        (
            {"8/1/8-1-0.flac": "", "8/1/8-1-1.flac": "", "8/1/8-1.trans.txt": "8-1-0 A B\n8-1-1 C"},
            {"8/1/8-1-0": "A B", "8/1/8-1-1": "C"},
        ),
        (
            {"wav/S1/u1.wav": "", "transcript/text_v1.txt": "u1 yes\nu2 no\n"},
            {"wav/S1/u1": "yes"},
        ),
        ({"audio/1/u1.flac": "", "transcripts.txt": "u1\tyes\n"}, {"audio/1/u1": "yes"}),
        ({"u1.wav": "", "list.txt": "u1.wav|yes, it is\n"}, {"u1": "yes, it is"}),
        (
            {"x/1.wav": "", "y/1.wav": "", "x/text.txt": "1 yes", "y/text.txt": "1 no"},
            {"x/1": "yes", "y/1": "no"},
        ),
        (
            {"a.WAV": "", "a.TXT": "0 46797 She had your suit.\n", "a.PHN": "0 9 h#"},
            {"a": "She had your suit."},
        ),
        ({"a.wav": "", "a.txt": "12 15 things"}, {"a": "12 15 things"}),
    ],
)
def test_texts_find_their_recordings(
    tmp_path: Path, files: dict[str, str | bytes], wanted: dict[str, str | None]
) -> None:
    assert texts(put(tmp_path, files)) == wanted


def test_speakers_below_a_folder_of_sound_beside_one_of_texts(tmp_path: Path) -> None:
    files = {f"wav48/p{i}/p{i}_1.wav": "" for i in (1, 2)}
    assert {r.speaker for r in read(put(tmp_path, files))} == {None}
    assert {r.speaker for r in read(put(tmp_path, {"txt/p1/p1_1.txt": "yes"}))} == {"p1", "p2"}


def test_the_recordings_are_those_on_the_disk(tmp_path: Path) -> None:
    put(tmp_path, {f"{NFD}/{NFD}.wav": "", "other/b.wav": ""})
    found = {r.audio: (r.id, r.speaker) for r in read(tmp_path)}
    assert found[tmp_path / NFD / f"{NFD}.wav"] == (f"{NFC}/{NFC}", NFC)


@pytest.mark.parametrize(
    ("files", "kind", "words"),
    [
        ({"b.txt": "yes"}, ".txt files", "has the name of its recording"),
        ({"x/a.txt": "yes", "txt/a.txt": "no", "lab/a.txt": "y"}, ".txt files", "has the name of"),
        ({"a.cha": "@Begin"}, ".cha files", "start_s, end_s and text"),
        ({"a.trs": "<x/>"}, ".trs files", "start_s, end_s and text"),
        ({"a.sbv": "1\n"}, ".sbv files", "start_s, end_s and text"),
        ({"a.lab": "0 5 sil\n5 9 a\n"}, ".lab files", "times and labels"),
        (
            {"a.lab": "0 5 sil\n5 9 a\n", "b.wav": "", "b.lab": "0 1 a\n1 2 b"},
            ".lab files",
            "times",
        ),
        ({"a.txt": "0.0 1.5 hello\n1.5 2.0 you\n"}, ".txt files", "times and labels"),
        ({"a.json": '{"text": "yes"}'}, ".json files", "header with a column of paths"),
        ({"t.csv": "name,said\na,yes\n"}, ".csv files", "header with a column of paths"),
        ({"t.xlsx": "PK"}, ".xlsx files", "save it as CSV"),
        ({"a.docx": "PK"}, ".docx files", "save its text as x.txt"),
        ({"text": "a yes\n"}, "text files", "Kaldi"),
        ({"transcripts": "a yes\n"}, "transcripts files", "suffix .txt"),
        ({"more.tar.gz": "x"}, ".tar.gz files", "unpack it"),
        ({"more.zip": "PK"}, ".zip files", "unpack it"),
        ({"more.tar": "x"}, ".tar files", "--layout shards"),
        ({"a.fr.cleaned": "oui"}, ".cleaned files", "has the name of its recording"),
        ({"a.xyz": "yes"}, ".xyz files", "has the name of its recording"),
        ({"a": "yes"}, "a files", "has the name of its recording"),
        ({"a.mlf": "#!MLF!#"}, ".mlf files", "start_s, end_s and text"),
        ({"meta.parquet": "PAR1"}, ".parquet files", "as a table"),
        ({"sub/x.csv": "path,text\ngone.wav,no\n"}, ".csv files", "give a table itself"),
    ],
)
def test_what_is_not_read_is_named(
    tmp_path: Path, files: dict[str, str | bytes], kind: str, words: str
) -> None:
    put(tmp_path, {"a.wav": ""} | files)
    assert {r.text for r in read(tmp_path)} == {None}
    found, names = unused(tmp_path), [name for name in files if not name.endswith(".wav")]
    assert set(found) == {kind}
    assert (found[kind].count, found[kind].first) == (len(names), min(names))
    assert words in found[kind].advice


@pytest.mark.parametrize(
    "files",
    [
        {"README.txt": "about"},
        {"LICENSE.txt": "MIT"},
        {"cover.jpg": "", "a.png": "", "b.xyz": "", "a.npy": ""},
        {".hidden.txt": "x"},
        {"data/train.jsonl": "{}", "data/summary.json": "{}", "data/probe_cache.jsonl": ""},
        {"run/metrics.jsonl": "", "run/notes.json": "{}"},
    ],
)
def test_what_holds_no_transcript_is_not_named(tmp_path: Path, files: dict[str, str]) -> None:
    put(tmp_path, {"a.wav": "", "a.txt": "yes"} | files)
    assert texts(tmp_path) == {"a": "yes"}
    assert not unused(tmp_path)


def test_all_texts_in_another_encoding_are_named_at_once(tmp_path: Path) -> None:
    latin = "caf\u00e9".encode("latin-1")
    put(tmp_path, {"a.wav": "", "b.wav": "", "a.txt": latin, "b.txt": latin})
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8") as caught:
        read(tmp_path)
    assert "b.txt is not UTF-8" in str(caught.value)
    assert "Windows-1252 (Latin-1, ANSI), in which this word would be 'caf\u00e9'" in str(
        caught.value
    )
