"""speechssl.data.layouts.recording: the names of splits."""

import pytest

from speechssl.data.layouts import split_name


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
