"""Connectionist temporal classification (Graves et al. 2006): the loss of fine-tuning.

Shapes: B batch, T rows of output, V symbols with the blank, which is symbol 0.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import shapes
from speechssl.device import send, take
from speechssl.pretext.code_usage import perplexity
from speechssl.text import UNKNOWN_ID, Tokenizer, ctc_min_frames


def ctc_loss(
    log_probs: Tensor,
    lengths: Tensor,
    targets: Sequence[Sequence[int]],
    weights: Sequence[float] = (),
) -> Tensor:
    """Sum over the batch of -log p(transcript | speech), float32 (Graves et al. 2006).

    `log_probs` (B, T, V), `lengths` (B,) rows, best on the host; a transcript that does not fit
    counts as zero. `weights`: a factor on each utterance's term, B of them; none: all are 1.
    """
    flat = torch.tensor([i for ids in targets for i in ids], dtype=torch.long)
    flat = send(flat, log_probs.device)
    sizes = torch.tensor([len(ids) for ids in targets], device=lengths.device)
    losses = F.ctc_loss(
        log_probs.float().transpose(0, 1),
        flat,
        lengths,
        sizes,
        reduction="none" if weights else "sum",
        zero_infinity=True,
    )
    return (losses * losses.new_tensor(weights)).sum() if weights else losses


def disagreement(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """How much two views of each utterance differ, in nats, summed over its frames.

    The mean of both Kullback-Leibler divergences, each view compared with the other one detached
    (arXiv:2410.05101, equation 3). `log_probs` (2B, T, V): row B + i is the other view of row i;
    `lengths` (2B,), best on the host.
    """
    first, second = log_probs.float().chunk(2)
    valid = shapes.length_mask(lengths[: len(first)], first.shape[1])  # (B, T)
    first, second = take(first, valid), take(second, valid)  # (N, V)
    return 0.5 * (
        F.kl_div(first, second.detach(), reduction="sum", log_target=True)
        + F.kl_div(second, first.detach(), reduction="sum", log_target=True)
    )


def ctc_chance(targets: Iterable[Sequence[int]]) -> float:
    """The unigram entropy of the symbols, in nats: the loss per symbol of a model that knows when a
    symbol occurs and how frequent each is, but not which one it is.

    Who does not know when, either, loses more. Without any symbol: 0.
    """
    counts = Counter(symbol for ids in targets for symbol in ids)
    return float(perplexity(torch.tensor([float(n) for n in counts.values()])).log())


def edit_distance(first: Sequence[int], second: Sequence[int]) -> int:
    """The fewest symbols to insert, delete and replace that make one sequence the other
    (Levenshtein), a row of the table at a time."""
    row = list(range(len(second) + 1))
    for number, symbol in enumerate(first, 1):
        left, diagonal = number, row[0]
        row[0] = number
        for place, other in enumerate(second, 1):
            left = min(diagonal + (symbol != other), row[place] + 1, left + 1)
            diagonal, row[place] = row[place], left
    return row[-1]


def best_path(log_probs: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    """The symbols of each utterance by greedy decoding: the best of each row, repeats collapsed,
    blanks left out (Graves et al. 2006, section 3.2). `log_probs` (B, T, V), `lengths` rows."""
    best = log_probs.argmax(2).cpu()  # (B, T)
    found = []
    for symbols, length in zip(best, lengths, strict=True):
        ids = torch.unique_consecutive(symbols[:length])
        found.append(ids[ids != 0].tolist())
    return found


@dataclass
class Labels:
    """What of a micro-batch's transcripts can be learned, by the number of the head."""

    rows: dict[int, list[int]] = field(default_factory=dict)
    """Rows of the micro-batch."""
    ids: dict[int, list[list[int]]] = field(default_factory=dict)
    """Symbols of each of these rows."""
    too_long: int = 0
    """Transcripts that do not fit into their rows of output."""
    unknown: int = 0
    """Transcripts with an unknown character."""

    @property
    def num_symbols(self) -> int:
        """Of the transcripts that are learned from."""
        return sum(len(ids) for rows in self.ids.values() for ids in rows)

    @property
    def num_texts(self) -> int:
        """All transcripts, also those that are left out."""
        return sum(map(len, self.rows.values())) + self.too_long + self.unknown


def sort_labels(
    texts: Sequence[str], lengths: Sequence[int], heads: Sequence[int], tokenizer: Tokenizer
) -> Labels:
    """Which transcripts of a micro-batch can be learned.

    Args:
        texts: of each utterance; '' where there is none.
        lengths: its rows of output.
        heads: the number of the head that writes it.
        tokenizer: of the heads.
    """
    found = Labels()
    for row, (text, length, head) in enumerate(zip(texts, lengths, heads, strict=True)):
        ids = tokenizer.encode(text)
        if UNKNOWN_ID in ids:
            found.unknown += 1
        elif ctc_min_frames(ids) > length:
            found.too_long += 1
        elif ids:
            found.rows.setdefault(head, []).append(row)
            found.ids.setdefault(head, []).append(ids)
    return found
