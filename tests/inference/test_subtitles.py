"""Subtitles: what must hold of every cue, for any words at any times; and how they read."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.decoding.align import Word
from speechssl.inference.subtitles import PROFILES, Cue, SubtitleConfig, to_cues
from speechssl.inference.transcript import Segment, Transcript, join_words, to_segments
from speechssl.inference.writers import srt_of, vtt_of
from speechssl.text.graphemes import graphemes, width

ADULTS = PROFILES["adults"]
GAP_MS = 84  # two frames at 24 a second


def transcript(words: list[Word], duration_s: float | None = None) -> Transcript:
    duration_s = (words[-1].end_s if words else 0.0) if duration_s is None else duration_s
    return Transcript("a.wav", duration_s, (Segment(tuple(words)),) if words else (), 0.5)


def said(
    text: str, per_word_s: float = 0.4, start_s: float = 0.5, gap_s: float = 0.05
) -> list[Word]:
    """The words of a text, one after the other."""
    step = per_word_s + gap_s
    return [
        Word(w, start_s + i * step, start_s + i * step + per_word_s, 0.9)
        for i, w in enumerate(text.split())
    ]


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def check(cues: list[Cue], words: list[Word], config: SubtitleConfig = ADULTS) -> None:
    """What holds whatever the words and their times are."""
    shown = squeezed("".join("".join(cue.lines) for cue in cues))
    assert shown == squeezed(join_words(words))
    frame_ms = -(-1000 // config.fps)
    for cue in cues:
        assert 1 <= len(cue.lines) <= config.lines
        assert all(line.strip() == line != "" for line in cue.lines)
        assert all(width(line) <= config.characters for line in cue.lines)
        assert frame_ms <= cue.end_ms - cue.start_ms <= 1000 * config.max_s
        assert cue.start_ms >= 0
    for before, after in pairwise(cues):
        assert after.start_ms - before.end_ms >= 1000 * config.gap_frames / config.fps


def check_readable(cues: list[Cue], config: SubtitleConfig = ADULTS) -> None:
    """What holds beside it where there is room."""
    for cue in cues:
        shown_s = (cue.end_ms - cue.start_ms) / 1000
        assert shown_s >= config.min_s
        assert sum(map(width, cue.lines)) / shown_s <= config.speed
        assert not cue.is_rushed


LETTERS = st.sampled_from(
    [
        "a",
        "b",
        "é",
        "e\u0301",
        "ɔ\u0301",
        "?",
        ".",
        ",",
        "<",
        "&",
        "你",
        "好",
        "ש",
        "לֹ",
        "ب",
        "กำ",
        "👨\u200d👩\u200d👧",
        "🇫🇷",
    ]
)
TEXTS = st.lists(LETTERS, min_size=1, max_size=30).map("".join)


@st.composite
def spoken(draw, slowest_s: float = 3.0) -> list[Word]:
    time = 0.0
    words = []
    for text in draw(st.lists(TEXTS, max_size=25)):
        start = time + draw(st.sampled_from([0.0, 0.0, 0.04, 0.5, 0.6, slowest_s]))
        time = start + draw(st.sampled_from([0.0, 0.02, 0.3, 1.0, 9.0]))
        words.append(Word(text, start, time, 0.5, draw(st.booleans())))
    return words


@settings(deadline=None, max_examples=150)
@given(spoken(), st.floats(0, 5))
def test_any_words_at_any_times(words, rest_s):
    end = words[-1].end_s + rest_s if words else rest_s
    check(to_cues(transcript(words, end)), words)


@settings(deadline=None, max_examples=60)
@given(
    spoken(),
    st.builds(
        SubtitleConfig,
        lines=st.integers(1, 3),
        characters=st.integers(2, 50),
        speed=st.sampled_from([1.0, 5.0, 17.0]),
        min_s=st.sampled_from([0.0, 0.5]),
        max_s=st.sampled_from([0.5, 3.0, 7.0]),
        gap_frames=st.integers(0, 5),
        fps=st.sampled_from([1.0, 23.976, 60.0]),
    ),
)
def test_any_settings(words, config):
    if 1000 / config.fps <= 1000 * config.max_s:
        check(to_cues(transcript(words), config), words, config)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(st.text("abcé", min_size=1, max_size=9), st.sampled_from([0.05, 0.2, 0.7, 2.0])),
        min_size=1,
        max_size=60,
    )
)
def test_speech_that_can_be_read_is_readable(drawn):
    """Ten characters a second: each cue has its time, gaps included."""
    words, time = [], 1.0
    for text, pause_s in drawn:
        words.append(Word(text, time, time + 0.11 * (len(text) + 1), 0.5))
        time = words[-1].end_s + pause_s
    cues = to_cues(transcript(words, time + 2))
    check(cues, words)
    for cue in cues:
        assert not cue.is_rushed or min(len(w.text) for w in words) < 4
    if all(pause_s == 0.05 for _, pause_s in drawn):
        check_readable(cues)


def test_every_cue_ends_within_the_recording():
    words = said("one two three four", start_s=0.1)
    end = words[-1].end_s
    (cue,) = to_cues(transcript(words, end))
    assert cue.end_ms <= 1000 * end
    single = [Word("yes", 9.7, 9.9, 0.9)]
    (cue,) = to_cues(transcript(single, 10.0))
    assert (cue.start_ms, cue.end_ms) == (10_000 - 834, 10_000)  # it begins earlier instead


def test_a_short_word_stays_long_enough():
    words = [Word("yes", 1.0, 1.2, 0.9), Word("no", 4.0, 4.1, 0.9)]
    cues = to_cues(transcript(words, 8.0))
    assert [(c.start_ms, c.end_ms) for c in cues] == [(1000, 1834), (4000, 4834)]


def test_a_word_of_an_hour_is_shown_seven_seconds():
    (cue,) = to_cues(transcript([Word("so", 1.0, 3600.0, 0.9)]))
    assert (cue.start_ms, cue.end_ms) == (1000, 8000)


def test_fast_speech_may_be_shown_later():
    words = said("sixteen letters are here and there " * 3, 0.25, gap_s=0.0)  # 25 a second
    cues = to_cues(transcript(words, words[-1].end_s + 10))
    check(cues, words)
    check_readable(cues)
    starts = {w.start_s for w in words}
    assert 1000 * min(starts) == cues[0].start_ms
    assert cues[-1].end_ms > 1000 * words[-1].end_s


def test_speech_that_is_too_fast_for_long_is_named():
    words = said("sixteen letters are here and there " * 60, 0.2, gap_s=0.0)
    cues = to_cues(transcript(words, words[-1].end_s))
    check(cues, words)
    assert any(cue.is_rushed for cue in cues)
    late = [
        cue.start_ms - 1000 * next(w.start_s for w in words if w.text == cue.lines[0].split()[0])
        for cue in cues[:1]
    ]
    assert max(late) <= 3000


@pytest.mark.parametrize("pause_s", [0.0, 0.3, 0.55])
def test_cues_do_not_flicker(pause_s):
    """Between cues that follow each other are two frames or half a second, nothing else."""
    first = said("this is a sentence that fills about a line.", 0.4)
    then = said("and this is the one after it, also of a line.", 0.4, first[-1].end_s + pause_s)
    a, b = to_cues(transcript([*first, *then], then[-1].end_s + 2))
    assert b.start_ms - a.end_ms in (GAP_MS, *range(500, 600))


def test_breaks_are_at_sentences_commas_and_pauses():
    text = "We went home. It was late, and nobody was there to open the door for us that night."
    cues = to_cues(transcript(said(text, 0.4), 60))
    ends = [cue.lines[-1].split()[-1] for cue in cues]
    assert "home." in ends or all("home." in c.lines[0] for c in cues[:1])
    assert cues[0].lines[0].endswith(("home.", "late,"))
    paused = said("one two three four five six seven eight nine ten", 0.3)
    paused = [
        *paused[:5],
        *(replace(w, start_s=w.start_s + 0.7, end_s=w.end_s + 0.7) for w in paused[5:]),
    ]
    assert [c.lines for c in to_cues(transcript(paused, 20))] == [
        ("one two three four five",),
        ("six seven eight nine ten",),
    ]


def test_two_lines_are_about_equally_long():
    text = "these are about sixty letters of a sentence without a comma"
    (cue,) = to_cues(transcript(said(text, 0.35), 20))
    assert cue.lines == ("these are about sixty letters", "of a sentence without a comma")
    comma = "these are about sixty letters of a sentence, with a comma"
    (cue,) = to_cues(transcript(said(comma, 0.35), 20))
    assert (
        cue.lines == ("these are about sixty letters of a sentence,"[:42],) or len(cue.lines) == 2
    )


def test_a_line_of_42_characters_is_one_line():
    words = said(" ".join(["abcde"] * 7), 0.5)  # 41 characters
    assert [c.lines for c in to_cues(transcript(words, 20))] == [(" ".join(["abcde"] * 7),)]


@pytest.mark.parametrize("mark", ["\u0301", "\u0300\u0323", "\u0302\u0301\u0328"])
def test_tones_take_no_room(mark):
    """Forty-two letters with marks fill a line, however many code points they are."""
    word = ("o" + mark) * 20
    words = [Word(word, 0.5, 3.0, 0.5), Word(word + "x", 3.0, 6.0, 0.5)]
    (cue,) = to_cues(transcript(words, 20))
    assert cue.lines == (f"{word} {word}x",)
    assert len(graphemes(cue.lines[0])) == 42


def test_an_emoji_family_is_one_character():
    family = "👨\u200d👩\u200d👧\u200d👦"
    words = [Word(family * 42, 0.5, 6.0, 0.5)]
    (cue,) = to_cues(transcript(words, 20))
    assert cue.lines == (family * 42,)
    words = [Word(family * 43, 0.5, 6.0, 0.5)]
    (cue,) = to_cues(transcript(words, 20))
    assert [len(graphemes(line)) for line in cue.lines] in ([21, 22], [22, 21])


@pytest.mark.parametrize(
    "text",
    [
        "שלום לכולם, היום נדבר על מזג האוויר. מחר יהיה חם מאוד בכל הארץ, כך אומרים.",
        "السَّلَامُ عَلَيْكُمْ، اليَوْمَ نَتَحَدَّثُ عَنِ الطَّقْسِ. غَدًا سَيَكُونُ الجَوُّ حَارًّا جِدًّا؟",
        "דבר אל 123 אנשים (ABC) היום בצהריים, בבקשה: כן, ועכשיו!",
    ],
)
def test_right_to_left_text_stays_in_the_order_in_which_it_is_said(text):
    """Players turn it round; nothing is added to it or moved in it."""
    words = said(text, 0.5)
    cues = to_cues(transcript(words, 60))
    check(cues, words)
    assert " ".join(" ".join(cue.lines) for cue in cues) == text


SPACELESS = {
    "Chinese": "今天天气很好，我们去公园看花。然后回家吃饭，晚上再一起看书，明天还要早起上班。",
    "Japanese": "きょうはとてもいいてんきですね。こうえんへいきましょう、そしてやすみましょう。"
    * 2,
    "Thai": "วันนี้อากาศดีมากเราไปเที่ยวสวนสาธารณะกันเถอะแล้วกลับบ้านกินข้าว" * 2,
    "Khmer": "ថ្ងៃនេះអាកាសធាតុល្អណាស់យើងទៅសួនច្បារហើយត្រឡប់មកផ្ទះវិញ" * 2,
    "Burmese": "ဒီနေ့ရာသီဥတုသာယာတယ်ပန်းခြံသွားကြရအောင်ပြီးရင်အိမ်ပြန်မယ်" * 2,
}


@pytest.mark.parametrize("script", SPACELESS)
def test_scripts_without_spaces(script):
    text = SPACELESS[script]
    parts = tuple(Word(c, 0.5 + 0.15 * i, 0.6 + 0.15 * i, 0.5) for i, c in enumerate(text))
    whole = Word(text, parts[0].start_s, parts[-1].end_s, 0.5, True, parts)
    for segments in (to_segments([whole]), (Segment((whole,)),)):
        words = [word for segment in segments for word in segment.words]
        cues = to_cues(Transcript("a", parts[-1].end_s + 3, segments, 0.5))
        check(cues, words)
        assert "".join("".join(cue.lines) for cue in cues) == text
        clusters = {c for cue in cues for line in cue.lines for c in graphemes(line)}
        assert clusters == set(graphemes(text))  # none is cut
        check_readable(cues)


def test_wide_letters_count_twice():
    words = [Word("今" * 21, 0.5, 6.0, 0.5, True), Word("天" * 21, 6.0, 12.0, 0.5, True)]
    assert [len(c.lines) for c in to_cues(transcript(words, 20))] == [1, 1]
    assert width("今天ab") == 6


def test_a_long_word_without_known_tokens_is_cut_evenly():
    words = [Word("abcdefghij" * 13, 1.0, 14.0, 0.5)]
    cues = to_cues(transcript(words, 20))
    check(cues, words)
    assert len(cues) >= 2
    assert cues[1].start_ms > 5000


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\ufeff", "\n"])
def test_what_nobody_sees_is_no_cue(text):
    assert to_cues(transcript([Word(text, 0.0, 1.0, 0.5)])) == []
    words = [Word("a", 0.0, 1.0, 0.5), Word(text, 1.0, 2.0, 0.5), Word("b", 2.0, 2.5, 0.5)]
    assert all(line in ("a b", "a", "b") for c in to_cues(transcript(words)) for line in c.lines)
    assert to_cues(transcript([])) == []


def test_a_line_break_within_a_word_ends_no_cue():
    (cue,) = to_cues(transcript([Word("a\n\nb", 0.0, 1.0, 0.5)]))
    assert cue.lines == ("a b",)


def test_vtt_escapes_and_srt_does_not():
    cues = [Cue(0, 1000, ("<b> & --> x", "1 > 0"), 834)]
    assert vtt_of(cues) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n&lt;b&gt; &amp; --&gt; x\n1 &gt; 0\n\n"
    )
    assert srt_of(cues) == "1\n00:00:00,000 --> 00:00:01,000\n<b> & --> x\n1 > 0\n\n"


def test_hours_and_numbers():
    cues = [Cue(0, 900, ("a",), 834), Cue(3_661_001, 360_000_000, ("b",), 834)]
    assert srt_of(cues).split("\n\n")[1] == "2\n01:01:01,001 --> 100:00:00,000\nb"


@pytest.mark.parametrize("name", PROFILES)
def test_profiles(name):
    config = PROFILES[name]
    text = "a profile has its own lines and its own speed, which every cue of it keeps. " * 4
    words = said(text, 0.45)
    cues = to_cues(transcript(words, words[-1].end_s + 5), config)
    check(cues, words, config)
    check_readable(cues, config)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lines": 0}, "lines must be from 1 to 10, got 0"),
        ({"characters": 1}, "characters must be from 2 to 1000, got 1"),
        ({"speed": 0}, "speed must be from 1"),
        ({"speed": float("nan")}, "speed must be from 1"),
        ({"max_s": float("inf")}, "max_s must be from 0.5 to 3600"),
        ({"min_s": -1}, "min_s must be from 0"),
        ({"min_s": 8}, "min_s must not be above max_s, got 8 and 7"),
        ({"gap_frames": -1}, "gap_frames must be from 0"),
        ({"fps": 0}, "fps must be from 1"),
        ({"delay_s": -1}, "delay_s must be from 0"),
    ],
)
def test_settings_that_no_cue_can_have(changes, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        SubtitleConfig(**changes)


def test_an_hour_takes_no_time():
    import time

    words = said("it is a long talk, and it has many words in it. " * 800, 0.35)
    started = time.process_time()
    cues = to_cues(transcript(words))
    assert time.process_time() - started < 10
    check(cues, words)
