"""speechssl.data.layouts.source: what a source is taken for, and what is refused."""

from pathlib import Path

import pytest

from speechssl.data.layouts import detect_layout
from tests.data.layouts.files import fill, read


def test_nothing_there(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere", "folder")
    with pytest.raises(ValueError, match="'sphinx' is none of auto, folder"):
        read(tmp_path, "sphinx")


def test_a_manifest_is_not_prepared_again(tmp_path: Path) -> None:
    fill(tmp_path, train_dot_jsonl="{}")
    with pytest.raises(ValueError, match="is a manifest already"):
        detect_layout(tmp_path / "train.jsonl")
