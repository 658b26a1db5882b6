"""The name that a person meant."""

from collections.abc import Iterable

_MANY = 30
"""Above so many, names are not all listed."""


def closest(name: str, known: Iterable[str]) -> list[str]:
    """The known name that is almost `name`, else three at most that are like it, as a whole or
    behind their last dot."""
    import difflib

    known = list(known)
    if best := difflib.get_close_matches(name, known, n=1, cutoff=0.85):
        return best
    short = {k.rsplit(".", 1)[-1]: k for k in known}
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    ends = difflib.get_close_matches(name.rsplit(".", 1)[-1], short, n=3, cutoff=0.6)
    return list(dict.fromkeys([*close, *(short[end] for end in ends)]))[:3]


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A sentence with the :func:`closest` names, or with all of them, or where they are many with
    what they begin with; `prefix` is put before each (``--``)."""
    known = list(known)
    if found := closest(name, known):
        return f"Perhaps {' or '.join(prefix + each for each in found)}?"
    if len(known) > _MANY:
        known = list(dict.fromkeys(k.split(".")[0] + ".…" * ("." in k) for k in known))
    return f"Known: {', '.join(prefix + each for each in known)}."
