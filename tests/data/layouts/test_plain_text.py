"""speechssl.data.layouts.plain_text: encodings that are read, and those that are refused."""

from pathlib import Path

import pytest

from speechssl.data.layouts.plain_text import Problems, read_lines, read_text

PATH = Path("x.txt")


@pytest.mark.parametrize("text", ["yes", "wó twεrε", "да, нет", "はい"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", ""),
        ("utf-8", "\ufeff"),
        ("utf-16-le", "\ufeff"),
        ("utf-16-be", "\ufeff"),
        ("utf-32-le", "\ufeff"),
        ("utf-32-be", "\ufeff"),
    ],
)
def test_unicode_is_read_in_any_form(tmp_path: Path, text: str, encoding: str, mark: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(f"{mark}{text}\r\n{mark}{text}\r".encode(encoding))
    assert read_lines(path) == [text, text]
    assert read_text(path) == f"{text}\n{text}"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("café\n".encode("latin-1"), "byte 0xe9 in line 1 .* would be 'café'"),
        ("a\nb\nl'été dit".encode("cp1252"), 'line 3 .* would be "l\'été"'),
        ("да".encode("cp1251"), "byte 0xe4 in line 1"),
        ("žluť".encode("cp1250"), "Windows-1250, Windows-1251 or another"),
        ("дом стоит".encode("utf-16-le"), "may be UTF-16 without a byte order mark"),
        ("ab".encode("utf-16") + b"\0", "text in UTF-16"),
        (bytes(range(32)) * 9, "full of control characters"),
    ],
)
def test_other_encodings_are_refused_by_name(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"x\.txt is not .*{words}"):
        read_text(path)


def test_a_stray_control_character_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"yes \x02 and a long sentence that goes with it\x1a")
    assert read_text(path).startswith("yes \x02")


def test_problems_are_in_the_order_of_the_lines() -> None:
    problems = Problems(PATH)
    problems.raise_if_any()
    problems.add(7, "b")
    with pytest.raises(ValueError, match=r"^x\.txt, line 7: b\.$"):
        problems.raise_if_any()
    problems.add(3, "a")
    with pytest.raises(ValueError, match=r"(?s)x\.txt has 2 lines .*line 3: a\.\n  line 7: b\.$"):
        problems.raise_if_any()
