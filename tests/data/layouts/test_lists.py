"""speechssl.data.layouts.lists: lists of transcripts, and lists of other things."""

from pathlib import Path

import pytest

from tests.data.layouts.files import put, texts, unused


def test_lines_of_a_list_that_fit_no_recording_are_named(tmp_path: Path) -> None:
    put(tmp_path, {"a.wav": "", "b.wav": "", "all.txt": "a yes, so\nb no no\nc it may be\n\n"})
    assert texts(tmp_path) == {"a": "yes, so", "b": "no no"}
    assert (unused(tmp_path)["lines of all.txt"].first, len(unused(tmp_path))) == ("c", 1)
    put(tmp_path, {"x/a.wav": "", "y/a.wav": "", "all.txt": "a yes, so\nb no no\n"})
    (tmp_path / "a.wav").unlink()
    assert texts(tmp_path) == {"x/a": None, "y/a": None, "b": "no no"}
    assert "several recordings" in unused(tmp_path)["lines of all.txt"].advice


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("utt2spk.txt", "a ann\nb ben\n"),
        ("durations.txt", "a 3.25\nb 4\n"),
        ("segments.txt", "a rec 0.0 1.5\nb rec 1.5 3.0\n"),
        ("segments.txt", "a\thttp://x/y\t1.5\t3\nb\thttp://x/z\t1\t2\n"),  # of MLS
        ("testing_list.txt", "a.wav\nb.wav\n"),  # of Speech Commands
        ("origins.txt", "a /data/in/a.mp3 64k\nb /data/in/b.mp3 64k\n"),
        ("transcripts.txt", "a|yes|Yes.|3.5\nb|no|No.|2.5\n"),  # of CSS10
        ("files.txt", "x/a.wav yes it is\nx/b.wav no it is not\n"),  # in another folder
        ("utt2spk.tsv", "a\tann\nb\tben\n"),
        ("lengths.csv", "a.wav,3.25\nb.wav,4\n"),
    ],
)
def test_lists_of_other_things_are_no_transcripts(tmp_path: Path, name: str, content: str) -> None:
    put(tmp_path, {"a.wav": "", "b.wav": "", name: content})
    assert texts(tmp_path) == {"a": None, "b": None}
    assert [item.first for item in unused(tmp_path).values()] == [name]


def test_of_two_lists_the_one_named_after_texts_is_taken(tmp_path: Path) -> None:
    put(tmp_path, {"a.wav": "", "all.txt": "a from the book", "transcripts.txt": "a yes it is"})
    assert texts(tmp_path) == {"a": "yes it is"}
    assert "another list" in unused(tmp_path)["lines of all.txt"].advice
