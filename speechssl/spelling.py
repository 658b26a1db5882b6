"""When two names are one name, and when a text says nothing: the Unicode side of identity.

The same letter can be one code point or several (é is U+00E9, or e and U+0301), and characters that
nobody sees (zero-width spaces, byte order marks, direction marks) come along when text is copied.
Names and transcripts are therefore compared by a key; what is opened or shown stays as given.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

_NO_GLYPH = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]"
)
"""Letters and marks that show nothing: fillers, variation selectors, the empty Braille cell.
(Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt, without its format
characters, which have a category of their own.)"""

_SHOWN = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
"""Format characters that are drawn: number signs and the like (Prepended_Concatenation_Mark)."""

_PLAIN_SPACE = frozenset(" \t\n\r\u3000")
"""White space that people type and see."""


@cache
def is_invisible(character: str) -> bool:
    """Whether nothing is drawn for a character: white space, control and format characters,
    fillers."""
    category = unicodedata.category(character)
    if category[0] == "Z" or category in ("Cc", "Cf"):
        return character not in _SHOWN
    return bool(_NO_GLYPH.match(character)) or "\U000e0100" <= character <= "\U000e01ef"


def is_blank(text: str | None) -> bool:
    """Whether a transcript is missing, or nothing of it can be seen: nobody wrote down what was
    said, which is not the same as silence."""
    return text is None or all(map(is_invisible, text))


def name_key(name: str) -> str:
    """The form in which names (speakers, ids, paths) are compared.

    NFC, without invisible characters, white space collapsed and none at the ends. Upper and lower
    case stay apart.
    """
    if name.isascii() and name.isprintable() and " " not in name:
        return name
    seen = "".join(c for c in name if c.isspace() or not is_invisible(c))
    return " ".join(unicodedata.normalize("NFC", seen).split())


def free_name(
    name: str,
    taken: set[str],
    *,
    ending: str = "",
    mark: str = "-",
    key: Callable[[str], str] = name_key,
) -> str:
    """The name and its ending, or ``name-2`` and its ending, and so on: the first whose key is not
    in `taken`, to which it is added."""
    number, found = 1, f"{name}{ending}"
    while key(found) in taken:
        number += 1
        found = f"{name}{mark}{number}{ending}"
    taken.add(key(found))
    return found


def text_key(text: str) -> str:
    """The form in which sentences are compared: NFKC without case and invisible characters, white
    space collapsed; punctuation stays."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return name_key(folded)


def invisible_characters(text: str) -> list[str]:
    """The characters of `text` that nobody sees and nobody expects: all that are invisible but
    spaces, tabs and ends of lines."""
    if text.isprintable() and not _NO_GLYPH.search(text):  # printable: no control, no format
        return []
    return [c for c in text if is_invisible(c) and c not in _PLAIN_SPACE]


def count_invisible(texts: Iterable[str]) -> dict[str, int]:
    """``{"U+200B ZERO WIDTH SPACE": how often}``, the most frequent first."""
    counts = Counter(c for text in texts for c in invisible_characters(text))
    return {character_name(c): n for c, n in sorted(counts.items(), key=lambda i: (-i[1], i[0]))}


def character_name(character: str) -> str:
    """``U+00AD SOFT HYPHEN``."""
    name = unicodedata.name(character, "control character")
    return f"U+{ord(character):04X} {name}" + " (byte order mark)" * (character == "\ufeff")
