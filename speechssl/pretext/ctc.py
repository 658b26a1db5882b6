"""Connectionist temporal classification (Graves et al. 2006): the loss of fine-tuning.

Shapes: B batch, T rows of output, V symbols with the blank, which is symbol 0.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import shapes
from speechssl.device import send, take
from speechssl.pretext.code_usage import perplexity


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
