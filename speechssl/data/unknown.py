"""Characters of transcripts that a model's vocabulary lacks, and the likely reason of each.

A model cannot output such a character, however long the recording is: it is an error in every
score. It is no sign that a transcript is too long, and none that it belongs to another recording.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from speechssl.data.manifest import Utterance
from speechssl.text import SPACE, UNKNOWN, UNKNOWN_ID, Tokenizer, normalize

_MAX_CHARACTERS = 8
"""Characters of one reason that are named in a sentence."""
_MAX_IDS = 5
"""Utterances that are named in a sentence."""
_MARK = "the mark of an unknown symbol"
_OTHER_ALPHABET = "letters of another alphabet"

REASONS = {
    _MARK: "A model wrote these transcripts: correct them by ear.",
    "upper case where the vocabulary is lower case": "Write all transcripts in lower case.",
    "lower case where the vocabulary is upper case": "Write all transcripts in upper case.",
    "another Unicode form of known characters": (
        "Write all transcripts in one Unicode form (NFKC), those of the training too."
    ),
    "letters with a mark that the vocabulary has only without it": (
        "Use one spelling of accents and tone marks, or add such words to the training."
    ),
    "combining marks": "Use one spelling of accents and tone marks, or add such words to the "
    "training.",
    "digits": "Write numbers as words.",
    "invisible characters": "Delete them from the transcripts.",
    "punctuation and symbols": "Delete them from the transcripts, or keep them in the training "
    "transcripts too.",
    _OTHER_ALPHABET: "Check that these transcripts are in the language of the training, and that "
    "no look-alike letter of another alphabet was typed.",
    "letters that the training transcripts do not have": (
        "Add utterances with these letters to the training."
    ),
}
"""Reason -> what to do about it."""


@dataclass(frozen=True)
class UnknownCharacters:
    """What the vocabulary lacks of some transcripts; false where it lacks nothing."""

    counts: dict[str, int]
    """Character -> how often; the most frequent first."""
    ids: tuple[str, ...]
    """Utterances whose transcript holds such a character."""
    reasons: dict[str, tuple[str, ...]]
    """A key of :data:`REASONS` -> characters."""
    num_utterances: int
    """With a transcript."""
    num_characters: int
    """Of all transcripts."""

    def __bool__(self) -> bool:
        return bool(self.counts)

    @property
    def share(self) -> float:
        """Of all characters, in [0, 1]: a character error rate that no model can go below."""
        return sum(self.counts.values()) / max(self.num_characters, 1)

    def sentence(self, what: str = "") -> str:
        """For a person: how many of the `what` transcripts, the characters, why, what to do."""
        more = ", ..." if len(self.ids) > _MAX_IDS else ""
        kinds = ", ".join(f"{reason} ({_listed(chars)})" for reason, chars in self.reasons.items())
        noun = f"{what} transcripts".strip()
        verb = "holds" if len(self.ids) == 1 else "hold"
        return (
            f"{len(self.ids)} of {self.num_utterances} {noun} "
            f"({', '.join(self.ids[:_MAX_IDS])}{more}) {verb} characters that the model does not "
            f"know, {100 * self.share:.3g} % of all characters: {kinds}. The model cannot output "
            f"them, so each is an error. {' '.join(self.advice)}"
        )

    @property
    def advice(self) -> list[str]:
        """What to do, a sentence a reason."""
        return list(dict.fromkeys(REASONS[reason] for reason in self.reasons))


def find_unknown(
    tokenizer: Tokenizer, utterances: Sequence[Utterance], normalizer: str = "none"
) -> UnknownCharacters:
    """The characters of the transcripts of `utterances` that the tokenizer lacks.

    Args:
        tokenizer: of the model.
        utterances: those without a transcript are not counted.
        normalizer: through which the transcripts and what the model outputs will be compared; what
            it makes equal is known.
    """
    known = _characters(tokenizer)
    equal = {c for char in known for c in normalize(char, normalizer)} | known
    counts: Counter[str] = Counter()
    ids, num, size = [], 0, 0
    for utterance in utterances:
        if utterance.text is None or not utterance.is_labeled:
            continue
        text = normalize(utterance.text, normalizer)
        missing = tokenizer.unknown_characters(text)
        if normalizer != "none":
            missing = [char for char in missing if char not in equal]
        num, size = num + 1, size + len(text)
        if missing:
            counts.update(missing)
            ids.append(utterance.id)
    ranked = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return UnknownCharacters(ranked, tuple(ids), explain(ranked, known), num, size)


def explain(characters: Iterable[str], known: set[str]) -> dict[str, tuple[str, ...]]:
    """The likely reason why each of `characters` is not among the `known` ones: a key of
    :data:`REASONS` -> characters, in the order of :data:`REASONS`."""
    scripts = {script for char in known if (script := _script(char))}
    found: dict[str, list[str]] = {reason: [] for reason in REASONS}
    for char in characters:
        found[_reason(char, known, scripts)].append(char)
    return {reason: tuple(chars) for reason, chars in found.items() if chars}


def min_rows(ids: Sequence[int]) -> int:
    """The fewest rows of output that can hold `ids`, as :func:`speechssl.text.ctc_min_frames`, but
    neighbours that are unknown may be different characters and need no blank between them."""
    return len(ids) + sum(left == right != UNKNOWN_ID for left, right in pairwise(ids))


def merge_unknown(ids: Sequence[int]) -> list[int]:
    """`ids` with one unknown symbol in place of several in a row."""
    return [i for k, i in enumerate(ids) if i != UNKNOWN_ID or not k or ids[k - 1] != UNKNOWN_ID]


def _characters(tokenizer: Tokenizer) -> set[str]:
    """Every character that the symbols of the tokenizer can spell."""
    silent: frozenset[str] = getattr(tokenizer, "silent", frozenset())
    symbols = [s for s in tokenizer.symbols[UNKNOWN_ID + 1 :] if s not in silent]
    return {char for symbol in symbols for char in symbol} | {SPACE}


def _reason(char: str, known: set[str], scripts: set[str]) -> str:
    """A key of :data:`REASONS`."""
    if char == UNKNOWN:
        return _MARK
    kind = unicodedata.category(char)
    for form, reason in (
        (char.lower(), "upper case where the vocabulary is lower case"),
        (char.upper(), "lower case where the vocabulary is upper case"),
    ):
        if form != char and form in known:
            return reason
    parts = unicodedata.normalize("NFD", char)
    compatible = unicodedata.normalize("NFKC", char)
    for form in (parts, compatible, compatible.lower(), compatible.upper()):
        if form != char and set(form) <= known:
            return "another Unicode form of known characters"
    if kind[0] == "M":
        return "combining marks"
    if parts != char and {parts[0], parts[0].lower(), parts[0].upper()} & known:
        return "letters with a mark that the vocabulary has only without it"
    by_kind = {"N": "digits", "P": "punctuation and symbols", "S": "punctuation and symbols"}
    by_kind |= {"C": "invisible characters", "Z": "invisible characters"}
    if kind[0] in by_kind and kind not in ("Co", "Sk"):
        return by_kind[kind[0]]
    if kind[0] == "L" and kind != "Lm" and _script(char) not in scripts:
        return _OTHER_ALPHABET
    return "letters that the training transcripts do not have"


def _script(char: str) -> str:
    """The alphabet of a letter, as the first word of its Unicode name; '' for anything else."""
    if unicodedata.category(char)[0] != "L" or unicodedata.category(char) == "Lm":
        return ""
    return unicodedata.name(char, "").split(" ", 1)[0].split("-", 1)[0]


def _listed(characters: Sequence[str]) -> str:
    more = len(characters) - _MAX_CHARACTERS
    return " ".join(map(shown, characters[:_MAX_CHARACTERS])) + (f" and {more} more" * (more > 0))


def shown(char: str) -> str:
    """A character as a person can see it: itself, or its code point where it is invisible or needs
    another one to sit on."""
    if unicodedata.category(char)[0] in "CZM":
        return f"U+{ord(char):04X}"
    return char
