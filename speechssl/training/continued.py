"""Pretraining that goes on from a model: what of its config the run takes over."""

from collections.abc import Collection
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from speechssl.checkpoint import Checkpoint
from speechssl.pretext.contrastive import ContrastiveConfig

if TYPE_CHECKING:
    from speechssl.training.pretrain import PretrainConfig


def going_on(config: "PretrainConfig", init: Checkpoint) -> "PretrainConfig":
    """The config for a run that goes on from `init`: of its model, and with its codebook where the
    task contrastive is among its tasks.

    The Gumbel temperature goes on from where it was; where the model does not say, it is at its
    end, as in published models. Weights and negatives, on which the heads do not depend, stay the
    config's.
    """
    config = replace(config, model=init.speech.config)
    known = dict(init.meta.get("pretraining", {}))
    if not init.pretraining or "contrastive" not in config.tasks:
        return config
    own = config.tasks["contrastive"]
    assert isinstance(own, ContrastiveConfig)
    asked = {"weight", "layers", "num_negatives", "diversity_weight", "feature_penalty"}
    names = {f.name for f in fields(ContrastiveConfig)} - asked  # on these the heads depend
    learned = {name: value for name, value in known.items() if name in names}
    learned.setdefault("gumbel_start", own.gumbel_end)
    return replace(config, tasks=config.tasks.having(replace(own, **learned)))


def with_own_units(
    config: "PretrainConfig", source: str, init: Checkpoint, given: Collection[str] = ()
) -> "PretrainConfig":
    """The config for a run that goes on from a seed: masked_units predicts the units of the layer
    that its card names as the best beside those of features, so that what it learned from
    transcripts is a part of what its own audio teaches (PBERT's idea, arXiv:2206.10125).

    Args:
        config: with the tasks of the run.
        source: what a person calls `init`.
        init: the model that the run begins with.
        given: dotted names of the settings that a person gave; ``teacher`` among them is kept.

    Returns:
        The config as it is where `init` names no best layer (no other model does), where a teacher
        is given (``none`` for none), or where no task predicts units.
    """
    layer = init.meta.get("best_layer")
    has_own = config.teacher is not None or "teacher" in given
    if not isinstance(layer, int) or has_own or "masked_units" not in config.tasks:
        return config
    return replace(config, teacher=source, teacher_layer=layer, teacher_beside=True)


def describe_teacher(config: "PretrainConfig") -> str:
    """For the person: that units of a teacher are predicted beside those of features."""
    return (
        f"Targets: beside the units of features those of layer {config.teacher_layer} of "
        f"{config.teacher} (--teacher none leaves them out)."
    )
