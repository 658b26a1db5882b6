"""Transcripts beside what was said, with the differences marked."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_GAP_COST = 0.75
"""Of a missing or an extra word; a pair of words costs 0.4 (same letters) to 1 (none shared)."""


@dataclass(frozen=True)
class Sample:
    """What was said in an utterance, and what each model wrote."""

    reference: str
    hypotheses: tuple[tuple[str, str], ...]
    """``(model, text)``."""


def transcripts_section(samples: Sequence[Sample], colour_of: Callable[[str], str]) -> str:
    """All samples in one card; '' without any. `colour_of` gives the class of a model's key."""
    if not samples:
        return ""
    blocks = "".join(_block(sample, colour_of) for sample in samples)
    marks = (
        'Marked: <span class="wrong">w<em>r</em>ong letters</span>, '
        '<span class="wrong">a<i class="gap"></i>missing one</span>, <s>a missing word</s>, '
        "<ins>an extra word</ins>."
    )
    return (
        f'<section id="transcripts"><h2>Transcripts</h2><p class="note">{marks}</p>'
        f'<div class="card samples">{blocks}</div></section>'
    )


def _block(sample: Sample, colour_of: Callable[[str], str]) -> str:
    rows = [f'<dt>said</dt><dd dir="auto">{escape(sample.reference)}</dd>']
    for name, text in sample.hypotheses:
        marked = mark_differences(sample.reference, text)
        key = f'<i class="key {colour_of(name)}"></i>'
        rows.append(f'<dt>{key}{escape(name)}</dt><dd dir="auto">{marked}</dd>')
    return f"<dl>{''.join(rows)}</dl>"


def mark_differences(reference: str, hypothesis: str) -> str:
    """The hypothesis as HTML; what differs from the reference is marked, word by word."""
    pairs = align_words(reference.split(), hypothesis.split())
    words = []
    for said, written in pairs:
        if written is None:
            words.append(f"<s>{escape(said or '')}</s>")
        elif said is None:
            words.append(f"<ins>{escape(written)}</ins>")
        elif said == written:
            words.append(escape(written))
        else:
            inner = _mark_letters(said, written)
            words.append(f'<span class="wrong" title="{escape(said)}">{inner}</span>')
    nothing = '<span class="nothing">nothing written</span>'
    return " ".join(words) if hypothesis.strip() else " ".join([nothing, *words])


def align_words(
    reference: Sequence[str], hypothesis: Sequence[str]
) -> list[tuple[str | None, str | None]]:
    """Pairs ``(said, written)`` in reading order, None for a missing or an extra word.

    The cheapest alignment in which words that share letters are paired: unlike the one that is
    scored, made to be read.
    """
    rows, columns = len(reference) + 1, len(hypothesis) + 1
    bags = [Counter(word) for word in reference], [Counter(word) for word in hypothesis]
    cost = [[_GAP_COST * j for j in range(columns)]]
    for i in range(1, rows):
        row = [_GAP_COST * i]
        for j in range(1, columns):
            pair = cost[i - 1][j - 1] + _pair_cost(bags[0][i - 1], bags[1][j - 1])
            if reference[i - 1] == hypothesis[j - 1]:
                pair = cost[i - 1][j - 1]
            row.append(min(pair, cost[i - 1][j] + _GAP_COST, row[j - 1] + _GAP_COST))
        cost.append(row)
    pairs: list[tuple[str | None, str | None]] = []
    i, j = rows - 1, columns - 1
    while i or j:
        if i and cost[i][j] == cost[i - 1][j] + _GAP_COST:
            i -= 1
            pairs.append((reference[i], None))
        elif j and cost[i][j] == cost[i][j - 1] + _GAP_COST:
            j -= 1
            pairs.append((None, hypothesis[j]))
        else:
            i, j = i - 1, j - 1
            pairs.append((reference[i], hypothesis[j]))
    return pairs[::-1]


def _pair_cost(a: Counter[str], b: Counter[str]) -> float:
    return 1 - 0.6 * (a & b).total() / max(a.total(), b.total())


def _mark_letters(said: str, written: str) -> str:
    """A written word with its wrong letters emphasised and a gap where letters are missing."""
    a, b = _letters(said), _letters(written)
    parts = []
    for kind, _, _, start, end in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        letters = escape("".join(b[start:end]))
        if kind == "equal":
            parts.append(letters)
        else:
            parts.append(f"<em>{letters}</em>" if letters else '<i class="gap"></i>')
    return "".join(parts)


def _letters(word: str) -> list[str]:
    """Letters with their combining marks."""
    letters: list[str] = []
    for character in word:
        if letters and unicodedata.category(character).startswith("M"):
            letters[-1] += character
        else:
            letters.append(character)
    return letters
