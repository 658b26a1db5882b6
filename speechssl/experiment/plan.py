"""What the runs of an experiment are, and whether they can be done, before any of them begins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speechssl.config.json import to_json
from speechssl.data.manifest import Utterance
from speechssl.device import memory, pick_device
from speechssl.experiment.splits import minutes_of
from speechssl.model.config import ModelConfig
from speechssl.text import ctc_min_frames, train_tokenizer
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from speechssl.training.resume import newest_progress
from speechssl.training.start import as_begun, starting_point

PRETRAINING, TUNED, SCRATCH = "pretrain", "pretrained", "from-scratch"
"""The folders of the three runs."""

RUNS = (PRETRAINING, TUNED, SCRATCH)

BYTES_PER_WEIGHT = 16
"""A weight, its gradient and Adam's two moments, float32."""


@dataclass(frozen=True)
class Budget:
    """How the minutes are spent."""

    pretrain: float
    finetune: float
    """Of each of the two fine-tunings."""

    @classmethod
    def of(cls, minutes: float) -> "Budget":
        """Two thirds for pretraining, a quarter for fine-tuning; a tenth stays for making, loading
        and scoring. The model from scratch learns beside the fine-tuning."""
        if minutes <= 0:
            raise ValueError(f"The budget must be above 0 minutes, got {minutes:g}.")
        return cls(pretrain=0.63 * minutes, finetune=0.25 * minutes)


def pretraining_config(size: str, budget: Budget) -> pretraining.PretrainConfig:
    config = pretraining.preset(size)
    return replace(config, loop=replace(config.loop, budget_minutes=budget.pretrain))


def tuning_config(size: str, budget: Budget) -> finetuning.FinetuneConfig:
    config = finetuning.preset(size)
    return replace(config, loop=replace(config.loop, budget_minutes=budget.finetune))


def check_settings(out: Path, size: str, budget: Budget, options: str) -> None:
    """ValueError, before anything is changed, where a run in `out` has settings that are not those
    of `size` and `budget`; `options` are those of the command that give them."""
    tuning = tuning_config(size, budget)
    configs: list[pretraining.PretrainConfig | finetuning.FinetuneConfig]
    configs = [pretraining_config(size, budget), tuning, tuning]
    for name, config in zip(RUNS, configs, strict=True):
        before = newest_progress(out / name)
        settings = to_json(as_begun(config, out / name, resume=True))
        if before is not None and "dropout" in settings:  # chosen by the data
            settings["dropout"] = before.config.get("dropout")
        try:
            starting_point(out / name, config.loop, settings, {}, resume=True)
        except ValueError as error:
            raise ValueError(
                f"{out} holds the result of another {options}, or of another version: give what "
                "it began with, or another --out."
            ) from error


def check_plan(
    size: str, budget: Budget, unlabeled: Sequence[Utterance], labeled: Sequence[Utterance]
) -> None:
    """ValueError, before any of the runs has begun, where one of them could not be done.

    Args:
        size: of the model.
        budget: the minutes of the runs.
        unlabeled: what is pretrained on.
        labeled: what is fine-tuned on; each has a transcript.
    """
    first, tuning = pretraining_config(size, budget), tuning_config(size, budget)
    train_set, _ = pretraining.hold_out_valid(unlabeled, first.loop.seed)
    frames = sum(_frames(train_set, first.model))
    needed, setting = max(task.frames_needed() for task in first.tasks)
    if frames < needed:
        need_s = needed * first.model.hop_samples / first.model.sample_rate
        raise ValueError(
            f"Pretraining with {setting} {needed} takes {need_s:.0f} s of recordings at least, and "
            f"there are {60 * minutes_of(train_set):.1f} s: give more recordings, or a smaller "
            f"number with `speechssl pretrain --{setting} N`."
        )
    texts = [u.text or "" for u in labeled]
    tokenizer = train_tokenizer(tuning.tokenizer, texts, allow_smaller=True)
    rows = [tuning.upsample * n for n in _frames(labeled, tuning.model)]
    symbols = [ctc_min_frames(tokenizer.encode(text)) for text in texts]
    if all(need > most for need, most in zip(symbols, rows, strict=True)):
        raise ValueError(
            f"Each of the {len(labeled)} transcripts to learn from has more characters than its "
            f"recording has frames for the size {size}: look at the transcripts, or take another "
            "--size."
        )
    _check_memory(size, first.model)


def _frames(utterances: Sequence[Utterance], model: ModelConfig) -> list[int]:
    """The most frames that a model can have of each utterance; short ones are padded to one."""
    rate, hop = model.sample_rate, model.hop_samples
    return [max(round(u.duration_s * rate) // hop, 1) for u in utterances]


def _check_memory(size: str, model: ModelConfig) -> None:
    """ValueError where not even the weights, gradients and optimizers of the two models that learn
    at the same time fit in memory."""
    context = model.context
    weights = context.num_layers * (4 * context.dim**2 + 2 * context.dim * context.ffn_dim)
    need, free = 2 * BYTES_PER_WEIGHT * weights, memory(pick_device("auto")).free
    if need > free:
        raise ValueError(
            f"Two models of the size {size} learn at the same time, and take more than "
            f"{need / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} GB are free: give a smaller "
            "--size."
        )
