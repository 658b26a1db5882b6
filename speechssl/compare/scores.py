"""What a fine-tuned model got wrong on the test set, utterance by utterance, as a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.files import writing
from speechssl.scoring.wer import EvalResult

COLUMNS = ("words", "word_errors", "characters", "character_errors")


@dataclass(frozen=True)
class Scores:
    """N utterances, in the order of the test set."""

    ids: tuple[str, ...]
    speakers: tuple[str | None, ...]
    counts: np.ndarray
    """(N, 4) int64 in the order of `COLUMNS`."""
    hypotheses: tuple[str, ...] = ()

    @classmethod
    def of(cls, result: EvalResult) -> "Scores":
        """From a scored set."""
        scored = result.utterances
        counts = [
            (u.words.length, u.words.errors, u.characters.length, u.characters.errors)
            for u in scored
        ]
        return cls(
            tuple(u.id for u in scored),
            tuple(u.speaker for u in scored),
            np.array(counts, np.int64),
            tuple(u.hypothesis for u in scored),
        )

    def pair(self, metric: str) -> np.ndarray:
        """(N, 2) lengths and errors of ``cer`` or ``wer``."""
        return self.counts[:, :2] if metric == "wer" else self.counts[:, 2:]

    def write(self, path: Path) -> None:
        data: dict[str, Any] = {
            "ids": self.ids,
            "speakers": self.speakers,
            **{name: self.counts[:, i].tolist() for i, name in enumerate(COLUMNS)},
            "hypotheses": self.hypotheses,
        }
        with writing(path) as file:
            file.write(json.dumps(data, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Scores":
        """What :meth:`write` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        counts = np.array([data[name] for name in COLUMNS], np.int64).T
        speakers, said = tuple(data["speakers"]), tuple(data["hypotheses"])
        return cls(tuple(data["ids"]), speakers, counts, said)
