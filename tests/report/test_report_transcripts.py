import html
import re

import pytest

from speechssl.report.transcripts import (
    Sample,
    align_words,
    mark_differences,
    transcripts_section,
)
from speechssl.rng import rng


def seen(marked: str) -> str:
    """What was written, read back from the marks."""
    kept = re.sub(r"<s>.*?</s>|<span class=\"nothing\">.*?</span>", "", marked)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", kept)).split())


@pytest.mark.parametrize("trial", range(20))
def test_alignment_keeps_every_word_in_order(trial):
    generator = rng(0, "align", trial)
    words = ["a", "bc", "bd", "éf", "<&>"]
    said, written = (
        [words[i] for i in generator.integers(0, 5, generator.integers(0, 8))] for _ in range(2)
    )
    pairs = align_words(said, written)
    assert [a for a, _ in pairs if a is not None] == said
    assert [b for _, b in pairs if b is not None] == written
    assert seen(mark_differences(" ".join(said), " ".join(written))) == " ".join(written)


def test_the_right_text_has_no_marks():
    assert mark_differences("wó twεrε ya", "wó twεrε ya") == "wó twεrε ya"


def test_what_is_wrong_missing_and_extra_is_marked():
    assert mark_differences("the old cat", "the cat") == "the <s>old</s> cat"
    assert mark_differences("the cat", "the the cat").count("<ins>the</ins>") == 1
    wrong = mark_differences("teacher", "teecher")
    assert wrong == '<span class="wrong" title="teacher">te<em>e</em>cher</span>'
    assert 'sev<i class="gap"></i>n' in mark_differences("seven", "sevn")


def test_words_that_share_letters_are_paired():
    pairs = align_words(["the", "teacher", "bought"], ["teecher", "bought"])
    assert pairs == [("the", None), ("teacher", "teecher"), ("bought", "bought")]


def test_nothing_written_is_said_and_nothing_said_too():
    assert "nothing written" in mark_differences("a b", "")
    assert mark_differences("", "a") == "<ins>a</ins>"
    assert "nothing written" in mark_differences("", "")


def test_marks_do_not_part_a_letter_from_its_accent():
    assert "<em>e\u0301</em>" in mark_differences("abe\u0300", "abe\u0301")


def test_texts_are_escaped():
    samples = [Sample("<i>&", (("<m>", '<script>"'),))]
    page = transcripts_section(samples, lambda _: "c0")
    assert "<script>" not in page
    assert "<m>" not in page
    assert "&lt;i&gt;&amp;" in page


def test_no_samples_no_section():
    assert transcripts_section([], lambda _: "c0") == ""
