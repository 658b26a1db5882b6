"""Recordings of a folder."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from speechssl import audio
from speechssl.audio import listing


def test_lists_recordings_sorted_and_not_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.WAV", "a/c.opus", "a/.hidden.wav", ".git/x.wav", "a/notes.txt", "d.m4a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in audio.list_audio(tmp_path)]
    assert found == ["a/c.opus", "b.WAV", "d.m4a"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        audio.list_audio(tmp_path / "nowhere")


def test_folders_that_several_links_lead_to_are_listed_once(tmp_path: Path) -> None:
    for name in ("in/b/1.wav", "in/a/2.wav", "else/3.wav"):
        audio.write(tmp_path / name, np.zeros(160), 16000)
    (tmp_path / "in/a/up").symlink_to("..")
    (tmp_path / "in/a/other").symlink_to(tmp_path / "in/b")
    (tmp_path / "in/far").symlink_to(tmp_path / "else")
    (tmp_path / "else/back").symlink_to(tmp_path / "in")
    found = [path.relative_to(tmp_path).as_posix() for path in audio.list_audio(tmp_path / "in")]
    assert found == ["in/a/2.wav", "in/b/1.wav", "in/far/3.wav"]
    (tmp_path / "link").symlink_to("in")
    assert audio.list_audio(tmp_path / "link")[0] == tmp_path / "link/a/2.wav"


def test_folders_without_numbers_are_all_walked(tmp_path, monkeypatch):
    """Some network drives give every folder the number 0."""
    for name in ("a", "b/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.wav").touch()
    real = os.stat

    def stat(path, **named):
        found = real(path, **named)
        return os.stat_result((found[0], 0, 0, *found[3:10]))

    monkeypatch.setattr(listing, "os", SimpleNamespace(walk=os.walk, stat=stat, path=os.path))
    found = [(Path(folder).name, names) for folder, names in listing.walk(tmp_path)]
    assert found == [(tmp_path.name, []), ("a", ["x.wav"]), ("b", []), ("c", ["x.wav"])]
