"""A reference over a hypothesis, word under word; and which words of the hypothesis are right."""

from collections.abc import Iterator, Sequence

from speechssl.scoring.edits import Edit, align_texts
from speechssl.text import columns_of, normalize


def format_alignment(reference: str, hypothesis: str, *, width: int = 100) -> str:
    """Reference over hypothesis, word under word, for a monospaced font; S, D and I mark errors.

    Both texts are compared as given (normalise them first). Missing words are shown as asterisks;
    lines longer than `width` columns continue in a new block.
    """
    ref_words, hyp_words = reference.split(), hypothesis.split()
    edits = next(align_texts([" ".join(ref_words)], [" ".join(hyp_words)], "words"))
    columns = []
    for ref_word, hyp_word, mark in _pair_words(ref_words, hyp_words, edits):
        size = max(columns_of(ref_word), columns_of(hyp_word))
        cells = (ref_word or "*" * size, hyp_word or "*" * size, mark)
        columns.append(tuple(cell + " " * (size - columns_of(cell)) for cell in cells))
    blocks = ["\n".join(_rows(block)) for block in _wrap(columns, width - len("REF: "))]
    return "\n\n".join(blocks)


def _pair_words(
    ref_words: Sequence[str], hyp_words: Sequence[str], edits: Sequence[Edit]
) -> Iterator[tuple[str, str, str]]:
    """(reference word or "", hypothesis word or "", mark), in reading order."""
    marks = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}
    for kind, ref_start, ref_end, hyp_start, hyp_end in edits:
        for k in range(max(ref_end - ref_start, hyp_end - hyp_start)):
            ref_word = ref_words[ref_start + k] if ref_start < ref_end else ""
            hyp_word = hyp_words[hyp_start + k] if hyp_start < hyp_end else ""
            yield ref_word, hyp_word, marks[kind]


def _wrap(columns: Sequence[tuple[str, ...]], width: int) -> Iterator[list[tuple[str, ...]]]:
    """Blocks of columns at most `width` wide, at least one column each; one block if none."""
    block: list[tuple[str, ...]] = []
    used = 0
    for column in columns:
        size = columns_of(column[0]) + 1
        if block and used + size - 1 > width:
            yield block
            block, used = [], 0
        block.append(column)
        used += size
    yield block


def _rows(block: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for i, label in enumerate(("REF: ", "HYP: ", "     ")):
        row = label + " ".join(column[i] for column in block)
        if i < 2 or row.strip():
            yield row.rstrip()


def right_words(
    reference: str, words: Sequence[str], normalizer: str = "none"
) -> tuple[list[bool | None], int]:
    """Whether each word of a hypothesis equals the word of the reference that it is aligned with,
    in the alignment that the word error rate counts; and how many words of the reference are
    missing.

    Both are compared through the normaliser. A word that it makes several words of is right where
    all of them are; one of which it leaves nothing is None.
    """
    pieces = [normalize(word, normalizer).split() for word in words]
    owners = [number for number, piece in enumerate(pieces) for _ in piece]
    hypothesis = " ".join(part for piece in pieces for part in piece)
    (edits,) = align_texts([normalize(reference, normalizer)], [hypothesis], "words")
    wrong: set[int] = set()
    num_missing = 0
    for kind, ref_start, ref_end, hyp_start, hyp_end in edits:
        if kind == "delete":
            num_missing += ref_end - ref_start
        elif kind != "equal":
            wrong |= {owners[place] for place in range(hyp_start, hyp_end)}
    return [
        number not in wrong if piece else None for number, piece in enumerate(pieces)
    ], num_missing
