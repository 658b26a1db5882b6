"""Digits and speakers: one vector for each utterance and layer, and a linear softmax.

(SUPERB's keyword spotting and speaker identification, arXiv:2105.01051, section 3.) Where we
differ: each layer is judged by itself, on the plain mean of its frames.

Shapes: N utterances, L layers + 1, D width, C classes.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.data.manifest import Utterance
from speechssl.probing.representation import Representation
from speechssl.probing.result import Rate
from speechssl.scoring.wer import score
from speechssl.spelling import name_key

MAX_WORDS = 100
"""More different transcripts than this are not classes."""

ClassTask = Literal["digit", "speaker"]


class Classification:
    """The labelled utterances of a task.

    Raises ValueError where nothing is labelled, there is one class only, or the test has classes
    that training has not.
    """

    metric = "accuracy"
    higher_is_better = True

    def __init__(
        self, task: ClassTask, train: Sequence[Utterance], test: Sequence[Utterance], seed: int
    ) -> None:
        self.task, self.seed = task, seed
        self.train = [u for u in train if self.label(u)]
        self.test = [u for u in test if self.label(u)]
        known, asked = {self.label(u) for u in self.train}, {self.label(u) for u in self.test}
        self.classes = sorted(known)
        what = "transcript" if task == "digit" else "speaker"
        if len(known) < 2 or not asked:
            raise ValueError(
                f"The task {task} needs utterances with a {what} for training and test, and at "
                f"least two different ones; found {len(known)} and {len(asked)}."
            )
        if task == "digit" and len(known) > MAX_WORDS:
            raise ValueError(
                "The task digit is for a few different words, one to an utterance; these manifests "
                f"have {len(known)} different transcripts. For running speech take --task "
                "character."
            )
        if unknown := sorted(asked - known):
            names = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise ValueError(
                f"The test has {len(unknown)} {what}s that training has not ({names}): the task "
                f"{task} needs manifests in which each {what} is in both."
            )

    def label(self, utterance: Utterance) -> str:
        """The class; empty where it is not known."""
        label = utterance.text if self.task == "digit" else utterance.speaker
        return name_key(label or "")

    def describe(self) -> str:
        return (
            f"{len(self.classes)} {self.task}s; {len(self.train)} utterances to learn from, "
            f"{len(self.test)} to judge"
        )

    def judge(self, representation: Representation) -> Iterator[Rate]:
        """For each layer the accuracy on the test."""
        train, test = (pooled(representation, part) for part in (self.train, self.test))  # (N,L,D)
        numbers = {name: i for i, name in enumerate(self.classes)}
        truth = torch.tensor([numbers[self.label(u)] for u in self.train])
        for layer in range(representation.num_layers):
            mean, scale = train[:, layer].mean(0), train[:, layer].std(0) + 1e-6
            learned, judged = ((part[:, layer] - mean) / scale for part in (train, test))
            probe = fit_softmax(torch.from_numpy(learned), truth, len(self.classes))
            with torch.no_grad():
                found = probe(torch.from_numpy(judged)).argmax(1).tolist()
            yield self._accuracy(found, numbers)

    def _accuracy(self, found: Sequence[int], numbers: dict[str, int]) -> Rate:
        """A class is a word, and an utterance one word: the accuracy is 1 - WER, with its interval.
        Speakers are resampled where they are not what is asked for."""
        result = score(
            [str(numbers[self.label(u)]) for u in self.test],
            [str(number) for number in found],
            ids=[u.id for u in self.test],
            speakers=[u.speaker for u in self.test] if self.task == "digit" else None,
            seed=self.seed,
        )
        return Rate(1 - result.wer, 1 - result.wer_high, 1 - result.wer_low)


def pooled(representation: Representation, utterances: Sequence[Utterance]) -> np.ndarray:
    """(N, L, D) float64, the mean over each utterance's frames."""
    each = representation.frames_of(utterances)  # (T, L, D)
    return np.stack([frames.mean(axis=0, dtype=np.float64) for frames in each])


def fit_softmax(vectors: Tensor, truth: Tensor, num_classes: int) -> nn.Linear:
    """Multinomial logistic regression on (N, D) float64, (N,) int64.

    The sum of cross-entropies plus half the squared norm of the weights, as scikit-learn's with
    C = 1: convex, begun at zero, so that there is one answer.
    """
    probe = nn.Linear(vectors.shape[1], num_classes, dtype=torch.float64)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    optimizer = torch.optim.LBFGS(
        probe.parameters(), max_iter=500, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(probe(vectors), truth, reduction="sum")
        value = (value + 0.5 * probe.weight.square().sum()) / len(vectors)
        value.backward()
        return value

    optimizer.step(loss)
    return probe
