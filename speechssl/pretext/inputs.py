"""What pretext tasks see of one micro-batch: everything is computed when first asked for, once.

Shapes: B batch, S samples, T frames, F width of a feature.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from speechssl.device import send
from speechssl.model.masking import span_mask
from speechssl.model.speech_model import SpeechModel, SpeechOutput
from speechssl.pretext.features import FeatureName, SpeechFeatures
from speechssl.pretext.task import MaskConfig, View
from speechssl.rng import rng

Wave = Literal["clean", "distorted"]
DEFAULT_VIEW = View()
"""The distorted wave under the run's masks."""


class WaveBatch(Protocol):
    """The tensors of a micro-batch, on the host."""

    @property
    def index(self) -> int:
        """The micro-batch's number in the run: the key of everything random."""
        ...

    @property
    def clean(self) -> Tensor:
        """(B, S) float32 in [-1, 1]."""
        ...

    @property
    def distorted(self) -> Tensor:
        """(B, S) float32; `clean` itself where nothing is distorted."""
        ...

    @property
    def lengths(self) -> Tensor:
        """(B,) int64 samples."""
        ...


class Inputs:
    """One micro-batch: its waves, masks, features, units, and the model's output for its views."""

    def __init__(
        self,
        model: SpeechModel,
        batch: WaveBatch,
        *,
        device: torch.device,
        seed: int,
        mask: MaskConfig,
        mask_purpose: str = "mask",
        encoder_grad_scale: float = 1.0,
        keep_hidden: bool = False,
        units: "Callable[[str, Inputs], Tensor] | None" = None,
    ) -> None:
        """
        Args:
            model: runs on `device`.
            batch: on the host.
            seed: of the run.
            mask: of views whose mask is the run's.
            mask_purpose: key of the masks' randomness: training and validation have their own.
            encoder_grad_scale: as in :meth:`SpeechModel.forward`.
            keep_hidden: whether outputs hold every layer's.
            units: ``(name, inputs) -> (B, T) int64``, the offline units of tasks.
        """
        self.model, self.batch, self.device = model, batch, device
        self.frames = model.frame_lengths(batch.lengths)
        """(B,) valid frames, on the host."""
        self._seed, self._mask, self._mask_purpose = seed, mask, mask_purpose
        self._encoder_grad_scale, self._keep_hidden = encoder_grad_scale, keep_hidden
        self._units = units
        self._masks: dict[MaskConfig | None, Tensor] = {}
        self._outputs: dict[View, SpeechOutput] = {}
        self._speech: dict[Wave, SpeechFeatures] = {}

    def encode(self, view: View = DEFAULT_VIEW) -> SpeechOutput:
        """The model's output for a view; under the autocast in which it is first asked for."""
        if view not in self._outputs:
            self._outputs[view] = self.model(
                send(getattr(self.batch, view.wave), self.device),
                send(self.batch.lengths, self.device),
                mask=None if view.mask is None else send(self.mask(view), self.device),
                encoder_grad_scale=self._encoder_grad_scale,
                keep_hidden=self._keep_hidden,
            )
        return self._outputs[view]

    def mask(self, view: View = DEFAULT_VIEW) -> Tensor:
        """(B, T) bool on the host, True = masked, never in the padding."""
        config = self._mask if view.mask == "run" else view.mask
        if config not in self._masks:
            self._masks[config] = self._draw_mask(config)
        return self._masks[config]

    def _draw_mask(self, config: MaskConfig | None) -> Tensor:
        purpose = self._mask_purpose
        if config is not None and config != self._mask:  # masks of its own, not those of the run
            purpose = f"{purpose} {config.share} {config.span}"
        if config is None:
            return torch.zeros(len(self.frames), int(self.frames.max()), dtype=torch.bool)
        drawn = span_mask(
            self.frames.tolist(),
            int(self.frames.max()),
            share=config.share,
            span=config.span,
            generator=self.rng(purpose),
        )
        return torch.from_numpy(drawn)

    def speech(self, wave: Wave = "clean") -> SpeechFeatures:
        """The clean or distorted wave on the device, and its features."""
        if wave not in self._speech:
            config = self.model.config
            self._speech[wave] = SpeechFeatures(
                send(getattr(self.batch, wave), self.device),
                send(self.batch.lengths, self.device),
                self.frames,
                config.hop_samples,
                config.sample_rate,
            )
        return self._speech[wave]

    def features(self, name: FeatureName, wave: Wave = "clean") -> Tensor:
        """(B, T, F) float32 of the clean (or distorted) wave; see :class:`SpeechFeatures`."""
        return self.speech(wave).features(name)

    def units(self, name: str) -> Tensor:
        """(B, T) int64 on the device: offline units of the clean wave; 0 in the padding."""
        if self._units is None:
            raise ValueError(f"There are no offline units {name!r} in this run.")
        return self._units(name, self)

    def rng(self, purpose: str) -> np.random.Generator:
        """Randomness of this micro-batch: a function of (seed, purpose, its number)."""
        return rng(self._seed, purpose, self.batch.index)

    def release(self) -> None:
        """Forget the outputs and features, whose memory the next micro-batch needs."""
        self._outputs.clear()
        self._speech.clear()
