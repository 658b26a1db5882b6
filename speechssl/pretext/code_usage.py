"""How many of a codebook's codes are in use. Shapes: M frames, V codes."""

import torch
from torch import Tensor


def count_codes(codes: Tensor, num_codes: int) -> Tensor:
    """(M,) int64 -> (V,) int64: how often each came up."""
    return codes.new_zeros(num_codes).index_add_(0, codes, torch.ones_like(codes))


def perplexity(tally: Tensor) -> Tensor:
    """exp(entropy) of counts (V,): how many codes are in use, from 1 to V; 1 where all are zero."""
    share = tally / tally.sum().clamp_min(1)
    return torch.special.entr(share).sum().exp()
