"""A trained model whose layer gives the units of a next round (HuBERT, arXiv:2106.07447)."""

import torch
from torch import Tensor, nn

from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.features import SpeechFeatures


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
        ours, its = model.config, self.model.config
        if (its.hop_samples, its.sample_rate) != (ours.hop_samples, ours.sample_rate):
            raise ValueError(
                f"teacher: its frames are {its.hop_samples} samples of {its.sample_rate} Hz, the "
                f"model's {ours.hop_samples} of {ours.sample_rate}: take one of the same rates."
            )

    @torch.no_grad()
    def features(self, speech: SpeechFeatures) -> Tensor:
        """(B, T, D) float32: the layer's output for the clean wave."""
        self.model.to(speech.wave.device)
        return self.model(speech.wave, speech.lengths, keep_hidden=True).hidden[-1].float()
