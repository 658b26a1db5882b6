"""Who takes part: sets of pretext tasks, models that are there already, and models from scratch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from speechssl.checkpoint import Checkpoint
from speechssl.compare.config import CompareConfig
from speechssl.config.json import override, to_json
from speechssl.device import pick_device
from speechssl.interop.sources import open_model
from speechssl.model.config import ModelConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.tasks import TaskConfigs, task_class
from speechssl.text import CharTokenizer, PhoneTokenizer
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from speechssl.training.alphabets import Alphabets
from speechssl.training.built_tasks import build_tasks
from speechssl.training.inputs import pretraining_inputs
from speechssl.training.recipe import load_recipe

SCRATCH = "from scratch"


@dataclass(frozen=True)
class Entry:
    """One of those that are compared."""

    name: str
    """On the page."""
    form: ModelConfig
    """The model, without a head."""
    baseline: str = ""
    """The entry from scratch that it is compared with; '' for one from scratch."""
    pretrain: pretraining.PretrainConfig | None = None
    """How it is pretrained; None: it is not."""
    uses_text: bool = False
    """Whether a task learns from transcripts: then it sees only those of the label budget, and is
    pretrained for each anew."""
    source: str = ""
    """Of a model that is there already."""
    digest: str = ""
    """Of that model's weights."""

    @property
    def slug(self) -> str:
        """For names of folders."""
        return re.sub(r"[^\w.+=-]+", "-", self.name).strip("-")

    @property
    def notes(self) -> list[str]:
        """What sets it apart from the others."""
        notes = ["causal model"] if self.form.is_causal else []
        if self.uses_text:
            notes.append("learns from the transcripts of the label budget in pretraining too")
        if self.source:
            notes.append(f"pretrained before: {self.source}")
        return notes


def settings(pairs: Sequence[str], option: str) -> list[tuple[str, str | None]]:
    """``NAME=VALUE`` texts as names and values; ValueError where one has no value."""
    found: list[tuple[str, str | None]] = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"--{option} {pair}: give NAME=VALUE, for example optim.lr=5e-4.")
        found.append((name.removeprefix("--"), value))
    return found


def configs(
    config: CompareConfig,
) -> tuple[pretraining.PretrainConfig, finetuning.FinetuneConfig]:
    """The settings that all runs have, before tasks, labels and seeds."""
    size = config.size
    first = load_recipe(config.recipe, "pretrain", size, pretraining.PretrainConfig)
    second = load_recipe(config.recipe, "finetune", size, finetuning.FinetuneConfig)
    first, second = first or pretraining.preset(size), second or finetuning.preset(size)
    # Each job has one thread, so that all have the same; a loader process would be a second one.
    first = replace(first, loop=replace(first.loop, num_workers=0))
    second = replace(second, loop=replace(second.loop, num_workers=0))
    second = override(second, settings(config.finetune, "finetune"))
    return first, replace(second, loop=replace(second.loop, budget_minutes=None, patience=0))


def find_entries(config: CompareConfig) -> list[Entry]:
    """Everything that takes part, those from scratch last.

    Raises ValueError for an unknown task, a wrong setting, or an entry that is there twice.
    """
    first, second = configs(config)
    form, entries = second.model, []
    scratch: dict[str, Entry] = {str(to_json(form)): Entry(SCRATCH, form)}

    def baseline(own: ModelConfig, wanted: bool, name: str) -> str:
        """The name of the entry from scratch for a model of this form."""
        key = str(to_json(own))
        if wanted and key not in scratch:
            scratch[key] = Entry(name, own)
        return scratch[key].name if key in scratch else SCRATCH

    for given in config.tasks:
        run = pretraining_of(given, first, config)
        is_causal = run.model.is_causal and not form.is_causal
        name = f"{SCRATCH}, causal" if is_causal else f"{SCRATCH}, as {entry_name(given)}"
        against = baseline(run.model, config.causal_baseline or not is_causal, name)
        is_labeled = run.tasks.uses_text or run.tasks.uses_phones
        entries.append(Entry(entry_name(given), run.model, against, run, is_labeled))
    for source in config.models:
        checkpoint = open_model(source)
        own, name = checkpoint.speech.config, _model_name(source)
        against = baseline(own, config.model_baseline, f"{SCRATCH}, as {name}")
        entries.append(Entry(name, own, against, source=source, digest=_digest(checkpoint)))
    entries += scratch.values()
    slugs = [entry.slug for entry in entries]
    for entry in entries:
        if slugs.count(entry.slug) > 1:
            raise ValueError(f"--tasks and --models must name each entry once, got {entry.name}.")
    return entries


def pretraining_of(
    given: str, config: pretraining.PretrainConfig, compared: CompareConfig
) -> pretraining.PretrainConfig:
    """The pretraining run of an entry; where a task must not see the future, its model is
    causal."""
    names = [part.strip() for part in given.split("+")]
    defaults = pretraining.task_defaults(compared.size)
    chosen = _own_defaults(config.tasks).chosen(names, defaults)
    if kept := [task.name for task in chosen if task.uses_recogniser]:
        raise ValueError(
            f"--tasks {given}: {kept[0]} keeps what the model of --init transcribes, and what is "
            "compared is pretrained from fresh weights: leave it out."
        )
    run = replace(config, tasks=chosen)
    own = [
        (name, value)
        for name, value in settings(compared.pretrain, "pretrain")
        if not _is_of_another_task(name, chosen)
    ]
    run = override(run, own)
    if not run.model.is_causal and must_be_causal(run):
        run = replace(run, model=causal(run.model))
    loop = replace(
        run.loop,
        budget_minutes=compared.minutes,
        # Each job has one thread: its processor time is fair where the machine does other work too.
        budget_clock="processor" if pick_device(run.device).type == "cpu" else "wall",
        max_steps=compared.max_steps or run.loop.max_steps,
    )
    return replace(run, loop=loop)


def _own_defaults(tasks: TaskConfigs) -> TaskConfigs:
    """Tasks as a recipe sets them, each with weight 1: the weights of an entry are its own."""
    return TaskConfigs(tuple(replace(task, weight=1.0) for task in tasks))


def _is_of_another_task(setting: str, chosen: TaskConfigs) -> bool:
    """Whether a setting is of a task that this entry does not have, and another may."""
    first = setting.replace("-", "_").split(".")[0]
    return first in TaskConfigs.members and first not in chosen


def must_be_causal(run: pretraining.PretrainConfig) -> bool:
    """Whether a task of a run must not see the future: asked of the tasks, which are built for
    it."""
    letters, phones = CharTokenizer.train(["a"]), PhoneTokenizer.train(["a"])
    with torch.random.fork_rng():
        model = SpeechModel(causal(run.model))
        return build_tasks(run, model, Alphabets(letters, phones), 1).needs.causal


def causal(model: ModelConfig) -> ModelConfig:
    """The same model, none of whose outputs depends on later samples."""
    return replace(model, context=replace(model.context, causal=True), running_norm=True)


def check_settings_are_used(config: CompareConfig) -> None:
    """ValueError for a setting of a task that no entry has: it would change nothing."""
    named = {
        part.partition("=")[0].strip().replace("-", "_")
        for given in config.tasks
        for part in given.split("+")
    }
    for name, _ in settings(config.pretrain, "pretrain"):
        task = name.replace("-", "_").split(".")[0]
        if task in TaskConfigs.members and task not in named:
            raise ValueError(f"--pretrain {name}: no entry of --tasks has the task {task}.")


def entry_name(given: str) -> str:
    """``masked_units+reconstruction=0.5`` as it is shown; ValueError for an unknown task."""
    shown = []
    for part in given.split("+"):
        name, equals, weight = part.strip().partition("=")
        task_class(name.replace("-", "_"))
        shown.append(name.replace("-", "_") + (f"={weight}" if equals else ""))
    return "+".join(shown)


def _model_name(source: str) -> str:
    """The last part of a folder's name or a hub id, or the one before where that says nothing."""
    parts = [part for part in Path(source).parts if part not in ("best", "model", "/")]
    return parts[-1] if parts else source


def _digest(checkpoint: Checkpoint) -> str:
    return pretraining_inputs([], [], checkpoint)["initial model"]
