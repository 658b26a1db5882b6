"""Linear probes on every layer of several models, side by side with log-mel energies."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import Utterance
from speechssl.probing.characters import Characters
from speechssl.probing.classify import Classification
from speechssl.probing.representation import Representation, log_mels, of_model, untrained
from speechssl.probing.result import Rate, Row
from speechssl.training.labels import take_minutes

TaskName = Literal["digit", "speaker", "character"]
STEPS = 500


class Task(Protocol):
    """Labelled utterances, and a judgement of each layer of a representation on them."""

    metric: str
    higher_is_better: bool

    def describe(self) -> str: ...

    def judge(self, representation: Representation) -> Iterator[Rate]: ...


def make_task(
    name: TaskName,
    train: Sequence[Utterance],
    test: Sequence[Utterance],
    *,
    seed: int = 0,
    label_minutes: float | None = None,
    steps: int = STEPS,
) -> Task:
    """The task of that name.

    Args:
        name: ``digit`` (the class is the `text`), ``speaker`` or ``character``.
        train: what the probes learn from.
        test: what they are judged on; for ``speaker`` recordings of the same speakers.
        seed: of the choice of labels, the order of the updates and the intervals.
        label_minutes: learn from so many transcribed minutes only.
        steps: updates of a ``character`` probe.

    Raises ValueError where the manifests do not fit the task.
    """
    if label_minutes is not None:
        if name == "speaker":
            raise ValueError("Minutes of labels are those of transcripts: not for --task speaker.")
        train = take_minutes(train, label_minutes, seed)
    if name == "character":
        return Characters(train, test, seed, steps)
    return Classification(name, train, test, seed)


def probe_models(
    task: Task, models: Sequence[tuple[str, Checkpoint]], *, seed: int = 0, with_untrained: bool
) -> Iterator[Row]:
    """A row for each layer as it is judged: first log-mel, stacked to the frames of the first
    model, then each model, and where asked for one of its form with fresh weights."""
    is_characters = isinstance(task, Characters)
    sources = [log_mels(models[0][1].speech.hop_s, normalize=is_characters)]
    for name, checkpoint in models:
        sources.append(of_model(name, checkpoint))
        if with_untrained:
            sources.append(untrained(f"{name}, untrained", checkpoint, seed))
    for source in sources:
        for layer, rate in enumerate(task.judge(source)):
            yield Row(source.name, layer, rate)
