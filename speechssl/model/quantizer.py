"""Quantizers: continuous frames (N, C) -> codes and their vectors.

Two learn with the model (Gumbel softmax, online k-means), two give fixed codes (k-means that is
fitted once, a random projection).

Shapes: N frames, C channels in, G groups, V entries of a group, E width of a code's vector.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """Frames and the codes they fell on."""

    vectors: Tensor
    """(N, G * E) the chosen entries, groups side by side; carries the gradient."""
    codes: Tensor
    """(N, G) int64."""
    perplexity: Tensor
    """Scalar: sum over groups of exp(entropy of the mean softmax), from G (collapse) to G * V."""


class GumbelQuantizer(nn.Module):
    """Product quantization with a straight-through Gumbel softmax (arXiv:2006.11477, section 2).

    In training one entry per group is drawn, with the gradient of the softmax at the present
    temperature; in evaluation the likeliest is taken.
    """

    def __init__(self, in_dim: int, *, groups: int, entries: int, dim: int) -> None:
        """`dim` is the width of the whole vector, G * E."""
        super().__init__()
        if dim % groups:
            raise ValueError(
                f"quantizer dim must be a multiple of its groups, got {dim} and {groups}."
            )
        self.groups, self.entries = groups, entries
        self.logits = nn.Linear(in_dim, groups * entries)
        nn.init.normal_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        self.codebook = nn.Parameter(torch.rand(groups, entries, dim // groups))  # U(0, 1)
        self.temperature = 2.0

    @property
    def max_perplexity(self) -> int:
        """The perplexity when every entry is used alike."""
        return self.groups * self.entries

    def forward(self, frames: Tensor) -> Quantized:
        """(N, C) float -> :class:`Quantized`; float32 whatever the autocast."""
        with torch.autocast(frames.device.type, enabled=False):
            return self._quantize(frames.float())

    def _quantize(self, frames: Tensor) -> Quantized:
        logits = self.logits(frames).unflatten(1, (self.groups, self.entries))  # (N, G, V)
        # Perplexity is of the plain softmax, without noise and temperature (arXiv:2006.11477, eq.
        # 4).
        mean = logits.softmax(2).mean(0)  # (G, V)
        perplexity = torch.exp(-(mean * torch.log(mean + 1e-7)).sum(1)).sum()
        if self.training:
            chosen = F.gumbel_softmax(logits, tau=self.temperature, hard=True, dim=2)  # (N, G, V)
        else:
            chosen = F.one_hot(logits.argmax(2), self.entries).to(logits.dtype)
        vectors = torch.einsum("ngv,gve->nge", chosen, self.codebook).flatten(1)  # (N, G*E)
        return Quantized(vectors, chosen.argmax(2), perplexity)


def temperature_at(update: int, *, start: float, end: float, decay: float) -> float:
    """``max(start * decay ** update, end)``: 2, 0.5 and 0.999995 in BASE."""
    return max(start * decay**update, end)


@dataclass(frozen=True)
class VectorQuantized:
    """Frames and the codes that a :class:`VectorQuantizer` gave them."""

    vectors: Tensor
    """(N, C) the chosen entries, groups side by side; their gradient goes straight through to the
    frames."""
    codes: Tensor
    """(N, G) int64."""
    errors: Tensor
    """(N,) what pulls entries and frames together, to be minimised beside the task's loss."""


class VectorQuantizer(nn.Module):
    """Online k-means, the quantizer of vq-wav2vec (arXiv:1910.05453, sections 3.2 and 3.3) after
    VQ-VAE (arXiv:1711.00937, section 3.2).

    Each frame is projected and normalised group by group, and each group is replaced by the nearest
    entry of one codebook that all groups share. Entries follow the frames (``mse(entry,
    sg(frame))``) and frames are held to their entries (``commitment * mse(frame, sg(entry))``).
    Where we differ from the published code: a group is normalised over its own channels at each
    frame, and not also over time, so that a frame's code does not depend on its batch; and entries
    begin as frames (:meth:`fit`), not near zero, where the first ones to move take all frames
    unless the learning rate is as low as the 1e-5 there.
    """

    start: Tensor

    def __init__(self, dim: int, *, groups: int, entries: int, commitment: float = 0.25) -> None:
        """`dim` is C, the width of frames and of vectors."""
        super().__init__()
        if dim % groups:
            raise ValueError(
                f"The quantizer's width must be a multiple of its groups, got {dim} and {groups}."
            )
        self.groups, self.entries, self.commitment = groups, entries, commitment
        self.project = nn.Conv1d(dim, dim, 1, groups=groups, bias=False)
        self.norm = nn.GroupNorm(groups, dim)
        self.register_buffer("start", 0.01 * torch.randn(entries, dim // groups))  # (V, E)
        self.moved = nn.Parameter(torch.zeros(entries, dim // groups))

    @property
    def codebook(self) -> Tensor:
        """(V, E) the entries: where they began, and how far they have moved."""
        return self.start + self.moved

    @torch.no_grad()
    def fit(self, frames: Tensor, seed: int) -> None:
        """Let the entries begin as groups of some of the frames (N, C); deterministic in `seed`.

        Raises ValueError where there are fewer than entries.
        """
        parts = self._parts(frames).flatten(0, 1)  # (N G, E)
        if len(parts) < self.entries:
            raise ValueError(
                f"{self.entries} codes need at least as many frames to begin with, got "
                f"{len(parts)}: give more audio or fewer codes."
            )
        generator = torch.Generator().manual_seed(seed)
        self.start.copy_(parts[torch.randperm(len(parts), generator=generator)[: self.entries]])

    def _parts(self, frames: Tensor) -> Tensor:
        """(N, C) -> projected and normalised (N, G, E)."""
        projected = self.norm(self.project(frames.float()[:, :, None])[:, :, 0])
        return projected.unflatten(1, (self.groups, -1))

    def forward(self, frames: Tensor) -> VectorQuantized:
        """(N, C) float -> :class:`VectorQuantized`; float32 whatever the autocast."""
        with torch.autocast(frames.device.type, enabled=False):
            x, codebook = self._parts(frames), self.codebook  # (N, G, E), (V, E)
            # |x - e|^2 without |x|^2
            closeness = x.detach() @ codebook.detach().T  # (N, G, V)
            codes = (closeness - codebook.detach().square().sum(1) / 2).argmax(2)
            chosen = codebook[codes]  # (N, G, E)
            entries = (chosen - x.detach()).square()
            held = (x - chosen.detach()).square()
            errors = (entries + self.commitment * held).mean((1, 2))
            vectors = chosen.detach() + (x - x.detach())  # exactly the entries
        return VectorQuantized(vectors.flatten(1), codes, errors)


class KMeansQuantizer(nn.Module):
    """Nearest centroid of standardised frames; the centroids are fitted once and stay.

    Fixed targets cannot collapse, and a small model learns from them many times faster than from a
    codebook that moves with it (HuBERT, arXiv:2106.07447, section 3.1).
    """

    centroids: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, in_dim: int, entries: int) -> None:
        super().__init__()
        self.entries = entries
        self.register_buffer("centroids", torch.zeros(entries, in_dim))
        self.register_buffer("mean", torch.zeros(in_dim))
        self.register_buffer("scale", torch.ones(in_dim))

    @torch.no_grad()
    def fit(self, frames: Tensor, seed: int, *, num_rounds: int = 25) -> None:
        """Set mean, scale and centroids from (N, C) frames: Lloyd's algorithm from N random frames.

        Raises ValueError where there are fewer frames than entries. Deterministic in `seed`.
        """
        if len(frames) < self.entries:
            raise ValueError(
                f"{self.entries} codes need at least as many frames to be fitted on, got "
                f"{len(frames)}: give more audio or fewer codes (num_units)."
            )
        self.mean.copy_(frames.mean(0))
        self.scale.copy_(frames.std(0) + 1e-5)
        x = ((frames - self.mean) / self.scale).float()  # (N, C)
        generator = torch.Generator().manual_seed(seed)
        self.centroids.copy_(x[torch.randperm(len(x), generator=generator)[: self.entries]])
        for _ in range(num_rounds):
            codes = self._nearest(x)
            count = torch.bincount(codes, minlength=self.entries)  # (V,)
            sums = torch.zeros_like(self.centroids).index_add_(0, codes, x)
            moved = sums / count.clamp_min(1)[:, None]
            again = x[torch.randint(len(x), (self.entries,), generator=generator)]
            self.centroids.copy_(torch.where(count[:, None] > 0, moved, again))

    def forward(self, frames: Tensor) -> Tensor:
        """(N, C) -> codes (N,) int64."""
        return self._nearest(((frames - self.mean) / self.scale).float())

    def _nearest(self, x: Tensor) -> Tensor:
        # |x - c|^2 without |x|^2, in pieces so that memory stays bounded.
        bias = self.centroids.square().sum(1) / 2  # (V,)
        pieces = [(p @ self.centroids.T - bias).argmax(1) for p in x.split(65536)]
        return torch.cat(pieces) if pieces else x.new_zeros(0, dtype=torch.long)


class RandomProjectionQuantizer(nn.Module):
    """BEST-RQ's targets: a fixed random projection, a fixed random codebook (arXiv:2202.01855,
    3.1)."""

    projection: Tensor
    codebook: Tensor

    def __init__(self, in_dim: int, entries: int, *, dim: int = 16, seed: int = 0) -> None:
        super().__init__()
        self.entries = entries
        generator = torch.Generator().manual_seed(seed)
        bound = math.sqrt(6 / (in_dim + dim))  # Xavier
        projection = (torch.rand(in_dim, dim, generator=generator) * 2 - 1) * bound
        codebook = torch.randn(entries, dim, generator=generator)
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(codebook, dim=1))

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(N, C) normalised frames -> codes (N,) int64."""
        projected = F.normalize(frames.float() @ self.projection, dim=1)  # (N, 16)
        return (projected @ self.codebook.T).argmax(1)
