"""Encoder and context in one: the thing that is pretrained, fine-tuned and reused.

Shapes: B batch, S samples, T frames, C latent channels, D width, V vocabulary.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl import shapes
from speechssl.model.config import FilterbankEncoderConfig, ModelConfig
from speechssl.model.context import ContextNetwork
from speechssl.model.dropout import Dropout
from speechssl.model.encoder import build_encoder
from speechssl.model.heads import CTCHead
from speechssl.model.normalization import RunningNorm, normalize_wave


@dataclass(frozen=True)
class SpeechOutput:
    """What the model computed from a batch of waves."""

    raw_latents: Tensor
    """(B, T, C) the encoder's output, whose mean square the feature penalty holds down."""
    latents: Tensor
    """(B, T, C) after the norm: what is quantized into targets."""
    context: Tensor
    """(B, T, D)."""
    lengths: Tensor
    """(B,) valid frames."""
    hidden: tuple[Tensor, ...]
    """Input of the first layer and output of every layer, each (B, T, D); empty unless asked
    for."""


class SpeechModel(nn.Module):
    """Wave -> latents -> context."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.wave_norm: RunningNorm | None = None
        if config.normalize_wave and config.running_norm:
            tenth = max(config.sample_rate // 10, 1)
            self.wave_norm = RunningNorm(1, prior_frames=tenth, mean=0.0, variance=0.01)
        self.encoder = build_encoder(config.encoder, config.sample_rate, config.running_norm)
        # A filterbank's channels are normalised over time; a norm over channels would take away
        # how loud a frame is.
        self.latent_norm = (
            nn.Identity()
            if isinstance(config.encoder, FilterbankEncoderConfig)
            else nn.LayerNorm(config.latent_dim, eps=config.context.norm_eps)
        )
        self.project = nn.Linear(config.latent_dim, config.context.dim)
        self.dropout = Dropout(config.latent_dropout)
        self.mask_embedding = nn.Parameter(torch.rand(config.context.dim))  # U(0, 1)
        self.context = ContextNetwork(config.context)
        self.apply(partial(_init_linear, dim=config.context.dim))

    @property
    def hop_s(self) -> float:
        """Seconds between two frames."""
        return self.config.hop_samples / self.config.sample_rate

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) samples -> (B,) frames; at least one, since short waves are padded."""
        return self.encoder.output_lengths(lengths.clamp_min(self.encoder.min_samples))

    def forward(
        self,
        wave: Tensor,
        lengths: Tensor,
        *,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        encoder_grad_scale: float = 1.0,
        keep_hidden: bool = False,
    ) -> SpeechOutput:
        """Compute the frames of a batch.

        Args:
            wave: (B, S) float32 in [-1, 1].
            lengths: (B,) valid samples; the samples behind them change nothing.
            mask: (B, T) bool, True = the frame is hidden behind the mask embedding.
            channel_mask: (B, `config.encoder`'s channels) bool, True = the channel is zero.
            encoder_grad_scale: scale of the gradient into the encoder (0.1 in BASE); 0 freezes it.
            keep_hidden: return every layer's output.
        """
        wave, lengths = self._prepare(wave, lengths)
        with torch.set_grad_enabled(torch.is_grad_enabled() and encoder_grad_scale > 0):
            raw, lengths = self.encoder(wave, lengths)  # (B, T, C), (B,)
        if 0 < encoder_grad_scale < 1 and raw.requires_grad:
            raw = _scale_gradient(raw, encoder_grad_scale)
        latents = self.latent_norm(raw)
        shown = latents if channel_mask is None else hide_channels(latents, channel_mask)
        frames = self.dropout(self.project(shown))  # (B, T, D)
        if mask is not None:
            frames = torch.where(mask[:, :, None], self.mask_embedding.to(frames.dtype), frames)
        out = self.context(frames, lengths, keep_hidden=keep_hidden)
        return SpeechOutput(raw, latents, out.context, lengths, out.hidden)

    def _prepare(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros behind each wave's end, at least one frame's worth of samples, perhaps
        normalised."""
        short = self.encoder.min_samples - wave.shape[1]
        if short > 0:
            wave = F.pad(wave, (0, short))
        wave = shapes.zero_padding(wave, lengths)
        if self.wave_norm is not None:
            wave = shapes.zero_padding(self.wave_norm(wave[:, :, None])[:, :, 0], lengths)
        elif self.config.normalize_wave:
            wave = normalize_wave(wave, lengths)
        return wave, lengths.clamp_min(self.encoder.min_samples)


class CTCModel(nn.Module):
    """A speech model that emits symbols: :class:`SpeechModel` and a CTC head (arXiv:2006.11477,
    section 3.2)."""

    def __init__(self, speech: SpeechModel, head: CTCHead) -> None:
        super().__init__()
        self.speech = speech
        self.head = head

    @property
    def hop_s(self) -> float:
        """Seconds between two rows of log-probabilities."""
        return self.speech.hop_s / self.head.upsample

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) samples -> (B,) rows of log-probabilities."""
        return self.speech.frame_lengths(lengths) * self.head.upsample

    def forward(
        self,
        wave: Tensor,
        lengths: Tensor,
        *,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        encoder_grad_scale: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Arguments as in :class:`SpeechModel` -> log-probs (B, T, V) float32, lengths (B,)."""
        out = self.speech(
            wave,
            lengths,
            mask=mask,
            channel_mask=channel_mask,
            encoder_grad_scale=encoder_grad_scale,
        )
        return self.head(out.context), out.lengths * self.head.upsample


def hide_channels(latents: Tensor, channel_mask: Tensor) -> Tensor:
    """(B, T, C), mask (B, C') with C a multiple of C': zero each masked channel in every repeat."""
    parts = latents.unflatten(2, (-1, channel_mask.shape[1]))  # (B, T, C / C', C')
    return parts.masked_fill(channel_mask[:, None, None, :], 0).flatten(2)


def _scale_gradient(values: Tensor, scale: float) -> Tensor:
    """The same values, with a gradient `scale` times as large."""
    return values * scale + values.detach() * (1 - scale)


def _init_linear(module: nn.Module, dim: int) -> None:
    """Zero biases and N(0, 0.02), as in BERT and wav2vec 2.0; wider in a narrow model.

    0.02 is 1 / sqrt(3 * 768), the size with which :class:`torch.nn.Linear` itself is initialised at
    the width of BASE. At a third of that width a layer adds so little to its input that a model
    takes several times as many updates to leave the plateau on which it emits only blanks.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02 * max(768 / dim, 1.0) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
