"""Kinds of start, and the fine-tuning settings that each wants where none are given.

Settings that are good for a model that learned without transcripts can make one that learned with
them worse than no pretraining at all: all of it must be free to move.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from speechssl.checkpoint import Checkpoint
from speechssl.training.adapt import fitting_dropout

if TYPE_CHECKING:
    from speechssl.training.finetune import FinetuneConfig

StartKind = Literal[
    "scratch", "self_supervised", "supervised", "supervised_continued", "fine_tuned"
]
"""``supervised``: trained with the transcripts of other speech (the seed), or fine-tuned from such
a model; ``supervised_continued``: then pretrained on further recordings; ``fine_tuned``: fine-tuned
from one of the first two."""

IN_WORDS: dict[StartKind, str] = {
    "scratch": "from scratch",
    "self_supervised": "a model that learned without transcripts",
    "supervised": "a model that learned with transcripts",
    "supervised_continued": "a model that learned with transcripts, then from further recordings",
    "fine_tuned": "a fine-tuned model",
}


@dataclass(frozen=True)
class StartSettings:
    """Fields of :class:`FinetuneConfig`, which describes them."""

    dropout: float | None
    """None: by the minutes of labels (:func:`fitting_dropout`)."""
    layer_lr_decay: float
    freeze_encoder_share: float


SETTINGS: Mapping[StartKind, StartSettings] = {
    "scratch": StartSettings(None, layer_lr_decay=0.8, freeze_encoder_share=1.0),  # of no effect
    "self_supervised": StartSettings(None, layer_lr_decay=0.8, freeze_encoder_share=1.0),
    "supervised": StartSettings(0.2, layer_lr_decay=1.0, freeze_encoder_share=0.0),
    "supervised_continued": StartSettings(0.2, layer_lr_decay=0.9, freeze_encoder_share=0.0),
    "fine_tuned": StartSettings(None, layer_lr_decay=0.8, freeze_encoder_share=1.0),
}

CHOSEN = ("dropout", "layer_lr_decay", "freeze_encoder_share")
"""The settings that the kind of start chooses."""


def kind_of(init: Checkpoint | None) -> StartKind:
    """The kind of a start: what its folder states, else what it was made by."""
    if init is None:
        return "scratch"
    for kind in SETTINGS:
        if kind == init.meta.get("start") and kind != "scratch":
            return kind
    return "fine_tuned" if init.meta.get("task") == "finetune" else "self_supervised"


def after_pretraining(init: Checkpoint | None) -> StartKind:
    """The kind of what pretraining makes of a model."""
    is_supervised = kind_of(init) in ("supervised", "supervised_continued")
    return "supervised_continued" if is_supervised else "self_supervised"


def after_finetuning(init: Checkpoint | None) -> StartKind:
    """The kind of what fine-tuning makes of a model."""
    is_supervised = kind_of(init) in ("supervised", "supervised_continued")
    return "supervised" if is_supervised else "fine_tuned"


def with_start_settings(
    config: "FinetuneConfig", init: Checkpoint | None, minutes: float
) -> "FinetuneConfig":
    """The config with what the kind of start wants where it leaves a setting open.

    Args:
        config: of the run.
        init: the model to start from; None is from scratch.
        minutes: of transcribed speech.
    """
    wanted = SETTINGS[kind_of(init)]
    found: dict[str, Any] = {n: getattr(wanted, n) for n in CHOSEN if getattr(config, n) is None}
    if init is not None and "dropout" in found and found["dropout"] is None:
        found["dropout"] = fitting_dropout(init.speech.config, minutes)
    return replace(config, **found)


def describe_choice(
    given: "FinetuneConfig", chosen: "FinetuneConfig", init: Checkpoint | None
) -> str:
    """What :func:`with_start_settings` chose, for a person; '' where it chose nothing that is of
    effect."""
    if init is None:
        return ""
    said = []
    for name in CHOSEN:
        value = getattr(chosen, name)
        if getattr(given, name) is None and value is not None:
            said.append(f"--{name.replace('_', '-')} {value:g}")
    if not said:
        return ""
    return f"Start: {IN_WORDS[kind_of(init)]}; so {', '.join(said)}, where nothing else is given."
