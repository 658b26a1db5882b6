"""speechssl.data.layouts: what each layout says, and sentences for what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.layouts import (
    Recording,
    detect_layout,
    join_table,
    read_folder,
    read_layout,
    read_table,
    split_name,
)


def fill(folder: Path, **files: str) -> Path:
    """Files by name, ``__`` for a slash and ``_dot_`` for a dot."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def read(source: Path, layout: str = "auto") -> list[Recording]:
    return list(read_layout(source, layout))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("train-clean-100", "train"),
        ("Validation", "dev"),
        ("dev_other", "dev"),
        ("test", "test"),
        ("tested", None),
        ("speaker1", None),
    ],
)
def test_split_names(name: str, split: str | None) -> None:
    assert split_name(name) == split


# ---- folders ------------------------------------------------------------------------------------


def test_a_flat_folder_with_some_transcripts(tmp_path: Path) -> None:
    fill(tmp_path, b_dot_wav="", a_dot_mp3="", a_dot_txt="\ufeff good day\n", README="")
    assert detect_layout(tmp_path) == "folder"
    assert read(tmp_path) == [
        Recording("a", tmp_path / "a.mp3", text="good day"),
        Recording("b", tmp_path / "b.wav"),
    ]


def test_sub_folders_are_speakers_when_there_are_several(tmp_path: Path) -> None:
    fill(tmp_path, ann__x__1_dot_wav="", ben__1_dot_wav="")
    assert [(r.id, r.speaker) for r in read(tmp_path)] == [("ann/x/1", "ann"), ("ben/1", "ben")]


def test_one_sub_folder_or_a_stray_recording_means_unknown_speakers(tmp_path: Path) -> None:
    fill(tmp_path, audio__1_dot_wav="")
    assert [r.speaker for r in read(tmp_path)] == [None]
    fill(tmp_path, other__1_dot_wav="", stray_dot_wav="")
    assert [r.speaker for r in read(tmp_path)] == [None] * 3


def test_folders_named_after_splits_are_the_split(tmp_path: Path) -> None:
    fill(tmp_path, train__ann__1_dot_wav="", train__ben__1_dot_wav="", valid__cy__1_dot_wav="")
    found = [(r.split, r.speaker) for r in read(tmp_path)]
    assert found == [("train", "ann"), ("train", "ben"), ("dev", "cy")]


def test_one_folder_named_after_a_split_is_to_be_split(tmp_path: Path) -> None:
    fill(tmp_path, test_recordings__1_dot_wav="", test_more__2_dot_wav="")
    assert [r.split for r in read(tmp_path)] == [None, None]


def test_equal_stems_keep_different_ids(tmp_path: Path) -> None:
    fill(tmp_path, a_dot_wav="", a_dot_mp3="", b_dot_wav="")
    assert [r.id for r in read(tmp_path)] == ["a.mp3", "a.wav", "b"]


def test_nothing_there(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere", "folder")
    with pytest.raises(ValueError, match="'sphinx' is none of auto, folder"):
        read(tmp_path, "sphinx")


def test_a_transcript_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    fill(tmp_path, a_dot_wav="")
    (tmp_path / "a.txt").write_bytes("žluťoučký".encode("cp1250"))
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8"):
        read(tmp_path)


# ---- tables -------------------------------------------------------------------------------------


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


def test_a_manifest_is_not_prepared_again(tmp_path: Path) -> None:
    fill(tmp_path, train_dot_jsonl="{}")
    with pytest.raises(ValueError, match="is a manifest already"):
        detect_layout(tmp_path / "train.jsonl")


# ---- a folder and a table -----------------------------------------------------------------------


def test_rows_of_one_file_are_parts_of_it(tmp_path: Path) -> None:
    fill(tmp_path, ann__talk_dot_wav="", ann__talk_dot_txt="all of it", ben__b_dot_wav="")
    lines = ["path\ttext\tstart_s\tduration_s\tsplit", "ann/talk.wav\tfirst\t0\t3\ttrain"]
    lines += ["ann/talk.wav\tsecond\t3\t2\ttest", "ann/talk.wav\tthird\t5\t\ttest"]
    fill(tmp_path, t_dot_tsv="\n".join([*lines, "gone.wav\tx\t\t\t"]))
    joined, elsewhere = join_table(read_folder(tmp_path), read_table(tmp_path / "t.tsv"))
    talk = tmp_path / "ann" / "talk.wav"
    assert joined == [
        Recording("ann/talk@0.000", talk, 0.0, 3.0, "ann", "first", "train"),
        Recording("ann/talk@3.000", talk, 3.0, 2.0, "ann", "second", "test"),
        Recording("ann/talk@5.000", talk, 5.0, None, "ann", "third", "test"),
        Recording("ben/b", tmp_path / "ben" / "b.wav", speaker="ben"),
    ]
    assert [row.audio.name for row in elsewhere] == ["gone.wav"]


HEADER = "path\ttext\tstart_s\tduration_s\tspeaker\tsplit\n"


@pytest.mark.parametrize(
    ("times", "rests"),
    [
        (["4 4", "40 4"], [(0, 4), (8, 32), (44, None)]),
        (["40 4", "0 4"], [(4, 36), (44, None)]),  # out of order
        (["0 10", "2 3", "9 3"], [(12, None)]),  # one within another, and two that overlap
        (["1 4", "5.499 4", "9.999 4"], [(0, 1), (9.499, 0.5), (13.999, None)]),
        (["0.4 59.2"], []),  # less than half a second
        (["0 60"], []),
        (["3 "], [(0, 3)]),  # to the end already
        (["3 ", "10 4"], [(0, 3)]),
        (["0 4", "70 4"], [(4, None)]),  # beyond the end: for `prepare` to name
        ([" "], []),  # the whole
    ],
)
def test_what_lies_between_rows_of_a_file_stays_without_transcript(
    record: Callable[..., Path], tmp_path: Path, times: list[str], rests: list[tuple[float, float]]
) -> None:
    audio = record("in/talk.wav", 60.0, 8000)
    rows = "".join(f"talk.wav\tx\t{time}\tann\tdev\n".replace(" ", "\t") for time in times)
    fill(tmp_path, in__t_dot_tsv=HEADER + rows)
    found = read(tmp_path / "in")
    assert [r for r in found if r.text is None] == [
        Recording(f"talk@{start_s:.3f}", audio, start_s, duration_s, "ann", None, "dev")
        for start_s, duration_s in rests
    ]
    assert len([r for r in found if r.text]) == len(times)
    assert len({r.id for r in found}) == len(found)
    assert len(read(tmp_path / "in" / "t.tsv")) == len(times)  # alone it is all that is meant


def test_the_rest_of_a_talk_of_two_is_of_neither(
    record: Callable[..., Path], tmp_path: Path
) -> None:
    record("in/talk.wav", 9.0)
    rows = "talk.wav\tx\t0\t2\tann\ttrain\ntalk.wav\ty\t2\t2\tben\ttest\n"
    fill(tmp_path, in__t_dot_tsv=HEADER + rows)
    assert [(r.speaker, r.split) for r in read(tmp_path / "in") if not r.text] == [(None, None)]


def test_a_table_without_texts_leaves_those_beside_the_recordings(tmp_path: Path) -> None:
    fill(tmp_path, a_dot_wav="", a_dot_txt="yes", t_dot_tsv="id\tpath\tspeaker\nu1\ta.wav\tann\n")
    joined, _ = join_table(read_folder(tmp_path), read_table(tmp_path / "t.tsv"))
    assert joined == [Recording("a", tmp_path / "a.wav", speaker="ann", text="yes")]


@pytest.mark.parametrize("way", ["clips/{}.wav", "./clips/{}.wav", "{folder}/clips/{}.wav"])
@pytest.mark.parametrize("own", ["", "utt-{}"])
def test_ids_are_those_of_the_folder_whatever_the_table_has(
    tmp_path: Path, way: str, own: str
) -> None:
    fill(tmp_path, clips__a_dot_wav="", clips__b_dot_wav="", clips__c_dot_wav="")
    header = "path\ttext\tstart_s\tduration_s\tid\n"
    rows = [
        f"{way.format(name, folder=tmp_path)}\tx\t{times}\t{own.format(number)}\n"
        for number, (name, times) in enumerate((("a", "\t"), ("b", "12.5\t4"), ("b", "2\t4")))
    ]
    for num_rows in (1, 2, 3):
        fill(tmp_path, t_dot_tsv=header + "".join(rows[:num_rows]))
        joined, _ = join_table(read_folder(tmp_path), read_table(tmp_path / "t.tsv"))
        found = {(r.id, r.start_s) for r in joined}
        parts = {("clips/b@12.500", 12.5), ("clips/b@2.000", 2.0)}
        assert len(found) == len(joined)
        assert found - parts - {("clips/b", 0.0)} == {("clips/a", 0.0), ("clips/c", 0.0)}
    assert found >= parts


def test_prepare_keeps_the_ids_that_a_table_gives(tmp_path: Path) -> None:
    fill(tmp_path, clips__a_dot_wav="", clips__b_dot_wav="", c_dot_wav="")
    lines = ["utt_id\tpath\tstart_s\tduration_s", "u1\ta.wav\t\t", "u2\tb.wav\t3\t2"]
    fill(tmp_path, t_dot_tsv="\n".join(lines))
    assert [r.id for r in read(tmp_path)] == ["c", "u1", "u2"]
    fill(tmp_path, t_dot_tsv="path\tstart_s\tduration_s\na.wav\t\t\nb.wav\t3\t2\n")
    assert [r.id for r in read(tmp_path)] == ["c", "clips/a", "clips/b@3.000"]


@pytest.mark.parametrize("times", [("\t", "\t"), ("\t", "1\t2"), ("1\t2", "1\t2"), ("1\t", "1\t")])
def test_rows_of_one_file_without_times_are_refused(tmp_path: Path, times: list[str]) -> None:
    rows = "".join(f"a.wav\ttext {i}\t{time}\n" for i, time in enumerate(times))
    fill(tmp_path, a_dot_wav="", t_dot_tsv=f"path\ttext\tstart_s\tduration_s\n{rows}")
    with pytest.raises(ValueError, match=r"has 2 rows for .*a\.wav; each needs a start_s and dur"):
        join_table(read_folder(tmp_path), read_table(tmp_path / "t.tsv"))


@pytest.mark.parametrize("times", ["\t", "1\t2"])
def test_the_same_row_twice_is_one(tmp_path: Path, times: str) -> None:
    row = f"a.wav\tx\t{times}\t\n"
    fill(tmp_path, a_dot_wav="", t_dot_tsv=f"{HEADER[:-7]}\n{row}./{row}{row}")
    assert [r.text for r in read(tmp_path)] == ["x"]


def test_rows_with_only_a_start_end_where_the_next_begins(tmp_path: Path) -> None:
    rows = "a.wav\tlast\t2.5\na.wav\tfirst\t0\na.wav\tsecond\t1.1\nb.wav\tx\t3\n"
    fill(tmp_path, a_dot_wav="", b_dot_wav="", t_dot_tsv=f"path\ttext\tstart_s\n{rows}")
    assert [(r.text, r.start_s, r.duration_s) for r in read(tmp_path)] == [
        ("first", 0.0, 1.1),
        ("second", 1.1, 1.4),
        ("last", 2.5, None),
        ("x", 3.0, None),
    ]


@pytest.mark.parametrize("row", ["a.wav\tx\t\t\t\t", "a.wav\t\t\t\t\t", "a.wav\tx\t1\t2\t\t"])
def test_a_text_file_is_not_read_where_the_table_has_the_text(tmp_path: Path, row: str) -> None:
    fill(tmp_path, a_dot_wav="", b_dot_wav="", b_dot_txt="yes", t_dot_tsv=f"{HEADER}{row}\n")
    (tmp_path / "a.txt").write_bytes("žluť".encode("cp1250"))
    assert [r.text for r in read(tmp_path)] == [row.split("\t")[1], "yes"]
    fill(tmp_path, t_dot_tsv="path\tspeaker\na.wav\tann\n")
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8"):
        read(tmp_path)


# ---- fairseq ------------------------------------------------------------------------------------


def test_fairseq_words_before_letters(tmp_path: Path) -> None:
    fill(tmp_path, train_dot_tsv="/data\na/1.flac\t16000\n2.flac\t3\n", valid_dot_tsv="/data\n")
    fill(tmp_path, train_dot_ltr="H E | S A I D |\n\n")
    assert detect_layout(tmp_path) == detect_layout(tmp_path / "train.tsv") == "fairseq"
    assert read(tmp_path) == [
        Recording("a/1", Path("/data/a/1.flac"), text="HE SAID", split="train"),
        Recording("2", Path("/data/2.flac"), text="", split="train"),
    ]
    fill(tmp_path, train_dot_wrd="HE SAYS\nYES\n")
    assert [(r.text, r.split) for r in read(tmp_path / "train.tsv")] == [
        ("HE SAYS", None),  # one manifest alone is to be split
        ("YES", None),
    ]
    (tmp_path / "train.wrd").unlink()
    (tmp_path / "train.ltr").unlink()
    assert [r.text for r in read(tmp_path)] == [None, None]


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ("1.flac 16000\n", None, r"train\.tsv, line 2: not `path TAB number of samples`"),
        ("1.flac\t9\n2.flac\t9\n", "YES\n", r"line 3: there are only 1 transcripts"),
        ("1.flac\t9\n", "YES\nNO\n", "names 1 recordings, but there are 2 transcripts"),
    ],
)
def test_broken_fairseq_is_named(
    tmp_path: Path, rows: str, words: str | None, message: str
) -> None:
    fill(tmp_path, train_dot_tsv="/data\n" + rows, **({"train_dot_wrd": words} if words else {}))
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_no_fairseq_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no fairseq manifest"):
        read(tmp_path, "fairseq")


# ---- Kaldi --------------------------------------------------------------------------------------


def test_kaldi_with_text_and_speakers(tmp_path: Path) -> None:
    fill(tmp_path, wav_dot_scp="u1 a b.wav\nu2 /x/2.wav\n", text="u1 good  day\nu3 x\n")
    fill(tmp_path, utt2spk="u1 ann\n")
    assert detect_layout(tmp_path) == detect_layout(tmp_path / "wav.scp") == "kaldi"
    assert read(tmp_path) == [
        Recording("u1", tmp_path / "a b.wav", speaker="ann", text="good  day"),
        Recording("u2", Path("/x/2.wav")),
    ]
    assert read(tmp_path / "wav.scp") == read(tmp_path)


def test_kaldi_segments_and_splits(tmp_path: Path) -> None:
    fill(tmp_path, train__wav_dot_scp="r /x/r.wav\n", train__segments="s1 r 0.5 2\ns2 r 3 -1\n")
    fill(tmp_path, test__wav_dot_scp="t t.wav\n", test__text="t\n")
    assert read(tmp_path) == [
        Recording("t", tmp_path / "test" / "t.wav", text="", split="test"),
        Recording("s1", Path("/x/r.wav"), 0.5, 1.5, split="train"),
        Recording("s2", Path("/x/r.wav"), 3.0, None, split="train"),
    ]


def test_kaldi_paths_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, data__wav_dot_scp="u wav/1.wav\n", wav__1_dot_wav="")
    monkeypatch.chdir(tmp_path)
    assert read(tmp_path / "data")[0].audio == tmp_path / "wav" / "1.wav"


@pytest.mark.parametrize(
    "command", ["touch {0} |", "| touch {0}", "sph2pipe -f wav x.sph; touch {0}|"]
)
def test_kaldi_commands_are_refused_and_not_run(tmp_path: Path, command: str) -> None:
    trace = tmp_path / "trace"
    fill(tmp_path, wav_dot_scp=f"u1 {command.format(trace)}\n")
    with pytest.raises(ValueError, match=r"wav\.scp: u1 is a command .* commands are not run"):
        read(tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav_dot_scp": "u x.ark:17\n"}, "u names no file of its own"),
        ({"wav_dot_scp": "u\n"}, "u names no file of its own"),
        ({"wav_dot_scp": "u a.wav\nu b.wav\n"}, "line 2: u is there twice"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r 1\n"}, "not `recording start end`"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r 1 x\n"}, "not `recording start end`"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s q 1 2\n"}, "q is not in wav.scp"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r 2 1\n"}, "ends at 1.0 s and starts at 2.0"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r nan -1\n"}, "starts at nan"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r -3 -1\n"}, "starts at -3.0"),
        ({"wav_dot_scp": "r a.wav\n", "segments": "s r 1 inf\n"}, "ends at inf"),
    ],
)
def test_broken_kaldi_is_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(fill(tmp_path, **files))
    with pytest.raises(ValueError, match=r"holds no wav\.scp"):
        read(fill(tmp_path / "empty", x=""), "kaldi")
