"""Characters as a person counts them: known ones, and the clusters of another implementation."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.text.graphemes import graphemes, width

WHOLE = [
    *("a", "é", "e\u0301", "ɔ\u0301", "o\u0323\u0302\u0301", "ŋ\u0300"),  # tones
    *("\r\n", "한", "\u1112\u1161\u11ab", "가\u11a8"),  # Hangul, composed or not
    *("กำ", "ลำ", "ນ້ຳ", "ทั่", "กู้"),  # Thai, Lao
    *("क्षि", "ন্ত্র", "ക്ഷ", "မြို့", "ភ្នំ"),  # conjuncts
    *("لَّ", "שּׁ", "\u06dd١"),  # Arabic, Hebrew
    *(
        "👨\u200d👩\u200d👧\u200d👦",
        "👍🏽",
        "❤\ufe0f\u200d🔥",
        "🇫🇷",
        "1\ufe0f\u20e3",
        "🏴\U000e0067\U000e007f",
    ),
    *("한\u0301", "\u0301"),
]


@pytest.mark.parametrize("cluster", WHOLE, ids=ascii)
def test_one_character(cluster):
    assert graphemes(cluster) == [cluster]
    assert width(cluster) in (1, 2)


@pytest.mark.parametrize(
    ("text", "clusters"),
    [
        ("", []),
        ("a\n\nb", ["a", "\n", "\n", "b"]),
        ("\r\n", ["\r\n"]),
        ("🇫🇷🇩🇪🇫", ["🇫🇷", "🇩🇪", "🇫"]),
        ("👨👩", ["👨", "👩"]),
        ("a\u200db", ["a\u200d", "b"]),
        ("ကာ", ["က", "ာ"]),  # Burmese aa stands alone
        ("\u200fא", ["\u200f", "א"]),  # a direction mark belongs to nothing
        ("नमस्ते", ["न", "म", "स्ते"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
    ],
    ids=ascii,
)
def test_where_characters_begin(text, clusters):
    assert graphemes(text) == clusters


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("abc", 3),
        ("ɔ\u0301ɔ\u0301", 2),
        ("今天", 4),
        ("ａ。", 4),
        ("👨\u200d👩", 1),
        ("한", 2),
    ],
)
def test_width(text, columns):
    assert width(text) == columns


PIECES = [
    *WHOLE,
    "ा",
    "्",
    "\u200d",
    "\u0323",
    "ש",
    "ب",
    "ك",
    "今",
    "が",
    "゙",
    "ᄀ",
    "ᅡ",
    "ᆨ",
    "🇺",
    " ",
]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
def test_nothing_is_lost(text):
    assert "".join(graphemes(text)) == text
    assert all(graphemes(text))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [p for p in PIECES if not set(p) & set("्\u200d")] + [f"{p}" for p in WHOLE]
        ),
        max_size=5,
    ).map("".join)
)
def test_as_another_implementation(text):
    regex = pytest.importorskip("regex")
    assert graphemes(text) == regex.findall(r"\X", text)
