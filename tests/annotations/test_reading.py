"""speechssl.annotations: every format that is read, whole and broken."""

import sys
from pathlib import Path

import pytest

from speechssl.annotations import Media, Segment, is_annotations, read, read_all
from speechssl.annotations.eaf import path_of
from speechssl.annotations.line_files import join_words
from speechssl.cli import main
from tests.annotations.eafs import FULL, TWO, small

pytestmark = pytest.mark.extras


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(path: Path, tier: int = 0) -> list[tuple[float, float, str]]:
    return [(s.start_s, s.end_s, s.text) for s in read(path).tiers[tier].segments]


# ---- ELAN ----------------------------------------------------------------------------------------


def test_tiers_of_elan_have_types_participants_and_times(tmp_path):
    found = read(put(tmp_path / "s.eaf", FULL))
    tx, words, gloss = found.tiers
    assert (tx.name, tx.kind, tx.speaker, tx.language, tx.parent) == (
        *("tx@O", "utterance", "Obia", "mdw", ""),
    )
    assert [(s.start_s, s.end_s, s.text) for s in tx.segments] == [
        (1.0, 1.5, "wó twεrε"),  # the slots without a time lie evenly between 1 and 2.5 s
        (1.5, 2.0, "ya <poo>"),
        (2.0, 2.5, ""),
        (3.0, 4.0, "obia"),
    ]
    assert [(s.start_s, s.end_s, s.text) for s in words.segments] == [(1.0, 1.5, "wó twεrε")]
    assert [(s.start_s, s.end_s, s.text) for s in gloss.segments] == [(1.0, 1.5, "he go")]
    assert (words.parent, gloss.parent) == ("tx@O", "w@O")
    assert found.media == (
        Media(("./story.mp4", "C:/old place/story.mp4"), 0.5),
        Media(("./story.wav", "C:/old place/story.wav"), 0.25),
    )
    assert found.unplaced == ()


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        (
            'ANNOTATION_REF="a6"',
            'ANNOTATION_REF="a99"',
            ["a7: it refers to a99, which is not there"],
        ),
        ('TIME_SLOT_REF1="ts5"', 'TIME_SLOT_REF1="ts77"', ["a4: its time slot ts77 is not there"]),
        ('TIME_VALUE="4000"', 'TIME_VALUE="2900"', ["a4: it ends at 2.9 s and starts at 3 s"]),
        (
            '"ts1" TIME_VALUE="1000"',
            '"ts1"',
            ["a1: its time slot ts1 has no time", "a2", "a6", "a5"],
        ),
        (
            '"a6" ANNOTATION_REF="a1"',
            '"a6" ANNOTATION_REF="a7"',
            ["a6: its references go round in a circle", "a7"],
        ),
        ('PREVIOUS_ANNOTATION="a5"', 'PREVIOUS_ANNOTATION="a6"', []),
        ('PARENT_REF="w@O"', 'PARENT_REF="gone"', []),
        ('LINGUISTIC_TYPE_REF="gloss"', 'LINGUISTIC_TYPE_REF="gone"', []),
        ('TIME_UNITS="milliseconds"', 'TIME_UNITS="PAL-frames"', []),
        (' xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd"', "", []),
    ],
)
def test_broken_references_lose_only_what_hangs_on_them(tmp_path, old, new, lost):
    assert old in FULL
    found = read(put(tmp_path / "s.eaf", FULL.replace(old, new)))
    said = [f"{each.id}: {each.reason}" for each in found.unplaced]
    assert len(found.tiers) == 3
    for words in lost:
        assert any(line.startswith(words) for line in said), said
    assert bool(said) is bool(lost)
    texts = " ".join(s.text for tier in found.tiers for s in tier.segments)
    everything = f"{texts} {' '.join(each.text for each in found.unplaced)}"
    for word in ("wó", "twεrε", "<poo>", "obia", "go", "he"):  # in one of both
        assert word in everything


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not well-formed XML (no element found"),
        (FULL[:2000].encode(), "not well-formed XML"),
        (FULL.replace("UTF-8", "UTF-16").encode(), "not well-formed XML"),
        (FULL.encode("latin-1", "replace").replace(b"?xml", b"?xml ").replace(b"Obia", b"Ob\xeda"),
         "not well-formed XML (not well-formed (invalid token)"),
        (b"PK\x03\x04", "not well-formed XML"),
        (b"<html/>", "it holds no tier"),
        (FULL.replace('TIER_ID="w@O"', "").encode(), "an element lacks its attribute TIER_ID"),
        (FULL.replace('="2500"', '="soon"').encode(), "lacks its number ('soon')"),
        (FULL.replace("<ANNOTATION_VALUE>he</ANNOTATION_VALUE>", "").encode(), "ANNOTATION_VALUE"),
        (FULL.replace("milliseconds", "hours").encode(), "counts time in 'hours'"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_elan_is_a_sentence(tmp_path, content, words):
    with pytest.raises(ValueError, match=r"s\.eaf") as error:
        read(put(tmp_path / "s.eaf", content))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-15", "windows-1252"])
def test_other_encodings_that_a_file_of_elan_declares(tmp_path, encoding):
    name = encoding.removesuffix("-sig")
    text = small({"A": [(0, 1, "señor"), (1, 2, "cœur")]}).replace("UTF-8", name)
    assert rows(put(tmp_path / "s.eaf", text.encode(encoding)))[1] == (1.0, 2.0, "cœur")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///C:/my%20files/a.wav", "C:/my files/a.wav"),
        ("file:///home/x/a.wav", "/home/x/a.wav"),
        ("file:/home/x/a%C3%A9.wav", "/home/x/aé.wav"),
        ("file:///./a.wav", "/./a.wav"),
        ("./a b.wav", "./a b.wav"),
        ("C:\\x\\a.wav", "C:\\x\\a.wav"),
        ("", ""),
    ],
)
def test_the_path_of_an_address(url, path):
    assert path_of(url) == path


# ---- Praat ---------------------------------------------------------------------------------------

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "ph""rases"
        xmin = 0
        xmax = 3
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "he said ""yes"" é"
        intervals [2]:
            xmin = 1.5
            xmax = 2.5
            text = ""
        intervals [3]:
            xmin = 2.5
            xmax = 3
            text = "b"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 3
        points: size = 1
        points [1]:
            number = 1.2
            mark = "tk"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
3
<exists>
1
"IntervalTier"
"all"
0
3
1
0
3
"one interval é"
"""
ONE = (
    LONG.split("        intervals [2]")[0]
    .replace("size = 2", "size = 1")
    .replace("size = 3", "size = 1")
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_textgrids_in_both_forms_and_every_encoding(tmp_path, encoding, line_end):
    long = put(tmp_path / "a.TextGrid", LONG.replace("\n", line_end).encode(encoding))
    assert rows(long) == [(0, 1.5, 'he said "yes" é'), (1.5, 2.5, ""), (2.5, 3, "b")]
    found = read(long)
    assert (found.tiers[0].name, found.duration_s) == ('ph"rases', 3.0)
    assert [(p.tier, p.text) for p in found.unplaced] == [("clicks", "tk")]
    short = put(tmp_path / "b.TextGrid", SHORT.replace("\n", line_end).encode(encoding))
    assert rows(short) == [(0, 3, "one interval é")]


def test_a_textgrid_with_one_interval(tmp_path):
    path = put(tmp_path / "a.TextGrid", ONE)
    assert rows(path) == [(0, 1.5, 'he said "yes" é')]
    path = put(tmp_path / "b.TextGrid", ONE.replace("xmin = 0", "xmin = 1e-05"))
    assert rows(path)[0][0] == pytest.approx(1e-5)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"File type",
        LONG[:700].encode(),
        LONG.split("    item [2]")[0]
        .replace("size = 2", "size = 1")
        .split("        intervals [3]")[0]
        .encode(),
        SHORT.replace("3\n1\n0", "3\n2\n0").encode(),
        SHORT.replace("3\n1\n0", "3\n2\n0").replace('é"', 'é"\n3\n4\n"cut').encode(),
        LONG.replace("xmin = 1.5", "xmin = soon").encode(),
        LONG.encode("latin-1"),
    ],
)
def test_what_is_no_whole_textgrid_is_a_sentence(tmp_path, content):
    with pytest.raises(ValueError, match=r"a\.TextGrid") as error:
        read(put(tmp_path / "a.TextGrid", content))
    assert "\n" not in str(error.value)


# ---- subtitles -----------------------------------------------------------------------------------


def test_subrip(tmp_path):
    text = (
        "1\n00:00:01,000 --> 00:00:02,500\n<i>hey</i>\nyou\n\n"
        "2\n00:00:03,000 --> 00:00:03,000\nno time\n\n3\n01:00:04,000 --> 01:00:05,000\nx\n"
    )
    for content in (text.encode(), text.replace("\n", "\r\n").encode("utf-16")):
        path = put(tmp_path / "a.srt", content)
        assert rows(path) == [(1.0, 2.5, "hey you"), (3604.0, 3605.0, "x")]
        assert [each.text for each in read(path).unplaced] == ["no time"]


def test_webvtt_has_voices(tmp_path):
    text = (
        "WEBVTT\n\nNOTE a remark\n\n1\n00:01.000 --> 00:02.500 align:left\n"
        "<v Bob Dylan>hey &amp; <b>you</b>\n\n00:03.000 --> 00:04.000\nx\n"
    )
    segments = read(put(tmp_path / "a.vtt", text)).tiers[0].segments
    assert segments[0] == Segment(1.0, 2.5, "hey & you", "Bob Dylan")
    assert segments[1] == Segment(3.0, 4.0, "x")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.srt", b"just some text"),
        ("a.srt", b"1\n00:00:01,0x0 --> later\nhey\n"),
        ("a.vtt", b"WEBVTT\n\nno times here\n"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,500\né".encode("latin-1")),
        ("a.ass", b"[Script"),
    ],
)
def test_what_is_no_subtitle_is_a_sentence(tmp_path, name, content):
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as error:
        read(put(tmp_path / name, content))
    assert "\n" not in str(error.value)


def test_subtitles_without_a_cue_are_empty(tmp_path):
    assert rows(put(tmp_path / "a.srt", "")) == []


# ---- lines ---------------------------------------------------------------------------------------


def test_labels_of_audacity(tmp_path):
    text = "0.500000\t1.500000\thé you\n\\\t100.0\t300.0\n2,0\t3,25\tx\n4.0\t4.0\tpoint\n5.0\t6.0\n"
    path = put(tmp_path / "a.txt", text)
    assert is_annotations(path)
    assert rows(path) == [(0.5, 1.5, "hé you"), (2.0, 3.25, "x"), (5.0, 6.0, "")]
    assert [(p.id, p.text) for p in read(path).unplaced] == [("line 4", "point")]
    assert not is_annotations(put(tmp_path / "b.txt", "hello you\n0.5\t1.5\tx\n"))
    assert not is_annotations(put(tmp_path / "c.txt", ""))
    with pytest.raises(ValueError, match=r"b\.txt, line 1: 'hello you' is no label"):
        read(tmp_path / "b.txt")


def test_ctm_of_several_recordings(tmp_path):
    text = ";; made\nx 1 0.5 0.4 he\nx 1 1.0 0.5 you\nx 1 3.0 0.5 there 0.9\ny A 0.0 1.0 one\n"
    path = put(tmp_path / "all.ctm", text)
    x, y = read_all(path)
    assert x.media[0].places == ("x",)
    assert [(s.start_s, s.end_s, s.text) for s in x.tiers[0].segments] == [
        (0.5, 1.5, "he you"),
        (3.0, 3.5, "there"),
    ]
    assert x.tiers[0].segments[0].words[1] == Segment(1.0, 1.5, "you")
    assert y.tiers[0].name == "A"
    with pytest.raises(ValueError, match=r"is of 2 recordings \(x, y\), and not of one"):
        read(path)
    with pytest.raises(ValueError, match=r"line 2: 'x 1 soon' is no line of a CTM"):
        read_all(put(tmp_path / "bad.ctm", "x 1 0 1 a\nx 1 soon\n"))


def test_words_without_a_pause_are_cut_at_their_longest_one():
    words = [Segment(float(k), k + (0.5 if k == 11 else 0.9), str(k)) for k in range(20)]
    parts = join_words(words)
    assert [part.text.split()[0] for part in parts] == ["0", "12"]
    assert sum(len(part.words) for part in parts) == 20
    assert all(part.end_s - part.start_s <= 15 for part in parts)


def test_stm_has_speakers(tmp_path):
    text = "x 1 Ana 0.5 1.5 <o,f0,female> hé you\nx 1 Bob 1.0 2.0 ignore_time_segment_in_scoring\n"
    (found,) = read_all(put(tmp_path / "x.stm", text))
    assert found.tiers[0].segments == (
        Segment(0.5, 1.5, "hé you", "Ana"),
        Segment(1.0, 2.0, "", "Bob"),
    )
    with pytest.raises(ValueError, match="line 1: 'x 1 Ana 2 1 no' is no line of an STM"):
        read_all(put(tmp_path / "x.stm", "x 1 Ana 2 1 no\n"))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"its suffix is none of \.eaf"):
        read(put(tmp_path / "a.docx", "x"))
    with pytest.raises(FileNotFoundError, match=r"There is no file of annotations .*gone\.eaf"):
        read(tmp_path / "gone.eaf")


@pytest.mark.parametrize(
    ("name", "content", "package"),
    [
        ("a.eaf", small(TWO), "pympi"),
        ("a.TextGrid", SHORT, "praatio"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,500\nx\n", "pysubs2"),
    ],
)
def test_without_the_extra_the_sentence_names_it(
    tmp_path, record, monkeypatch, capsys, name, content, package
):
    (tmp_path / "in").mkdir()
    record("in/a.wav", 1.0)
    put(tmp_path / "in" / name, content)
    monkeypatch.setitem(sys.modules, package, None)
    for module in [m for m in sys.modules if m.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    assert main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        f"speechssl: The package {package} is missing: pip install 'speechssl[linguist]'.\n"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ctm", "a 1 0.5 0.5 he\na 1 2.0 0.0 gone\n"),
        ("a.stm", "a 1 Ana 0.5 1.0 he\na 1 Ana 2 2 gone\n"),
    ],
)
def test_lines_without_a_duration_are_named(tmp_path, name, content):
    path = put(tmp_path / name, content)
    assert rows(path) == [(0.5, 1.0, "he")]
    assert [(p.tier, p.id, p.text, p.reason) for p in read(path).unplaced] == [
        ("1", "line 2", "gone", "it has no duration")
    ]
