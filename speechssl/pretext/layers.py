"""A task at several layers of the context network at once: the intermediate-layer loss.

ILS-SSL (arXiv:2112.08778, section 3.2) computes HuBERT's loss at the fourth layer too, so that the
lower layers learn what sounds are, and the upper ones are free for more. Here any task can: it is
built once for each layer, with heads of its own, and sees that layer's output as its context.

The highest of the layers is the main one: its numbers have the task's usual names, it alone is
fitted to data, diagnosed and shown; those of the others end in ``_layer_NUMBER``.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import (
    LossTerm,
    Panel,
    PretextTask,
    Resources,
    TaskConfig,
    TaskLoss,
)
from speechssl.text import Tokenizer

TOP = -1


def build_at_layers(config: TaskConfig, model: SpeechModel, resources: Resources) -> PretextTask:
    """The task of a config; ValueError where the model has no such layer."""
    num = model.config.context.num_layers
    for layer in config.layers:
        if not TOP <= layer <= num:
            raise ValueError(
                f"{config.name}.layers must be from 0 to {num}, the number of layers, or {TOP} for "
                f"the top, got {layer}."
            )
    if {TOP, num} <= set(config.layers):
        raise ValueError(f"{config.name}.layers: {TOP} and {num} are the same layer.")
    if config.layers in ((TOP,), (num,)):
        return config.build(model, resources)
    layers = [TOP if n == num else n for n in _from_the_top(config.layers)]
    return TaskAtLayers({n: config.build(model, resources) for n in layers})


def _from_the_top(layers: Iterable[int]) -> list[int]:
    return sorted(layers, key=lambda layer: (layer != TOP, -layer))


def main_layer(config: TaskConfig) -> int:
    """The highest layer of a task, whose heads are kept; -1: the top."""
    return _from_the_top(config.layers)[0]


def signals_at_layers(config: TaskConfig) -> tuple[Signal, ...]:
    """The signals of a task, and its loss at each lower layer."""
    own = tuple(replace(signal, moving=config.moving_targets) for signal in config.signals)
    losses = [signal for signal in own if signal.metric == config.name]
    return own + tuple(
        replace(
            signal,
            metric=f"{signal.metric}_layer_{layer}",
            title=f"{signal.title}, layer {layer}",
            training=f"{signal.training}_layer_{layer}" if signal.training else "",
            task=config.name,
        )
        for signal in losses
        for layer in _from_the_top(config.layers)[1:]
    )


class TaskAtLayers(PretextTask):
    """Copies of a task, each on the output of another layer."""

    called_methods = ("diagnose", "codes", "panels")

    def __init__(self, tasks: dict[int, PretextTask]) -> None:
        """`tasks` by layer, the main one first."""
        super().__init__()
        self.layers = tuple(tasks)
        self.tasks = nn.ModuleList(tasks.values())
        main = self.main
        self.name, self.title, self.num_codes = main.name, main.title, main.num_codes
        self.needs, self.by_utterance = replace(main.needs, hidden=True), main.by_utterance
        self._share_buffers()

    @property
    def main(self) -> PretextTask:
        """The task at the highest of the layers."""
        task: PretextTask = self.tasks[0]  # type: ignore[assignment]
        return task

    def _share_buffers(self) -> None:
        """What is estimated or drawn once, like centroids, is the same for all."""
        for task in self.tasks[1:]:
            for name, buffer in task.named_buffers():
                buffer.copy_(self.main.get_buffer(name))

    def fit(self, sample: Iterable[Inputs], seed: int) -> None:
        self.main.fit(sample, seed)
        self._share_buffers()

    def counts(self, x: Inputs) -> dict[str, int]:
        return self.main.counts(x)

    def forward(self, x: Inputs) -> TaskLoss:
        terms: dict[str, LossTerm] = {}
        metrics: dict[str, Tensor] = {}
        tallies: dict[str, Tensor] = {}
        gathered: dict[str, Tensor] = {}
        for layer, task in zip(self.layers, self.tasks, strict=True):
            own = task(x.at_layer(layer))
            end = self._ending(layer)
            terms |= {f"{name}{end}": term for name, term in own.terms.items()}
            metrics |= {f"{name}{end}": value for name, value in own.metrics.items()}
            tallies |= {f"{name}{end}": tally for name, tally in own.tallies.items()}
            gathered |= {f"{name}{end}": values for name, values in own.gathered.items()}
        return TaskLoss(terms, metrics, tallies, gathered)

    def _ending(self, layer: int) -> str:
        return "" if layer == self.layers[0] else f"_layer_{layer}"

    def offline_units(self, x: Inputs) -> dict[str, Tensor]:
        return self.main.offline_units(x)

    def describe_units(self) -> dict[str, dict[str, object]]:
        return self.main.describe_units()

    def state_of_units(self) -> dict[str, Tensor]:
        return self.main.state_of_units()

    def before_update(self, step: int, max_steps: int, model: SpeechModel) -> None:
        for task in self.tasks:
            task.before_update(step, max_steps, model)  # type: ignore[operator]

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        found: dict[str, float] = {}
        endings = {self._ending(layer) for layer in self.layers} - {""}
        for layer, task in zip(self.layers, self.tasks, strict=True):
            end = self._ending(layer)
            own = {
                name.removesuffix(end): tally
                for name, tally in tallies.items()
                if (name.endswith(end) if end else not name.endswith(tuple(endings)))
            }
            values = task.summarize(own) if own else {}  # type: ignore[operator]
            found |= {f"{name}{end}": value for name, value in values.items()}
        return found

    def diagnose(self, x: Inputs) -> dict[str, float]:
        return self.main.diagnose(x.at_layer(self.layers[0]))

    @torch.no_grad()
    def codes(self, x: Inputs) -> Tensor | None:
        return self.main.codes(x.at_layer(self.layers[0]))

    def panels(self, x: Inputs) -> tuple[Panel, ...]:
        return self.main.panels(x.at_layer(self.layers[0]))

    @property
    def saved_heads(self) -> nn.Module | None:
        return self.main.saved_heads

    def saved_fields(self) -> dict[str, object]:
        return self.main.saved_fields()

    @property
    def heads_for_use(self) -> nn.Module | None:
        """A recogniser that is not at the top is no model folder's head, and is kept here."""
        if self.layers[0] == TOP:
            return self.main.heads_for_use
        return self.main.heads_for_use or self.main.recogniser

    @property
    def alphabet(self) -> Tokenizer | None:
        return self.main.alphabet

    @property
    def recogniser(self) -> CTCHead | None:
        return self.main.recogniser if self.layers[0] == TOP else None
