"""Characters: a linear CTC layer on the frozen frames of each layer.

(SUPERB's phoneme recognition, arXiv:2105.01051, section 3, with characters in place of phones.)

Shapes: N utterances, T frames, L layers + 1, D width, B batch, V vocabulary.
"""

import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np
import torch
from torch import Tensor, nn

from speechssl.data.manifest import Utterance
from speechssl.data.unknown import find_unknown
from speechssl.decoding.greedy import greedy_decode
from speechssl.pretext.ctc import ctc_loss
from speechssl.probing.representation import Representation
from speechssl.probing.result import Rate
from speechssl.rng import rng
from speechssl.scoring.wer import score
from speechssl.text import CharTokenizer, ctc_min_frames
from speechssl.training.optim import OptimConfig, lr_at

BATCH = 16
OPTIM = OptimConfig(lr=1e-2, warmup_steps=50, final_share=0.0)


class Characters:
    """The transcribed utterances of the task, and how long a probe learns.

    Raises ValueError where nothing is transcribed.
    """

    metric = "character error rate"
    higher_is_better = False

    def __init__(
        self, train: Sequence[Utterance], test: Sequence[Utterance], seed: int, steps: int
    ) -> None:
        self.train, self.test = ([u for u in part if u.is_labeled] for part in (train, test))
        if not self.train or not self.test:
            raise ValueError(
                "The task character needs transcribed utterances for training and test; found "
                f"{len(self.train)} and {len(self.test)}."
            )
        self.seed, self.steps = seed, steps
        self.tokenizer = CharTokenizer.train([u.text or "" for u in self.train])
        self.targets = [self.tokenizer.encode(u.text or "") for u in self.train]

    def describe(self) -> str:
        minutes, judged = (sum(u.duration_s for u in part) / 60 for part in (self.train, self.test))
        unknown = find_unknown(self.tokenizer, self.test)
        return (
            f"{self.tokenizer.vocab_size} characters; {minutes:.1f} minutes to learn from, "
            f"{judged:.1f} to judge" + (f". {unknown.sentence('test')}" if unknown else "")
        )

    def judge(self, representation: Representation) -> Iterator[Rate]:
        """For each layer the CER on the test."""
        with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
            train = Frames(first, representation, self.train)
            test = Frames(second, representation, self.test)
            for layer in range(representation.num_layers):
                learned, judged = train.layer(layer), test.layer(layer)
                every = torch.cat(learned)
                mean, scale = every.mean(0), every.std(0) + 1e-4
                probe = self._learn([(f - mean) / scale for f in learned])
                yield self._score(probe, [(f - mean) / scale for f in judged])

    def _learn(self, frames: Sequence[Tensor]) -> nn.Linear:
        """A probe after `steps` updates of 16 utterances; those whose frames cannot hold their
        transcript teach nothing."""
        probe = nn.Linear(frames[0].shape[1], self.tokenizer.vocab_size)
        nn.init.zeros_(probe.weight)
        nn.init.zeros_(probe.bias)
        optimizer = torch.optim.AdamW(probe.parameters())
        fitting = [i for i, ids in enumerate(self.targets) if ctc_min_frames(ids) <= len(frames[i])]
        if not fitting:
            raise ValueError("No utterance has as many frames as its transcript has characters.")
        for step in range(self.steps):
            for group in optimizer.param_groups:
                group["lr"] = lr_at(OPTIM, step, self.steps)
            generator = rng(self.seed, "probe", step)
            chosen = generator.choice(fitting, min(BATCH, len(fitting)), replace=False).tolist()
            batch, lengths = pad_frames([frames[i] for i in chosen])
            targets = [self.targets[i] for i in chosen]
            loss = ctc_loss(probe(batch).log_softmax(2), lengths, targets)
            optimizer.zero_grad()
            (loss / sum(len(ids) for ids in targets)).backward()
            optimizer.step()
        return probe

    @torch.no_grad()
    def _score(self, probe: nn.Linear, frames: Sequence[Tensor]) -> Rate:
        hypotheses: list[str] = []
        for first in range(0, len(frames), BATCH):
            batch, lengths = pad_frames(frames[first : first + BATCH])
            found = greedy_decode(probe(batch).log_softmax(2), lengths)
            hypotheses += [hypothesis.text(self.tokenizer) for hypothesis in found]
        result = score(
            [u.text or "" for u in self.test],
            hypotheses,
            ids=[u.id for u in self.test],
            speakers=[u.speaker for u in self.test],
            seed=self.seed,
        )
        return Rate(result.cer, result.cer_low, result.cer_high)


class Frames:
    """The frames of some utterances in a file, all layers, of which one at a time is read: memory
    holds one layer."""

    def __init__(
        self, file: IO[bytes], representation: Representation, utterances: Sequence[Utterance]
    ) -> None:
        self.lengths: list[int] = []
        for frames in representation.frames_of(utterances):  # (T, L, D)
            file.write(np.ascontiguousarray(frames).tobytes())
            self.lengths.append(len(frames))
        file.flush()
        shape = (sum(self.lengths), *frames.shape[1:])
        self._all = np.memmap(file, np.float32, "r", shape=shape)

    def layer(self, number: int) -> list[Tensor]:
        """(T, D) for each utterance."""
        return list(torch.from_numpy(self._all[:, number].copy()).split(self.lengths))


def pad_frames(frames: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Frames of (T_i, D) -> (B, T, D) padded with zeros, (B,) lengths."""
    lengths = torch.tensor([len(f) for f in frames])
    return nn.utils.rnn.pad_sequence(list(frames), batch_first=True), lengths
