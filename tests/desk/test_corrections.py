"""Files of corrections: what is kept, who may write, and what is refused."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from speechssl.desk import corrections
from speechssl.desk.corrections import (
    ChangedMeanwhile,
    CorrectedSegment,
    Corrections,
    SpokenWord,
    checked,
    from_json,
    same_text,
)

WORD = SpokenWord("abe", 0.1, 0.4, 0.25)
SEGMENT = CorrectedSegment("s1", 0.0, 1.5, "abe", "abe", 0.25, (WORD,), "ada", model_digest="m")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def desk(tmp_path):
    folder = tmp_path / "desk"
    made = Corrections(tmp_path / "in" / "a.wav", "0" * 64, (SEGMENT,))
    corrections.write(folder / "a.corrections.json", made, "")
    return folder / "a.corrections.json"


def test_what_was_written_is_read(desk, tmp_path):
    made = corrections.read(desk)
    assert made.segments == (SEGMENT,)
    assert made.audio == tmp_path / "in" / "a.wav"
    assert json.loads(desk.read_text())["audio"] == "../in/a.wav"
    assert made.digest == corrections.digest(desk)
    moved = tmp_path / "elsewhere"  # the desk and its recordings together
    moved.mkdir()
    desk.parent.rename(moved / "desk")
    assert corrections.read(moved / "desk" / desk.name).audio == moved / "in" / "a.wav"


def test_original_hypothesis_editor_time_and_model_are_kept(desk):
    made = corrections.read(desk)
    mended = checked(made.segments[0], "àbé", "eva", NOON)
    corrections.write(desk, replace(made, segments=(mended,)), made.digest)
    (segment,) = corrections.read(desk).segments
    assert (segment.hypothesis, segment.text) == ("abe", "àbé")
    assert (segment.editor, segment.time) == ("eva", "2026-01-31T12:00:00+00:00")
    assert (segment.model_digest, segment.words) == ("m", (WORD,))
    assert segment.is_label
    assert segment.is_changed


def test_of_two_who_correct_one_file_the_second_is_told(desk):
    first, second = corrections.read(desk), corrections.read(desk)
    theirs = checked(first.segments[0], "abé", "ada", NOON)
    corrections.write(desk, replace(first, segments=(theirs,)), first.digest)
    with pytest.raises(ChangedMeanwhile, match=r"by ada at 2026-01-31T12:00:00\+00:00 since"):
        corrections.write(desk, second, second.digest)
    assert corrections.read(desk).segments == (theirs,)


@pytest.mark.parametrize("expected", ["", None, "0" * 64])
def test_a_file_that_nobody_looked_at_is_not_overwritten(desk, expected):
    before = desk.read_bytes()
    with pytest.raises(ChangedMeanwhile):
        corrections.write(desk, corrections.read(desk), expected)
    assert desk.read_bytes() == before


def test_a_file_that_is_gone_is_told(desk):
    made = corrections.read(desk)
    desk.unlink()
    with pytest.raises(ChangedMeanwhile, match="gone since"):
        corrections.write(desk, made, made.digest)


@pytest.mark.parametrize(
    ("text", "is_checked", "is_label"),
    [("abe", False, False), ("abe", True, True), ("", True, False), ("\u200b ", True, False)],
)
def test_only_what_was_checked_and_says_something_is_a_label(text, is_checked, is_label):
    assert replace(SEGMENT, text=text, checked=is_checked).is_label is is_label


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("e\u0301", "é", True),
        (" a  b ", "a b", True),
        ("ɛ\u0301", "ɛ\u0301", True),
        ("\u1100\u1161", "가", True),
        ("e", "é", False),
        ("a", "A", False),
    ],
)
def test_texts_are_compared_in_nfc(a, b, same):
    assert same_text(a, b) is same
    assert replace(SEGMENT, hypothesis=a, text=b).is_changed is not same


ROW = {"id": "x", "start_s": 0, "end_s": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 1"),
        ({"audio": ""}, "audio must name"),
        ({"segments": {}}, "segments must be a list"),
        ({"comment": "x"}, "comment is no field"),
        ({"segments": [ROW | {"end_s": 0}]}, "start_s 0 must lie before end_s 0"),
        ({"segments": [ROW, ROW]}, "segment 2: id 'x' is empty or there already"),
        ({"segments": [ROW | {"id": "e\u0301"}, ROW | {"id": "é"}]}, "there already"),
        ({"segments": [ROW | {"start_s": "0"}]}, "start_s must be a number"),
        ({"segments": [ROW | {"end_s": float("nan")}]}, "end_s must be a number"),
        ({"segments": [ROW | {"confidence": 1.5}]}, "confidence must be a number from 0 to 1"),
        ({"segments": [ROW | {"checked": "yes"}]}, "checked must be true or false"),
        ({"segments": [ROW | {"time": "yesterday"}]}, "ISO 8601"),
        ({"segments": [ROW | {"time": "2026-01-31T12:00:00"}]}, "with a zone"),
        ({"segments": [ROW | {"words": [{"text": 1}]}]}, "segment 1, word 1: text must be"),
        ({"segments": [ROW | {"start_s": 0.5}, ROW | {"id": "y"}]}, "in the order"),
    ],
)
def test_a_broken_file_is_refused_by_segment_and_field(change, said, tmp_path):
    data = {"format": 1, "audio": "a.wav", "audio_sha256": "", "segments": [ROW]} | change
    with pytest.raises(ValueError, match=said):
        from_json(data, "x.corrections.json", tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"3"])
def test_what_is_no_json_is_refused_by_name(content, tmp_path):
    path = tmp_path / "a.corrections.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.corrections\.json holds no"):
        corrections.read(path)
