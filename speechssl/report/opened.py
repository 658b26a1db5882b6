"""What a run needs to be shown at work: its model with all heads, and what it validates on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from speechssl.config.json import from_json
from speechssl.data.dataset import Batch, Waves
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.wave_cache import WaveCache
from speechssl.model.ema import EMA
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.tasks import Tasks
from speechssl.report.runs import Run
from speechssl.text import Tokenizer
from speechssl.training.alphabets import Alphabets
from speechssl.training.built_tasks import build_modules, build_tasks
from speechssl.training.pretrain import PretrainConfig
from speechssl.training.resume import newest_weights
from speechssl.training.runfolder import VALID_SET
from speechssl.training.units import compute_units


class CannotShowError(ValueError):
    """Something of a run that the page cannot show; the message is a sentence for the page."""


@dataclass(frozen=True)
class Pretraining:
    """A pretrained model with the heads of its tasks, as far as the run has come."""

    config: PretrainConfig
    model: SpeechModel
    tasks: Tasks
    ema: EMA | None = None
    tokenizer: Tokenizer | None = None

    def inputs(
        self, wave: np.ndarray, distorted: np.ndarray | None = None, seed: int = 0
    ) -> Inputs:
        """What the tasks see of one utterance (S,), whose masks are a function of `seed`."""
        clean = torch.from_numpy(wave)[None]  # (1, S)
        noisy = clean if distorted is None else torch.from_numpy(distorted)[None]
        batch = Batch(seed, ("",), ("",), noisy, clean, torch.tensor([len(wave)]))
        return Inputs(
            self.model,
            batch,
            device=torch.device("cpu"),
            seed=0,
            mask=self.config.mask,
            mask_purpose="report-mask",
            keep_hidden=self.tasks.needs.hidden,
            units=lambda name, x: compute_units(self.tasks, x)[name],
            ema=self.ema,
            tokenizer=self.tokenizer,
        )

    @torch.no_grad()
    def codes(self, wave: np.ndarray) -> dict[str, np.ndarray]:
        """By task, of those that have codes: (T, G) int64, the code of each frame of a wave
        (S,)."""
        x = self.inputs(wave)
        found = {task.name: task.codes(x) for task in self.tasks}
        return {name: codes[0].numpy() for name, codes in found.items() if codes is not None}


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
        alphabets = Alphabets.load(run.folder, config.tasks)
        tasks = build_tasks(config, model, alphabets, run.meta.get("corpora", 1))
        modules, ema = build_modules(tasks, model)
        modules.load_state_dict({n: v for n, v in weights.items() if not n.startswith("balance.")})
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CannotShowError(f"The checkpoint of {run.name} cannot be opened: {reason}") from error
    accelerate(modules.eval())
    return Pretraining(config, model, tasks, ema, alphabets.text)


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
