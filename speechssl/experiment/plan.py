"""What the runs of an experiment are, and whether they can be done, before any of them begins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speechssl.config.json import to_json
from speechssl.data.manifest import Utterance
from speechssl.device import memory, pick_device
from speechssl.experiment.splits import minutes_of
from speechssl.experiment.start import Start
from speechssl.model.config import ModelConfig, nearest_size
from speechssl.selftraining import config as selftraining
from speechssl.text import ctc_min_frames, train_tokenizer
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from speechssl.training.resume import newest_progress
from speechssl.training.start import as_begun, starting_point
from speechssl.training.start_kinds import CHOSEN

PRETRAINING, TUNED, SCRATCH = "pretrain", "pretrained", "from-scratch"
"""The folders of the three runs that there always are."""

STUDENT = Path("round-1", "student")
"""Of the folder of a self-training: the run of its only student."""

BYTES_PER_WEIGHT = 16
"""A weight, its gradient and Adam's two moments, float32."""


@dataclass(frozen=True)
class Budget:
    """How the minutes are spent."""

    pretrain: float
    """Of each pretraining; one after the other."""
    finetune: float
    """Of each fine-tuning; two at the same time."""
    alone: float = 0.0
    """Of the fine-tuning of a large start, by itself."""
    selftrain: float = 0.0
    """Of the student of the best model that began with the start."""

    @classmethod
    def of(cls, minutes: float, start: Start | None = None) -> "Budget":
        """A tenth stays for making, loading and scoring.

        Without a start two thirds are for pretraining and a quarter for fine-tuning, with and
        without it at the same time. With a start there are two of both, all models get the same
        minutes of what they do, and a quarter is for self-training. A large start gets as many as
        the model that is pretrained, and is not trained by itself.
        """
        if minutes <= 0:
            raise ValueError(f"The budget must be above 0 minutes, got {minutes:g}.")
        if start is None:
            return cls(pretrain=0.63 * minutes, finetune=0.25 * minutes)
        if start.is_large:
            return cls(pretrain=0.28 * minutes, finetune=0.16 * minutes, alone=0.44 * minutes)
        return cls(pretrain=0.2 * minutes, finetune=0.12 * minutes, selftrain=0.24 * minutes)


@dataclass(frozen=True)
class Run:
    """A run of an experiment."""

    name: str
    """Of its folder."""
    after: str = ""
    """The pretraining run of which it begins with the model."""
    from_start: bool = False
    """Whether it begins with the start."""
    pretrains: bool = False
    self_trains: bool = False
    """Whether it learns from what the best model before it that began with the start transcribes,
    and begins with what that one began with."""

    @property
    def is_teacher(self) -> bool:
        """Whether it is one of those of which the best is taken."""
        is_tuned = not self.pretrains and not self.self_trains
        return is_tuned and (self.from_start or self.after not in ("", PRETRAINING))

    def log_folder(self, out: Path) -> Path:
        """Where its training is logged."""
        return out / self.name / STUDENT if self.self_trains else out / self.name

    def init(self, out: Path, start: Start | None) -> str:
        """As ``--init`` of `finetune` names what it begins with."""
        if self.after:
            return str(out / self.after)
        return start.source if self.from_start and start is not None else "scratch"


def stages(start: Start | None) -> list[tuple[Run, ...]]:
    """The runs in their order; those of one stage at the same time. A large start comes first: what
    it costs is said, or that it does not fit, before anything else is done."""
    own = (Run(PRETRAINING, pretrains=True),)
    pair = (Run(TUNED, after=PRETRAINING), Run(SCRATCH))
    if start is None:
        return [own, pair]
    name = f"from-{start.name}"
    as_it_is = Run(name, from_start=True)
    if start.is_large:
        return [(as_it_is,), own, pair]
    further = f"{PRETRAINING}-{name}"
    continued = Run(further, from_start=True, pretrains=True)
    tuned = (Run(f"{name}-pretrained", after=further), as_it_is)
    return [own, (continued,), pair, tuned, (Run(f"{name}-self-trained", self_trains=True),)]


def runs_of(start: Start | None) -> list[Run]:
    """All of them."""
    return [run for stage in stages(start) for run in stage]


def pretraining_config(
    size: str, budget: Budget, start: Start | None = None
) -> pretraining.PretrainConfig:
    """Of fresh weights, or of those of the start."""
    config = pretraining.preset(size)
    if start is not None:
        config = pretraining.going_on(config, start.model)
        config = pretraining.with_own_units(config, start.source, start.model)
    return replace(config, loop=replace(config.loop, budget_minutes=budget.pretrain))


def tuning_config(
    size: str, budget: Budget, start: Start | None = None
) -> finetuning.FinetuneConfig:
    """Of a model of a size, or of the start, a large one with few updates of few weights."""
    if start is None:
        config, minutes = finetuning.preset(size), budget.finetune
    elif not start.is_large:
        config = finetuning.preset(nearest_size(start.model.speech.config))
        config, minutes = replace(config, model=start.model.speech.config), budget.finetune
    else:
        form = start.model.speech.config
        config = finetuning.preset("tiny" if start.by_lora else nearest_size(form))
        config, minutes = replace(config, model=form), budget.alone
        if start.by_lora:
            optim = replace(config.optim, lr=1e-3, warmup_steps=50)
            config = replace(config, learns="lora", optim=optim, batch_s=10.0)
    return replace(config, loop=replace(config.loop, budget_minutes=minutes))


def student_config(
    size: str, budget: Budget, start: Start | None = None
) -> selftraining.SelfTrainConfig:
    """One round: a second one takes as long and gained little where it was measured."""
    tuning = tuning_config(size, budget, start)
    config = selftraining.preset(nearest_size(tuning.model))
    loop = replace(config.student.loop, budget_minutes=budget.selftrain)
    student = replace(config.student, upsample=tuning.upsample, loop=loop)
    return replace(config, rounds=1, student=student)


def config_of(
    run: Run, size: str, budget: Budget, start: Start | None
) -> pretraining.PretrainConfig | finetuning.FinetuneConfig:
    """Of a run, before the data choose what they choose."""
    if run.pretrains:
        return pretraining_config(size, budget, start if run.from_start else None)
    learns_from_it = start if run.from_start or run.after not in ("", PRETRAINING) else None
    return tuning_config(size, budget, learns_from_it)


def check_settings(
    out: Path, size: str, budget: Budget, options: str, start: Start | None = None
) -> None:
    """ValueError, before anything is changed, where a run in `out` has settings that are not those
    of `size`, `budget` and `start`; `options` are those of the command that give them."""
    for run in runs_of(start):
        if run.self_trains:  # whose settings follow from those of the others
            continue
        name, config = run.name, config_of(run, size, budget, start)
        before = newest_progress(out / name)
        settings = to_json(as_begun(config, out / name, resume=True))
        # By the data, the kind of start and what was fastest when the run began.
        for chosen in (*CHOSEN, "precision"):
            if before is not None and chosen in settings:
                settings[chosen] = before.config.get(chosen)
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
