"""speechssl.annotations.writing: RTTM, STM, labels, FLEx."""

from xml.etree import ElementTree

import pytest

from speechssl.annotations import Annotations, Segment, Tier, read, read_all
from speechssl.annotations.writing import to_flextext, to_labels, to_rttm, to_stm

FOUND = Annotations(
    (
        Tier("a", (Segment(0.5, 1.5, "«hé» you,  & <me>", "Ana Sa"), Segment(2, 3, ""))),
        Tier("b", (Segment(0.75, 1.0, "<o> one\ttwo", ""),)),
    )
)


def test_rttm():
    assert to_rttm(FOUND, "my talk").splitlines() == [
        "SPEAKER my_talk 1 0.500 1.000 <NA> <NA> Ana_Sa <NA> <NA>",
        "SPEAKER my_talk 1 0.750 0.250 <NA> <NA> unknown <NA> <NA>",
    ]


def test_stm_is_read_again(tmp_path):
    (tmp_path / "x.stm").write_text(to_stm(FOUND, "x"), encoding="utf-8")
    (found,) = read_all(tmp_path / "x.stm")
    assert found.tiers[0].segments == (
        Segment(0.5, 1.5, "«hé» you, & <me>", "Ana_Sa"),
        Segment(0.75, 1.0, "<o> one two", "unknown"),
    )


def test_labels_are_read_again(tmp_path):
    (tmp_path / "x.txt").write_text(to_labels(FOUND), encoding="utf-8")
    assert [(s.start_s, s.end_s, s.text) for s in read(tmp_path / "x.txt").tiers[0].segments] == [
        (0.5, 1.5, "«hé» you, & <me>"),
        (0.75, 1.0, "<o> one two"),
    ]


def test_flextext():
    text = to_flextext(FOUND, "my talk", "in/a & b.wav", "mdw")
    assert text == to_flextext(FOUND, "my talk", "in/a & b.wav", "mdw")  # guids too
    root = ElementTree.fromstring(text)
    assert (root.tag, root.get("version")) == ("document", "2")
    first, second = root.iter("phrase")
    assert (first.get("begin-time-offset"), first.get("end-time-offset")) == ("500", "1500")
    assert (first.get("speaker"), second.get("speaker")) == ("Ana Sa", None)
    media = root.find("interlinear-text/media-files/media")
    assert media.get("location") == "in/a & b.wav"
    assert first.get("media-file") == media.get("guid")
    items = [(item.get("type"), item.text) for item in first.iter("item")]
    assert items == [
        ("txt", "«hé» you,  & <me>"),
        ("segnum", "1"),
        *[("punct", "«"), ("txt", "hé"), ("punct", "»")],
        *[("txt", "you"), ("punct", ",")],
        ("punct", "&"),
        *[("punct", "<"), ("txt", "me"), ("punct", ">")],
    ]
    assert {item.get("lang") for item in first.iter("item")} == {"mdw", "en"}
    guids = [each.get("guid") for each in root.iter() if each.get("guid")]
    assert len(guids) == len(set(guids)) == 4
    assert root.find("interlinear-text/languages/language").get("vernacular") == "true"


@pytest.mark.parametrize("write", [to_labels, lambda a: to_rttm(a, "x"), lambda a: to_stm(a, "x")])
def test_nothing_gives_an_empty_file(write):
    assert write(Annotations(())) == ""
