"""A text that is known before: files of it, its words, and how a model spells each of them.

What is aligned are the model's symbols; what is written out are the words as they stand in the
file, with their capitals and punctuation.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speechssl.inference.transcript import is_bound
from speechssl.spelling import is_blank
from speechssl.text import SPACE, WORD_MARK, Tokenizer, normalize
from speechssl.text.encodings import decode

LONG_WORD = 24
"""A word of more letters is of a script without spaces: its letters are aligned one by one."""

MOST_UNKNOWN = 0.5
"""A text of which a larger share of the letters is unknown to the model is of another language, or
in another script."""


@dataclass(frozen=True, slots=True)
class KnownWord:
    """A word of the text."""

    text: str
    """As it stands there; punctuation that stands alone belongs to the word before it."""
    line: int
    """Number of its line, from 0 on."""
    ids: tuple[int, ...]
    """How the model spells it: at least one id, UNKNOWN_ID for letters that it lacks."""
    joined: bool = False
    """No space stands between it and the word before."""


@dataclass(frozen=True)
class KnownText:
    """The words of a text for one model."""

    words: tuple[KnownWord, ...]
    separator: tuple[int, ...]
    """The ids between two words: the space, where it is a symbol."""
    unknown: dict[str, int]
    """Letters that the model lacks -> how often, the most frequent first."""


def known_text(lines: Sequence[str], tokenizer: Tokenizer, name: str = "the text") -> KnownText:
    """The words of `lines`, which may be blank.

    A word is spelled as it stands, in lower case, without the punctuation that the model lacks, or
    all that: in the first of these forms of which the model lacks least. Raises ValueError where
    nothing is left, and where the model lacks most of the letters; `name` is for messages.
    """
    words: list[KnownWord] = []
    unknown: Counter[str] = Counter()
    num_letters = 0
    ahead = ""
    separator = _separator(tokenizer, lines)
    for number, line in enumerate(lines):
        for token in line.split():
            spelled = _spelled(token, tokenizer)
            if not spelled:  # nothing of it is spoken
                if words and words[-1].line == number:
                    words[-1] = replace(words[-1], text=f"{words[-1].text} {token}")
                else:
                    ahead += f"{token} "
                continue
            unknown.update(tokenizer.unknown_characters(spelled))
            num_letters += len(spelled.replace(SPACE, ""))
            words += _units(ahead + token, spelled, number, tokenizer)
            ahead = ""
    if not words:
        raise ValueError(f"There is nothing to align: {name} holds no letter or digit.")
    missing = dict(sorted(unknown.items(), key=lambda item: (-item[1], item[0])))
    if sum(missing.values()) > MOST_UNKNOWN * num_letters:
        known = " ".join(s for s in tokenizer.spellings[2:40] if s.strip("▁"))
        raise ValueError(
            f"{sum(missing.values())} of {num_letters} letters of {name} are not in the model's "
            f"alphabet ({' '.join(list(missing)[:10])}), which begins {known}: give the text in "
            "the language and script that the model learned."
        )
    return KnownText(tuple(words), separator, missing)


def _separator(tokenizer: Tokenizer, lines: Sequence[str]) -> tuple[int, ...]:
    """What stands between two words, if it is a symbol of its own."""
    if SPACE not in tokenizer.symbols:
        return ()
    space = tokenizer.symbols.index(SPACE)
    tokens = (token for line in lines for token in line.split())
    word = next((s for token in tokens if (s := _spelled(token, tokenizer))), "")
    return (space,) if space in tokenizer.encode(f"{word} {word}") else ()


def _spelled(token: str, tokenizer: Tokenizer) -> str:
    """The form of a word of which the model lacks least; empty where nothing of it is spoken."""
    forms = [normalize(token, "none"), normalize(token, "lower")]
    forms += [_without_punctuation(form, tokenizer) for form in forms]
    forms.append(normalize(token, "basic"))
    if not any(map(_is_spoken, token)):
        return ""
    forms = [form for form in forms if any(map(_is_spoken, form))]
    return min(forms, key=lambda form: len(tokenizer.unknown_characters(form)), default="")


def _is_spoken(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN" or unicodedata.category(character) == "Co"


def _without_punctuation(form: str, tokenizer: Tokenizer) -> str:
    """Without what is no letter and the model lacks; an apostrophe joins, all else parts."""
    if not tokenizer.unknown_characters("'"):
        form = form.translate(_APOSTROPHES)
    lacking = {c for c in tokenizer.unknown_characters(form) if not _is_spoken(c)}
    spaced = any(WORD_MARK in spelling for spelling in tokenizer.spellings)
    between = SPACE if spaced else ""
    made = (("" if c in "'’ʼ" else between) if c in lacking else c for c in form)
    return normalize("".join(made), "none")


_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ", "'"))


def _units(text: str, spelled: str, line: int, tokenizer: Tokenizer) -> list[KnownWord]:
    """The word; or the letters of a long one, where they are spelled one by one."""
    whole = [KnownWord(text, line, tuple(tokenizer.encode(spelled)))]
    if len(spelled) <= LONG_WORD:
        return whole
    units: list[KnownWord] = []
    ahead = ""
    for letter in _letters(text):
        form = _spelled(letter, tokenizer)
        if form:
            ids = tuple(tokenizer.encode(form))
            units.append(KnownWord(ahead + letter, line, ids, bool(units)))
            ahead = ""
        elif units:
            units[-1] = replace(units[-1], text=units[-1].text + letter)
        else:
            ahead += letter
    joined = [i for unit in units for i in unit.ids]
    return units if joined == tokenizer.encode(spelled.replace(SPACE, "")) else whole


def _letters(text: str) -> list[str]:
    """What a person sees as one letter each, marks included."""
    letters: list[str] = []
    for character in text:
        if letters and is_bound(letters[-1][-1], character):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


# ---- files ---------------------------------------------------------------------------------------


def read_known_text(path: str | Path) -> list[str]:
    """The lines of a file of text; of a transcript (.srt, .vtt, .tsv, .json, .ctm, .TextGrid, as
    ``transcribe`` and ``align`` write them) its segments, in their order, without times.

    Raises FileNotFoundError, and ValueError for what is no text, holds none, or is no transcript of
    its suffix.
    """
    path = Path(path)
    try:
        text = decode(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no text file {path}.") from error
    except IsADirectoryError as error:
        raise IsADirectoryError(f"{path} is a folder: give a file of text.") from error
    reader = _READERS.get(path.suffix.lower(), _lines_of_text)
    try:
        lines = reader(text)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError, ValueError):
        raise ValueError(
            f"{path} is no transcript of the form that its suffix says: give plain text (.txt)."
        ) from None
    if all(map(is_blank, lines)):
        raise ValueError(f"{path} holds no text: there is nothing to align.")
    return lines


_CLOCK = r"\d{1,3}:\d{2}(?::\d{2})?(?:[.,]\d{1,3})?"
_TIMES = re.compile(rf"^\s*[\[(]?{_CLOCK}(?:\s*(?:-->?|–|—)\s*{_CLOCK})?[\])]?:?(?=\s|$)")
"""What a line of a transcript with times begins with: ``[00:12]``, ``01:02:03.5 --> 01:02:05``."""


def _lines_of_text(text: str) -> list[str]:
    return [_TIMES.sub("", line).strip() for line in text.split("\n")]


def _cues(text: str) -> list[str]:
    """SubRip and WebVTT: the lines of each cue joined, without tags."""
    found = []
    for block in re.split(r"\n[ \t]*\n", text):
        lines = block.strip("\n").split("\n")
        times = next((n for n, line in enumerate(lines) if "-->" in line), None)
        if times is None:
            continue
        said = re.sub(r"<[^<>]*>|\{\\[^{}]*\}", "", " ".join(lines[times + 1 :]))
        for code, character in (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", " "), ("&amp;", "&")):
            said = said.replace(code, character)
        found.append(said.strip())
    return found


def _rows(text: str) -> list[str]:
    """A table with a header: the column of text."""
    header, *rows = [line.split("\t") for line in text.split("\n") if line.strip()]
    column = [name.strip().lower() for name in header].index("text")
    return [row[column].strip() for row in rows]


def _objects(text: str) -> list[str]:
    """The JSON of a transcript, or several, one a line."""
    found = []
    for line in text.split("\n"):
        if line.strip():
            made = json.loads(line)
            found += [str(s["text"]) for s in made["segments"]] or [str(made["text"])]
    return found


def _ctm(text: str) -> list[str]:
    """CTM: a word a line, in the fifth column; one line of text of all."""
    rows = [line.split() for line in text.split("\n") if line.strip()]
    return [" ".join(row[4] for row in rows if not row[0].startswith(";;"))]


def _textgrid(text: str) -> list[str]:
    """Praat: the labels of the first tier of intervals."""
    tier = re.split(r'"IntervalTier"', text)[1]
    labels = re.findall(r'text\s*=\s*"((?:[^"]|"")*)"', tier)
    return [label.replace('""', '"').strip() for label in labels if label.strip()]


_READERS: dict[str, Callable[[str], list[str]]] = {
    ".srt": _cues,
    ".vtt": _cues,
    ".tsv": _rows,
    ".json": _objects,
    ".ctm": _ctm,
    ".textgrid": _textgrid,
}
