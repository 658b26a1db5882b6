"""speechssl.data.layouts.join: a folder of recordings and a table that names some of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.layouts import Recording, join_table, read_folder, read_table
from tests.data.layouts.files import fill, put, read


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
    with pytest.raises(
        ValueError, match=r"has 2 rows for .*a\.wav; each needs a start_s and dur.*\(lines 2, 3\)"
    ):
        join_table(read_folder(tmp_path), read_table(tmp_path / "t.tsv"))


def test_all_files_with_rows_without_times_are_named(tmp_path: Path) -> None:
    rows = "".join(f"{name}.wav\t{i}\n" for i in range(2) for name in "abc")
    fill(tmp_path, a_dot_wav="", b_dot_wav="", c_dot_wav="", t_dot_tsv=f"path\ttext\n{rows}")
    with pytest.raises(
        ValueError, match=r"(?s)a\.wav.*\(lines 2, 5\).*b\.wav.*c\.wav.*\(lines 4, 7"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [
        (["x/a.wav", "y/b.wav"], "a.wav", "x/a"),
        (["x/a.wav", "y/b.wav"], "a", "x/a"),
        (["x/a.wav", "y/a.wav"], "a.wav", None),  # which of them?
        (["a.wav", "y/a.wav"], "a.wav", "a"),
        (["x/a.wav", "y/b.wav"], "z/a.wav", None),
    ],
)
def test_a_name_without_its_folder_is_enough_where_no_other_has_it(
    tmp_path: Path, files: list[str], name: str, found: str | None
) -> None:
    put(tmp_path, dict.fromkeys(files, "") | {"t.tsv": f"path\ttext\n{name}\tyes\n"})
    assert [r.id for r in read(tmp_path) if r.text and r.audio.is_file()] == [found] * bool(found)


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


@pytest.mark.parametrize("row", ["a.wav\tx\t\t\t\t", "a.wav\tx\t1\t2\t\t"])
def test_a_text_file_is_not_read_where_the_table_has_the_text(tmp_path: Path, row: str) -> None:
    fill(tmp_path, a_dot_wav="", b_dot_wav="", b_dot_txt="yes", t_dot_tsv=f"{HEADER}{row}\n")
    (tmp_path / "a.txt").write_bytes("žluť".encode("cp1250"))
    assert [r.text for r in read(tmp_path)] == [row.split("\t")[1], "yes"]
    for no_text in ("path\tspeaker\na.wav\tann\n", f"{HEADER}a.wav\t\t\t\t\t\n"):
        fill(tmp_path, t_dot_tsv=no_text)
        with pytest.raises(ValueError, match=r"a\.txt is not UTF-8"):
            read(tmp_path)
