"""Weight and bonus of language models, by the errors on validation speech.

What is made least is the product of word and character error rate, so that neither is bought with
the other: of a weak model the fewest word errors are those of texts with many words left out.

The model runs once; its log-probabilities are kept and decoded at each point of a grid, first of a
coarse one on a part of the utterances, then of finer ones around the best point on all of them.
"""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import Utterance
from speechssl.decoding.beam import BeamConfig, BeamDecoder
from speechssl.inference.batching import End, InferencePrecision, Unreadable
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import Transcriber
from speechssl.scoring.edits import align_texts, count_edits
from speechssl.spelling import is_blank
from speechssl.text import Tokenizer, normalize

MOST_S = 3600.0
"""Seconds of validation speech that are used: some at equal distances of a longer set."""
NUM_COARSE = 100
"""Utterances that the coarse grid is tried on."""
WEIGHTS = (0.2, 0.5, 0.9, 1.4, 2.0)
BONUSES = (-0.5, 0.5, 1.0, 2.0, 3.5)
FINE = ((0.2, 0.5), (0.1, 0.25))
"""Steps of weight and bonus of the finer grids."""
MOST_WALKS = 4
"""Times that a finer grid is moved on, where its best point lies at its edge."""


@dataclass(frozen=True)
class Rates:
    """Errors over length in all texts."""

    wer: float
    cer: float

    def __lt__(self, other: "Rates") -> bool:
        return (self.wer * self.cer, self.cer) < (other.wer * other.cer, other.cer)

    def __str__(self) -> str:
        return f"WER {100 * self.wer:.1f} % and CER {100 * self.cer:.1f} %"


@dataclass(frozen=True)
class Tuned:
    """What was found."""

    config: BeamConfig
    rates: Rates
    before: Rates
    """With the settings that the tuning began with."""
    num_utterances: int
    num_left_out: int
    """Utterances with a transcript that were not used, as there is more than an hour of them."""
    tried: int
    """Points of the grids."""

    def report(self, decoder: BeamDecoder, valid: str) -> dict[str, Any]:
        """For :func:`speechssl.inference.tuned.write_tuned`: weights and bonuses of the language
        models of `decoder`, and how they were found on `valid`."""
        weights = {n: getattr(self.config, n) for pair in decoder.tunable for n in pair}
        return {
            **weights,
            "beam": self.config.width,
            "valid": valid,
            "num_utterances": self.num_utterances,
            "wer": self.rates.wer,
            "cer": self.rates.cer,
            "wer_before": self.before.wer,
            "cer_before": self.before.cer,
        }


def tune_lm(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    decoder: BeamDecoder,
    *,
    normalizer: str = "basic",
    precision: InferencePrecision = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """The settings of `decoder`, with the weights and bonuses of its language models that give the
    least product of word and character error rate on the transcribed ones of `utterances`. Never
    worse there than those that it has.

    Raises ValueError where the decoder has no language model or no utterance has a transcript that
    `normalizer` leaves something of, and the error of a recording that cannot be read.
    """
    pairs = decoder.tunable
    if not pairs:
        raise ValueError("There is no weight to tune: give a language model.")
    labeled = [u for u in utterances if not is_blank(normalize(u.text or "", normalizer))]
    if not labeled:
        raise ValueError(
            f"None of the {len(utterances)} utterances to tune on has a transcript to compare with."
        )
    chosen = _within(labeled, MOST_S)
    say(f"Tuning on {len(chosen)} utterances ({sum(u.duration_s for u in chosen) / 60:.1f} min).")
    rows = log_prob_rows(checkpoint, chosen, precision)
    texts = [u.text or "" for u in chosen]
    every = max(len(chosen) // NUM_COARSE, 1)
    _, tokenizer = checkpoint.require_ctc()
    few = _Trial(decoder, tokenizer, rows[::every], texts[::every], normalizer)
    all_ = _Trial(decoder, tokenizer, rows, texts, normalizer)
    config = decoder.config
    before = all_(config)
    for names in pairs:
        config = _best(few, config, names, itertools.product(WEIGHTS, BONUSES))
    config = min((config, decoder.config), key=all_)
    for steps, names in itertools.product(FINE, pairs):
        config = _walk(all_, config, names, steps)
    tried = len(few.found) + len(all_.found)
    left_out = len(labeled) - len(chosen)
    return Tuned(config, all_(config), before, len(chosen), left_out, tried)


def _within(utterances: Sequence[Utterance], most_s: float) -> list[Utterance]:
    """All, or some at equal distances that last about `most_s` together."""
    total_s = sum(u.duration_s for u in utterances)
    if total_s <= most_s:
        return list(utterances)
    num = max(int(len(utterances) * most_s / total_s), 1)
    places = np.linspace(0, len(utterances) - 1, num).round().astype(int)
    return [utterances[i] for i in dict.fromkeys(places.tolist())]


def log_prob_rows(
    checkpoint: Checkpoint, utterances: Sequence[Utterance], precision: InferencePrecision
) -> list[list[np.ndarray]]:
    """For each utterance, the log-probabilities (T, V) float32 of each stretch that is one input.

    Raises the error of a recording that cannot be read.
    """
    transcriber = Transcriber(checkpoint, precision=precision)
    clips = [Clip(u.id, Path(u.audio), u.start_s, u.duration_s) for u in utterances]
    found: list[list[np.ndarray]] = []
    parts: list[np.ndarray] = []
    silence = np.zeros((0, transcriber.tokenizer.vocab_size), np.float32)
    for event in transcriber.stretches(clips, _rows, silence):
        if isinstance(event, Unreadable):
            raise event.error
        if isinstance(event, End):
            found.append(parts)
            parts = []
        else:
            parts.append(event.result)
    return found


def _rows(log_probs: Tensor, lengths: Tensor) -> list[np.ndarray]:
    values = log_probs.float().cpu().numpy()
    return [values[b, :n].copy() for b, n in enumerate(lengths.tolist())]


class _Trial:
    """The rates of settings on some utterances, each tried once."""

    def __init__(
        self,
        decoder: BeamDecoder,
        tokenizer: Tokenizer,
        rows: Sequence[Sequence[np.ndarray]],
        texts: Sequence[str],
        normalizer: str,
    ) -> None:
        self._decoder, self._tokenizer = decoder, tokenizer
        self._rows, self._normalizer = rows, normalizer
        self._references = [normalize(text, normalizer) for text in texts]
        self.found: dict[BeamConfig, Rates] = {}

    def __call__(self, config: BeamConfig) -> Rates:
        if config not in self.found:
            self.found[config] = self._rates(self._decoder.rescaled(config))
        return self.found[config]

    def _rates(self, decoder: BeamDecoder) -> Rates:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            texts = list(pool.map(partial(self._text, decoder), self._rows))
        rates = []
        units: tuple[Literal["words"], Literal["characters"]] = ("words", "characters")
        for unit in units:
            counts = [count_edits(e) for e in align_texts(self._references, texts, unit)]
            rates.append(sum(c.errors for c in counts) / max(sum(c.length for c in counts), 1))
        return Rates(*rates)

    def _text(self, decoder: BeamDecoder, parts: Sequence[np.ndarray]) -> str:
        found = " ".join(self._tokenizer.decode(decoder.search(part)) for part in parts)
        return normalize(found, self._normalizer)


def _best(trial: _Trial, config: BeamConfig, names: tuple[str, str], points: Any) -> BeamConfig:
    """The best of `config` and it with two settings changed to each of the points."""
    made = [
        replace(config, **dict(zip(names, point, strict=True))) for point in points if point[0] >= 0
    ]
    return min([config, *made], key=trial)


def _walk(
    trial: _Trial, config: BeamConfig, names: tuple[str, str], steps: tuple[float, float]
) -> BeamConfig:
    """Go to the best of the eight neighbours, as long as one is better."""
    for _ in range(MOST_WALKS):
        here = [getattr(config, name) for name in names]
        axes = [
            [round(value + k * step, 6) for k in (0, -1, 1)]
            for value, step in zip(here, steps, strict=True)
        ]
        there = _best(trial, config, names, itertools.product(*axes))
        if there == config:
            break
        config = there
    return config
