"""What of a reused model learns: everything, its adapters, or LoRA; and what is frozen by name."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from speechssl.model.layers import Adapter
from speechssl.model.speech_model import CTCModel, SpeechModel


def chosen(patterns: Sequence[str], names: Iterable[str], setting: str) -> list[str]:
    """The `names` that one of the patterns (of :mod:`fnmatch`; ``*`` crosses dots) matches.

    Raises ValueError where a pattern matches none, with the names that are nearest to it; `setting`
    is where the pattern was given.
    """
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, [*names, *_groups(names)], n=3, cutoff=0.0)
            raise ValueError(
                f"{setting}: {pattern!r} matches no name in the model; the nearest are "
                f"{', '.join(near)}."
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Let the parameters whose name a pattern matches stay as they are.

    Raises ValueError where a pattern matches none.
    """
    parameters = dict(model.named_parameters())
    for name in chosen(patterns, parameters, "freeze"):
        parameters[name].requires_grad_(False)


def with_adapters(speech: SpeechModel, dim: int) -> SpeechModel:
    """The model with an adapter of inner width `dim` in every layer, or with those that it has.

    Fresh ones begin as the identity (arXiv:1902.00751, section 2.1): the model computes what it
    did.
    """
    if speech.config.context.adapter_dim:
        return speech
    context = replace(speech.config.context, adapter_dim=dim)
    model = SpeechModel(replace(speech.config, context=context))
    model.load_state_dict({**model.state_dict(), **speech.state_dict()})
    for adapter in _adapters(model):
        nn.init.zeros_(adapter.up.weight)
    return model


def freeze_all_but_adapters(model: CTCModel) -> None:
    """Of the speech model only the adapters, each with its norm, go on learning; so does the head
    (arXiv:2305.13516, section 5.2)."""
    own = {id(p) for adapter in _adapters(model.speech) for p in adapter.parameters()}
    for parameter in model.speech.parameters():
        if id(parameter) not in own:
            parameter.requires_grad_(False)


def check_something_learns(model: nn.Module) -> None:
    """ValueError where every parameter is frozen."""
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("freeze: these patterns freeze the whole model; nothing is left to learn.")


def _adapters(speech: SpeechModel) -> list[Adapter]:
    return [module for module in speech.modules() if isinstance(module, Adapter)]


def _groups(names: Sequence[str]) -> list[str]:
    """``a.b.*`` for every module ``a.b`` above the names."""
    parts = (name.split(".") for name in names)
    found = {".".join(words[:depth]) + ".*" for words in parts for depth in range(1, len(words))}
    return sorted(found)
