"""Trained models as teachers: a layer gives the units of a next round (HuBERT, arXiv:2106.07447),
or a CTC head the symbols to keep."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.pretext.features import SpeechFeatures
from speechssl.text import Tokenizer


class Teacher:
    """The lower layers of a trained model, frozen (arXiv:2106.07447, section 3.3)."""

    def __init__(self, model: SpeechModel, layer: int, *, beside: bool = False) -> None:
        """`layer` counts from 0, the input of the first layer; ValueError where it has fewer.
        `beside`: its units are predicted beside those of features, not in their place."""
        num_layers = model.config.context.num_layers
        if not 0 <= layer <= num_layers:
            raise ValueError(
                f"teacher_layer must be between 0 and the teacher's {num_layers} layers, got "
                f"{layer}."
            )
        self.model = model.eval().requires_grad_(False)
        self.layer = layer
        self.beside = beside
        if layer < num_layers:  # what is above is not needed
            context = self.model.context
            del context.layers[layer:]
            if model.config.context.norm_order == "pre":
                context.norm = nn.Identity()  # the last layer's

    @property
    def dim(self) -> int:
        """Width of its frames."""
        return self.model.config.context.dim

    def check_fits(self, model: SpeechModel) -> None:
        """ValueError where its frames are not those of `model`."""
        _check_frames("teacher", self.model, model)

    @torch.no_grad()
    def features(self, speech: SpeechFeatures) -> Tensor:
        """(B, T, D) float32: the layer's output for the clean wave."""
        self.model.to(speech.wave.device)
        return self.model(speech.wave, speech.lengths, keep_hidden=True).hidden[-1].float()


@dataclass(frozen=True)
class Recogniser:
    """A trained model that transcribes, frozen, or its alphabet alone."""

    tokenizer: Tokenizer
    model: CTCModel | None = None
    """None: to show a run, for which the teacher is not needed."""

    @classmethod
    def frozen(cls, model: CTCModel, tokenizer: Tokenizer) -> "Recogniser":
        """A copy of a model, in evaluation and without gradients."""
        return cls(tokenizer, copy.deepcopy(model).eval().requires_grad_(False))

    def check_fits(self, model: SpeechModel, upsample: int) -> None:
        """ValueError where its rows of output are not those of a head on `model`."""
        if self.model is None:
            return
        _check_frames("ctc_distillation", self.model.speech, model)
        if self.model.head.upsample != upsample:
            raise ValueError(
                f"ctc_distillation.upsample must be {self.model.head.upsample}, the rows that the "
                f"head of --init emits for each frame, got {upsample}."
            )

    @torch.no_grad()
    def log_probs(self, speech: SpeechFeatures) -> Tensor:
        """(B, T * U, V) float32 of the clean wave."""
        assert self.model is not None
        self.model.to(speech.wave.device)
        found: Tensor = self.model(speech.wave, speech.lengths)[0]
        return found


def _check_frames(what: str, teacher: SpeechModel, model: SpeechModel) -> None:
    ours, its = model.config, teacher.config
    if (its.hop_samples, its.sample_rate) != (ours.hop_samples, ours.sample_rate):
        raise ValueError(
            f"{what}: its frames are {its.hop_samples} samples of {its.sample_rate} Hz, the "
            f"model's {ours.hop_samples} of {ours.sample_rate}: take one of the same rates."
        )
