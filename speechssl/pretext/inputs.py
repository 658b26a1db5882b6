"""What pretext tasks see of one micro-batch: everything is computed when first asked for, once.

Shapes: B batch, S samples, T frames, F width of a feature.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl import shapes
from speechssl.device import send
from speechssl.model.ema import EMA
from speechssl.model.masking import span_mask
from speechssl.model.speech_model import SpeechModel, SpeechOutput
from speechssl.pretext.features import FeatureName, SpeechFeatures
from speechssl.pretext.task import MaskConfig, View
from speechssl.rng import rng

if TYPE_CHECKING:
    from speechssl.text import Tokenizer

Wave = Literal["clean", "distorted", "distorted2"]
DEFAULT_VIEW = View()
"""The distorted wave under the run's masks."""


class Cut(Protocol):
    """Which part of a micro-batch a process has, where several share it."""

    @property
    def rows(self) -> Sequence[int]:
        """Places of the part's utterances in the micro-batch."""
        ...

    @property
    def lengths(self) -> Tensor:
        """(W,) int64 samples of all utterances of the micro-batch."""
        ...


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
    def distorted2(self) -> Tensor | None:
        """(B, S) float32, distorted another time; None: nothing is distorted."""
        ...

    @property
    def lengths(self) -> Tensor:
        """(B,) int64 samples."""
        ...

    @property
    def texts(self) -> tuple[str, ...]:
        """Transcripts of what the waves hold; '' where there is none."""
        ...

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the transcripts in a loss; empty where all are 1."""
        ...

    @property
    def ipa(self) -> tuple[str, ...]:
        """Transcripts as phones; '' where there is none, empty where there are none at all."""
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
        features: "Callable[[FeatureName, Inputs], Tensor] | None" = None,
        ema: EMA | None = None,
        tokenizer: "Tokenizer | None" = None,
        corpora: Sequence[int] = (),
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
            features: ``(name, inputs) -> (B, T, F) float32`` of the clean wave, where they are
                kept; None: they are computed from the batch.
            ema: the moving average of `model`, for views of the network ``ema``.
            tokenizer: of the transcripts, for tasks that look at them.
            corpora: (B,) number of the manifest that each utterance is from; empty: all of one.
        """
        self.model, self.batch, self.device = model, batch, device
        self.frames = model.frame_lengths(batch.lengths)
        """(B,) valid frames, on the host."""
        self.num_frames = int(model.frame_lengths(torch.tensor([batch.clean.shape[1]])))
        """T, padding included."""
        self._cut: Cut | None = getattr(batch, "cut", None)
        self._seed, self._mask, self._mask_purpose = seed, mask, mask_purpose
        self._encoder_grad_scale, self._keep_hidden = encoder_grad_scale, keep_hidden
        self._units, self._ema, self._tokenizer = units, ema, tokenizer
        self._kept, self._from_kept = features, dict[FeatureName, Tensor]()
        self.corpora = tuple(corpora) or (0,) * len(batch.lengths)
        """(B,) number of the manifest that each utterance is from."""
        self._layer = -1
        self._masks: dict[MaskConfig | None, Tensor] = {}
        self._outputs: dict[View, SpeechOutput] = {}
        self._speech: dict[Wave, SpeechFeatures] = {}

    @property
    def lengths(self) -> Tensor:
        """(B,) int64 samples, on the host."""
        return self.batch.lengths

    def wave(self, kind: Wave = "clean") -> Tensor:
        """(B, S) float32 on the device; zero behind each wave's end."""
        wave = getattr(self.batch, kind)
        return send(self.batch.clean if wave is None else wave, self.device)

    def encode(self, view: View = DEFAULT_VIEW) -> SpeechOutput:
        """The model's output for a view; under the autocast in which it is first asked for."""
        if view not in self._outputs:
            self._outputs[view] = self._encode(view)
        return self._at_own_layer(self._outputs[view])

    def _encode(self, view: View) -> SpeechOutput:
        wave, lengths, mask = self.wave(view.wave), self.lengths, view.mask
        if view.order == "reverse":
            wave, lengths = reverse_waves(wave, lengths, self.model)
        drawn = None if mask is None else self.mask(view)
        if drawn is not None and view.order == "reverse":
            drawn = reverse_frames(drawn, self.frames)
        return self._forward(wave, lengths, view.network, drawn, self._keep_hidden)

    def encode_waves(
        self,
        wave: Tensor,
        lengths: Tensor,
        *,
        network: Literal["student", "ema"] = "student",
        mask: Tensor | None = None,
        keep_hidden: bool = False,
    ) -> SpeechOutput:
        """One forward pass over waves that a task made itself, e.g. segments; nothing is kept.

        Args:
            wave: (N, S) float32, on the device.
            lengths: (N,) int64 samples.
            network: the model or its moving average.
            mask: (N, T) bool.
            keep_hidden: return every layer's output.
        """
        keep_hidden = keep_hidden or self._layer != -1
        return self._at_own_layer(self._forward(wave, lengths, network, mask, keep_hidden))

    def _forward(
        self,
        wave: Tensor,
        lengths: Tensor,
        network: Literal["student", "ema"],
        mask: Tensor | None,
        keep_hidden: bool,
    ) -> SpeechOutput:
        """What :meth:`encode_waves` returns, with the context of the top layer."""
        if network == "ema" and self._ema is None:
            raise ValueError("There is no moving average of the model in this run.")
        model = self.model if network == "student" else self._ema
        assert model is not None
        output: SpeechOutput = model(
            wave,
            send(lengths, self.device),
            mask=None if mask is None else send(mask, self.device),
            encoder_grad_scale=self._encoder_grad_scale,
            keep_hidden=keep_hidden,
        )
        return output

    def at_layer(self, layer: int) -> "Inputs":
        """The same micro-batch, seen from a layer of the context network: the `context` of its
        outputs is that layer's (0: the input of the first one; -1: the top). Everything that was
        computed is shared."""
        seen = copy.copy(self)
        seen._layer = layer
        return seen

    def _at_own_layer(self, output: SpeechOutput) -> SpeechOutput:
        """With the output of the layer from which this is seen as its context."""
        if self._layer in (-1, len(output.hidden) - 1):
            return output
        return replace(output, context=self._of_layer(output.hidden[self._layer]))

    def _of_layer(self, hidden: Tensor) -> Tensor:
        """(B, T, D), normalised, as the residual stream of a pre-norm network is not."""
        if self.model.config.context.norm_order == "post":
            return hidden
        return F.layer_norm(hidden, hidden.shape[-1:])

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
            purpose += " speech" if config.speech_only else ""
        if config is None:
            return torch.zeros(len(self.frames), self.num_frames, dtype=torch.bool)
        frames = self.frames if self._cut is None else self.model.frame_lengths(self._cut.lengths)
        drawn = span_mask(
            frames.tolist(),
            max(int(frames.max()), self.num_frames),
            share=config.share,
            span=config.span,
            generator=self.rng(purpose),
            allowed=self._speech_frames() if config.speech_only else None,
        )
        if self._cut is not None:  # of a mask for all of the micro-batch, this part's rows
            drawn = drawn[list(self._cut.rows), : self.num_frames]
        return torch.from_numpy(drawn)

    def _speech_frames(self) -> np.ndarray:
        """(B, T) bool, True where an utterance is not 30 dB below its loud frames, which 5 % of
        them exceed; by the clean wave."""
        hop, num = self.model.config.hop_samples, self.num_frames
        wave = F.pad(self.batch.clean.cpu(), (0, max(num * hop - self.batch.clean.shape[1], 0)))
        energy = wave[:, : num * hop].unflatten(1, (num, hop)).square().mean(2).numpy()  # (B, T)
        loud = [np.quantile(row[:n], 0.95) for row, n in zip(energy, self.frames, strict=True)]
        return np.asarray(energy > 1e-3 * np.stack(loud)[:, None])

    @property
    def texts(self) -> tuple[str, ...]:
        """(B,) transcripts; '' where there is none, or the utterance was cropped."""
        return self.batch.texts

    @property
    def ipa(self) -> tuple[str, ...]:
        """(B,) transcripts as phones; '' where they are not known, or the utterance was cropped."""
        return self.batch.ipa or ("",) * len(self.batch.lengths)

    @property
    def weights(self) -> tuple[float, ...]:
        """(B,) weights of the transcripts in a loss."""
        return self.batch.weights or (1.0,) * len(self.batch.texts)

    @property
    def tokenizer(self) -> "Tokenizer":
        """Of the run's transcripts; ValueError where none of its tasks looks at them."""
        if self._tokenizer is None:
            raise ValueError("There is no tokenizer in this run.")
        return self._tokenizer

    def tokens(self) -> tuple[Tensor, Tensor]:
        """``(ids (B, L) int64, on the device; lengths (B,) int64, on the host)`` of the
        transcripts; length 0 where there is none, id 0 behind the end."""
        rows = [torch.tensor(self.tokenizer.encode(t), dtype=torch.long) for t in self.texts]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (B, L)
        return send(ids, self.device), torch.tensor([len(row) for row in rows])

    def speech(self, wave: Wave = "clean") -> SpeechFeatures:
        """The clean or distorted wave on the device, and its features."""
        if wave not in self._speech:
            config = self.model.config
            self._speech[wave] = SpeechFeatures(
                self.wave(wave),
                send(self.batch.lengths, self.device),
                self.frames,
                config.hop_samples,
                config.sample_rate,
                self.num_frames,
            )
        return self._speech[wave]

    def features(self, name: FeatureName, wave: Wave = "clean") -> Tensor:
        """(B, T, F) float32 of the clean (or distorted) wave; see :class:`SpeechFeatures`."""
        if wave != "clean" or self._kept is None:
            return self.speech(wave).features(name)
        if name not in self._from_kept:
            self._from_kept[name] = self._kept(name, self)
        return self._from_kept[name]

    def units(self, name: str) -> Tensor:
        """(B, T) int64 on the device: offline units of the clean wave; 0 in the padding."""
        if self._units is None:
            raise ValueError(f"There are no offline units {name!r} in this run.")
        return self._units(name, self)

    def rng(self, purpose: str) -> np.random.Generator:
        """Randomness of this micro-batch: a function of (seed, purpose, its number)."""
        return rng(self._seed, purpose, self.batch.index)

    def rng_of(self, purpose: str, row: int) -> np.random.Generator:
        """Randomness of one utterance of it, by its row."""
        row = row if self._cut is None else self._cut.rows[row]
        return rng(self._seed, purpose, self.batch.index, row)

    def release(self) -> None:
        """Forget the outputs and features, whose memory the next micro-batch needs."""
        self._outputs.clear()
        self._speech.clear()
        self._from_kept.clear()


def whole_frames(frames: Tensor, model: SpeechModel) -> Tensor:
    """(B,) frames -> (B,) samples that they are computed from, of the last frame's filters too."""
    return (frames - 1) * model.config.hop_samples + model.encoder.min_samples


def reverse_waves(wave: Tensor, lengths: Tensor, model: SpeechModel) -> tuple[Tensor, Tensor]:
    """(B, S), (B,) samples -> (B, S) in which each wave is played backwards, without the samples at
    its end that fill no frame, so that frames fall on frames; (B,) samples that are left."""
    lengths = torch.minimum(lengths, whole_frames(model.frame_lengths(lengths), model))
    return shapes.reverse(wave, send(lengths, wave.device)), lengths


def reverse_frames(frames: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, ...), (B,) frames -> the same with the valid frames of each row in reverse order."""
    return shapes.reverse(frames, send(lengths, frames.device))
