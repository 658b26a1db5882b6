"""speechssl.annotations.eaf_writing: new files of ELAN, and a tier more in a person's own."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from speechssl.annotations import Annotations, Segment, Tier, read
from speechssl.annotations.eaf_writing import add_tier, apart, write_eaf
from tests.annotations.eafs import FULL, TWO, small

pytestmark = pytest.mark.extras

HYPOTHESES = Tier(
    "speechssl", (Segment(1.25, 1.75, "wo <te> & ré"), Segment(2.75, 3.2504, "ya")), speaker="Obia"
)
HERE = Path("s.eaf")


def canonical(root: ElementTree.Element) -> str:
    return ElementTree.canonicalize(ElementTree.tostring(root, encoding="unicode"))


def parse(data: bytes) -> ElementTree.Element:
    builder = ElementTree.TreeBuilder(insert_comments=True)
    return ElementTree.fromstring(data, ElementTree.XMLParser(target=builder))


def without(root: ElementTree.Element, tier: str, old: ElementTree.Element) -> ElementTree.Element:
    """The document without the tier and without slots and types that `old` lacks."""
    slots = {each.get("TIME_SLOT_ID") for each in old.iter("TIME_SLOT")}
    kinds = {each.get("LINGUISTIC_TYPE_ID") for each in old.iter("LINGUISTIC_TYPE")}
    order = root.find("TIME_ORDER")
    for slot in list(order):
        if slot.get("TIME_SLOT_ID") not in slots:
            order.remove(slot)
    for element in list(root):
        if element.get("TIER_ID") == tier or (
            element.tag == "LINGUISTIC_TYPE" and element.get("LINGUISTIC_TYPE_ID") not in kinds
        ):
            root.remove(element)
    for element in (order, *order):  # white space between elements alone
        element.tail = None
    order.text = None
    return root


def stripped(root: ElementTree.Element) -> ElementTree.Element:
    order = root.find("TIME_ORDER")
    for element in (order, *order):
        element.tail = None
    order.text = None
    return root


CASES = {
    "everything": FULL,
    "one type": small(TWO),
    "no tier": small({}),
    "empty time order": small({}).replace("<TIME_ORDER></TIME_ORDER>", "<TIME_ORDER/>"),
    "windows": FULL.replace("\n", "\r\n"),
    "slots out of order": FULL.replace('TIME_VALUE="1000"', 'TIME_VALUE="3500"'),
    "frames": FULL.replace("milliseconds", "PAL-frames"),
    "only bound types": FULL.replace(
        ' CONTROLLED_VOCABULARY_REF="cv"', ' CONSTRAINTS="Included_In"'
    ),
    "the ids are taken": FULL.replace('"a1"', '"h1"').replace('"ts6"', '"ts0099"'),
    "an entity": FULL.replace(
        "<!-- by hand -->", '<!DOCTYPE ANNOTATION_DOCUMENT [<!ENTITY o "obia">]>'
    ).replace(">obia<", ">&o;<"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", CASES)
def test_a_tier_more_changes_nothing_else(name, encoding):
    declared = encoding.removesuffix("-sig").upper()
    data = CASES[name].replace("UTF-8", declared).encode(encoding)
    made, tier = add_tier(data, HYPOTHESES, HERE)
    assert tier == "speechssl"
    old, new = parse(data), parse(made)
    ids = [
        value
        for element in new.iter()
        for key, value in element.items()
        if key in ("TIME_SLOT_ID", "ANNOTATION_ID")
    ]
    assert len(ids) == len(set(ids))
    (added,) = (each for each in new.iter("TIER") if each.get("TIER_ID") == tier)
    assert added.get("PARTICIPANT") == "Obia"
    (kind,) = (
        each
        for each in new.iter("LINGUISTIC_TYPE")
        if each.get("LINGUISTIC_TYPE_ID") == added.get("LINGUISTIC_TYPE_REF")
    )
    assert kind.get("TIME_ALIGNABLE") == "true"
    assert kind.get("CONSTRAINTS") is None
    assert kind.get("CONTROLLED_VOCABULARY_REF") is None
    place = [each.tag for each in new if isinstance(each.tag, str)]
    assert place == sorted(place, key=ORDER.index)  # as the schema has it
    assert canonical(without(new, tier, old)) == canonical(stripped(old))
    # and as text: what was there is there, in its order
    rest = iter(made.decode(encoding))
    kept = data.decode(encoding).replace("<TIME_ORDER/>", "<TIME_ORDER>")
    assert all(character in rest for character in kept)


ORDER = [
    *("LICENSE", "HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LOCALE", "LANGUAGE"),
    *("CONSTRAINT", "CONTROLLED_VOCABULARY", "LEXICON_REF", "REF_LINK_SET", "EXTERNAL_REF"),
]


def test_the_tier_is_read_again_and_gets_a_name_of_its_own(tmp_path):
    path = tmp_path / "s.eaf"
    made, _ = add_tier(FULL.encode(), HYPOTHESES, HERE)
    again, name = add_tier(made, HYPOTHESES, HERE)
    assert name == "speechssl-2"
    path.write_bytes(again)
    found = {tier.name: tier for tier in read(path).tiers}
    for key in ("speechssl", "speechssl-2"):
        assert [(s.start_s, s.end_s, s.text) for s in found[key].segments] == [
            (1.25, 1.75, "wo <te> & ré"),
            (2.75, 3.25, "ya"),
        ]
    assert [s.end_s for s in found["tx@O"].segments] == [1.5, 2.0, 2.5, 4.0]  # as before


def test_the_slots_without_a_time_keep_their_neighbours():
    made, _ = add_tier(FULL.encode(), HYPOTHESES, HERE)
    order = [slot.get("TIME_VALUE") for slot in parse(made).iter("TIME_SLOT")]
    times = [int(time) for time in order if time]
    assert times == sorted(times)
    assert order[:3] == ["1000", None, None]


def test_times_are_those_of_the_file_and_not_of_the_recording(tmp_path):
    tier = Tier("t", (Segment(0.1, 0.4, "before"), Segment(0.4, 0.9, "begins"), Segment(2, 3, "x")))
    made, _ = add_tier(FULL.encode(), tier, HERE, origin_s=0.5)
    (tmp_path / "s.eaf").write_bytes(made)
    found = next(t for t in read(tmp_path / "s.eaf").tiers if t.name == "t")
    assert [(s.start_s, s.end_s, s.text) for s in found.segments] == [
        (0.0, 0.4, "begins"),
        (1.5, 2.5, "x"),
    ]


@pytest.mark.parametrize("encoding", ["iso-8859-1", "us-ascii"])
def test_letters_that_the_encoding_lacks_become_references(tmp_path, encoding):
    data = small({"A": [(0, 1, "si")]}).replace("UTF-8", encoding).encode(encoding)
    made, _ = add_tier(data, Tier("t", (Segment(0, 1, "twεrε"),)), HERE)
    assert b"tw&#949;r&#949;" in made
    (tmp_path / "s.eaf").write_bytes(made)
    assert read(tmp_path / "s.eaf").tiers[1].segments[0].text == "twεrε"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is no well-formed XML"),
        (b"<html><body/></html>", "its outermost element is html"),
        (FULL.encode()[:900], "is no well-formed XML"),
        (b"<ANNOTATION_DOCUMENT/>", "it has no TIME_ORDER"),
        (FULL.replace("UTF-8", "klingon").encode(), "its encoding is klingon, which is unknown"),
        (FULL.encode("latin-1", "ignore"), "is not in UTF-8, its encoding by its first line"),
    ],
)
def test_what_is_no_file_of_elan_is_refused(data, words):
    with pytest.raises(ValueError, match=r"s\.eaf") as error:
        add_tier(data, HYPOTHESES, HERE)
    assert words in str(error.value)


def test_control_characters_do_not_spoil_a_file():
    made, _ = add_tier(FULL.encode(), Tier("t", (Segment(0, 1, "a\x00\x0bb\ud800c"),)), HERE)
    assert b"a  b c" in made
    parse(made)


@pytest.mark.parametrize(
    ("spans", "made"),
    [
        ([(0, 1), (0.5, 2)], [(0, 1), (1, 2)]),
        ([(0, 0), (0, 0)], [(0, 0.001), (0.001, 0.002)]),
        ([(1, 2), (0, 0.5)], [(0, 0.5), (1, 2)]),
        ([(0, 5), (1, 2), (3, 6)], [(0, 5), (5, 5.001), (5.001, 6)]),
    ],
)
def test_segments_of_a_tier_lie_apart(spans, made):
    found = apart([Segment(a, b, "x") for a, b in spans], 0.001)
    assert [(s.start_s, s.end_s) for s in found] == made


def test_a_new_file(tmp_path):
    words = (Segment(0.5, 0.9, "hé"), Segment(1.0, 1.6, "<you>"))
    tiers = (
        Tier("tx", (Segment(0.5, 1.5, "hé <you>", words=words), Segment(2, 3, "b"))),
        Tier("A & B", (Segment(0.25, 9, "x"),), speaker='Ana "A"', language="mdw"),
    )
    (tmp_path / "out").mkdir()
    text = write_eaf(Annotations(tiers), tmp_path / "in" / "a b.mp4", tmp_path / "out")
    path = tmp_path / "out" / "s.eaf"
    path.write_text(text, encoding="utf-8")
    found = read(path)
    assert [tier.name for tier in found.tiers] == ["tx", "tx-words", "A & B"]
    assert [(s.start_s, s.end_s, s.text) for s in found.tiers[1].segments] == [
        (0.5, 0.9, "hé"),
        (1.0, 1.5, "<you>"),  # within its segment
    ]
    assert (found.tiers[2].speaker, found.tiers[2].language) == ('Ana "A"', "mdw")
    assert found.media[0].places == ("../in/a b.mp4", f"{tmp_path}/in/a b.mp4")
    root = parse(text.encode())
    tags = [each.tag for each in root]
    assert tags == sorted(tags, key=ORDER.index)
    assert root.find("HEADER/PROPERTY").text == "5"  # as many annotations, so that ELAN counts on
    assert root.find("HEADER/MEDIA_DESCRIPTOR").get("MIME_TYPE") == "video/mp4"
