"""Segments out to other tools, and back."""

import csv
import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from speechssl import annotations
from speechssl.annotations.eaf_writing import write_eaf
from speechssl.cli import main
from speechssl.data.manifest import read_manifest
from speechssl.desk import corrections
from speechssl.desk.corrections import CorrectedSegment, Corrections, SpokenWord
from speechssl.desk.exchange import read_table, resegmented, take, write_formats
from speechssl.desk.labels import audio_digest, checked_in, error_rate, to_manifest
from speechssl.desk.queue import QueueItem

WORDS = (SpokenWord("abe", 0.1, 0.4, 0.5), SpokenWord("cid", 0.5, 0.9, 0.9))


@pytest.fixture
def desk(record, tmp_path) -> Path:
    """Two segments of `a.wav` and one of `b.wav`."""
    folder = tmp_path / "desk"
    for name, spans in {"a": (0.0, 1.0, 2.0), "b": (0.0, 1.0)}.items():
        path = record(f"{name}.wav", 2.0)
        segments = tuple(
            CorrectedSegment(
                f"s{n}", start, end, "abe cid", "abe cid", 0.7, WORDS if not n else (), "ada"
            )
            for n, (start, end) in enumerate(pairwise(spans))
        )
        made = Corrections(path, audio_digest(path), segments)
        corrections.write(folder / f"{name}.corrections.json", made, "")
    return folder


def items(desk: Path) -> list[QueueItem]:
    found = []
    for path in reversed(corrections.find(desk)):
        made = corrections.read(path)
        found += [
            QueueItem(path.name, s.id, made.audio, s.start_s, s.end_s, s.hypothesis, s.confidence)
            for s in made.segments
        ]
    return found


def segments(desk: Path, name: str) -> list[CorrectedSegment]:
    return list(corrections.read(desk / f"{name}.corrections.json").segments)


def edit_table(path: Path, edits: dict[tuple[str, str], tuple[str, str]], delimiter=",") -> None:
    """Texts and marks by (recording, segment), as a spreadsheet saves them."""
    rows = [row for _, row in read_table(path)]
    for row in rows:
        key = (row["corrections"].split(".")[0], row["segment"])
        row["text"], row["checked"] = edits.get(key, (row["text"], row["checked"]))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_goes_out_and_comes_back(delimiter, desk):
    (path,) = write_formats(desk, items(desk), ["csv"])
    assert path.read_bytes().startswith(b"\xef\xbb\xbfcorrections,segment,audio,")
    assert [row["audio"] for _, row in read_table(path)] == ["b.wav", "a.wav", "a.wav"]
    edits = {
        ("a", "s0"): ('abé; "cid"', "x"),
        ("a", "s1"): ("draft", ""),
        ("b", "s0"): ("abe cid", "1"),
    }
    edit_table(path, edits, delimiter)
    taken = take(desk, path, "ada")
    assert (taken.num_checked, taken.num_changed, taken.num_open) == (2, 1, 1)
    first, second = segments(desk, "a")
    assert (first.text, first.checked, first.editor) == ('abé; "cid"', True, "ada")
    assert (first.hypothesis, first.words) == ("abe cid", WORDS)
    assert (second.text, second.checked, second.editor) == ("draft", False, "ada")
    assert segments(desk, "b")[0].is_label
    before = (desk / "a.corrections.json").read_bytes()
    take(desk, path, "eva")  # again: nothing is new
    assert (desk / "a.corrections.json").read_bytes() == before


@pytest.mark.parametrize(
    ("rule", "labels"), [("marked", ["s1"]), ("changed", ["s0"]), ("all", ["s0", "s1"])]
)
def test_what_counts_as_checked(rule, labels, desk):
    (path,) = write_formats(desk, items(desk), ["csv"])
    edit_table(path, {("a", "s0"): ("mended", "no"), ("a", "s1"): ("abe  cid", "x")})
    take(desk, path, "ada", rule)
    assert [s.id for s in segments(desk, "a") if s.is_label] == labels


def test_another_spelling_of_the_same_letters_is_no_change(desk):
    made = corrections.read(desk / "b.corrections.json")
    (segment,) = made.segments
    segment = replace(segment, hypothesis="é", text="é")
    corrections.write(desk / "b.corrections.json", replace(made, segments=(segment,)), made.digest)
    (path,) = write_formats(desk, items(desk), ["csv"])
    edit_table(path, {("b", "s0"): ("e\u0301", "")})
    taken = take(desk, path, "ada", "changed")
    assert (taken.num_checked, taken.num_open) == (0, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("b.corrections.json", "../b.corrections.json"), "which are not in"),
        (("b.corrections.json", "x.corrections.json"), "which are not in"),
        (("s1", "s7"), "line 4: there is no segment 's7'"),
        (("segment", "part"), "has not the columns"),
    ],
)
def test_a_table_of_something_else_is_refused(change, said, desk):
    (path,) = write_formats(desk, items(desk), ["csv"])
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        take(desk, path, "ada", "all")


def test_files_in_which_somebody_may_work_are_not_overwritten(desk):
    write_formats(desk, items(desk), ["srt"])
    (desk / "a.srt").write_text("mine")
    with pytest.raises(FileExistsError, match="2 files for correction are there"):
        write_formats(desk, items(desk), ["csv", "srt"])
    assert (desk / "a.srt").read_text() == "mine"
    assert not (desk / "corrections.csv").exists()


def test_subtitles_come_back_and_cannot_say_what_was_checked(desk):
    write_formats(desk, items(desk), ["srt"])
    path = desk / "a.srt"
    assert path.read_text().startswith("1\n00:00:00,000 --> 00:00:01,000\nabe cid\n")
    pytest.importorskip("pysubs2")
    path.write_text(path.read_text().replace("abe cid", "mended", 1))
    with pytest.raises(ValueError, match="give --checked all or changed"):
        take(desk, path, "ada")
    taken = take(desk, path, "ada", "changed")
    assert (taken.num_checked, taken.num_open) == (1, 1)
    assert [s.text for s in segments(desk, "a")] == ["mended", "abe cid"]


def elan(path: Path, texts, marks) -> None:
    """As ELAN would write it."""
    tiers = [("transcript", texts), ("checked", marks), ("notes", [(0.0, 0.1, "x")])]
    made = tuple(
        annotations.Tier(name, tuple(annotations.Segment(*each) for each in rows))
        for name, rows in tiers
    )
    path.write_text(write_eaf(annotations.Annotations(made)), encoding="utf-8")


def test_elan_goes_out_and_comes_back_with_the_marks(desk):
    write_formats(desk, items(desk), ["eaf"])
    pytest.importorskip("pympi")
    found = annotations.read(desk / "a.eaf")
    assert [tier.name for tier in found.tiers] == ["transcript", "checked"]
    assert found.media[0].places[-1].endswith("a.wav") or "a.wav" in str(found.media)
    elan(
        desk / "a.eaf",
        [(0.0, 1.0, "mended"), (1.0, 2.0, "abe cid")],
        [(0.0, 1.0, ""), (1.0, 2.0, "ok")],
    )
    taken = take(desk, desk / "a.eaf", "ada")
    assert (taken.num_checked, taken.num_changed, taken.num_open) == (1, 0, 1)
    first, second = segments(desk, "a")
    assert (first.text, first.is_label) == ("mended", False)
    assert (second.text, second.is_label) == ("abe cid", True)


def test_a_segment_that_was_split_keeps_what_the_model_gave_of_each_part(desk):
    pytest.importorskip("pympi")
    path = desk / "a.eaf"
    elan(path, [(0.0, 0.45, "abé"), (0.45, 1.0, "kid"), (1.0, 2.0, "x")], [(0.0, 2.0, "x")])
    take(desk, path, "ada", "all")
    found = segments(desk, "a")
    assert [(s.hypothesis, s.text) for s in found] == [
        ("abe", "abé"),
        ("cid", "kid"),
        ("abe cid", "x"),
    ]
    assert len({s.id for s in found}) == 3
    assert [s.speaker for s in found] == ["ada"] * 3


def test_segments_that_were_joined_are_one(desk):
    pytest.importorskip("pympi")
    path = desk / "a.eaf"
    elan(path, [(0.0, 2.0, "all of it")], [(0.0, 2.0, "x")])
    take(desk, path, "ada", "marked")
    (segment,) = segments(desk, "a")
    assert (segment.start_s, segment.end_s, segment.text) == (0.0, 2.0, "all of it")
    assert segment.is_label
    assert segment.hypothesis == "abe cid abe cid"


def test_a_new_segment_where_there_was_none_has_no_hypothesis():
    made = resegmented((), 3.0, 4.0)
    assert (made.hypothesis, made.words, made.confidence) == ("", (), 0.0)


def test_a_file_of_nothing_here_is_refused(desk, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        take(desk, tmp_path / "a.eaf", "ada")
    (tmp_path / "c.eaf").write_text("x")
    with pytest.raises(ValueError, match="is of no recording in"):
        take(desk, tmp_path / "c.eaf", "ada")


# --- the command ----------------------------------------------------------------------------------


def test_the_command_takes_scores_and_writes_labels(desk, capsys):
    (path,) = write_formats(desk, items(desk), ["csv"])
    edit_table(path, {("a", "s0"): ("abe cit", "x"), ("b", "s0"): ("", "x")})
    assert main(["correct", str(desk), "--take", str(path), "--editor", "ada"]) == 0
    out = capsys.readouterr().out
    assert "Taken over as ada: 2 checked segments, 2 of them with another text" in out
    assert "2 of 3 segments are checked: 1 labels, 0.0 minutes; in 1 nothing is said." in out
    assert "no estimate for other recordings" in out
    (label,) = read_manifest(desk / "labels.jsonl")
    assert (label.id, label.text, label.speaker) == ("a-s0", "abe cit", "ada")
    assert (label.start_s, label.duration_s) == (0.0, 1.0)
    # 1 substitution, and the 7 characters of what was said to be nothing
    assert error_rate(checked_in(desk)).cer == pytest.approx(8 / 7)


def test_nothing_that_nobody_checked_is_a_label(desk, capsys):
    assert main(["correct", str(desk)]) == 2
    assert "None of the 3 segments" in capsys.readouterr().err
    assert not (desk / "labels.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.unlink(), "is not there"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2]), "is another recording"),
    ],
)
def test_a_recording_that_is_gone_or_another_is_told(change, said, desk, tmp_path):
    (path,) = write_formats(desk, items(desk), ["csv"])
    take(desk, path, "ada", "all")
    assert len(to_manifest(desk)) == 3
    change(tmp_path / "a.wav")
    with pytest.raises(ValueError, match=said):
        to_manifest(desk)


def test_labels_are_in_nfc_and_have_names_of_their_own(desk):
    (path,) = write_formats(desk, items(desk), ["csv"])
    edit_table(path, {("a", "s0"): (" e\u0301  x ", "x"), ("b", "s0"): ("y", "x")})
    take(desk, path, "ada")
    (desk / "sub").mkdir()
    made = corrections.read(desk / "b.corrections.json")
    corrections.write(desk / "sub" / "b.corrections.json", made, "")
    assert [(u.id, u.text) for u in to_manifest(desk)] == [
        ("a-s0", "é x"),
        ("b-s0", "y"),
        ("b-s0_2", "y"),
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nowhere"], "There is no folder nowhere"),
        (["DESK", "--out", "x.tsv"], "--out must end in .jsonl"),
        (["DESK", "--take", "x.csv"], "There is no file x.csv"),
    ],
)
def test_wrong_options_are_refused(given, said, desk, capsys):
    assert main(["correct", *(str(desk) if each == "DESK" else each for each in given)]) == 2
    assert said in capsys.readouterr().err
