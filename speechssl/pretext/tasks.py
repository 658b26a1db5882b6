"""The pretext tasks of a run: which there are, which it has, and their losses together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from speechssl.config.names import nearest
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.autoencoder import AutoencoderConfig
from speechssl.pretext.bootstrap import BootstrapConfig
from speechssl.pretext.cbow import CBOWConfig
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.ctc_distillation import CTCDistillationConfig
from speechssl.pretext.direct_pred import DirectPredConfig
from speechssl.pretext.future_frames import FutureFramesConfig
from speechssl.pretext.future_units import FutureUnitsConfig
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.jigsaw import JigsawConfig
from speechssl.pretext.layers import build_at_layers, signals_at_layers
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.phones import PhonesConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.reverse_context import ReverseContextConfig
from speechssl.pretext.signal import Signal
from speechssl.pretext.skip_gram import SkipGramConfig
from speechssl.pretext.speech_text import SpeechTextConfig
from speechssl.pretext.supervised import CTCConfig
from speechssl.pretext.task import Needs, PretextTask, Resources, TaskConfig, TaskLoss, View
from speechssl.pretext.temporal_coherence import TemporalCoherenceConfig
from speechssl.pretext.temporal_gap import TemporalGapConfig
from speechssl.pretext.wav2vec import Wav2VecConfig
from speechssl.text import Tokenizer

TASKS: dict[str, type[TaskConfig]] = {
    config.name: config
    for config in (
        ContrastiveConfig,
        MaskedUnitsConfig,
        ReconstructionConfig,
        AutoencoderConfig,
        FutureFramesConfig,
        FutureUnitsConfig,
        CBOWConfig,
        SkipGramConfig,
        TemporalGapConfig,
        JigsawConfig,
        TemporalCoherenceConfig,
        SpeechTextConfig,
        CTCConfig,
        PhonesConfig,
        CTCDistillationConfig,
        Wav2VecConfig,
        ReverseContextConfig,
        BootstrapConfig,
        DirectPredConfig,
    )
}
"""Every task by its name. A new one is added here."""


@dataclass(frozen=True)
class TaskConfigs:
    """The tasks of a run, in the order in which they are computed; each at most once."""

    members: ClassVar[dict[str, type[TaskConfig]]] = TASKS
    configs: tuple[TaskConfig, ...]

    def __post_init__(self) -> None:
        names = [config.name for config in self.configs]
        if not names:
            raise ValueError(f"tasks must name at least one of {', '.join(TASKS)}.")
        if len(set(names)) < len(names):
            raise ValueError(f"tasks must name each task once, got {', '.join(names)}.")
        idle = [config.learns_nothing() for config in self.configs]
        if all(idle):
            raise ValueError(f"nothing would be learned: {' and '.join(idle)} are 0.")

    def __iter__(self) -> Iterator[TaskConfig]:
        return iter(self.configs)

    def __contains__(self, name: str) -> bool:
        return any(config.name == name for config in self.configs)

    def __getitem__(self, name: str) -> TaskConfig:
        for config in self.configs:
            if config.name == name:
                return config
        raise KeyError(name)

    def having(self, config: TaskConfig) -> "TaskConfigs":
        """With this config in the place of the one of the same name, else at the end."""
        if config.name not in self:
            return TaskConfigs((*self.configs, config))
        return TaskConfigs(tuple(config if c.name == config.name else c for c in self.configs))

    def without(self, name: str) -> "TaskConfigs":
        """Without the task of this name."""
        return TaskConfigs(tuple(c for c in self.configs if c.name != name))

    @property
    def signals(self) -> tuple[Signal, ...]:
        """Those of all tasks."""
        return tuple(signal for config in self.configs for signal in signals_at_layers(config))

    @property
    def uses_text(self) -> bool:
        """Whether one of them looks at transcripts."""
        return any(config.uses_text for config in self.configs)

    @property
    def uses_phones(self) -> bool:
        """Whether one of them looks at transcripts as phones."""
        return any(config.uses_phones for config in self.configs)

    @property
    def uses_recogniser(self) -> bool:
        """Whether one of them learns from a model that transcribes."""
        return any(config.uses_recogniser for config in self.configs)

    def chosen(
        self, wanted: Sequence[str], defaults: Mapping[str, TaskConfig] | None = None
    ) -> "TaskConfigs":
        """The tasks that ``NAME`` or ``NAME=WEIGHT`` name, in that order: as they are here, else as
        in `defaults`, else with the defaults of their class.

        Raises ValueError for an unknown name or a weight that is no number.
        """
        configs = []
        for one in wanted:
            name, equals, weight = one.partition("=")
            name = name.replace("-", "_")
            known = self[name] if name in self else (defaults or {}).get(name)
            config = known or task_class(name)()
            if equals:
                try:
                    config = replace(config, weight=float(weight))
                except ValueError:
                    if not _is_number(weight):
                        raise ValueError(
                            f"--tasks {one}: the weight of {name} must be a number, got {weight!r}."
                        ) from None
                    raise
            configs.append(config)
        return TaskConfigs(tuple(configs))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def task_class(name: str) -> type[TaskConfig]:
    """The config class of a task; ValueError naming the nearest ones where there is none."""
    if name not in TASKS:
        raise ValueError(f"There is no task {name!r}. {nearest(name, TASKS)}")
    return TASKS[name]


class Tasks:
    """The built tasks of a run."""

    def __init__(self, configs: TaskConfigs, model: SpeechModel, resources: Resources) -> None:
        self.by_name: dict[str, PretextTask] = {
            config.name: build_at_layers(config, model, resources) for config in configs
        }
        blind = [task.name for task in self if task.needs.causal]
        if blind and not model.config.is_causal:
            raise ValueError(
                f"{', '.join(blind)} must not see future frames: give --model.context.causal true "
                "and --model.running-norm true, or leave it out of --tasks."
            )

    def __iter__(self) -> Iterator[PretextTask]:
        return iter(self.by_name.values())

    def modules(self) -> dict[str, nn.Module]:
        """The tasks by name, with their heads."""
        return dict(self.by_name)

    @property
    def needs(self) -> Needs:
        """What all of them need."""
        views: dict[View, None] = {view: None for task in self for view in task.needs.views}
        return Needs(
            views=tuple(views),
            hidden=any(task.needs.hidden for task in self),
            causal=any(task.needs.causal for task in self),
        )

    @property
    def saved(self) -> PretextTask | None:
        """The task whose heads are written into the model folder; ValueError for two of them."""
        found = [task for task in self if task.saved_heads is not None]
        if len(found) > 1:
            raise ValueError(f"{' and '.join(t.name for t in found)} both have heads to save.")
        return found[0] if found else None

    @property
    def for_use(self) -> dict[str, nn.Module]:
        """Heads that are of use after pretraining, by task."""
        found = {task.name: task.heads_for_use for task in self}
        return {name: heads for name, heads in found.items() if heads is not None}

    def transcriber(self, tokenizer: Tokenizer | None) -> PretextTask | None:
        """The first task with a head that transcribes, in the run's alphabet where it has one."""
        for task in self:
            alphabet = task.alphabet
            if task.recogniser is None or alphabet is None:
                continue
            if tokenizer is None or tokenizer.symbols == alphabet.symbols:
                return task
        return None

    @property
    def uses_ema(self) -> bool:
        """Whether one of them looks at the moving average of the model."""
        return any(view.network == "ema" for view in self.needs.views)

    @property
    def distorts_twice(self) -> bool:
        """Whether one of them compares two distortions of a wave."""
        return any(view.wave == "distorted2" for view in self.needs.views)

    def before_update(self, step: int, max_steps: int, model: SpeechModel) -> None:
        for task in self:
            task.before_update(step, max_steps, model)

    def counts(self, x: Inputs) -> dict[str, int]:
        """The denominators of all terms; tasks that use the same name mean the same frames."""
        found: dict[str, int] = {}
        for task in self:
            for name, count in task.counts(x).items():
                if found.setdefault(name, count) != count:
                    raise ValueError(
                        f"Task {task.name} counts {count} {name} frames and another task "
                        f"{found[name]}: give its count a name of its own."
                    )
        return found

    def loss(self, x: Inputs) -> TaskLoss:
        """The terms of all tasks on one micro-batch; each view is computed once."""
        for view in self.needs.views:
            x.encode(view)
        whole = TaskLoss({}, {}, {}, {})
        for task in self:
            own = task(x)
            terms = {name: replace(term, task=task.name) for name, term in own.terms.items()}
            for part, into in (
                (terms, whole.terms),
                (own.metrics, whole.metrics),
                (own.tallies, whole.tallies),
                (own.gathered, whole.gathered),
            ):
                _merge(into, part, task.name)
        return whole

    def summarize(self, tallies: dict) -> dict[str, float]:  # type: ignore[type-arg]
        """Metrics from the tallies of a whole validation, and from what it gathered."""
        found: dict[str, float] = {}
        for task in self:
            own = {k: v for k, v in tallies.items() if k.split("/")[0] == task.name}
            if own:
                found |= task.summarize(own)
        return found

    def diagnose(self, x: Inputs) -> dict[str, float]:
        found: dict[str, float] = {}
        for task in self:
            found |= task.diagnose(x)
        return found


def _merge(into: dict, part: dict, task: str) -> None:  # type: ignore[type-arg]
    """Add what a task returns; ValueError where a name is not its own."""
    for name, value in part.items():
        if (name != task and not name.startswith((f"{task}_", f"{task}/"))) or name in into:
            raise ValueError(f"{name!r} must begin with {task!r} and be there once.")
        into[name] = value
