"""CTC fine-tuning that also keeps an exponential moving average of its weights.

An average of the last weights generalises better than each of them where the learning rate is not
small (Polyak and Juditsky 1992, doi:10.1137/0330046); as a teacher it is steadier than its student
(mean teacher, arXiv:1703.01780; momentum pseudo-labelling, arXiv:2106.08922, section 3).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from speechssl.data.dataset import Batch, Waves
from speechssl.model.ema import EMA
from speechssl.model.speech_model import CTCModel
from speechssl.text import Tokenizer
from speechssl.training.finetune_work import FinetuneWork

if TYPE_CHECKING:
    from speechssl.training.finetune import FinetuneConfig

AVERAGE, LAST = "average", "last"
"""Which weights a model folder holds, under ``weights`` in meta.json."""


class AveragedWork(FinetuneWork):
    """A validation scores the weights and their average; the better of both is what is saved.

    The metrics of the average are ``ema/cer``, ``ema/wer`` and ``ema/loss``. The average follows at
    the beginning of the next update, so that a run that goes on from a state has the same one; the
    last update of all is therefore not in it.
    """

    def __init__(
        self,
        config: "FinetuneConfig",
        model: CTCModel,
        tokenizer: Tokenizer,
        valid_waves: Waves,
        device: torch.device,
        pretrained: bool,
    ) -> None:
        super().__init__(config, model, tokenizer, valid_waves, device, pretrained)
        self.average = EMA(self.model)
        self.modules = _WithAverage(self.model, self.average)
        self._kept = LAST

    def backward(self, step: int, max_steps: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """As of :class:`FinetuneWork`; first the average takes in what the update before did."""
        decay = warmed_up(self.config.ema_decay, step)
        self.average.update(self.model, decay)
        return super().backward(step, max_steps, batches)

    def validate(self, step: int) -> tuple[float, dict[str, float]]:
        """The better character error rate of both, and the metrics of both."""
        score, metrics = super().validate(step)
        result, sample = self.result, self._sample
        with self._average_in_place():
            of_average, others = super().validate(step)
        metrics |= {
            f"ema/{name}": others[name] for name in ("cer", "wer", "loss") if name in others
        }
        self._kept = AVERAGE if of_average <= score else LAST
        if self._kept == LAST:
            self.result, self._sample = result, sample
        return min(score, of_average), metrics

    def save(self, folder: Path, step: int, metrics: dict[str, float]) -> None:
        """Write the better one of the last validation; ``meta.json`` says which it is."""
        self.notes["weights"] = self._kept
        if self._kept == LAST:
            super().save(folder, step, metrics)
            return
        own = {name: metrics.get(f"ema/{name}", value) for name, value in metrics.items()}
        with self._average_in_place():
            super().save(folder, step, own)

    @contextmanager
    def _average_in_place(self) -> Iterator[None]:
        """The average is the model that is looked at."""
        own = self.model
        self.model = cast(CTCModel, self.average.average)
        try:
            yield
        finally:
            self.model = own


class _WithAverage(nn.Module):
    """The parts of a model under their names, and ``average``."""

    def __init__(self, model: nn.Module, average: EMA) -> None:
        super().__init__()
        for name, part in model.named_children():
            self.add_module(name, part)
        self.average = average


def warmed_up(decay: float, update: int) -> float:
    """The decay at an update: small at first, so that the initial weights are soon forgotten,
    ``(1 + n) / (10 + n)`` until that reaches `decay` (``tf.train.ExponentialMovingAverage``)."""
    return min(decay, (1 + update) / (10 + update))
