"""Pairs of speech and text in one space: the loss, the encoders on both sides, and how well one
finds the other. What the task speech_text trains and ``speechssl find`` uses.

Shapes: N pairs, U distinct texts, L characters, T frames, D width of the model, C width of the
text encoder, E width of the common space, V symbols.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.device import double

KS = (1, 5, 10)
"""Of recall@k."""


class TextEncoder(nn.Module):
    """Symbols (N, L) -> vectors (N, E): an embedding, two convolutions over neighbouring
    characters, and the mean over the text, which is then projected.

    Two convolutions of kernel K see 2 K - 1 characters: with K = 5 a word and its ending.
    """

    def __init__(self, num_symbols: int, width: int, kernel: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, width)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.project = nn.Linear(width, dim)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids (N, L) int64, lengths (N,) int64 of at least 1, what lies behind them changes
        nothing -> (N, E)."""
        x = shapes.zero_padding(self.embedding(ids), lengths)  # (N, L, C)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + F.gelu(layer(shapes.zero_padding(norm(x), lengths).mT).mT)
            x = shapes.zero_padding(x, lengths)
        return self.project(pooled(x, lengths))


class SpeechPooling(nn.Module):
    """Frames (N, T, D) -> vectors (N, E): a hidden layer on each frame, and the mean of that.

    The layer comes before the mean, so that what is averaged is whether something was said, and
    not how.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """frames (N, T, D), lengths (N,) of at least 1 -> (N, E)."""
        return self.project(pooled(self.evidence(frames), lengths))

    def evidence(self, frames: Tensor) -> Tensor:
        """(..., D) -> (..., E): what is averaged."""
        return F.gelu(self.hidden(frames))


def pooled(values: Tensor, lengths: Tensor) -> Tensor:
    """(N, T, C), (N,) -> (N, C): the mean over each row's valid places."""
    total = shapes.zero_padding(values, lengths).sum(1)
    return total / lengths.clamp_min(1)[:, None].to(total)


def distinct(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """The texts without repeats in the order in which they come up, and for each of `texts` its
    place in that list."""
    places: dict[str, int] = {}
    of_each = [places.setdefault(text, len(places)) for text in texts]
    return list(places), of_each


def pad_ids(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Symbols of N texts -> (N, L) int64 with zeros behind each, (N,) lengths; on the host."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    ids = torch.zeros(len(rows), int(lengths.max()) if len(rows) else 0, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids, lengths


def symmetric_info_nce(logits: Tensor, places: Tensor) -> Tensor:
    """InfoNCE both ways over N pairs, summed over the pairs: the mean of "which text is of this
    utterance" and "which utterance is of this text" (arXiv:2103.00020, figure 3).

    Pairs with the same text are positives of each other, all with the same share of the target
    (arXiv:2204.03610), and never negatives. The least that can be reached is the mean
    of log(pairs with this text), the chance line is log N.

    Args:
        logits: (N, U) of each utterance with each distinct text, over the temperature.
        places: (N,) int64, the text of each utterance.

    Returns:
        A scalar, nats.
    """
    own = logits.gather(1, places[:, None])[:, 0]  # (N,)
    # (U,) pairs with this text
    copies = logits.new_zeros(logits.shape[1]).index_add_(0, places, torch.ones_like(own))
    # Over N columns, of which those with one text are equal.
    to_text = (logits + copies.log()).logsumexp(1) - own
    # The mean over the utterances of a text, once for each of its pairs: the sum of `own`.
    to_speech = logits.logsumexp(0)[places] - own
    return 0.5 * (to_text.sum() + to_speech.sum())


def recall(scores: Tensor, relevant: Tensor) -> dict[int, float]:
    """Share of the queries that have something relevant among the k best, by k.

    Args:
        scores: (Q, M) float of each query with each candidate.
        relevant: (Q, M) bool, at least one of each query.

    Whoever scores as high as the best relevant candidate and is not relevant comes before it, so
    that equal vectors find nothing.
    """
    best = scores.masked_fill(~relevant, -torch.inf).amax(1, keepdim=True)  # (Q, 1)
    before = ((scores >= best) & ~relevant).sum(1)  # (Q,)
    return {k: float(double(before < k).mean()) for k in KS}


def chance_of_recall(relevant: Tensor) -> dict[int, float]:
    """The recall of a random order: for a query with P of M candidates relevant
    1 - C(M - P, k) / C(M, k), which for P = 1 is k / M."""
    num = relevant.shape[1]
    good = relevant.sum(1).cpu().double()  # (Q,)
    found = {}
    for k in KS:
        drawn = torch.arange(min(k, num), dtype=torch.double)
        missed = ((num - good[:, None] - drawn) / (num - drawn)).clamp_min(0).prod(1)
        found[k] = float((1 - missed).mean())
    return found


def retrieval(speech: Tensor, texts: Tensor, places: Tensor) -> dict[str, float]:
    """Recall@k both ways over N pairs, each with its chance line.

    Args:
        speech: (N, E), unit length.
        texts: (U, E), unit length.
        places: (N,) int64, the text of each utterance.

    Returns:
        ``find_speech_at_K`` (a text is asked for; an utterance with that text is found),
        ``find_text_at_K`` (the other way), and ``..._at_K_chance`` of each.
    """
    relevant = places[:, None] == torch.arange(len(texts), device=places.device)  # (N, U)
    scores = speech.float() @ texts.float().T
    found: dict[str, float] = {}
    for way, values, right in (
        ("find_speech", scores.T, relevant.T),
        ("find_text", scores, relevant),
    ):
        reached, chance = recall(values, right), chance_of_recall(right)
        found |= {f"{way}_at_{k}": reached[k] for k in KS}
        found |= {f"{way}_at_{k}_chance": chance[k] for k in KS}
    return found
