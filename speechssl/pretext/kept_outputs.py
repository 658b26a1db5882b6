"""The outputs of a CTC model, kept compactly as offline units are: of each row the most probable
symbols with 16 bits for each probability, the rest of the mass spread evenly over the others.

Shapes: B batch, T frames, U rows of output per frame, M rows, V symbols with the blank, K symbols
that are kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from speechssl.text import BLANK_ID

LARGEST = (1 << 16) - 1
"""A probability of 1 in 16 bits."""


def names_of(task: str, upsample: int, num_kept: int) -> list[str]:
    """What :func:`packed` calls its parts."""
    kinds = ["blank", *(f"{what}{k}" for k in range(num_kept) for what in ("symbol", "share"))]
    return [f"{task}/{row}/{kind}" for row in range(upsample) for kind in kinds]


def packed(task: str, log_probs: Tensor, temperature: float, num_kept: int) -> dict[str, Tensor]:
    """(B, T, U, V) log-probabilities -> by name (B, T) int64 each: the K symbols of each row, their
    probabilities at the temperature, and that of the blank without it."""
    shares, symbols = (log_probs / temperature).softmax(3).topk(num_kept, dim=3)  # (B, T, U, K)
    blank = log_probs[..., BLANK_ID].exp()  # (B, T, U)
    found: dict[str, Tensor] = {}
    for row in range(log_probs.shape[2]):
        found[f"{task}/{row}/blank"] = in_16_bits(blank[..., row])
        for place in range(num_kept):
            found[f"{task}/{row}/symbol{place}"] = symbols[..., row, place]
            found[f"{task}/{row}/share{place}"] = in_16_bits(shares[..., row, place])
    return found


def unpacked(
    task: str, units: Callable[[str], Tensor], upsample: int, num_kept: int, num_symbols: int
) -> tuple[Tensor, Tensor]:
    """``(q (M, V), blank (M,))`` float32, row after row of each frame, from the parts by name,
    (M / U,) int64 each."""
    rows, blanks = [], []
    for row in range(upsample):
        kept = range(num_kept)
        symbols = torch.stack([units(f"{task}/{row}/symbol{k}") for k in kept], 1)
        shares = torch.stack([units(f"{task}/{row}/share{k}") for k in kept], 1)
        rows.append(spread_out(symbols, shares.float() / LARGEST, num_symbols))
        blanks.append(units(f"{task}/{row}/blank").float() / LARGEST)
    return torch.stack(rows, 1).flatten(0, 1), torch.stack(blanks, 1).flatten()


def in_16_bits(shares: Tensor) -> Tensor:
    """Probabilities as int64 from 0 to 65,535."""
    return (shares * LARGEST).round().long()


def spread_out(symbols: Tensor, shares: Tensor, num_symbols: int) -> Tensor:
    """The distribution of each row from its most probable symbols.

    Args:
        symbols: (M, K) int64, distinct in each row.
        shares: (M, K) float32, their probabilities.
        num_symbols: V.

    Returns:
        (M, V) float32, each row adding up to 1; what the K symbols leave lies evenly on the others.
    """
    others = num_symbols - symbols.shape[1]
    rest = (1 - shares.sum(1, keepdim=True)).clamp_min(0) / max(others, 1) * min(others, 1)
    spread = rest.expand(-1, num_symbols).scatter(1, symbols, shares)
    return spread / spread.sum(1, keepdim=True)
