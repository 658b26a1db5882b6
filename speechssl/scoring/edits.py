"""The edits between two texts, in words or characters, by jiwer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Edit = tuple[str, int, int, int, int]
"""(kind, reference start, end, hypothesis start, end); kinds: equal, substitute, delete, insert."""


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Edits that turn a reference of `length` units (words or characters) into the hypothesis."""

    length: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors / length. An empty reference counts as one unit, so that the rate stays finite."""
        return self.errors / max(self.length, 1)


def align_texts(
    references: Sequence[str], hypotheses: Sequence[str], unit: Literal["words", "characters"]
) -> Iterator[list[Edit]]:
    """The edits of each pair of single-spaced texts, by jiwer.

    This is all that speechssl uses of jiwer: `process_words` and `process_characters` of jiwer 3
    and 4. Empty references do not go through it, because jiwer 3 refuses them.
    """
    import jiwer

    process: Callable[..., Any]
    if unit == "words":
        process, reduce = jiwer.process_words, jiwer.ReduceToListOfListOfWords()
        split: Callable[[str], Sequence[str]] = str.split
    else:
        process, reduce = jiwer.process_characters, jiwer.ReduceToListOfListOfChars()
        split = list
    filled = [i for i, text in enumerate(references) if text]
    chunks: dict[int, Any] = {}
    if filled:
        output = process(
            [references[i] for i in filled],
            [hypotheses[i] for i in filled],
            reference_transform=reduce,
            hypothesis_transform=reduce,
        )
        chunks = dict(zip(filled, output.alignments, strict=True))
    for i, hypothesis in enumerate(hypotheses):
        if i in chunks:
            yield [
                (c.type, c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx)
                for c in chunks[i]
            ]
        else:
            yield [("insert", 0, 0, 0, len(split(hypothesis)))] if hypothesis else []


def count_edits(edits: Sequence[Edit]) -> ErrorCounts:
    sizes = {"equal": 0, "substitute": 0, "delete": 0, "insert": 0}
    for kind, ref_start, ref_end, hyp_start, hyp_end in edits:
        sizes[kind] += max(ref_end - ref_start, hyp_end - hyp_start)
    length = sizes["equal"] + sizes["substitute"] + sizes["delete"]
    return ErrorCounts(length, sizes["substitute"], sizes["delete"], sizes["insert"])
