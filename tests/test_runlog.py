"""Reading metrics.jsonl."""

import json

import pytest

from speechssl.cli import main
from speechssl.runlog import check_metrics, read_metrics


def write(folder, *lines):
    (folder / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"step": 2, "loss/ctc": "low"}', "'loss/ctc' must be a number, got \"low\""),
        (b'{"step": "two", "loss/ctc": 1}', "'step' must be a number, got \"two\""),
        (b'{"step": 2, "time_s": "1:30"}', "'time_s' must be a number, got \"1:30\""),
        (b'{"step": 2, "valid/cer": null}', "'valid/cer' must be a number, got null"),
        (b'{"step": 2, "valid/cer": true}', "'valid/cer' must be a number, got true"),
        (b'{"step": 2, "valid": {"cer": 1}}', "'valid' must be a number, got {"),
        (b'{"step": 2, "codes/targets": [1, "2"]}', "'codes/targets' must be a number"),
        (b'{"step": [2]}', "'step' must be a number"),
        (b'{"step": 2, "lr": 1' + b"0" * 400 + b"}", "'lr' must be a number, got 1000"),
    ],
)
def test_what_is_no_number_is_named_with_its_line(line, found, tmp_path, capsys):
    write(tmp_path, b'{"step": 1, "loss/ctc": 2.0}', line)
    with pytest.raises(ValueError, match="line 2: ") as error:
        check_metrics(tmp_path)
    assert found in str(error.value)
    assert str(tmp_path / "metrics.jsonl") in str(error.value)
    assert main(["doctor", str(tmp_path)]) == 2
    assert found in capsys.readouterr().err


def test_numbers_lists_and_infinities_are_read(tmp_path):
    record = {"step": 1, "time_s": 0.5, "loss/ctc": float("inf"), "codes/targets": [0, 3]}
    write(tmp_path, json.dumps(record).encode())
    assert read_metrics(tmp_path) == [record]
    check_metrics(tmp_path)
