"""How wide a text is where every character has one column or two."""

import unicodedata


def columns_of(text: str) -> int:
    """Columns of a terminal that `text` takes: none for combining marks, two for wide letters."""
    return sum(
        0
        if unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )
