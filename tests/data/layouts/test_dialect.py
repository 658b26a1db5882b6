"""speechssl.data.layouts.dialect: one content, written as many programs write it."""

from pathlib import Path

import pytest

from speechssl.data.layouts import read_table
from tests.data.layouts.files import put, read, unused

WANTED = [("a", 'she said "yes", twice', 1.5), ("b", "no", 0.0)]

QUOTED = '"she said ""yes"", twice"'

DIALECTS: dict[str, tuple[str, str | bytes]] = {
    "csv": ("t.csv", f"path,text,start_s\na.wav,{QUOTED},1.5\nb.wav,no,\n"),
    "csv with CR LF": ("t.csv", f"path,text,start_s\r\na.wav,{QUOTED},1.5\r\nb.wav,no,\r\n"),
    "csv with CR": ("t.csv", f"path,text,start_s\ra.wav,{QUOTED},1.5\rb.wav,no,\r"),
    "csv with a mark": ("t.csv", f"\ufeffpath,text,start_s\na.wav,{QUOTED},1.5\nb.wav,no,"),
    "Excel, German": (
        "t.csv",
        f"sep=;\r\npath;text;start_s\r\na.wav;{QUOTED};1,5\r\nb.wav;no;\r\n",
    ),
    "semicolons": ("t.csv", f"path;text;start_s\na.wav;{QUOTED};1,5\nb.wav;no;\n"),
    "bars": ("t.csv", 'path|text|start_s\na.wav|she said "yes", twice|1.5\nb.wav|no|\n'),
    "empty rows": (
        "t.csv",
        f",,\n\npath,text,start_s\n,,\na.wav,{QUOTED},1.5\n , ,\nb.wav,no,\n,,\n",
    ),
    "empty columns": ("t.csv", f"path,text,start_s,,\na.wav,{QUOTED},1.5,,\nb.wav,no,,,\n"),
    "all quoted": ("t.csv", f'"path","text","start_s"\n"a.wav",{QUOTED},"1.5"\n"b.wav","no",""\n'),
    "R's write.csv": (
        "t.csv",
        f'"","path","text","start_s"\n"1","a.wav",{QUOTED},1.5\n"2","b.wav","no",NA\n',
    ),
    "R's write.table": (
        "t.tsv",
        '"path"\t"text"\t"start_s"\n"1"\t"a.wav"\t"she said \\"yes\\", twice"\t1.5\n'
        '"2"\t"b.wav"\t"no"\tNA\n',
    ),
    "R without row names": (
        "t.tsv",
        f'"path"\t"text"\t"start_s"\n"a.wav"\t{QUOTED}\t1.5\n"b.wav"\t"no"\tNA\n',
    ),
    "R's write.table with spaces": (
        "t.txt",
        '"path" "text" "start_s"\n"1" "a.wav" "she said \\"yes\\", twice" 1.5\n'
        '"2" "b.wav" "no" NA\n',
    ),
    "all quoted between tabs": (
        "t.tsv",
        f'path\ttext\tstart_s\n"a.wav"\t{QUOTED}\t"1.5"\n"b.wav"\t"no"\t""\n',
    ),
    "row numbers": ("t.csv", f"path,text,start_s\n0,a.wav,{QUOTED},1.5\n1,b.wav,no,\n"),
    "pandas' index": ("t.csv", f",path,text,start_s\n0,a.wav,{QUOTED},1.5\n1,b.wav,no,\n"),
    "tabs": ("t.tsv", 'path\ttext\tstart_s\na.wav\tshe said "yes", twice\t1.5\nb.wav\tno\t\n'),
    "Excel's tabs": ("t.tsv", f"path\ttext\tstart_s\r\na.wav\t{QUOTED}\t1.5\r\nb.wav\tno\t\r\n"),
    "tabs in a .txt": ("t.txt", f"path\ttext\tstart_s\na.wav\t{QUOTED}\t1.5\nb.wav\tno\t\n"),
    "commas in a .tsv": ("t.tsv", f"path,text,start_s\na.wav,{QUOTED},1.5\nb.wav,no,\n"),
    "Excel's Unicode": (
        "t.txt",
        f"path\ttext\tstart_s\r\na.wav\t{QUOTED}\t1.5\r\nb.wav\tno\t\r\n".encode("utf-16"),
    ),
    "UTF-16 without a mark": (
        "t.csv",
        f"path,text,start_s\na.wav,{QUOTED},1.5\nb.wav,no,\n".encode("utf-16-be"),
    ),
    "UTF-32": ("t.csv", f"path,text,start_s\na.wav,{QUOTED},1.5\nb.wav,no,\n".encode("utf-32")),
    "two files joined": (
        "t.csv",
        f"\ufeffpath,text,start_s\na.wav,{QUOTED},1.5\n\ufeffpath,text,start_s\nb.wav,no,\n",
    ),
    "JSON lines": (
        "t.jsonl",
        '{"file_name": "a.wav", "text": "she said \\"yes\\", twice", "start_s": 1.5}\n\n'
        '{"text": "no", "file_name": "b.wav"}\n',
    ),
    "a JSON array": (
        "t.json",
        '[{"file_name": "a.wav", "text": "she said \\"yes\\", twice", "start_s": 1.5},\n'
        ' {"text": "no", "file_name": "b.wav", "start_s": null}]',
    ),
    "JSON by ids": (
        "t.json",
        '{"a": {"wav": "a.wav", "words": "she said \\"yes\\", twice", "start_s": 1.5},\n'
        '"b": {"wav": "b.wav", "words": "no"}}',
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_one_content_in_many_dialects(tmp_path: Path, dialect: str) -> None:
    name, content = DIALECTS[dialect]
    put(tmp_path, {name: content})
    assert [(r.id, r.text, r.start_s) for r in read(tmp_path / name)] == WANTED


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ('a.wav\t"yes, he said', '"yes, he said'),  # Common Voice: quotes are what was written
        ('a.wav\t"yes"', '"yes"'),
        ('a.wav\t"yes"\nb.wav\t5" and 7"', '"yes"'),
        ('a.wav\t"yes"\nb.wav\twell, no', '"yes"'),
        ('a.wav\t"yes, well"\nb.wav\tno', "yes, well"),  # Excel quotes what has a comma
        ('"a.wav"\t"yes"', "yes"),
        ('a.wav\t"one\ntwo"\nb.wav\tno', "one\ntwo"),
        ('a.wav\t"yes\nb.wav\tno"', '"yes'),  # two stray quotes hide no row
    ],
)
def test_quotes_between_tabs_are_those_of_a_program_or_of_the_text(
    tmp_path: Path, rows: str, wanted: str
) -> None:
    put(tmp_path, {"t.tsv": f"path\ttext\n{rows}\n"})
    found = read(tmp_path / "t.tsv")
    assert found[0].text == wanted
    assert len(found) == 1 + rows.count("b.wav")


def test_what_looks_like_a_word_for_nothing_is_a_word_but_in_r(tmp_path: Path) -> None:
    put(tmp_path, {"t.csv": "path,text\na.wav,NA\n", "r.csv": '"path","text"\n"a.wav",NA\n'})
    assert [r.text for r in read(tmp_path / "t.csv")] == ["NA"]
    assert [r.text for r in read(tmp_path / "r.csv")] == [""]


def test_backslashes_in_a_quoted_table_stay(tmp_path: Path) -> None:
    put(tmp_path, {"clips/a.wav": "", "t.csv": '"path","text"\n"clips\\a.wav","a\\b"\n'})
    (found,) = read(tmp_path / "t.csv")
    assert (found.audio, found.text) == (tmp_path / "clips" / "a.wav", "a\\b")


# ---- no header ----------------------------------------------------------------------------------


def test_ljspeech(tmp_path: Path) -> None:
    rows = 'LJ1|Printing, in 1 "sense|Printing, in one "sense\nLJ2|Dr. No|doctor no\nLJ3|a|b\n'
    put(tmp_path, {f"wavs/LJ{i}.wav": "" for i in (1, 2)} | {"metadata.csv": rows})
    assert [(r.id, r.text) for r in read(tmp_path)] == [
        ("wavs/LJ1", 'Printing, in one "sense'),
        ("wavs/LJ2", "doctor no"),
        ("LJ3", "b"),  # for `prepare` to name
    ]
    assert unused(tmp_path)["columns of metadata.csv"].first == "raw_text"


@pytest.mark.parametrize("sign", ",\t|;")
def test_a_table_of_two_columns_without_a_header(tmp_path: Path, sign: str) -> None:
    put(tmp_path, {"a.wav": "", "b.wav": "", "t.csv": f"a.wav{sign}oh yes\nb{sign}no way\n"})
    assert [(r.id, r.text) for r in read(tmp_path)] == [("a", "oh yes"), ("b", "no way")]
    assert not unused(tmp_path)


def test_columns_without_names_are_not_guessed(tmp_path: Path) -> None:
    put(tmp_path, {"a.wav": "", "t.csv": "a.wav|7|yes\n"})
    assert [r.text for r in read(tmp_path)] == [None]
    assert "needs a header with a column of paths" in unused(tmp_path)[".csv files"].advice
    with pytest.raises(
        ValueError, match=r"t\.csv has no column of paths.* it holds a\.wav, 7, yes"
    ):
        read_table(tmp_path / "t.csv")


# ---- what is wrong ------------------------------------------------------------------------------


def test_all_that_is_wrong_comes_at_once_with_its_lines(tmp_path: Path) -> None:
    rows = ["a.wav,x,,", "b.wav,x", ",x,,", "c.wav,x,soon,", "d.wav,x,,other", "e.wav,x,1,", ",,,"]
    put(tmp_path, {"t.csv": "path,text,start_s,split\n" + "\n".join(rows)})
    with pytest.raises(ValueError, match=r"t\.csv") as caught:
        read(tmp_path / "t.csv")
    assert str(caught.value).splitlines()[1:] == [
        "  line 3: 2 columns, but the header has 4.",
        "  line 4: the path is empty.",
        "  line 5: start_s is 'soon', not a number of seconds.",
        "  line 6: split 'other' is none of train, dev, test.",
    ]


def test_a_long_list_of_errors_is_cut(tmp_path: Path) -> None:
    put(tmp_path, {"t.csv": "path,text\n" + "a.wav\n" * 500})
    with pytest.raises(ValueError, match="has 500 lines that are wrong") as caught:
        read(tmp_path / "t.csv")
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1].strip() == "... and 480 more lines."


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        (["a.wav,yes", 'b.wav,"no', "c.wav,x", "d.wav,y"], [3]),  # to the end of the file
        (["a.wav,yes", 'b.wav,"no', "c.wav,x", 'd.wav,"y"'], [3]),  # to the next quote
        (["a.wav,yes", 'b.wav,"no', "c.wav,x", 'd.wav,y"'], [3]),  # that ends a cell
        (['a.wav,"yes', 'and yes"', 'b.wav,"no', "c.wav,x"], [4]),
        (["a.wav,yes", 'b.wav,"no', "c.wav", 'd.wav,"y'], [3, 4, 5]),
        (['a.wav,"x" y', 'b.wav,"z" y'], [2, 3]),
    ],
)
def test_the_line_of_a_quote_is_where_it_begins(
    tmp_path: Path, rows: list[str], lines: list[int]
) -> None:
    put(tmp_path, {"t.csv": "path,text\n" + "\n".join(rows)})
    with pytest.raises(ValueError, match=r"t\.csv") as caught:
        read(tmp_path / "t.csv")
    assert [line for line in range(9) if f"line {line}:" in str(caught.value)] == lines


def test_a_table_of_stray_quotes_is_refused_soon(tmp_path: Path) -> None:
    put(tmp_path, {"t.csv": "path,text\n" + 'a.wav,"x\n' * 3000})
    with pytest.raises(ValueError, match="a quote begins here and does not end"):
        read(tmp_path / "t.csv")


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    put(tmp_path, {"t.csv": "path,text,Text\na.wav,x,y\n"})
    with pytest.raises(ValueError, match=r"t\.csv has 2 columns named text"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"path": "a.wav", "text": "x"}\n{"path": \n', "line 2: not JSON"),
        ('{"path": "a.wav"}\n[1]\n3\n', "line 3: not a JSON object"),
        ('[{"path": "a.wav"},\n {"path": }]', "line 2: not JSON"),
        ('{"path": "a.wav", "n": ' + "[" * 20000 + "\n", "brackets too deep"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, content: str, words: str) -> None:
    put(tmp_path, {"t.jsonl": content})
    with pytest.raises(ValueError, match=rf"(?s)t\.jsonl.*{words}"):
        read(tmp_path / "t.jsonl")


@pytest.mark.parametrize("row", ['a.wav\t"no" he said', 'a.wav\t"x"y', '"a".wav\tyes'])
def test_a_quote_that_ends_inside_a_cell_is_told_in_words(tmp_path: Path, row: str) -> None:
    put(tmp_path, {"t.csv": f"path,text\nb.wav,no\n{row}\n".replace("\t", ",")})
    with pytest.raises(ValueError, match=r"line 3: a cell begins with a quote that ends before"):
        read(tmp_path / "t.csv")
