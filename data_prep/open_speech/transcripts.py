"""Transcripts in one alphabet for all languages: romanised, and as phones.

Romanised by uroman (Hermjakob et al., ACL 2018): letters a to z, the apostrophe and the space.
Phones by espeak-ng, in IPA without stress and tone.
"""

import ctypes
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_prep.open_speech.languages import PINYIN_VOICE, VOICES
from speechssl.data.synthetic.espeak import espeak_loader

_PINYIN = re.compile(r"(?:[a-zü:]+[0-5] ?)+")
_BRACKETS = re.compile(r"\([^)]*\)|\[[^\]]*\]|<[^>]*>")
_TONE_NAMES = re.compile(r"tone-?\d")
_QUOTES = str.maketrans("’‘ʼ`´ʔɂɁ", "'" * 8)
"""A glottal stop is an apostrophe in many spellings; uroman takes some of its letters for ST."""
_MODIFIERS = dict.fromkeys(map(ord, "ːˑˤ"))
"""Marks of length and of pharyngeal sounds in IPA, which uroman keeps or takes for ST."""


def readable(text: str | None) -> str | None:
    """The text without what is not said (brackets); None where it is blank or holds digits, which
    are said in words that are not written."""
    if text is None:
        return None
    text = " ".join(_BRACKETS.sub(" ", unicodedata.normalize("NFC", text)).split())
    if not any(c.isalpha() for c in text):
        return None
    if any(c.isnumeric() and not unicodedata.category(c).startswith("Lo") for c in text):
        return text if _PINYIN.fullmatch(text) else None
    return text


def is_pinyin(text: str) -> bool:
    """Whether a Mandarin text is syllables with tone digits."""
    return _PINYIN.fullmatch(text) is not None


@lru_cache(maxsize=1)
def _uroman() -> Any:
    try:
        import uroman
    except ImportError as error:
        raise ValueError(
            "romanised transcripts need the package uroman; install it with: "
            "pip install 'speechssl[seed]'"
        ) from error
    return uroman.Uroman()


@lru_cache(maxsize=1 << 16)
def romanised(text: str, language: str) -> str:
    """A readable text in lower-case letters a to z, apostrophes and spaces; '' where nothing is
    left."""
    if language == "cmn" and is_pinyin(text):
        text = re.sub(r"[0-5]", "", text).replace("u:", "v").replace("ü", "v")
    text = unicodedata.normalize("NFC", text).translate(_QUOTES | _MODIFIERS)
    found = _uroman().romanize_string(text, lcode=language)
    found = _TONE_NAMES.sub("", found.translate(_QUOTES).lower())
    found = re.sub(r"(?<![a-z])'|'(?![a-z])", " ", found)  # quotes, not apostrophes
    found = re.sub(r"[^a-z' ]+", _join_or_split, found)
    return " ".join(found.split())


def _join_or_split(found: re.Match[str]) -> str:
    """Marks within a word vanish, such as the colon of a long vowel; others part words."""
    text = found.string
    inside = found.start() > 0 and found.end() < len(text)
    within = inside and text[found.start() - 1].isalpha() and text[found.end()].isalpha()
    return "" if within and found[0] in (":", "?", "·", "^") else " "


_STRESS = dict.fromkeys(map(ord, "ˈˌ͡|‖.-_'?"), None)
_TONES = re.compile(r"[0-9˥˦˧˨˩↗↘]+")
_SWITCH = re.compile(r"\([a-z-]+\)")


def plain_ipa(phones: str) -> str:
    """IPA in NFD without stress, tone and ties."""
    text = unicodedata.normalize("NFD", phones)
    text = _TONES.sub("", text.translate(_STRESS))
    return " ".join(text.split())


class Phones:
    """espeak-ng's way from text to IPA; one per process, since the library keeps global state."""

    _RETRIEVAL, _DO_NOT_EXIT, _UTF8, _IPA = 1, 0x8000, 1, 2

    def __init__(self) -> None:
        library, data, self.version = espeak_loader()
        self._library = ctypes.CDLL(library)
        self._folder = Path(data).parent
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        name = os.fsencode(Path(data).name)
        with self._at_data():
            rate = self._library.espeak_Initialize(self._RETRIEVAL, 0, name, self._DO_NOT_EXIT)
        if rate <= 0:
            raise ValueError(f"espeak-ng cannot use its data in {data}; reinstall espeakng-loader.")

    @contextmanager
    def _at_data(self) -> Iterator[None]:
        """The library keeps the path of its data in 160 bytes, and reads dictionaries when they are
        needed: the relative path is short."""
        here = os.getcwd()
        os.chdir(self._folder)
        try:
            yield
        finally:
            os.chdir(here)

    def of(self, text: str, voice: str) -> str:
        """IPA of a text, as espeak-ng gives it; ValueError where it has no such voice."""
        content = ctypes.create_string_buffer(text.encode())
        rest = ctypes.c_void_p(ctypes.addressof(content))
        clauses = []
        with self._at_data():
            if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise ValueError(f"espeak-ng has no voice {voice}.")
            while rest.value:
                found = self._library.espeak_TextToPhonemes(
                    ctypes.byref(rest), self._UTF8, self._IPA
                )
                clauses.append((found or b"").decode())
        return " ".join(clauses)


@lru_cache(maxsize=1)
def _phones() -> Phones:
    return Phones()


@lru_cache(maxsize=1 << 16)
def ipa(text: str, language: str) -> str | None:
    """A readable text as phones; None where espeak-ng does not know the language, or takes a word
    for one of another language, which is wrong more often than right."""
    voice = VOICES.get(language)
    if voice is None:
        return None
    if language == "cmn" and is_pinyin(text):
        voice = PINYIN_VOICE
    if voice == PINYIN_VOICE:
        text = text.replace("u:", "v").replace("ü", "v")
    phones = _phones().of(text, voice)
    if _SWITCH.search(phones):
        return None
    if language == "cmn":  # tones are digits, and 3 is the ASCII name of \u025c
        phones = phones.replace("\u025c", "")
    return plain_ipa(phones) or None
