"""Small networks on top of the context.

Shapes: B batch, T frames, D width, V vocabulary, U rows of output per frame.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CTCHead(nn.Module):
    """Context (B, T, D) -> log-probabilities (B, T * U, V); index 0 is the blank.

    `upsample` U > 1 gives several rows per frame, so that a model with few frames a second can
    still emit fast speech (the linear upsampling of SEW, arXiv:2109.06870, section 4.2).
    """

    def __init__(self, dim: int, vocab_size: int, upsample: int = 1) -> None:
        super().__init__()
        self.vocab_size, self.upsample = vocab_size, upsample
        self.linear = nn.Linear(dim, vocab_size * upsample)
        nn.init.normal_(self.linear.weight, std=(3 * dim) ** -0.5)
        # At first it emits a blank with a probability of 0.8. A model whose symbols are all as
        # likely first learns to emit a blank at every frame, and then has to unlearn it.
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():
            self.linear.bias[::vocab_size] = math.log(4 * max(vocab_size - 1, 1))

    def forward(self, context: Tensor) -> Tensor:
        """Float32 whatever the autocast: a loss in half precision is where training breaks."""
        with torch.autocast(context.device.type, enabled=False):
            logits = self.linear(context.float())  # (B, T, U * V)
            return logits.unflatten(2, (self.upsample, -1)).flatten(1, 2).log_softmax(2)

    @torch.no_grad()
    def take_rows(self, old: "CTCHead", places: Sequence[int | None]) -> None:
        """Give symbol i the row of symbol ``places[i]`` of `old`, which has the same `upsample`;
        where that is None, leave it."""
        kept = [i for i, place in enumerate(places) if place is not None]
        taken = [place for place in places if place is not None]
        for name, values in self.linear.named_parameters():
            mine = values.unflatten(0, (self.upsample, -1))  # (U, V, D) or (U, V)
            theirs = old.linear.get_parameter(name).unflatten(0, (old.upsample, -1))
            mine[:, kept] = theirs[:, taken].to(mine)


class ReconstructionHead(nn.Module):
    """Context frames (N, D) -> features (N, out): one hidden layer (PASE, arXiv:1904.03416,
    section 3)."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, out_dim)
        )

    def forward(self, context: Tensor) -> Tensor:
        """(N, D) -> (N, out)."""
        return self.layers(context)
