"""Named normalisers: the form in which transcripts are compared.

Nothing here knows a language. Diacritics and tone marks are kept, scripts without case pass
through, and every text is brought to Unicode NFC, so that a letter typed as one code point and the
same letter typed as two are equal.

What the keyboards of one script type in several ways is one letter for "basic": apostrophes,
hyphens, full-width and half-width forms, presentation forms, and the letters that older Unicode
versions spelled with a zero-width joiner.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache

# --- tables ---------------------------------------------------------------------------------------


def _ranges(*bounds: tuple[int, int]) -> list[int]:
    return [code for first, last in bounds for code in range(first, last + 1)]


_UNSEEN: dict[int, str | None] = {
    # Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt, except the zero-width
    # joiners (U+200C, U+200D), Mongolian's vowel separator (U+180E) and the jamo fillers of old
    # Hangul (U+115F, U+1160), which change how a word is read.
    **dict.fromkeys(
        _ranges(
            (0x00AD, 0x00AD),  # soft hyphen
            (0x034F, 0x034F),  # combining grapheme joiner
            (0x061C, 0x061C),  # Arabic letter mark
            (0x17B4, 0x17B5),  # Khmer's inherent vowels
            (0x180B, 0x180D),  # Mongolian variation selectors
            (0x180F, 0x180F),
            (0x200E, 0x200F),  # left-to-right and right-to-left mark
            (0x202A, 0x202E),  # embeddings and overrides of direction
            (0x2060, 0x206F),  # word joiner, isolates of direction
            (0xFE00, 0xFE0F),  # variation selectors
            (0xFEFF, 0xFEFF),  # byte order mark, or zero-width no-break space
            (0xFFF0, 0xFFFB),
            (0x1BCA0, 0x1BCA3),
            (0x1D173, 0x1D17A),
            (0xE0000, 0xE0FFF),  # tags, more variation selectors
        )
    ),
    # Zero-width space, which separates words in Khmer, Thai, Lao and Burmese; blank letters.
    **dict.fromkeys([0x200B, 0x2800, 0x3164, 0xFFA0], " "),
}

_APOSTROPHES = "’‘‛＇´`′՚"  # typed for ' on some keyboards and in word processors
_LETTER_APOSTROPHES = frozenset("ʼʻʹꞌ")  # letters of Ukrainian, Hawaiian, Uzbek, Tlapanec, ...
_HEBREW_QUOTES = frozenset("'\"“”″")  # typed for geresh and gershayim
_HYPHENS = "‐‑－﹣"
_STRETCHED = "ـߺ"  # tatweel and N'Ko's lajanyalan only make a word wider


def _compatible(code: int) -> str | None:
    """The letters that a presentation, full-width or half-width form stands for; None if none."""
    text = unicodedata.normalize("NFKC", chr(code))
    return None if text == chr(code) or text.startswith(" ") else text.strip(_STRETCHED)


_FOLD: dict[int, str | None] = {
    **{
        code: text
        for code in _ranges(
            (0xFF01, 0xFF5E),  # full-width ASCII
            (0xFF65, 0xFF9F),  # half-width katakana
            (0xFB00, 0xFB06),  # Latin ligatures
            (0xFB13, 0xFB17),  # Armenian ligatures
            (0xFB20, 0xFB28),  # Hebrew wide letters
            (0xFB50, 0xFDFB),  # Arabic presentation forms, as PDF files hold them
            (0xFE70, 0xFEFC),
        )
        if (text := _compatible(code)) is not None
    },
    **dict.fromkeys(map(ord, _APOSTROPHES), "'"),
    **dict.fromkeys(map(ord, _HYPHENS), "-"),
    **dict.fromkeys(map(ord, _STRETCHED), None),
}

_ANY_UNSEEN = re.compile(f"[{re.escape(''.join(map(chr, _UNSEEN)))}]")
_ANY_TO_FOLD = re.compile(f"[{re.escape(''.join(map(chr, _FOLD)))}]")

_WITH_JOINER = {
    # The Unicode Standard, chapter 12: Bengali khanda ta, and Malayalam chillu letters as they were
    # spelled before Unicode 5.1.
    "ত্\u200d": "ৎ",
    "ണ്\u200d": "ൺ",
    "ന്\u200d": "ൻ",
    "ര്\u200d": "ർ",
    "ല്\u200d": "ൽ",
    "ള്\u200d": "ൾ",
    "ക്\u200d": "ൿ",
}

_JOINERS = frozenset("'-·׳״\u180e")  # kept between two word characters, nowhere else
_INNER = _JOINERS | _LETTER_APOSTROPHES | _HEBREW_QUOTES
_ZERO_WIDTH = re.compile("[\u200c\u200d]+")
_JOINERLESS = re.compile(
    "LATIN|GREEK|CYRILLIC|ARMENIAN|GEORGIAN|HEBREW|ETHIOPIC|CHEROKEE|CANADIAN|THAI|LAO|CJK|HANGUL|"
    "BOPOMOFO|HIRAGANA|KATAKANA|COMBINING|MODIFIER|DIGIT"
)
"""How the Unicode names of letters begin whose shape no zero-width joiner changes."""

_SOFT_DOTTED = re.compile("(?<=[ij])\u0307(?![\u0300-\u0314\u033d-\u0344\u0346\u034a-\u034c])")
"""A dot above an i or j, which has one, unless another accent above makes it visible."""

# --- normalisers ----------------------------------------------------------------------------------


def _none(text: str) -> str:
    """NFC, runs of white space to one space, no space at the ends."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _lower(text: str) -> str:
    """`_none` and lower case, without what nobody sees.

    Byte order marks, direction marks, word joiners, soft hyphens and variation selectors go; the
    zero-width space is a space. Zero-width joiners stay.
    """
    if _ANY_UNSEEN.search(text):
        text = text.translate(_UNSEEN)
    return _none(lower_case(_none(text)))


def _basic(text: str) -> str:
    """`_lower` without punctuation and symbols; apostrophes and hyphens stay within words.

    Letters, digits, combining marks and tone letters (˥ ˩ ꞉) stay. Typographic apostrophes and
    hyphens become ' and -, and so do the letters ʼ ʻ ʹ ꞌ within a word, because keyboards give any
    of them; where they begin or end a word they stay, as ' may be a quotation mark there. Between
    Hebrew letters ' and " become geresh and gershayim. Tatweel goes, full-width and half-width
    letters and presentation forms become plain ones.

    A zero-width joiner or non-joiner stays within a word of a script whose letters it changes
    (Arabic, Mongolian, the scripts of India and South-East Asia): in Persian it holds a word
    together, behind a virama it chooses the form. Elsewhere, and at the ends of words, it goes.

    An orthography that writes tone with an apostrophe or hyphen at the beginning of a word (several
    of Côte d'Ivoire do) loses it here: use "lower" for those.
    """
    text = _lower(text)
    if _ANY_TO_FOLD.search(text):
        text = unicodedata.normalize("NFC", text.translate(_FOLD))
    if _ZERO_WIDTH.search(text):
        for spelled, letter in _WITH_JOINER.items():
            text = text.replace(spelled, letter)
        text = _ZERO_WIDTH.sub(_zero_width, text)
    kept = []
    for before, char, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if char in _INNER and _in_word(before) and _in_word(after):
            kept.append(_within_word(before, char, after))
        else:
            kept.append(char if _in_word(char) else " ")
    return _none("".join(kept))


def _within_word(before: str, char: str, after: str) -> str:
    """What becomes of `char` between two word characters."""
    if char in _LETTER_APOSTROPHES and not _LETTER_APOSTROPHES & {before, after}:
        char = "'"
    if char in _HEBREW_QUOTES and _is_hebrew(before) and _is_hebrew(after):
        return "׳" if char == "'" else "״"
    return " " if char in _HEBREW_QUOTES - _JOINERS else char


def _zero_width(match: re.Match[str]) -> str:
    """The first of a run of zero-width joiners where it changes the word, else nothing."""
    text, start, end = match.string, match.start(), match.end()
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    beside = {before, after}
    if "" in beside or beside & _LETTER_APOSTROPHES or not all(map(_in_word, beside)):
        return ""
    return "" if _JOINERLESS.match(unicodedata.name(before, "DIGIT")) else match[0][0]


@cache
def _in_word(char: str) -> bool:
    """Letters, marks, digits, private use; the modifier symbols that write tone (U+02C2 on); and
    zero-width joiners, of which only those within words are left."""
    category = unicodedata.category(char)
    tone = category == "Sk" and char > "\u00ff"
    return category[0] in "LMN" or category == "Co" or tone or char in "\u200c\u200d"


def _is_hebrew(char: str) -> bool:
    """Letters and their points."""
    return "\u0591" <= char <= "\u05bd" or "\u05bf" <= char <= "\u05f2"


NORMALIZERS: dict[str, Callable[[str], str]] = {"none": _none, "lower": _lower, "basic": _basic}


def normalize(text: str, name: str) -> str:
    """`text` through the normaliser called `name`: "none", "lower" or "basic"; each is idempotent.

    An error rate means nothing without its normaliser, so results store this name beside the
    number. Raises ValueError for an unknown name.
    """
    if name not in NORMALIZERS:
        allowed = ", ".join(NORMALIZERS)
        raise ValueError(f'There is no normaliser "{name}"; choose one of: {allowed}.')
    return NORMALIZERS[name](text)


def lower_case(text: str) -> str:
    """``str.lower`` (no case folding: ß stays ß) in NFC, with İ as a plain i.

    Python makes two code points of İ, i and a dot above, which differ from the i that everybody
    types. I becomes i in every language, also in Turkish, where it is the capital of ı.
    """
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    return _SOFT_DOTTED.sub("", text) if "\u0307" in text else text
