"""The files of a desk: whatever they hold, they are read, or what is wrong is named."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, Corrections, SpokenWord
from speechssl.desk.exchange import read_table, to_table
from speechssl.desk.queue import QueueItem, listing, read_queue
from tests.fuzz.damage import damaged, odd_json

SEGMENT = CorrectedSegment(
    "s1", 0.5, 1.5, "wó", "wó twεrε", 0.5, (SpokenWord("wó", 0.6, 0.9, 0.5),), "ada", True
)
ROW = asdict(replace(SEGMENT, editor="eva", time="2026-01-31T12:00:00+00:00"))
FILE = {"format": 1, "audio": "wav/a.wav", "audio_sha256": "0" * 64, "segments": [ROW]}
ITEM = asdict(QueueItem("a.corrections.json", "s1", Path("a.wav"), 0.5, 1.5, "wó", 0.5))
ITEM["audio"] = "a.wav"


def refused(read, path: Path):
    """What is read, and '', or None and the sentence that refuses it."""
    try:
        return read(path), ""
    except ValueError as error:
        return None, str(error)


def are_read_or_refused(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    made, said = refused(corrections.read, path)
    if made is None:
        assert str(path) in said
        return
    other = path.with_name("again.corrections.json")
    corrections.write(other, made, corrections.digest(other))
    assert corrections.read(other) == made


@given(data=damaged(json.dumps(FILE, ensure_ascii=False).encode()))
def test_damaged_corrections_are_read_or_refused_by_name(data, tmp_path):
    are_read_or_refused(data, tmp_path / "x.corrections.json")


@given(row=odd_json(ROW), whole=odd_json(FILE), inside=st.booleans())
def test_odd_values_are_read_or_refused_by_name(row, whole, inside, tmp_path):
    data = {**FILE, "segments": [row]} if inside else whole
    are_read_or_refused(json.dumps(data).encode(), tmp_path / "x.corrections.json")


def a_queue_is_read_or_refused(data: bytes, folder: Path) -> None:
    (folder / "queue.jsonl").write_bytes(data)
    found, said = refused(read_queue, folder)
    if found is None:
        assert "queue.jsonl" in said
        return
    assert listing(found).count("\n") >= 2 * len(found)


@given(data=damaged((json.dumps(ITEM, ensure_ascii=False) + "\n").encode() * 2))
def test_a_damaged_queue_is_read_or_refused_by_line(data, tmp_path):
    a_queue_is_read_or_refused(data, tmp_path)


@given(row=odd_json(ITEM))
def test_odd_items_are_read_or_refused_by_line(row, tmp_path):
    a_queue_is_read_or_refused(json.dumps(row).encode() + b"\n", tmp_path)


TABLE = to_table(
    {"a.corrections.json": Corrections(Path("a.wav"), "", (SEGMENT,))},
    [("a.corrections.json", "s1")] * 3,
)


@given(data=damaged(TABLE.encode()))
def test_a_damaged_table_is_read_or_refused_by_name(data, tmp_path):
    path = tmp_path / "corrections.csv"
    path.write_bytes(data)
    found, said = refused(read_table, path)
    if found is None:
        assert str(path) in said
        return
    assert all(isinstance(cell, str) for _, row in found for cell in row.values())
