"""Alignments are readable in a monospaced font."""

from speechssl.scoring.alignment import format_alignment


def test_alignment_is_monospaced() -> None:
    text = format_alignment("wó twεrε ya poo ka", "wó tere poo ka ee")
    assert text.splitlines() == [
        "REF: wó twεrε ya poo ka **",
        "HYP: wó tere  ** poo ka ee",
        "        S     D         I",
    ]


def test_alignment_counts_columns_not_code_points() -> None:
    combining, wide = "ɛ\u0301a", "你好"
    lines = format_alignment(f"{combining} {wide} z", "bbbb x z").splitlines()
    assert lines[0] == f"REF: {combining}   {wide} z"
    assert lines[1] == "HYP: bbbb x    z"


def test_alignment_without_errors_or_without_words() -> None:
    assert format_alignment("a b", " a  b ") == "REF: a b\nHYP: a b"
    assert format_alignment("", "a bc") == "REF: * **\nHYP: a bc\n     I I"
    assert format_alignment("a", "") == "REF: a\nHYP: *\n     D"
    assert format_alignment("", "") == "REF:\nHYP:"


def test_long_alignments_wrap_and_lose_nothing() -> None:
    reference = " ".join(f"word{i}" for i in range(30)) + " " + "x" * 60
    text = format_alignment(reference, reference.replace("word7 ", ""), width=40)
    blocks = text.split("\n\n")
    assert len(blocks) > 3
    assert " ".join(b.splitlines()[0].removeprefix("REF: ") for b in blocks) == reference
    lines = text.splitlines()
    assert max(len(line) for line in lines if "xxx" not in line) <= 40
