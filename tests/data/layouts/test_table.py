"""speechssl.data.layouts.table: tables whose rows name recordings."""

from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.layouts import Recording, detect_layout, read_source, read_transcribed
from tests.data.layouts.files import fill, put, read


@pytest.mark.parametrize("path", ["path", "audio", "file", "filename", "wav"])
@pytest.mark.parametrize("text", ["text", "sentence", "transcript", "transcription"])
@pytest.mark.parametrize("speaker", ["speaker", "client_id", "spk"])
def test_common_names_of_columns(tmp_path: Path, path: str, text: str, speaker: str) -> None:
    table = tmp_path / "t.tsv"
    table.write_text(
        f"{speaker}\tid\t{text}\t{path.upper()}\tsplit\nann\ti\tgood day\ta.wav\ttest\n"
    )
    assert read(table) == [
        Recording("i", tmp_path / "a.wav", speaker="ann", text="good day", split="test")
    ]


def test_a_table_needs_only_paths(tmp_path: Path) -> None:
    fill(tmp_path, t_dot_csv="path\nx/a.wav\n\n/abs/b.wav\n")
    assert read(tmp_path / "t.csv") == [
        Recording("x/a", tmp_path / "x" / "a.wav"),
        Recording("/abs/b", Path("/abs/b.wav")),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_quoted_and_tsv_is_not(tmp_path: Path, delimiter: str) -> None:
    row = delimiter.join(["path", "text"]) + "\r\na.wav" + delimiter + '"yes, ""so""; it\tis"\r\n'
    (tmp_path / "t.csv").write_text(row)
    assert read(tmp_path / "t.csv")[0].text == 'yes, "so"; it\tis'
    (tmp_path / "t.tsv").write_text('path\ttext\na.wav\t"yes, he said\n')
    assert read(tmp_path / "t.tsv")[0].text == '"yes, he said'


def test_parts_of_recordings_and_empty_cells(tmp_path: Path) -> None:
    lines = ["path\ttext\tspeaker\tstart_s\tduration_s", "a.wav\t\t\t1.5\t2", "b.wav\tx\t\t\t"]
    fill(tmp_path, t_dot_tsv="\n".join(lines))
    first, second = read(tmp_path / "t.tsv")
    assert (first.text, first.speaker, first.start_s, first.duration_s) == ("", None, 1.5, 2.0)
    assert (second.start_s, second.duration_s) == (0.0, None)


def test_recordings_are_found_in_the_usual_sub_folders(tmp_path: Path) -> None:
    fill(tmp_path, t_dot_tsv="path\na.wav\nb.wav\n", clips__a_dot_wav="")
    found = [r.audio.relative_to(tmp_path).as_posix() for r in read(tmp_path)]
    assert found == ["clips/a.wav", "b.wav"]


def test_a_name_longer_than_a_file_can_have_is_missing_and_no_error(tmp_path: Path) -> None:
    fill(tmp_path, t_dot_tsv=f"path\n{'x' * 300}.wav\n")
    assert [len(r.audio.name) for r in read(tmp_path / "t.tsv")] == [304]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path\ttext\na.wav\tx\nb.wav\n", "line 3: 1 columns, but the header has 2"),
        ("path\ttext\na.wav\tx\n\ty\n", "line 3: the path is empty"),
        ("path\tsplit\na.wav\tother\n", "line 2: split 'other' is none of train, dev, test"),
        ("path\tstart_s\na.wav\tsoon\n", "line 2: start_s is 'soon', not a number"),
        ("path\tduration_s\na.wav\tnan\n", "line 2: duration_s is 'nan', not a number"),
        ("name\tlabel\na.wav\tx\n", "no column of paths.*it holds name, label"),
        ("", "no column of paths.*it holds nothing"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, content: str, words: str) -> None:
    fill(tmp_path, t_dot_tsv=content)
    with pytest.raises(ValueError, match=rf"(?s)t\.tsv.*{words}"):
        read(tmp_path / "t.tsv")


def test_broken_csv_and_other_encodings_are_named(tmp_path: Path) -> None:
    fill(tmp_path, t_dot_csv='path,text\na.wav,"x" y\n')
    with pytest.raises(ValueError, match=r"t\.csv, line 2"):
        read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes("path,text\na.wav,žluť\n".encode("cp1250"))
    with pytest.raises(ValueError, match=r"t\.csv.*not UTF-8"):
        read(tmp_path / "t.csv")


def test_folders_with_tables(tmp_path: Path) -> None:
    fill(tmp_path, train_dot_tsv="path\na.wav\n", dev_dot_tsv="path\nb.wav\n", notes_dot_csv="x\n1")
    assert detect_layout(tmp_path) == "tsv"
    assert [(r.id, r.split) for r in read(tmp_path)] == [("b", "dev"), ("a", "train")]
    fill(tmp_path, validated_dot_tsv="path\nb.wav\n")
    with pytest.raises(ValueError, match=r"several tables \(dev.tsv, train.tsv, validated.tsv\)"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"holds no \.tsv or \.csv"):
        read(fill(tmp_path / "x", a_dot_wav=""), "tsv")


def test_recordings_that_the_table_of_a_folder_does_not_name_are_read_too(tmp_path: Path) -> None:
    fill(tmp_path, clips__a_dot_wav="", clips__b_dot_wav="", c_dot_wav="")
    fill(tmp_path, t_dot_tsv="path\ttext\na.wav\tyes\ngone.wav\tno\n")
    assert detect_layout(tmp_path) == "tsv"
    assert read(tmp_path) == [
        Recording("c", tmp_path / "c.wav"),
        Recording("clips/a", tmp_path / "clips" / "a.wav", text="yes"),
        Recording("clips/b", tmp_path / "clips" / "b.wav"),
        Recording("gone", tmp_path / "gone.wav", text="no"),  # for `prepare` to name
    ]
    assert [r.id for r in read(tmp_path / "t.tsv")] == ["a", "gone"]  # the table alone
    assert [r.text for r in read(tmp_path, "folder")] == [None] * 3


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (  # Common Voice has lengths beside its splits
            {
                "train.tsv": "path\tsentence\na.wav\tyes\n",
                "dev.tsv": "path\tsentence\nb.wav\tno\n",
                "clip_durations.tsv": "clip\tduration[ms]\na.wav\t500\nb.wav\t500\n",
            },
            ("yes", "no", ["dev.tsv", "train.tsv"]),
        ),
        (
            {"t.csv": "path,text\na.wav,yes\nb.wav,no\n", "t.jsonl": '{"path": "a.wav"}\n'},
            ("yes", "no", ["t.csv"]),
        ),
        (
            {"t.csv": "path,text\na.wav,yes\nb.wav,\n", "lengths.csv": "path,seconds\na.wav,3\n"},
            ("yes", "", ["t.csv"]),
        ),
        (  # a JSON of its own for each recording is no table
            {f"{n}.json": f'{{"path": "{n}.wav", "text": "x"}}' for n in "ab"}
            | {"t.json": '{"file_name": "b.wav", "text": ["n", "o"]}'},
            (None, "n o", ["t.json"]),
        ),
    ],
)
def test_the_tables_of_a_folder_that_have_its_transcripts(
    tmp_path: Path, files: dict[str, str], wanted: tuple[str | None, str | None, list[str]]
) -> None:
    put(tmp_path, {"a.wav": "", "b.wav": ""} | files)
    source = read_source(tmp_path)
    found = {r.id: r.text for r in source.recordings}
    assert (found["a"], found["b"], list(source.tables)) == wanted
    assert source.describe().endswith(f"({', '.join(wanted[2])})")
    rest = set(files) - set(source.tables)
    assert {
        item.first for item in source.unused if ".json" in item.kind or ".tsv" in item.kind
    } <= (rest)
    assert sum(item.count for item in source.unused) == len(rest)


@pytest.mark.parametrize(
    ("header", "values", "splits"),
    [
        ("subset", ["train", "test"], ["train", "test"]),
        ("subset", ["XS", "train"], [None, None]),  # of GigaSpeech
        ("Partition", ["dev", ""], ["dev", None]),
    ],
)
def test_subsets_are_splits_where_all_are(
    tmp_path: Path, header: str, values: list[str], splits: list[str | None]
) -> None:
    rows = "".join(f"{i}.wav,{value}\n" for i, value in enumerate(values))
    put(tmp_path, {"t.csv": f"path,{header}\n{rows}"})
    assert [r.split for r in read(tmp_path / "t.csv")] == splits


@pytest.mark.parametrize("length", ["48000", "12"])
def test_a_length_that_is_no_time_is_left_alone(record: Callable[..., Path], length: str) -> None:
    folder = record("in/a.wav", 3.0, 16000).parent
    put(folder, {"t.csv": f"path,text,length\na.wav,hello,{length}\n"})
    source = read_source(folder / "t.csv")
    assert [(r.start_s, r.duration_s) for r in source.recordings] == [(0.0, None)]
    assert [item.first for item in source.unused] == ["length"]


def test_an_object_in_a_row_is_no_row(tmp_path: Path) -> None:
    put(tmp_path, {"t.jsonl": '{"audio": {"path": "a.wav", "bytes": null}}\n'})
    assert [r.id for r in read(tmp_path / "t.jsonl")] == ["a"]


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no table .*gone\.csv\.$"):
        read_transcribed(tmp_path, tmp_path / "gone.csv")
    with pytest.raises(FileNotFoundError, match=r"There is no table .*: that is a folder\.$"):
        read_transcribed(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        (["a.wav,one,", "b.wav,two,x", "a.wav,three,"], {3: "not a number", 4: "as in line 2"}),
        (["a.wav,one,1", "a.wav,two,1", '"b.wav,three,'], {3: "as in line 2", 4: "quote begins"}),
        (
            ["a.wav,one,,", "a.wav,one,", "a.wav,six,", "b,,,,x"],
            {4: "as in line 2", 5: "5 columns"},
        ),
        (["a.wav,one,-1", "a.wav,two,0", "a.wav,three,3"], {2: "not a number"}),
    ],
)
def test_rows_of_a_file_without_times_are_named_with_all_else(
    tmp_path: Path, rows: list[str], wrong: dict[int, str]
) -> None:
    table = "\n".join(["path,text,start_s", *rows, ""])
    put(tmp_path, {"t.csv": table, "a.wav": b"", "b.wav": b""})
    with pytest.raises(ValueError, match=r"t\.csv") as caught:
        read(tmp_path)
    message = str(caught.value)
    assert [n for n in range(2, 6) if f"line {n}: " in message] == list(wrong)
    for number, words in wrong.items():
        assert words in message.split(f"line {number}: ")[1].split("\n")[0]
