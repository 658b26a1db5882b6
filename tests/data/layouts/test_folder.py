"""speechssl.data.layouts.folder: bare folders of recordings."""

from pathlib import Path

import pytest

from speechssl.data.layouts import Recording, detect_layout
from tests.data.layouts.files import fill, read


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


def test_a_transcript_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    fill(tmp_path, a_dot_wav="")
    (tmp_path / "a.txt").write_bytes("žluťoučký".encode("cp1250"))
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8"):
        read(tmp_path)
