"""speechssl.annotations: whatever a file holds, segments come out or it is named; and a tier is
added to whatever can be read."""

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.annotations import Segment, Tier, read_all
from speechssl.annotations.eaf_writing import add_tier
from speechssl.data.layouts import read_source
from tests.annotations.eafs import FULL, TWO, small
from tests.annotations.test_reading import LONG, SHORT
from tests.fuzz.damage import damaged

pytestmark = pytest.mark.extras

WHOLE = {
    "a.eaf": FULL,
    "b.eaf": small(TWO),
    "a.TextGrid": LONG,
    "b.TextGrid": SHORT,
    "a.srt": "1\n00:00:01,000 --> 00:00:02,500\n<i>hé</i>\nyou\n\n2\n00:00:03,000 --> "
    "00:00:04,000\nx\n",
    "a.vtt": "WEBVTT\n\n1\n00:01.000 --> 00:02.500 align:left\n<v Bob>hé &amp; you\n",
    "a.txt": "0.5\t1.5\thé\n\\\t100.0\t300.0\n2.0\t3.0\tx\n",
    "a.ctm": "a 1 0.5 0.4 hé 0.9\na 1 1.0 0.5 you\n",
    "a.stm": "a 1 Ana 0.5 1.5 <o,f0,female> hé you\n",
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=max(settings.default.max_examples // 3, 1))
@given(data=st.data())
def test_a_damaged_file_is_read_or_named(name, data, tmp_path):
    path = tmp_path / name
    path.write_bytes(data.draw(damaged(WHOLE[name].encode())))
    message, found = str(path), []
    try:
        found = read_all(path)
    except ValueError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message
    for segment in (s for each in found for tier in each.tiers for s in tier.segments):
        assert 0 <= segment.start_s < segment.end_s < math.inf
        assert segment.text == " ".join(segment.text.split())


@settings(max_examples=max(settings.default.max_examples // 3, 1))
@given(data=damaged(FULL.encode()))
def test_a_tier_is_added_to_whatever_is_xml(data, tmp_path):
    path, made, name = tmp_path / "a.eaf", b"", ""
    message = str(path)
    try:
        made, name = add_tier(data, Tier("t", (Segment(0.5, 1.5, "é"),)), path)
    except ValueError as error:
        message = str(error)
    assert str(path) in message
    if not made:
        return
    root = ElementTree.fromstring(made)
    (tier,) = (each for each in root.iter("TIER") if each.get("TIER_ID") == name)
    assert tier.find("ANNOTATION/ALIGNABLE_ANNOTATION/ANNOTATION_VALUE").text == "é"


@settings(max_examples=max(settings.default.max_examples // 5, 1))
@given(name=st.sampled_from(sorted(WHOLE)), data=st.data())
def test_a_folder_with_a_damaged_file_is_read_or_the_file_is_named(name, data, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    path = tmp_path / name
    path.write_bytes(data.draw(damaged(WHOLE[name].encode())))
    message, recordings = str(tmp_path), []
    try:
        recordings = read_source(tmp_path).recordings
    except ValueError as error:
        message = str(error)
    assert str(tmp_path) in message
    assert all(0 <= r.start_s < math.inf for r in recordings)
    path.unlink()
