"""The interface of a pretext task: what it needs, what it returns, what is asked of it.

A task is one file: a frozen config, whose `build` makes the module with the loss and its heads, and
the signals by which it is judged. A new one is added by its file, its test, and one line in
tasks.py.

Shapes: B batch, T frames, V codes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from speechssl.config.bounds import Between, Count, NotEmpty, Weight, check_fields
from speechssl.model.ema import EMAConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.signal import Signal

if TYPE_CHECKING:
    from speechssl.model.heads import CTCHead
    from speechssl.pretext.inputs import Inputs
    from speechssl.pretext.teacher import Recogniser, Teacher
    from speechssl.text import Tokenizer


@dataclass(frozen=True)
class MaskConfig:
    """Which frames are masked: spans, as in wav2vec 2.0 (arXiv:2006.11477, section 4.2)."""

    share: Annotated[float, Between(0, 1, "(]")] = 0.3
    """Share of the frames in masked spans, if spans did not overlap."""
    span: Count = 1
    """Frames of a span. Small models learn most from short spans: what lies under a long one can
    only be predicted from words of a language that they do not know yet."""
    speech_only: bool = False
    """Spans are drawn as if the pauses were cut out (frames 30 dB below the loud ones of the
    utterance): what is under a mask is speech."""

    def __post_init__(self) -> None:
        check_fields(self, "mask")


@dataclass(frozen=True)
class View:
    """One forward pass of the model over a batch; computed once however many tasks ask for it."""

    wave: Literal["clean", "distorted", "distorted2"] = "distorted"
    """``distorted2``: the clean wave, distorted another time."""
    mask: MaskConfig | Literal["run"] | None = "run"
    """``run``: the masks of the run's own config; None: nothing is masked."""
    network: Literal["student", "ema"] = "student"
    """``ema``: the moving average of the model, without a gradient and in evaluation."""
    order: Literal["forward", "reverse"] = "forward"
    """``reverse``: each wave is played backwards, so that frame t of the output is frame T - 1 - t
    of the forward order, T being the utterance's frames."""


@dataclass(frozen=True)
class Needs:
    """What a task needs of the run."""

    views: tuple[View, ...] = (View(),)
    """The passes of the model that its loss is computed from."""
    hidden: bool = False
    """Whether it looks at the output of every layer."""
    causal: bool = False
    """Whether the context network must not see future frames."""


@dataclass(frozen=True)
class LossTerm:
    """One addend of the loss: ``weight * total / (count over all micro-batches and processes)``."""

    total: Tensor
    """Scalar, the sum over the frames of this micro-batch."""
    count: str
    """Which of the task's counts divides it, e.g. ``masked``."""
    weight: float
    task: str = ""
    """The task that it is of; filled in by :class:`Tasks`."""


@dataclass(frozen=True)
class TaskLoss:
    """What a task returns for one micro-batch.

    Every name begins with the task's: ``masked_units``, ``contrastive_diversity``,
    ``contrastive/accuracy``.
    """

    terms: dict[str, LossTerm]
    metrics: dict[str, Tensor] = field(default_factory=dict)
    """Scalars to log, the mean over the micro-batches; one that is not finite ends the run."""
    tallies: dict[str, Tensor] = field(default_factory=dict)
    """(V,) int64, how often each of V codes came up; or any float64 sums, from which `summarize`
    makes means that are exact however utterances are batched. Those of several batches add up."""
    gathered: dict[str, Tensor] = field(default_factory=dict)
    """(N, ...) of each utterance or symbol, for metrics of a whole validation; those of several
    batches follow each other."""


@dataclass(frozen=True)
class Panel:
    """Something of one utterance to look at in the report."""

    title: str
    note: str = ""
    log_mels: np.ndarray | None = None
    """(H, 80) natural log of mel energies at 100 Hz, drawn and played; None: only the note."""


@dataclass(frozen=True)
class Resources:
    """What a task may be built from, beside the model."""

    teacher: "Teacher | None" = None
    """A trained model that gives units, where the run names one."""
    ema: EMAConfig = EMAConfig()
    """How slowly a task's own averages follow, as does the model's."""
    tokenizer: "Tokenizer | None" = None
    """Of the transcripts, where a task of the run looks at them."""
    phone_tokenizer: "Tokenizer | None" = None
    """Of the transcripts as phones, where a task of the run looks at them."""
    recogniser: "Recogniser | None" = None
    """A trained model that transcribes, where a task of the run learns from its outputs."""
    num_corpora: int = 1
    """Manifests that the run is trained on."""


@dataclass(frozen=True)
class TaskConfig:
    """The frozen dataclass that describes a task; `name` is its name everywhere."""

    name: ClassVar[str]
    uses_text: ClassVar[bool] = False
    """Whether the task looks at transcripts: the run then has a tokenizer."""
    uses_phones: ClassVar[bool] = False
    """Whether the task looks at transcripts as phones: the run then has a tokenizer of those."""
    uses_recogniser: ClassVar[bool] = False
    """Whether the task learns from a model that transcribes: that of --init."""
    has_codes: ClassVar[bool] = False
    """Whether the task has codes that the report counts and explains."""
    moving_targets: ClassVar[bool] = False
    """Whether its targets are the model's own, so that a lower loss later in the run does not mean
    a better model: it then neither chooses the best one nor shows overfitting."""
    weight: Weight = 1.0
    """Weight of the task in the loss."""
    layers: Annotated[tuple[Annotated[int, Between(-1, 1 << 20)], ...], NotEmpty(distinct=True)] = (
        -1,
    )
    """Layers of the context network from whose output the loss is computed, each with heads of its
    own: 1 is the lowest, 0 its input, -1 the top. ``[3,-1]`` adds an intermediate-layer loss
    (ILS-SSL, arXiv:2112.08778)."""

    def build(self, model: SpeechModel, resources: Resources) -> "PretextTask":
        """The task, with fresh heads that fit `model`."""
        raise NotImplementedError

    @property
    def signals(self) -> tuple[Signal, ...]:
        """By what the task is judged and drawn; at least its loss."""
        title = f"{self.name.replace('_', ' ')} loss"
        return (Signal(self.name, title, training=f"loss/{self.name}"),)

    def learns_nothing(self) -> str:
        """The settings to raise, where every weight of the task is zero; else ''."""
        return "" if self.weight else f"{self.name}.weight"

    def frames_needed(self) -> tuple[int, str]:
        """The frames that the training set must have, and the setting that asks for them."""
        return 1, f"{self.name}.weight"


class PretextTask(nn.Module):
    """A loss on a model's output, with its heads. Only `name`, `title`, `counts` and `forward` must
    be given."""

    name: str
    title: str
    """What it is, for a model's card."""
    needs: Needs = Needs()
    by_utterance: bool = True
    """Whether its loss is a sum over utterances, each seen by itself: a micro-batch may then be cut
    into parts, for several processes."""
    num_codes: int = 0
    """Of a codebook, where the task has codes."""
    saves_heads: ClassVar[bool] = False
    """Whether its heads are written into the model folder, as in the published form."""
    called_methods: ClassVar[tuple[str, ...]] = ()
    """Methods beside `forward` that use its parameters (which FSDP must gather first)."""

    def fit(self, sample: Iterable["Inputs"], seed: int) -> None:
        """Set what is estimated once from data (centroids), from single clean utterances in random
        order. Called in the first process of a fresh run; the buffers are then broadcast."""

    def counts(self, x: "Inputs") -> dict[str, int]:
        """The denominators of its terms on this micro-batch, known before the forward pass."""
        raise NotImplementedError

    def forward(self, x: "Inputs") -> TaskLoss:
        """The loss on one micro-batch."""
        raise NotImplementedError

    def offline_units(self, x: "Inputs") -> dict[str, Tensor]:
        """Fixed targets of the clean wave, (B, T) int64 from 0 to 65,535 by name: computed once for
        every utterance and cached, then asked for by ``x.units(NAME)``."""
        del x
        return {}

    def describe_units(self) -> dict[str, dict[str, object]]:
        """What each of the offline units is made of, as plain JSON by the units' name: kept beside
        them, and in the model's meta.json."""
        return {}

    def state_of_units(self) -> dict[str, Tensor]:
        """What the offline units depend on (centroids): a cache of units is named by it."""
        return {}

    def before_update(self, step: int, max_steps: int, model: SpeechModel) -> None:
        """Called before update `step` (from 0) of `max_steps`, and before those that are only
        measured: set what is a function of the step (temperatures), let averages follow."""

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """Metrics from the tallies of a whole validation, and from what it gathered."""
        del tallies
        return {}

    def diagnose(self, x: "Inputs") -> dict[str, float]:
        """Metrics that are measured on one batch of distorted validation speech."""
        del x
        return {}

    def codes(self, x: "Inputs") -> Tensor | None:
        """(B, T, G) int64, the code of each frame of the clean wave, for the report; None: the task
        has none."""
        del x
        return None

    def panels(self, x: "Inputs") -> tuple[Panel, ...]:
        """What the report shows of one utterance (B = 1)."""
        del x
        return ()

    @property
    def saved_heads(self) -> nn.Module | None:
        """The module whose weights are written into the model folder; None where `saves_heads` is
        not set."""
        return self if self.saves_heads else None

    def saved_fields(self) -> dict[str, object]:
        """Settings and state that someone who continues with the saved heads must know."""
        return {}

    @property
    def heads_for_use(self) -> nn.Module | None:
        """The module that is of use beside the pretrained model (a text encoder): its weights are
        written into the model folder under the task's name."""
        return None

    @property
    def recogniser(self) -> "CTCHead | None":
        """The head with which the model folder is one that transcribes."""
        return None

    @property
    def alphabet(self) -> "Tokenizer | None":
        """Of the symbols that its head emits, where it is a CTC head."""
        return None


def combine(terms: dict[str, LossTerm], counts: dict[str, float]) -> Tensor:
    """The scalar to differentiate: each term divided by its global count."""
    parts = [term.total * (term.weight / max(counts[term.count], 1)) for term in terms.values()]
    return torch.stack(parts).sum()
