"""speechssl.annotations.choice: which tiers are the transcripts."""

import pytest

from speechssl.annotations import Annotations, Segment, Tier, TierChoice, TierError, choose_tiers


def tier(name: str, kind: str = "", speaker: str = "", parent: str = "", text: str = "x") -> Tier:
    return Tier(name, (Segment(0, 1, text),), kind, speaker, parent=parent)


TOOLBOX = [
    tier("ref@A", "ref", "A"),
    tier("tx@A", "tx", "A", "ref@A"),
    tier("ft@A", "ft", "A", "tx@A"),
    tier("ref@B", "ref", "B"),
    tier("tx@B", "tx", "B", "ref@B"),
    tier("empty", "tx", text=""),
]


def names(tiers: list[Tier], **choice) -> list[str]:
    return [t.name for t in choose_tiers(Annotations(tuple(tiers)), TierChoice(**choice))]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({"names": ("tx@A",)}, ["tx@A"]),
        ({"names": ("TX@a",)}, ["tx@A"]),
        ({"names": ("tx@*",)}, ["tx@A", "tx@B"]),
        ({"names": ("tx@B", "tx@A")}, ["tx@A", "tx@B"]),
        ({"names": ("3",)}, ["ft@A"]),
        ({"kinds": ("tx",)}, ["tx@A", "tx@B", "empty"]),
        ({"kinds": ("TX",), "names": ("*@B",)}, ["tx@B"]),
        ({"kinds": ("f*", "ref")}, ["ref@A", "ft@A", "ref@B"]),
    ],
)
def test_by_name_pattern_order_and_type(choice, chosen):
    assert names(TOOLBOX, **choice) == chosen


@pytest.mark.parametrize(
    ("tiers", "chosen"),
    [
        ([tier("a")], ["a"]),
        ([tier("a"), tier("empty", text="")], ["a"]),
        ([tier("empty", text=""), tier("too", text="")], ["empty"]),  # nothing is lost
        ([tier("x", "utt", "A"), tier("y", "utt", "B")], ["x", "y"]),
        ([tier("1", "channel"), tier("2", "channel")], ["1", "2"]),
    ],
)
def test_without_a_choice_what_is_clear_is_taken(tiers, chosen):
    assert names(tiers) == chosen


@pytest.mark.parametrize(
    "tiers",
    [
        TOOLBOX,
        [tier("words"), tier("phones")],  # of Praat
        [tier("x", "default-lt"), tier("y", "default-lt")],  # nobody says whose
        [tier("x", "utt", "A"), tier("y", "utt", "A")],  # the same person twice
        [tier("x", "utt", "A"), tier("y", "tra", "B")],
        [tier("x", "utt", "A"), tier("y", "utt", "B", parent="x")],
    ],
)
def test_what_is_not_clear_lists_the_tiers(tiers):
    with pytest.raises(TierError) as error:
        names(tiers)
    assert not error.value.is_missing
    for each in tiers:
        assert (repr(each.name) in str(error.value)) is bool(each.num_texts)


def test_a_tier_that_is_not_there_lists_the_tiers():
    with pytest.raises(TierError, match=r"no tier 'tz\*' or tier of type 'z'; it has 'ref@A'") as e:
        names(TOOLBOX, names=("tz*",), kinds=("z",))
    assert e.value.is_missing


def test_saymore():
    tiers = [
        Tier("Transcription", (Segment(0, 1, "x"), Segment(1, 2, "%ignore%"))),
        tier("Phrase Free Translation", parent="Transcription"),
    ]
    (found,) = choose_tiers(Annotations(tuple(tiers)), TierChoice(saymore=True))
    assert [s.text for s in found.segments] == ["x", ""]
    with pytest.raises(ValueError, match="SayMore's tier of transcripts is always"):
        TierChoice(names=("a",), saymore=True)


@pytest.mark.parametrize(
    ("tiers", "choice", "speakers"),
    [
        ([tier("tx@A", speaker="Ana")], ("*",), ["Ana"]),
        ([tier("tx@A"), tier("tx@B")], ("*",), ["A", "B"]),
        ([tier("Ana"), tier("Bob")], ("*",), ["Ana", "Bob"]),
        ([tier("words")], (), [""]),
    ],
)
def test_speakers(tiers, choice, speakers):
    found = choose_tiers(Annotations(tuple(tiers)), TierChoice(names=choice))
    assert [s.speaker for t in found for s in t.segments] == speakers
