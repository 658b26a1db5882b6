"""What a person sees as one character: a letter with its marks, a syllable, an emoji.

Extended grapheme clusters of Unicode Standard Annex 29 (rules GB3 to GB13), from the properties
that Python's unicodedata has; the few lists that it lacks are below.
"""

import unicodedata
from functools import lru_cache

_JOINER = "\u200d"
_EXTENDS = "\u200c\u200d\uff9e\uff9f"
"""Beside marks: the zero-width joiners, half-width voiced marks."""
_SPACING = "\u0e33\u0eb3"
"""Letters that belong to the one before them: Thai and Lao am."""
_APART = frozenset(
    "\u102b\u102c\u1038\u1062\u1063\u1064\u1067\u1068\u1069\u106a\u106b\u106c\u106d\u1083\u1087"
    "\u1088\u1089\u108a\u108b\u108c\u108f\u109a\u109b\u109c\u1a61\u1a63\u1a64\uaa7b\uaa7d"
    "\U00011720\U00011721"
)
"""Spacing marks that are characters of their own (Burmese aa, tones of Shan and Khamti)."""
_PREPENDED = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd"
)
"""Signs that belong to what follows."""
_VIRAMAS = "\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d\u1039\u17d2"
"""A consonant behind one of them is one letter with what is before: in Devanagari, Bengali,
Gujarati, Oriya, Telugu, Malayalam, Burmese and Khmer."""
_PICTURES = frozenset("\u00a9\u00ae\u203c\u2049\u2122\u2139\u3030\u303d")
"""Beside the symbols (So): what is drawn as an emoji."""


def graphemes(text: str) -> list[str]:
    """The clusters of `text`, which joined are `text`."""
    if text.isascii() and "\r" not in text:
        return list(text)
    found: list[str] = []
    for char in text:
        if found and _continues(found[-1], char):
            found[-1] += char
        else:
            found.append(char)
    return found


def width(text: str) -> int:
    """How many characters `text` takes in a line of subtitles: one for each cluster, two for the
    wide letters of Chinese, Japanese and Korean, which are as wide as two others."""
    return len(text) if text.isascii() else sum(map(_cluster_width, graphemes(text)))


@lru_cache(1 << 14)
def _cluster_width(cluster: str) -> int:
    first = cluster[0]
    wide = unicodedata.east_asian_width(first) in "WF"
    return 2 if wide and unicodedata.category(first)[0] in "LNP" else 1


def _continues(cluster: str, char: str) -> bool:
    """Whether `char` belongs to the cluster before it."""
    last = cluster[-1]
    if _is_control(last) or _is_control(char):
        return last == "\r" and char == "\n"
    if _extends(char) or _is_spacing(char) or last in _PREPENDED:
        return True
    if _hangul(last) + _hangul(char) in _SYLLABLES:
        return True
    if _is_flag(char):
        return _is_flag(last) and len(cluster.rstrip(_JOINER)) % 2 == 1
    if last == _JOINER and _is_picture(char):
        return _is_picture(cluster[0])
    return _is_consonant(char) and _ends_in_virama(cluster)


@lru_cache(1 << 12)
def _is_control(char: str) -> bool:
    category = unicodedata.category(char)
    if category == "Cf":
        return not (_extends(char) or char in _PREPENDED)
    return category in ("Cc", "Zl", "Zp")


@lru_cache(1 << 12)
def _extends(char: str) -> bool:
    """Marks, joiners, skin tones, and the tags of flags."""
    return (
        unicodedata.category(char) in ("Mn", "Me")
        or char in _EXTENDS
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
    )


def _is_spacing(char: str) -> bool:
    return char in _SPACING or (unicodedata.category(char) == "Mc" and char not in _APART)


_SYLLABLES = frozenset(("LL", "LV", "LG", "LH", "VV", "VT", "GV", "GT", "TT", "HT"))
"""Which jamo belong together: leading L, vowel V, trailing T, syllables G without and H with T."""


def _hangul(char: str) -> str:
    code = ord(char)
    if 0x1100 <= code <= 0x115F or 0xA960 <= code <= 0xA97C:
        return "L"
    if 0x1160 <= code <= 0x11A7 or 0xD7B0 <= code <= 0xD7C6:
        return "V"
    if 0x11A8 <= code <= 0x11FF or 0xD7CB <= code <= 0xD7FB:
        return "T"
    if 0xAC00 <= code <= 0xD7A3:
        return "H" if (code - 0xAC00) % 28 else "G"
    return "-"


def _is_flag(char: str) -> bool:
    """A regional indicator, of which two are a flag."""
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _is_picture(char: str) -> bool:
    return (unicodedata.category(char) == "So" and not _is_flag(char)) or char in _PICTURES


def _is_consonant(char: str) -> bool:
    """Of the scripts that have these viramas: by its place in its block."""
    code = ord(char)
    if 0x1000 <= code <= 0x1021 or 0x1780 <= code <= 0x17A2:
        return True
    place = code % 0x80
    return (
        code - place in _INDIC
        and (0x15 <= place <= 0x39 or 0x58 <= place <= 0x5F or place in (0x70, 0x71, 0x78, 0x79))
        and unicodedata.category(char) == "Lo"
    )


_INDIC = (0x0900, 0x0980, 0x0A80, 0x0B00, 0x0C00, 0x0D00)


def _ends_in_virama(cluster: str) -> bool:
    """Whether it ends in a virama, behind which only marks and joiners may be."""
    for char in reversed(cluster):
        if char in _VIRAMAS:
            return True
        if not _extends(char):
            return False
    return False
