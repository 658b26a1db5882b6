"""How many of a codebook's codes are in use. Shapes: M frames, N negatives, V codes."""

import torch
from torch import Tensor

from speechssl.model.quantizer import Quantized
from speechssl.pretext.info_nce import accuracy, chance


def count_codes(codes: Tensor, num_codes: int) -> Tensor:
    """(M,) int64 -> (V,) int64: how often each came up."""
    return codes.new_zeros(num_codes).index_add_(0, codes, torch.ones_like(codes))


def perplexity(tally: Tensor) -> Tensor:
    """exp(entropy) of counts (V,): how many codes are in use, from 1 to V; 1 where all are zero."""
    share = tally / tally.sum().clamp_min(1)
    return torch.special.entr(share).sum().exp()


@torch.no_grad()
def code_numbers(
    logits: Tensor, quantized: Quantized, entries: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """``(metrics, tallies)``: what is logged beside the loss, and how often each code of each group
    was the target.

    Args:
        logits: (M, 1 + N), the true target first.
        quantized: of the M frames.
        entries: codes in a group.
    """
    tallies = {
        f"contrastive/group_{group}": count_codes(codes, entries)
        for group, codes in enumerate(quantized.codes.unbind(1))
    }
    used = torch.stack([(tally > 0).sum() for tally in tallies.values()])
    metrics = {
        "contrastive/accuracy": accuracy(logits),
        "contrastive/chance": chance(logits),
        "contrastive/perplexity": quantized.perplexity.detach(),
        "contrastive/codes_used": used.float().mean(),
    }
    return metrics, tallies
