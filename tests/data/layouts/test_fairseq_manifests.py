"""speechssl.data.layouts.fairseq: manifests with their texts."""

import os
from pathlib import Path

import pytest

from speechssl.data.layouts import Recording, detect_layout
from tests.data.layouts.files import fill, put, read


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


def test_a_folder_of_another_machine(tmp_path: Path) -> None:
    for root in ("/data/corpus", "C:\\data\\corpus", "/" + "9" * 5000):
        put(tmp_path, {"a/1.wav": "", "train.tsv": f"{root}\na/1.wav\t9\na\\2.wav\t9\n"})
        found = read(tmp_path)
        assert (found[0].id, found[0].audio) == ("a/1", tmp_path / "a" / "1.wav")
        assert (found[1].id, os.path.isfile(found[1].audio)) == ("a/2", False)
