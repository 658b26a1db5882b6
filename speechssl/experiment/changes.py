"""How the error rate changed since an earlier command of the same experiment, with fewer labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.data.manifest import Utterance
from speechssl.experiment.plan import Run
from speechssl.experiment.splits import read_splits, transcribed
from speechssl.experiment.stale import scored_on
from speechssl.inference.evaluate import evaluate
from speechssl.scoring.wer import Comparison, EvalResult, compare


@dataclass(frozen=True)
class Change:
    """A model beside the one of before, on the same held-out utterances."""

    name: str
    """Of the run."""
    before: str
    """The folder of the earlier run."""
    minutes_before: float
    """Of labels."""
    minutes: float
    cer_before: float
    cer: float
    found: Comparison

    def in_words(self) -> str:
        """A line for the person."""
        cer = self.found.cer
        low, high = 100 * cer.difference_low, 100 * cer.difference_high
        verdict = "" if high < 0 or low > 0 else ", not clear"
        unit = "speakers" if self.found.resampled == "speaker" else "utterances"
        return (
            f"\n{self.name} with {self.minutes:.1f} minutes of labels, before with "
            f"{self.minutes_before:.1f}{verdict}: CER {100 * self.cer_before:.1f} % -> "
            f"{100 * self.cer:.1f} %, {100 * cer.difference:+.1f} points [{low:+.1f}, {high:+.1f}] "
            f"(95 %, paired, over {unit})."
        )


def earlier_models(out: Path, test: Sequence[Utterance], runs: Iterable[Run]) -> dict[str, Path]:
    """By the name of its run the folder of the newest earlier model that was scored on `test`; of
    runs that fine-tune, where a model lies in an ``earlier-N`` of `out`."""
    folders = [(int(n), path) for path in out.glob("earlier-*") if (n := path.name[8:]).isdecimal()]
    wanted = scored_on(test)
    found: dict[str, Path] = {}
    for _, folder in sorted(folders, reverse=True):
        splits = read_splits(folder / "data")
        if scored_on(transcribed(splits["test"]) or transcribed(splits["dev"])) != wanted:
            continue
        for run in runs:
            if not run.pretrains and (folder / run.name / "best" / "model.safetensors").exists():
                found.setdefault(run.name, folder / run.name)
    return found


def change(
    name: str, run: Path, result: EvalResult, earlier: Path, test: Sequence[Utterance]
) -> Change:
    """What became of the model in `run`, whose `result` on `test` is known, since `earlier`."""
    before = load_model(earlier)
    first = evaluate(before, test)
    old_minutes, minutes = (_label_minutes(model) for model in (before, load_model(run)))
    found = compare(first, result)
    return Change(name, str(earlier), old_minutes, minutes, first.cer, result.cer, found)


def _label_minutes(model: Checkpoint) -> float:
    """Of the transcripts that people made, without those of a self-training."""
    meta = model.meta
    return float(meta.get("label_minutes", meta.get("train_minutes", 0.0)))
