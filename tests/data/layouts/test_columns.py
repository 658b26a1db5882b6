"""speechssl.data.layouts.columns: usual names, and times that name the right stretch of sound."""

from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.layouts import read_table, read_transcribed
from speechssl.data.layouts.columns import column_name, parse_time, time_column
from tests.data.layouts.files import put, read, unused


@pytest.mark.parametrize(
    "name",
    [
        *("transcripts", "Transcriptions", "label", "utterance", "normalized_text", "Sentences"),
        *("normalised text", "normalizedText", "Orthographic transcription", "words", "raw_text"),
    ],
)
def test_names_of_columns_of_transcripts(tmp_path: Path, name: str) -> None:
    put(tmp_path, {"t.csv": f"path,{name},speaker\na.wav,yes,ann\n"})
    assert [r.text for r in read(tmp_path / "t.csv")] == ["yes"]


@pytest.mark.parametrize(
    "name",
    ["File Name", "audio_filepath", "audioFile", "Wav-File", "AudioPath", "mp3", "Recording"],
)
def test_names_of_columns_of_paths(tmp_path: Path, name: str) -> None:
    put(tmp_path, {"t.csv": f"{name},text\na.wav,yes\n"})
    assert [r.text for r in read(tmp_path / "t.csv")] == ["yes"]


def test_files_named_after_ids(tmp_path: Path) -> None:
    put(tmp_path, {"wavs/u1.wav": "", "t.csv": "ID,Text\nu1,yes\n"})
    assert [(r.id, r.audio.name, r.text) for r in read(tmp_path)] == [("u1", "u1.wav", "yes")]


@pytest.mark.parametrize("header", ["path,speaker,words_said", "path,gender", "file,id"])
def test_a_table_without_a_column_of_transcripts_is_named(tmp_path: Path, header: str) -> None:
    row = ",".join(["a.wav", "x", "y"][: header.count(",") + 1])
    put(tmp_path, {"a.wav": "", "t.csv": f"{header}\n{row}\n"})
    with pytest.raises(
        ValueError, match=r"t\.csv has no column of transcripts: .*text.*; it holds "
    ):
        read_transcribed(tmp_path, tmp_path / "t.csv")
    found = unused(tmp_path)["tables without a column of transcripts"]
    assert (found.count, found.first) == (1, "t.csv")
    assert header.replace(",", ", ") in found.advice


def test_columns_that_look_like_text_and_are_not_taken_are_named(tmp_path: Path) -> None:
    put(tmp_path, {"a.wav": "", "t.csv": "path,text,raw_text,age,time_of_day\na.wav,x,X,30,noon\n"})
    found = unused(tmp_path)["columns of t.csv"]
    assert (found.count, found.first) == (2, "raw_text")
    assert "the transcripts are those of text" in found.advice


# ---- times --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role", "unit_s"),
    [
        ("start", "start", None),
        ("Start (s)", "start", 1.0),
        ("start_time", "start", None),
        ("startTime", "start", None),
        ("starttime", "start", None),
        ("begin_ms", "start", 0.001),
        ("offset", "start", None),
        ("xmin", "start", None),
        ("Begin Time - ss.msec", "start", 1.0),
        ("Begin Time - hh:mm:ss.ms", "start", 1.0),
        ("Begin Time - msec", "start", 0.001),
        ("segment_start_seconds", "start", 1.0),
        ("end", "end", None),
        ("end_s", "end", 1.0),
        ("stop", "end", None),
        ("xmax", "end", None),
        ("dur", "duration", None),
        ("duration[ms]", "duration", 0.001),
        ("audio_length", "duration", None),
        ("seconds", "duration", 1.0),
        ("start_sample", "start", 0.0),
        ("num_frames_end", None, None),
        ("start_date", None, None),
        ("text_length", None, None),
        ("timestamp", None, None),
        ("s", None, None),
    ],
)
def test_names_of_columns_of_times(name: str, role: str | None, unit_s: float | None) -> None:
    found = time_column(column_name(name))
    assert (found and found.role, found and found.unit_s) == (role, unit_s)


@pytest.mark.parametrize(
    ("cell", "unit_s", "seconds"),
    [
        ("1.5", 1.0, 1.5),
        ("1,5", 1.0, 1.5),
        ("1500", 0.001, 1.5),
        ("1.5 s", 0.001, 1.5),
        ("1500ms", 1.0, 1.5),
        ("0:01.5", 1.0, 1.5),
        ("01:02:03,250", 0.001, 3723.25),
        ("1e1", 1.0, 10.0),
        (".5", 1.0, 0.5),
        ("-1", 1.0, None),
        ("nan", 1.0, None),
        ("1.000,5", 1.0, None),
        ("1,500", 1.0, 1.5),
        ("1,500", 0.001, None),  # 1.5 or 1500?
        ("1 fortnight", 1.0, None),
        ("1:2:3:4", 1.0, None),
        ("soon", 1.0, None),
        ("9" * 5000, 1.0, None),
    ],
)
def test_times(cell: str, unit_s: float, seconds: float | None) -> None:
    assert parse_time(cell, unit_s) == seconds


@pytest.fixture
def talk(record: Callable[..., Path]) -> Path:
    """A folder with a recording of ten seconds."""
    return record("in/talk.wav", 10.0, 8000).parent


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("start,end", ["2,5", "6.5,7"]),
        ("start,end", ["2000,5000", "6500,7000"]),
        ("start_ms,end_ms", ["2000,5000", "6500,7000"]),
        ("start,duration", ["2,3", "6.5,0.5"]),
        ("offset,duration", ["2,3", "6.5,.5"]),
        ("offset,duration", ["2000,3000", "6500,500"]),
        ("onset,offset", ["2,5", "6.5,7"]),
        ("from,to", ["0:02,0:05", "0:06.5,0:07"]),
        ("xmin,xmax", ["2,5", "6.5,7"]),
        ("begin,end,duration", ["2,5,3", "6.5,7,0.5"]),
        ("end_s,duration_s", ["5,3", "7,0.5"]),
        ("start_s,end_s,start_ms", ["2,5,2000", "6.5,7,6500"]),
        ("start_time,stop_time", ["2 s,5 s", "6500 ms,7 s"]),
    ],
)
def test_times_of_all_kinds_name_one_stretch(talk: Path, header: str, rows: list[str]) -> None:
    cells = "".join(f"talk.wav,{text},{row}\n" for text, row in zip(("a", "b"), rows, strict=True))
    put(talk, {"t.csv": f"path,text,{header}\n{cells}"})
    found = [(r.text, r.start_s, r.duration_s) for r in read(talk / "t.csv")]
    assert found == [("a", 2.0, 3.0), ("b", 6.5, 0.5)]


def test_decimal_commas_between_semicolons(talk: Path) -> None:
    put(talk, {"t.csv": "path;text;start;end\ntalk.wav;a;0,5;2,25\n"})
    assert [(r.start_s, r.duration_s) for r in read(talk / "t.csv")] == [(0.5, 1.75)]


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("start_sample,end_sample", "0,16000", "start_sample that counts samples or frames"),
        ("end", "5", r"a column of ends \(end\) and none of starts"),
        ("start,end", "5,2", "line 2: it ends at 2 s and starts at 5 s"),
        ("start,end", ",2", r"line 2: it has an end \(2\) and no start"),
        (
            "start,end,duration",
            "1,2,4",
            "line 2: start and end are 1 s apart, but its duration is 4",
        ),
        ("start,end", "80,90", "neither seconds nor milliseconds"),  # of 10 ms no word is
        ("start_ms,end_ms", "x,2000", "start_ms is 'x', not a number of milliseconds"),
        (
            "start,end",
            "50000,99000",
            r"\(start, end\) that are neither seconds nor milliseconds: "
            r"talk\.wav has one of 99000 and is 10\.000 s long",
        ),
    ],
)
def test_times_that_make_no_sense_are_refused(
    talk: Path, header: str, row: str, words: str
) -> None:
    put(talk, {"t.csv": f"path,text,{header}\ntalk.wav,x,{row}\n"})
    with pytest.raises(ValueError, match=rf"(?s)t\.csv.*{words}"):
        read(talk / "t.csv")


def test_a_duration_without_a_start_is_the_length_of_the_file(talk: Path) -> None:
    for header, cells in (("duration", "10.02"), ("duration", "10000"), ("seconds", "9.9")):
        put(talk, {"t.csv": f"path,text,{header}\ntalk.wav,x,{cells}\n"})
        assert [(r.start_s, r.duration_s) for r in read(talk / "t.csv")] == [(0.0, None)]
    put(talk, {"t.csv": "path,text,duration\ntalk.wav,x,4\n"})
    assert [(r.start_s, r.duration_s) for r in read(talk / "t.csv")] == [(0.0, 4.0)]


def test_a_row_beyond_the_end_does_not_change_the_unit(talk: Path) -> None:
    put(
        talk, {"b.wav": (talk / "talk.wav").read_bytes(), "c.wav": (talk / "talk.wav").read_bytes()}
    )
    rows = "talk.wav,x,1,3\nb.wav,y,2,4\nc.wav,z,9,14\n"
    put(talk, {"t.csv": f"path,text,start,end\n{rows}"})
    assert [(r.start_s, r.duration_s) for r in read_table(talk / "t.csv")] == [
        (1.0, 2.0),
        (2.0, 2.0),
        (9.0, 5.0),  # for `prepare` to name
    ]


@pytest.mark.parametrize(
    "names", [("t0", "t1"), ("tc_in", "tc_out"), ("in", "out"), ("Timecode In", "Timecode Out")]
)
def test_words_that_are_times_only_in_pairs(tmp_path: Path, names: tuple[str, str]) -> None:
    put(tmp_path, {"t.csv": f"path,{','.join(names)},text\na.wav,0.5,1.5,yes\n"})
    assert [(r.start_s, r.duration_s) for r in read(tmp_path / "t.csv")] == [(0.5, 1.0)]
    for name in names:
        put(tmp_path, {"one.csv": f"path,{name},text\na.wav,0.5,yes\n"})
        assert [(r.start_s, r.duration_s) for r in read(tmp_path / "one.csv")] == [(0, None)]
