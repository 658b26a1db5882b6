"""speechssl.data.layouts.annotated: recordings with files of annotations."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.annotations import TierChoice
from speechssl.cli import main
from speechssl.data.layouts import Recording, detect_layout, read_source
from tests.annotations.eafs import FULL, TWO, small
from tests.data.layouts.files import put

pytestmark = pytest.mark.extras

Record = Callable[..., Path]


def parts(found: list[Recording]) -> list[tuple[str, str, float, float | None, str | None]]:
    return [(r.id, r.audio.name, r.start_s, r.duration_s, r.text) for r in found if r.text]


def said(source: Path, **choice: tuple[str, ...]) -> dict[str, str]:
    return {u.kind: str(u) for u in read_source(source, tiers=TierChoice(**choice)).unused}


ONE = {"A": [(0.5, 1.5, "one two"), (2.0, 3.0, ""), (3.0, 4.0, "three")]}
TEXTGRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n4\n<exists>\n1\n"IntervalTier"\n'
    '"A"\n0\n4\n2\n0\n1.5\n"one"\n1.5\n4\n"two"\n'
)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.eaf", small(ONE), [("a@0.500", 1.0, "one two"), ("a@3.000", 1.0, "three")]),
        (
            "a.wav.annotations.eaf",
            small(ONE),
            [("a@0.500", 1.0, "one two"), ("a@3.000", 1.0, "three")],
        ),
        ("A.EAF", small(ONE), [("a@0.500", 1.0, "one two"), ("a@3.000", 1.0, "three")]),
        (
            "other.eaf",
            small(ONE, media="file:///C:/x/a.wav"),
            [("a@0.500", 1.0, "one two"), ("a@3.000", 1.0, "three")],
        ),
        (
            "a.TextGrid",
            TEXTGRID.encode("utf-16"),
            [("a@0.000", 1.5, "one"), ("a@1.500", 2.5, "two")],
        ),
        (
            "a.srt",
            "1\n00:00:01,000 --> 00:00:02,500\n<i>hey</i>\nyou\n",
            [("a@1.000", 1.5, "hey you")],
        ),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.500\nhey\n", [("a@1.000", 1.5, "hey")]),
        ("a.txt", "1.0\t2.5\they\n", [("a@1.000", 1.5, "hey")]),
        ("a.labels.txt", "1.0\t2.5\they\n", [("a@1.000", 1.5, "hey")]),
        ("all.ctm", "a 1 1.0 0.5 he\na 1 1.6 0.4 you\n", [("a@1.000", 1.0, "he you")]),
        ("all.stm", "a 1 Ana 1.0 2.5 he you\n", [("a@1.000", 1.5, "he you")]),
        ("a.tsv", "start_s\tend_s\ttext\n1.0\t2.5\the you\n", [("a@1.000", 1.5, "he you")]),
        (
            "a.csv",
            "begin_ms;duration_ms;transcript\n1000;1500;he you\n",
            [("a@1.000", 1.5, "he you")],
        ),
        (
            "a.tsv",
            "Begin Time - ss.msec\tEnd Time - ss.msec\tTranscription\tPhrase Free "
            "Translation\n1.0\t2.5\the you\til\n",
            [("a@1.000", 1.5, "he you")],
        ),
        ("a.csv", "tmin,tier,text,tmax\n1.0,words,he,2.5\n", [("a@1.000", 1.5, "he")]),
        ("a.csv", "start,text\n0.5,he\n2.0,you\n", [("a@0.500", 1.5, "he")]),
    ],
)
def test_segments_of_every_format_are_utterances(
    record: Record, tmp_path: Path, name: str, content: str | bytes, expected: list[object]
) -> None:
    record("a.wav", 4.0)
    put(tmp_path, {name: content})
    source = read_source(tmp_path)
    assert source.layout == "annotations"
    assert [(i, d, t) for i, _, _, d, t in parts(source.recordings)] == expected
    # and what lies between them is there without a transcript
    covered = sorted((r.start_s, r.duration_s) for r in source.recordings)
    assert covered[0][0] == 0
    assert all(not r.is_whole for r in source.recordings)


def test_one_file_alone_is_a_source(record: Record, tmp_path: Path) -> None:
    record("a.wav", 4.0)
    record("b.wav", 4.0)
    put(tmp_path, {"a.eaf": small(ONE), "b.eaf": small(ONE)})
    for name in ("a.eaf", "a.wav"):
        found = read_source(tmp_path / name).recordings
        assert {r.audio.name for r in found} == {"a.wav"}
        assert [t for *_, t in parts(found)] == ["one two", "three"]


@pytest.mark.parametrize(
    "place", ["story.wav", "audio/story.wav", "deep/down/story.wav", "STORY.WAV"]
)
def test_a_recording_that_was_moved_is_found_by_its_name(
    record: Record, tmp_path: Path, place: str
) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    record(place, 5.0)
    put(tmp_path, {"notes/session 1.eaf" if "deep" in place else "session 1.eaf": FULL})
    found = read_source(tmp_path, tiers=TierChoice(names=("tx@O",))).recordings
    # the sound has a TIME_ORIGIN of 0.25 s, the video, which is not there, one of 0.5 s
    assert [(s, t) for _, _, s, _, t in parts(found)] == [
        (1.25, "wó twεrε"),
        (1.75, "ya <poo>"),
        (3.25, "obia"),
    ]
    assert {r.speaker for r in found} == {"Obia"}


def test_of_sound_and_video_of_one_session_one_is_taken(record: Record, tmp_path: Path) -> None:
    record("story.wav", 5.0)
    put(tmp_path, {"story.mp4": b"", "s.eaf": FULL})
    source = read_source(tmp_path, tiers=TierChoice(names=("tx@O",)))
    assert {r.audio.name for r in source.recordings} == {"story.wav"}
    assert "1 recording, story.mp4: they are of the same session as another one" in "\n".join(
        map(str, source.unused)
    )


def test_a_recording_that_is_nowhere_is_named(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, {"in/s.eaf": small(ONE, media="file:///D:/lost.mp4")})
    assert main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "1 .eaf file, s.eaf: the recording (the first: D:/lost.mp4) is neither where" in error
    record("in/b.wav", 1.0)
    assert ".eaf files" in said(tmp_path / "in")


def test_speakers_are_the_participants_and_may_overlap(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    record("in/a.wav", 4.0)
    both = small({"A": TWO["A"]}, PARTICIPANT="Ana").replace(
        "</TIER>",
        '</TIER><TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="B" PARTICIPANT="Bob"><ANNOTATION>'
        '<ALIGNABLE_ANNOTATION ANNOTATION_ID="a9" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts6">'
        "<ANNOTATION_VALUE>four</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>",
        1,
    )
    put(tmp_path, {"in/a.eaf": both})
    assert main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "note: 3 utterances overlap another one of their recording" in out
    rows = [
        json.loads(line)
        for split in (tmp_path / "out").glob("[td]*.jsonl")
        for line in split.read_text(encoding="utf-8").splitlines()
    ]
    found = {r["text"]: (r["speaker"], r["start_s"]) for r in rows if r.get("text")}
    assert found == {"one two": ("Ana", 0.5), "three": ("Ana", 2.0), "four": ("Bob", 0.5)}


def test_the_same_span_of_two_speakers_is_named(record: Record, tmp_path: Path) -> None:
    record("a.wav", 4.0)
    put(tmp_path, {"a.eaf": small({"x@A": [(1, 2, "yes")], "x@B": [(1, 2, "no")]})})
    found = read_source(tmp_path, tiers=TierChoice(names=("x@*",))).recordings
    assert {(r.speaker, r.text) for r in found if r.text} == {("A", "yes"), ("B", "no")}


def test_nothing_is_lost_silently(record: Record, tmp_path: Path) -> None:
    record("a.wav", 4.0)
    spans = {"A": [(0, 1, "in"), (1, 2, ""), (3, 6, "over"), (5, 6, "behind"), (3.0, 3.0, "none")]}
    put(tmp_path, {"a.eaf": small(spans)})
    source = read_source(tmp_path)
    assert [(s, d, t) for _, _, s, d, t in parts(source.recordings)] == [
        (0.0, 1.0, "in"),
        (3.0, 1.0, "over"),
    ]
    assert list(map(str, source.unused)) == [
        "1 segment without text, a.eaf at 1.000 s: they are taken as speech without transcript",
        "1 segment, a.eaf at 5.000 s 'behind': they lie behind the end, or before the beginning, "
        "of their recording",
        "1 segment, a.eaf at 3.000 s: they go beyond their recording, and are taken as far as it "
        "goes",
        "1 annotation, a.eaf: a5 'none': no place in time (the first: it ends at 3 s and starts at "
        "3 s)",
    ]


def test_broken_references_are_named(record: Record, tmp_path: Path) -> None:
    record("story.wav", 5.0)
    put(tmp_path, {"s.eaf": FULL.replace('TIME_SLOT_REF1="ts5"', 'TIME_SLOT_REF1="ts77"')})
    found = said(tmp_path, names=("tx@O",))
    assert found["annotations"] == (
        "1 annotation, s.eaf: a4 'obia': no place in time (the first: its time slot ts77 is not "
        "there)"
    )


def test_a_file_that_cannot_be_read_costs_that_one(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    record("in/a.wav", 4.0)
    record("in/b.wav", 4.0)
    put(tmp_path, {"in/a.eaf": small(ONE), "in/b.eaf": small(ONE)[:300]})
    source = read_source(tmp_path / "in")
    assert [t for *_, t in parts(source.recordings)] == ["one two", "three"]
    assert any(r.audio.name == "b.wav" and r.is_whole for r in source.recordings)
    (line,) = [str(u) for u in source.unused if "b.eaf" in str(u)]
    assert "1 .eaf file, b.eaf: is no file of ELAN that can be read: not well-formed XML" in line
    put(tmp_path, {"in/a.eaf": "<x/>"})  # now there is none
    assert main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a.eaf is no file of ELAN that can be read: it holds no tier" in error


def test_an_unclear_choice_lists_the_tiers_of_all_files(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        record(f"in/{name}.wav", 4.0)
    put(
        tmp_path,
        {
            "in/a.eaf": small(TWO),
            "in/b.eaf": small(TWO | {"C": [(0, 1, "cc")]}),
            "in/c.eaf": small(ONE),
        },
    )
    arguments = ["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        f"speechssl: {tmp_path}/in/a.eaf and 1 more file have several tiers that may be "
        "the transcripts: "
        "'A' (type 'default-lt', 2 texts, the first 'one two'); "
        "'B' (type 'default-lt', 1 text, the first 'four'); "
        "'C' (type 'default-lt', 1 text, the first 'cc'). "
        "Choose with --tier NAME (tx@* means all that begin with tx@) or --tier-type TYPE.\n"
    )
    assert main([*arguments, "--tier", "nobody"]) == 2
    assert (
        "a.eaf and 2 more files have no tier 'nobody': the tiers are 'A'" in capsys.readouterr().err
    )
    assert main([*arguments, "--tier", "B"]) == 0
    out = capsys.readouterr().out
    assert "not used: 1 .eaf file, c.eaf: no tier 'B' is in them, but 'A' (type" in out
    assert main([*arguments, "--tier-type", "default-lt"]) == 0
    assert main([*arguments, "--tiers", "saymore", "--tier", "A"]) == 2
    assert "give --tiers saymore without --tier" in capsys.readouterr().err


def test_a_choice_of_tiers_for_another_layout_is_refused(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    record("in/a.wav", 1.0)
    put(tmp_path, {"in/a.txt": "yes"})
    arguments = ["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--tier", "A"]
    assert main(arguments) == 2
    assert "the source is read as layout folder" in capsys.readouterr().err


def test_saymore_ignores_what_it_says(record: Record, tmp_path: Path) -> None:
    record("a.wav", 4.0)
    tiers = {
        "Transcription": [(0, 1, "yes"), (1, 2, "%ignore%")],
        "Phrase Free Translation": [(0, 1, "si")],
    }
    put(tmp_path, {"a.wav.annotations.eaf": small(tiers)})
    source = read_source(tmp_path, tiers=TierChoice(saymore=True))
    assert [t for *_, t in parts(source.recordings)] == ["yes"]
    assert "segments without text" in {u.kind for u in source.unused}


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        ({"a.eaf": small(ONE)}, "annotations"),
        ({"a.txt": "yes"}, "folder"),
        ({"a.txt": "yes", "a.TextGrid": TEXTGRID}, "folder"),  # as aligners put beside it
        ({"a.txt": "notes", "a.eaf": small(ONE)}, "annotations"),
        ({"a.txt": "yes", "b.wav": b"", "b.TextGrid": TEXTGRID}, "annotations"),
        ({"t.tsv": "path\ttext\na.wav\tyes\n", "a.eaf": small(ONE)}, "tsv"),
        ({"t.tsv": "path\tspeaker\na.wav\tAna\n", "a.eaf": small(ONE)}, "annotations"),
        ({"notes.srt": ""}, "folder"),
        ({"a.cha": "@Begin"}, "folder"),
    ],
)
def test_what_a_folder_is_taken_for(
    record: Record, tmp_path: Path, files: dict[str, str | bytes], layout: str
) -> None:
    record("a.wav", 4.0)
    assert detect_layout(put(tmp_path, files)) == layout


def test_plain_transcripts_beside_annotated_recordings_stay(record: Record, tmp_path: Path) -> None:
    record("a.wav", 4.0)
    record("b.wav", 1.0)
    put(tmp_path, {"a.eaf": small(ONE), "a.txt": "all of it", "b.txt": "bee"})
    source = read_source(tmp_path, "annotations")
    assert [t for *_, t in parts(source.recordings)] == ["one two", "three", "bee"]
    assert ".txt files" in {u.kind for u in source.unused}


def test_rows_of_tiers_in_a_table_are_chosen_too(record: Record, tmp_path: Path) -> None:
    record("a.wav", 4.0)
    table = "tier\tstart\tend\ttext\nwords\t0\t1\the\nwords\t1\t2\tyou\nphones\t0\t0.5\th\n"
    put(tmp_path, {"a.tsv": table})
    with pytest.raises(ValueError, match=r"'words' .*; 'phones' "):
        read_source(tmp_path)
    found = read_source(tmp_path, tiers=TierChoice(names=("words",))).recordings
    assert [t for *_, t in parts(found)] == ["he", "you"]


def test_the_files_beside_a_session_are_no_transcripts(record: Record, tmp_path: Path) -> None:
    record("a.wav", 4.0)
    put(tmp_path, {"a.eaf": small(ONE), "a.pfsx": "<x/>", "a.wav.meta": "<MetaData/>"})
    assert list(said(tmp_path)) == ["segments without text"]


def test_of_several_files_of_a_recording_the_one_that_tells_most_is_taken(
    record: Record, tmp_path: Path
) -> None:
    record("a.wav", 4.0)
    put(tmp_path, {"a.TextGrid": TEXTGRID, "a.eaf": small(ONE), "a.txt": "0.1\t0.4\tno\n"})
    source = read_source(tmp_path)
    assert [t for *_, t in parts(source.recordings)] == ["one two", "three"]
    named = {u.kind: u.advice for u in source.unused}
    assert named[".TextGrid files"] == "another file of annotations of the same recording is taken"
    assert named[".txt files"] == named[".TextGrid files"]
    put(tmp_path, {"second.eaf": small({"A": [(2.0, 2.5, "two")]}, media="a.wav")})
    assert [t for *_, t in parts(read_source(tmp_path).recordings)] == ["one two", "two", "three"]


def test_many_broken_annotations_are_one_line(record: Record, tmp_path: Path) -> None:
    record("a.wav", 4.0)
    put(
        tmp_path,
        {"a.eaf": small({"A": [(0, 1, "x"), *[(k / 10, k / 10, "y") for k in range(20)]]})},
    )
    (line,) = map(str, read_source(tmp_path).unused)
    assert line.startswith(
        "20 annotations, the first is a.eaf: a2 'y': no place in time (the first"
    )
