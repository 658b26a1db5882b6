"""Transcripts in one alphabet: romanised, and as phones."""

import sys

import pytest

from data_prep.open_speech import transcripts
from data_prep.open_speech.languages import PINYIN_VOICE, VOICES
from data_prep.open_speech.transcripts import ipa, is_pinyin, plain_ipa, readable, romanised


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        (" \u200b...", None),
        ("  Guten \n Tag. ", "Guten Tag."),
        ("Una moneda ($0,25)", "Una moneda"),
        ("A [noise] cat", "A cat"),
        ("25 cents", None),
        ("۲۵ ثانیه", None),
        ("⑦ x", None),
        ("zhuo2", "zhuo2"),
        ("nü3 ren2", "nü3 ren2"),
        ("room2b", None),
        ("e\u0301te\u0301", "\xe9t\xe9"),
        ("一 也", "一 也"),
    ],
)
def test_readable(text: str | None, expected: str | None) -> None:
    assert readable(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("ma1", True), ("lu:4", True), ("ma", False)])
def test_is_pinyin(text: str, expected: bool) -> None:
    assert is_pinyin(text) is expected


@pytest.mark.parametrize(
    ("phones", "expected"),
    [
        ("ɡˈuːtən tˈɑːk", "ɡuːtən tɑːk"),
        ("t͡ʃa", "tʃa"),
        ("ma˥˧ 51", "ma"),
        ("alɔ̃ʒe", "alɔ̃ʒe"),
        ("\xe3", "a\u0303"),
        ("a_b-c", "abc"),
        ("", ""),
    ],
)
def test_plain_ipa(phones: str, expected: str) -> None:
    assert plain_ipa(phones) == expected


@pytest.mark.extras
@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("语音识别", "cmn", "yuyinshibie"),
        ("zhuo2 nü3", "cmn", "zhuo nv"),
        ("lu:4", "cmn", "lv"),
        ("Ja:ni u:du:ji.", "chr", "jani uduji"),
        ("A̋ɂda", "chr", "a'da"),
        ("ọjọ́ ìbí", "yor", "ojo ibi"),
        ("l’élève d'aujourd'hui", "fra", "l'eleve d'aujourd'hui"),
        ("‘so’ 'x'", "eng", "so x"),
        ("Größe-Test", "deu", "groesse test"),
        ("ခွဲးဟောဝ်ဒျာႏ", "blk", "khwaiheaawdyaa"),
        ("...", "eng", ""),
        ("sˤifr ʔiɣlaːq", "ara", "sifr iglaq"),
        ("θalaːθa muwaːfiq", "ara", "thalatha muwafiq"),
        ("taˑb aː", "fin", "tab a"),
        ("ʃiːp", "eng", "ship"),
    ],
)
def test_romanised(text: str, language: str, expected: str) -> None:
    pytest.importorskip("uroman")
    found = romanised(text, language)
    assert found == expected
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz' ")


@pytest.mark.extras
@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Co je to za divnou loď?", "ces", "tso je to zaɟivnoʊ loc"),
        ("one two, three.", "eng", "wʌn tuː θɹiː"),
        ("你好", "cmn", "niχɑu"),
        ("zhuo2", "cmn", "tsuo"),
        ("Un chien allongé.", "fra", "œ\u0303 ʃjɛ\u0303 alɔ\u0303ʒe"),
        ("ọjọ́ ìbí", "yor", None),
        ("sunu", "wol", None),
    ],
)
def test_phones(text: str, language: str, expected: str | None) -> None:
    pytest.importorskip("espeakng_loader")
    assert ipa(text, language) == expected


@pytest.mark.extras
def test_every_voice_is_known() -> None:
    pytest.importorskip("espeakng_loader")
    phones = transcripts.Phones()
    for voice in (*VOICES.values(), PINYIN_VOICE):
        phones.of("a", voice)
    with pytest.raises(ValueError, match="no voice tlh"):
        phones.of("a", "tlh")


def test_without_uroman_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uroman", None)
    transcripts._uroman.cache_clear()
    with pytest.raises(ValueError, match=r"speechssl\[seed\]"):
        romanised("xyz not seen before", "eng")
