"""speechssl.data.manifest: round trips, relative paths, and what is wrong with which line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.data.manifest import Utterance, read_manifest, read_texts, write_manifest

GOOD = {
    "id": "a",
    "audio": "wav/a.wav",
    "start_s": 0.0,
    "duration_s": 2.95,
    "sample_rate": 16000,
    "speaker": "abiayi",
    "text": "wó twεrε ya poo",
}


def manifest(folder: Path, *lines: object) -> Path:
    path = folder / "train.jsonl"
    text = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(line + "\n" for line in text), encoding="utf-8")
    return path


def test_reads_the_line_of_the_contract(tmp_path: Path) -> None:
    (found,) = read_manifest(manifest(tmp_path, GOOD))
    audio_path = tmp_path / "wav" / "a.wav"
    assert found == Utterance("a", audio_path, 0.0, 2.95, 16000, "abiayi", "wó twεrε ya poo")
    assert found.audio.is_absolute()


def test_speaker_text_and_start_may_be_missing(tmp_path: Path) -> None:
    needed = {name: GOOD[name] for name in ("id", "audio", "duration_s", "sample_rate")}
    (found,) = read_manifest(manifest(tmp_path, needed))
    assert (found.speaker, found.text, found.start_s) == (None, None, 0.0)


def test_writing_and_reading_is_the_identity(tmp_path: Path) -> None:
    utterances = [
        Utterance("a", tmp_path / "x" / "ä b.wav", 0.123456, 1.5, 44100, "s", 'ɓà\u0301 "q" \\'),
        Utterance("b", tmp_path / "y.flac", 0.0, 0.1, 8000),
        Utterance("c", tmp_path / "y.flac", 0.1, 0.1, 8000, text=""),
    ]
    path = tmp_path / "deep" / "er" / "dev.jsonl"
    write_manifest(path, utterances)
    assert read_manifest(path) == utterances
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert first["audio"] == "../../x/ä b.wav"
    assert list(path.parent.iterdir()) == [path]


def test_a_manifest_moves_with_its_recordings(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    write_manifest(folder / "m.jsonl", [Utterance("a", folder / "a.wav", 0.0, 1.0, 16000)])
    folder.rename(tmp_path / "two")
    assert read_manifest(tmp_path / "two" / "m.jsonl")[0].audio == tmp_path / "two" / "a.wav"


def test_a_manifest_that_moves_without_its_recordings(tmp_path: Path) -> None:
    utterances = [Utterance("a", tmp_path / "a.wav", 0.0, 1.0, 16000)]
    write_manifest(tmp_path / "one" / "m.jsonl", utterances, relative=False)
    (tmp_path / "one").rename(tmp_path / "two")
    assert read_manifest(tmp_path / "two" / "m.jsonl") == utterances


def test_relative_working_folders_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_manifest("out/m.jsonl", [Utterance("a", Path("in/a.wav"), 0.0, 1.0, 16000)])
    assert read_manifest("out/m.jsonl")[0].audio == tmp_path / "in" / "a.wav"
    assert os.path.isabs(read_manifest("out/m.jsonl")[0].audio)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "b", ', "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ({**GOOD, "id": "a"}, "'a' is there already, in line 1"),
        ({**GOOD, "id": ""}, "id must be a string that is not empty"),
        ({**GOOD, "id": "b", "audio": None}, "audio must be a string"),
        ({**GOOD, "id": "b", "duration_s": "long"}, "duration_s must be a number"),
        ({**GOOD, "id": "b", "duration_s": -1}, "duration_s must be a number"),
        ({**GOOD, "id": "b", "duration_s": True}, "duration_s must be a number"),
        ('{"id": "b", "audio": "b", "duration_s": NaN, "sample_rate": 8000}', "duration_s must"),
        ({**GOOD, "id": "b", "start_s": -0.5}, "start_s must be a number"),
        ({**GOOD, "id": "b", "sample_rate": 0}, "sample_rate must be a positive whole"),
        ({**GOOD, "id": "b", "text": 7}, "text must be a string"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: object, words: str) -> None:
    path = manifest(tmp_path, GOOD, "", line)
    with pytest.raises(ValueError, match=rf"train\.jsonl, line 3: .*{words}"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sample_rate", "9" * 5000, "a number too long"),
        ("text", "[" * 200000, "brackets too deep"),
        ("duration_s", f"1{'0' * 400}", "duration_s must be a number of seconds"),
        ("text", '"\\ud800"', "text holds a zero byte or half of a surrogate pair"),
        ("audio", '"a\\u0000.wav"', "audio holds a zero byte"),
    ],
)
def test_what_json_allows_and_nobody_means_is_named(
    tmp_path: Path, name: str, value: str, words: str
) -> None:
    fields = {key: json.dumps(known) for key, known in GOOD.items()} | {name: value}
    line = "{" + ", ".join(f'"{key}": {written}' for key, written in fields.items()) + "}"
    with pytest.raises(ValueError, match=rf"train\.jsonl, line 2: .*{words}"):
        read_manifest(manifest(tmp_path, {**GOOD, "id": "first"}, line))


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes")
def test_a_file_name_that_is_not_utf8_goes_through(tmp_path: Path) -> None:
    audio.write(tmp_path / "x.wav", np.zeros(1600, np.float32), 16000)
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    (tmp_path / "x.wav").rename(path)
    given = Utterance(path.stem, path, 0.0, 0.1, 16000)
    write_manifest(tmp_path / "train.jsonl", [given])
    assert read_manifest(tmp_path / "train.jsonl") == [given]
    assert audio.probe(read_manifest(tmp_path / "train.jsonl")[0].audio).num_samples == 1600


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = manifest(tmp_path, GOOD)
    path.write_bytes(path.read_bytes() + b'{"id": "\xff"}\n')
    with pytest.raises(ValueError, match="line 2: not UTF-8"):
        read_manifest(path)


def test_an_empty_manifest_and_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.jsonl is empty"):
        read_manifest(manifest(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl"):
        read_manifest(tmp_path / "nowhere.jsonl")


def test_reads_a_table_a_fairseq_manifest_and_a_kaldi_folder(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", np.full(4000, 0.1), 8000)
    (tmp_path / "t.tsv").write_text("path\ttext\na.wav\tyes\n")
    (tmp_path / "train.tsv").write_text(f"{tmp_path}\na.wav\t4000\n")
    (tmp_path / "train.wrd").write_text("yes\n")
    (tmp_path / "wav.scp").write_text("a a.wav\n")
    (tmp_path / "text").write_text("a yes\n")
    wanted = Utterance("a", tmp_path / "a.wav", 0.0, 0.5, 8000, None, "yes")
    for name in ("t.tsv", "train.tsv", "."):
        assert read_manifest(tmp_path / name) == [wanted]
    (tmp_path / "t.tsv").write_text("path\ttext\na.wav\tyes\na.wav\tyes\n")
    with pytest.raises(ValueError, match="'a' is there twice"):
        read_manifest(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_text("path\ttext\n")
    with pytest.raises(ValueError, match="is empty"):
        read_manifest(tmp_path / "t.tsv")


@pytest.mark.parametrize("text", ["", " ", "\ufeff", "\u200b\u00a0"])
def test_a_blank_text_is_no_label(tmp_path: Path, text: str) -> None:
    path = manifest(tmp_path, {**GOOD, "text": text}, {**GOOD, "id": "b"})
    assert [u.is_labeled for u in read_manifest(path)] == [False, True]
    assert read_texts(path) == [GOOD["text"]]


def test_the_texts_of_a_language_model(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_bytes("\ufeffwa adí\n\nngá\n".encode())  # as some editors begin a file
    assert read_texts(lines) == ["wa adí", "ngá"]
    table = tmp_path / "table.tsv"
    table.write_text("path\tsentence\na.wav\twa adí\nb.wav\t\n", encoding="utf-8")
    assert read_texts(table) == ["wa adí"]
    lines.write_text("wa adí\n\u200b\n \u00a0\n", encoding="utf-8")
    assert read_texts(lines) == ["wa adí"]


def test_texts_of_a_language_model_in_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes("caf\u00e9\nno\n".encode("utf-16"))
    assert read_texts(path) == ["caf\u00e9", "no"]
    path.write_bytes("no\ncaf\u00e9\n".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"t\.txt is not UTF-8 text: the byte 0xe9 in line 2.*Latin-1"
    ):
        read_texts(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("T.TSV", "path\ttext\na.wav\tyes\n"),
        ("t.json", '[{"path": "a.wav", "text": "yes"}]'),
        ("t.psv", "path|text\na.wav|yes\n"),
        ("t.text", "yes\n"),
        ("t", "yes\n"),
    ],
)
def test_texts_of_a_language_model_in_other_tables(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_texts(tmp_path / name) == ["yes"]


@pytest.mark.parametrize("name", ["t.srt", "t.TextGrid", "t.docx", "t.xlsx", "t.txt.gz"])
def test_lines_that_are_more_than_text_are_no_texts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1\n00:00:00,000 --> 00:00:01,000\nyes\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name} is not read as lines of text: (--layout )?\w+"):
        read_texts(tmp_path / name)
