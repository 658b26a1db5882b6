"""What a run needs to be shown at work: its model with all heads, and what it validates on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from speechssl.data.dataset import Waves
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.wave_cache import WaveCache
from speechssl.model.speech_model import SpeechModel
from speechssl.objectives.contrastive import (
    ContrastiveTask,
    FixedCodesContrastive,
    GumbelContrastive,
    build_contrastive,
)
from speechssl.objectives.features import CleanSpeech
from speechssl.objectives.reconstruction import ReconstructionTask
from speechssl.report.runs import Run
from speechssl.training.pretrain import PretrainConfig, load_teacher
from speechssl.training.resume import newest_weights
from speechssl.training.runfolder import VALID_SET, from_json


class CannotShowError(ValueError):
    """Something of a run that the page cannot show; the message is a sentence for the page."""


@dataclass(frozen=True)
class Pretraining:
    """A pretrained model with the heads of its tasks, as far as the run has come."""

    config: PretrainConfig
    model: SpeechModel
    contrastive: ContrastiveTask | None
    reconstruction: ReconstructionTask | None

    def speech(self, wave: np.ndarray) -> CleanSpeech:
        """The features of a wave (S,)."""
        config, lengths = self.model.config, torch.tensor([len(wave)])
        return CleanSpeech(
            torch.from_numpy(wave)[None],
            lengths,
            self.model.frame_lengths(lengths),
            config.hop_samples,
            config.sample_rate,
        )

    @torch.no_grad()
    def codes(self, wave: np.ndarray) -> np.ndarray:
        """(T, G) int64, the code of each frame of a wave (S,); of fixed codes the first codebook's
        alone."""
        clean = self.speech(wave)
        if isinstance(self.contrastive, FixedCodesContrastive):
            found = self.contrastive.codes(clean)[0, :, :1]
        else:
            assert isinstance(self.contrastive, GumbelContrastive)
            latents = self.model(clean.wave, clean.lengths).latents[0]  # (T, C)
            found = self.contrastive.quantizer(latents).codes
        return found.numpy()


def open_pretraining(run: Run) -> Pretraining:
    """The model of a pretraining run with its heads, from its newest checkpoint.

    Raises CannotShowError where there is none, or where it is of another version.
    """
    weights = newest_weights(run.folder)
    if not weights:
        raise CannotShowError(
            f"{run.name} has no checkpoint, in which the heads of its tasks would be."
        )
    try:
        config = from_json(PretrainConfig, run.config)
        model = SpeechModel(config.model)
        contrastive = reconstruction = None
        if config.contrastive is not None:
            contrastive = build_contrastive(config.contrastive, model, load_teacher(config))
        if config.reconstruction is not None:
            reconstruction = ReconstructionTask(config.reconstruction, model)
        parts = {"model": model, "contrastive": contrastive, "reconstruction": reconstruction}
        modules = torch.nn.ModuleDict({k: part for k, part in parts.items() if part is not None})
        modules.load_state_dict(weights)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CannotShowError(f"The checkpoint of {run.name} cannot be opened: {reason}") from error
    modules.eval()
    return Pretraining(config, model, contrastive, reconstruction)


def open_valid_set(run: Run, sample_rate: int) -> Waves:
    """What a run validates on, from its cache or else from the recordings.

    Raises CannotShowError where the run does not name it.
    """
    path: Path = run.folder / VALID_SET
    try:
        utterances = read_manifest(path)
    except (OSError, ValueError) as error:
        raise CannotShowError(
            f"{run.name} does not say what it validates on: {error} Speech is shown of runs that "
            "have this file."
        ) from error
    items = [(u.audio, u.start_s, u.duration_s) for u in utterances]
    cache = WaveCache.find(run.folder / "cache", items, sample_rate)
    return Waves(utterances, cache, sample_rate)


def read_wave(waves: Waves, item: int) -> np.ndarray | None:
    """(S,) float32; None where the recording is gone or cannot be read."""
    try:
        return waves.cache.get(item)
    except (OSError, ValueError):
        return None


def gone(run: Run, waves: Waves) -> CannotShowError:
    """None of the recordings could be read."""
    first: Utterance = waves.utterances[0]
    return CannotShowError(
        f"The recordings that {run.name} validates on are gone, and it has no cache of them; the "
        f"first was {first.audio}."
    )
