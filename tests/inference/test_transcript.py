"""Segments in scripts without spaces: what is longer than a subtitle is cut, nothing is lost."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.decoding.align import TokenSpan, Word, word_times
from speechssl.inference.transcript import (
    MAX_SEGMENT_S,
    MAX_WORD_COLUMNS,
    Transcript,
    join_words,
    to_segments,
)
from speechssl.inference.writers import WRITERS
from speechssl.text import (
    BLANK,
    UNKNOWN,
    CharTokenizer,
    SentencePieceTokenizer,
    VocabularyTokenizer,
    columns_of,
)

HOP_S = 0.02


def spans(ids: list[int], starts: list[int] | range) -> list[TokenSpan]:
    return [TokenSpan(i, start, start + 1, 0.9) for i, start in zip(ids, starts, strict=True)]


def segments_of(text: str, starts: list[int] | range, tokenizer=None):
    tokenizer = tokenizer or CharTokenizer.train([text])
    tokens = spans(tokenizer.encode(text), starts)
    words = word_times(tokens, tokenizer, hop_s=HOP_S, duration_s=1000.0)
    return words, to_segments(words)


def fits(segment) -> bool:
    return (
        segment.end_s - segment.start_s <= MAX_SEGMENT_S
        and columns_of(segment.text) <= MAX_WORD_COLUMNS
    )


CHINESE = "今天天气很好我们去公园看花然后回家吃饭晚上再一起看书"

# Speech without a pause for longer than a subtitle: text, frames a character.
LONG = {
    "Chinese": (CHINESE * 3, 12),
    "Japanese": ("きょうはとてもいいてんきですねこうえんへいきましょう" * 4, 8),
    "Thai": ("วันนี้อากาศดีมากเราไปเที่ยวสวนสาธารณะกันเถอะ" * 4, 6),
    "Khmer": ("ថ្ងៃនេះអាកាសធាតុល្អណាស់យើងទៅសួនច្បារ" * 4, 6),
    "Burmese": ("ဒီနေ့ရာသီဥတုသာယာတယ်ပန်းခြံသွားကြရအောင်" * 4, 6),
    "Lao": ("ມື້ນີ້ອາກາດດີຫຼາຍພວກເຮົາໄປສວນສາທາລະນະ" * 4, 6),
    "Tibetan": ("དེ་རིང་གནམ་གཤིས་ཡག་པོ་འདུག་" * 6, 6),
    "Latin, a word that never ends": ("la" * 200, 3),
}


@pytest.mark.parametrize("script", LONG)
def test_a_word_longer_than_a_cue_is_cut(script: str) -> None:
    text, frames = LONG[script]
    words, segments = segments_of(text, range(0, frames * len(text), frames))
    assert len(words) == 1
    assert len(segments) > 1
    assert all(map(fits, segments))
    assert "".join(s.text for s in segments) == text
    assert min(columns_of(s.text) for s in segments) > 5  # none is a scrap


def test_it_is_cut_at_silences_first() -> None:
    starts = [*range(0, 130, 5), *range(200, 330, 5), *range(400, 530, 5)]
    _, segments = segments_of((CHINESE * 4)[: len(starts)], starts)
    assert [s.start_s for s in segments] == pytest.approx([0.0, 4.0, 8.0])
    assert [len(s.text) for s in segments] == [26, 26, 26]


def test_then_at_the_longest_gap_near_the_middle() -> None:
    starts = [*range(0, 200, 10), *range(215, 415, 10)]  # a gap of 0.28 s in 8.3 s, else 0.18 s
    _, segments = segments_of((CHINESE * 4)[:40], starts)
    assert [len(s.text) for s in segments] == [20, 20]


@pytest.mark.parametrize(
    ("text", "together"),
    [
        ("ก้า" * 60, r"[ก][้][า]"),  # a consonant with its marks and vowel
        ("เก" * 60, "เก"),  # a vowel that is in front of its consonant
        ("क्षि" * 60, "क्षि"),
        ("ខ្ញុំ" * 60, "ខ្ញុំ"),
        ("がっこー" * 40, "がっ|こー"),  # no line begins with small kana
        ("می\u200cخواهم" * 40, "می\u200cخ"),
    ],
)
def test_what_a_reader_sees_as_one_letter_stays_whole(text: str, together: str) -> None:
    _, segments = segments_of(text, range(0, 9 * len(text), 9))
    assert len(segments) > 1
    assert "".join(s.text for s in segments) == text
    whole = len(re.findall(together, text))
    assert sum(len(re.findall(together, s.text)) for s in segments) == whole


def test_many_characters_in_few_seconds_are_cut_too() -> None:
    text = CHINESE * 8
    _, segments = segments_of(text, range(len(text)))
    assert segments[-1].end_s < MAX_SEGMENT_S
    assert len(segments) >= 5
    assert all(map(fits, segments))


def test_words_that_fit_are_as_they_were() -> None:
    words, segments = segments_of("ab cd " * 39 + "ab cd", range(0, 2390, 10))
    assert [w for s in segments for w in s.words] == words
    assert not any(word.joined for word in words)
    assert " ".join(s.text for s in segments) == Transcript("a", 99, segments, 1.0).text


def test_a_token_longer_than_a_cue_stays_whole() -> None:
    long = Word("啊", 0.0, 30.0, 0.5, parts=(Word("啊", 0.0, 30.0, 0.5),))
    assert to_segments([long])[0].words == (long,)
    assert to_segments([Word("x" * 500, 0.0, 30.0, 0.5)])[0].text == "x" * 500  # no tokens known


def test_pieces_of_a_word_have_no_space_between() -> None:
    text = f"{CHINESE * 3} 好"
    words, segments = segments_of(text, range(0, 12 * len(text), 12))
    transcript = Transcript("a.wav", 100.0, segments, 1.0)
    assert transcript.text == join_words(words) == text
    assert WRITERS["txt"](transcript) == text + "\n"
    data = json.loads(WRITERS["json"](transcript))
    assert data["text"] == text
    assert "".join(w["word"] for s in data["segments"] for w in s["words"]) == text.replace(" ", "")
    for name in ("srt", "vtt"):
        cues = [c for c in WRITERS[name](transcript).split("\n\n") if "-->" in c]
        lines = [line for c in cues for line in c.partition("-->")[2].split("\n")[1:]]
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_a_vocabulary_without_a_space_has_none_between_chunks() -> None:
    tokenizer = VocabularyTokenizer([BLANK, UNKNOWN, "你", "好"])
    words = [
        word
        for offset_s in (0.0, 20.0)
        for word in word_times(
            spans([2, 3], [0, 10]), tokenizer, hop_s=HOP_S, duration_s=99, offset_s=offset_s
        )
    ]
    segments = to_segments(words)
    assert len(segments) == 2
    assert Transcript("a", 99, segments, 1.0).text == "你好你好"


def test_tokens_of_every_tokenizer_are_parts_of_its_words() -> None:
    texts = ["ab ba", "b a"]
    pieces = SentencePieceTokenizer.train(["ab abab ba"] * 4, 9, allow_smaller=True)
    capitals = VocabularyTokenizer([BLANK, UNKNOWN, " ", "A", "B", "<s>"], ["<s>"], uppercase=True)
    for tokenizer in (CharTokenizer.train(texts), pieces, capitals):
        for text in texts:
            ids = [*tokenizer.encode(text), *([5] if tokenizer is capitals else [])]
            tokens = spans(ids, range(0, 10 * len(ids), 10))
            for word in word_times(tokens, tokenizer, hop_s=HOP_S, duration_s=9):
                assert "".join(part.text for part in word.parts) == word.text
                assert word.parts[0].start_s == word.start_s
                assert word.parts[-1].end_s == word.end_s


@st.composite
def word_lists(draw: st.DrawFn) -> tuple[list[Word], str]:
    """Words of a text in any script, with any gaps between their tokens."""
    alphabet = st.sampled_from([*"ab ", *CHINESE, *"กา้เ", *"क्ष", "っ", "ー", "sh", "\u200d"])
    symbols = [
        " ",
        *draw(st.lists(alphabet.filter(" ".__ne__), min_size=1, max_size=6, unique=True)),
    ]
    tokenizer = VocabularyTokenizer([BLANK, UNKNOWN, *symbols])
    num = draw(st.integers(0, 150))
    ids = draw(st.lists(st.integers(1, len(symbols) + 1), min_size=num, max_size=num))
    gaps = draw(
        st.lists(st.sampled_from([0, 1, 5, 9, 29, 31, 200, 500]), min_size=num, max_size=num)
    )
    lengths = draw(st.lists(st.sampled_from([1, 1, 2, 40, 400]), min_size=num, max_size=num))
    tokens, frame = [], 0
    for i, gap, length in zip(ids, gaps, lengths, strict=True):
        tokens.append(TokenSpan(i, frame + gap, frame + gap + length, 0.5))
        frame += gap + length
    duration_s = draw(st.sampled_from([frame * HOP_S, frame * HOP_S / 2]))
    return word_times(tokens, tokenizer, hop_s=HOP_S, duration_s=duration_s), tokenizer.decode(ids)


@given(word_lists())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_nothing_is_lost_and_times_are_monotone(made: tuple[list[Word], str]) -> None:
    words, text = made
    segments = to_segments(words)
    found = [word for segment in segments for word in segment.words]
    assert Transcript("a", 1.0, segments, 1.0).text == text
    assert all(word.text for word in found)
    times = [t for word in found for t in (word.start_s, word.end_s)]
    assert times == sorted(times)
    if words:
        assert (times[0], times[-1]) == (words[0].start_s, words[-1].end_s)
    assert all(0 < word.confidence <= 1 for word in found)
    for segment in segments:
        if not fits(segment):  # then it is one word or piece that cannot be cut, or words as before
            last = segment.words[-1]
            assert len(segment.words) == 1 or segment.end_s - segment.start_s <= MAX_SEGMENT_S
            assert len(segment.words) == 1 or not last.joined
    for before, after in pairwise(segments):
        assert before.end_s <= after.start_s


def test_a_row_of_a_table_is_one_line_whatever_the_name() -> None:
    segments = to_segments([Word("a", 0.0, 1.0, 0.5)])
    _, row, end = WRITERS["tsv"](Transcript("x\n\ty\r.wav", 1.0, segments, 0.5)).split("\n")
    assert row.split("\t") == ["x  y .wav", "0.000", "1.000", "0.5000", "a"]
    assert end == ""
