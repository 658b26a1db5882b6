"""The layers of the context network: local convolution, GRU, transformer; each (B, T, D) -> same.

Each layer takes the frames, which of them are valid (None: all), and a bias for distances, which
attention alone uses. Shapes: B batch, T frames, D width, K frames of a kernel, H heads. With
``causal`` no output depends on a later frame.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.model.attention import SelfAttention
from speechssl.model.config import ContextConfig
from speechssl.model.dropout import Dropout


class LocalConvLayer(nn.Module):
    """A convolution over neighbouring frames and a linear map, with residual and norm before.

    The convolution is one matrix product over frames laid side by side, which a CPU does faster
    than a convolution of few channels and many frames.
    """

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.kernel = config.local_kernel
        later = 0 if config.causal else self.kernel // 2
        self.margins = (self.kernel - 1 - later, later)
        """Frames before and after that an output depends on."""
        inner = 2 * config.dim
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.conv = nn.Linear(config.dim * self.kernel, inner)
        self.inner_dropout = Dropout(config.activation_dropout)
        self.out = nn.Linear(inner, config.dim)
        self.dropout = Dropout(config.dropout)
        self.adapter = _adapter(config)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """(B, T, D), valid (B, T) bool -> (B, T, D)."""
        y = self.norm(x)
        if valid is not None:
            y = y.masked_fill(~valid[:, :, None], 0)
        padded = F.pad(y, (0, 0, *self.margins))  # (B, T + K - 1, D)
        num = x.shape[1]
        windows = [padded[:, k : k + num] for k in range(self.kernel)]
        y = F.gelu(self.conv(torch.cat(windows, dim=2)))  # (B, T, 2 D)
        return self.adapter(x + self.dropout(self.out(self.inner_dropout(y))))


class GRULayer(nn.Module):
    """A GRU (arXiv:1406.1078, the reset gate inside as in cuDNN) and a linear map, with residual
    and norm before. Bidirectional with half of the width each, causal with the whole forwards."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.causal = config.causal
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        hidden = config.dim if config.causal else config.dim // 2
        self.forwards = nn.GRU(config.dim, hidden, batch_first=True)
        if not config.causal:
            self.backwards = nn.GRU(config.dim, hidden, batch_first=True)
        self.out = nn.Linear(config.dim, config.dim)
        self.dropout = Dropout(config.dropout)
        self.adapter = _adapter(config)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """(B, T, D), valid (B, T) bool -> (B, T, D)."""
        lengths = (
            torch.full((x.shape[0],), x.shape[1], device=x.device)
            if valid is None
            else valid.sum(1)
        )
        y = self.states(self.norm(x), lengths)  # (B, T, D)
        return self.adapter(x + self.dropout(self.out(y)))

    def states(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D), (B,) frames -> states (B, T, D) float32 whatever the autocast, zero behind
        each utterance's end."""
        return gru_states(
            x, lengths, [self.forwards] if self.causal else [self.forwards, self.backwards]
        )


def gru_states(x: Tensor, lengths: Tensor, grus: Sequence[nn.GRU]) -> Tensor:
    """The first GRU forwards, the second, if any, from each utterance's end to its start.

    (B, T, D), (B,) frames -> (B, T, one or two times H) float32 whatever the autocast, zero behind
    each utterance's end. Each GRU has one layer and is ``batch_first``.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        time = torch.arange(x.shape[1], device=x.device)
        valid = time < lengths[:, None]  # (B, T)
        states = [grus[0](x)[0]]
        if len(grus) == 2:
            # Each utterance backwards from its own end; the padding stays where it is.
            index = torch.where(valid, lengths[:, None] - 1 - time, time)[:, :, None]  # (B, T, 1)
            after = grus[1](x.gather(1, index.expand_as(x)))[0]
            states.append(after.gather(1, index.expand_as(after)))
        return torch.cat(states, dim=2).masked_fill(~valid[:, :, None], 0)


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each with residual, norm before or after."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_order == "pre"
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.ffn_in = nn.Linear(config.dim, config.ffn_dim)
        self.ffn_dropout = Dropout(config.activation_dropout)
        self.ffn_out = nn.Linear(config.ffn_dim, config.dim)
        self.ffn_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)
        self.adapter = _adapter(config)

    def forward(
        self, x: Tensor, valid: Tensor | None, distance_bias: Tensor | None = None
    ) -> Tensor:
        """(B, T, D), valid (B, T) bool, bias (H, T, T) -> (B, T, D)."""
        if self.norm_first:
            x = x + self.dropout(self.attention(self.attention_norm(x), valid, distance_bias))
            return self.adapter(x + self.dropout(self.feed_forward(self.ffn_norm(x))))
        x = self.attention_norm(x + self.dropout(self.attention(x, valid, distance_bias)))
        return self.adapter(self.ffn_norm(x + self.dropout(self.feed_forward(x))))

    def feed_forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.ffn_out(self.ffn_dropout(F.gelu(self.ffn_in(x))))


class Adapter(nn.Module):
    """A narrow network with a residual at the end of a layer, which holds one language
    (arXiv:2305.13516)."""

    def __init__(self, config: ContextConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.down = nn.Linear(config.dim, config.adapter_dim)
        self.up = nn.Linear(config.adapter_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return x + self.up(F.relu(self.down(self.norm(x))))


def _adapter(config: ContextConfig) -> nn.Module:
    return Adapter(config) if config.adapter_dim else nn.Identity()
