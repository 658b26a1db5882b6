"""Heads of pretext tasks in model folders: which are kept there, and which a run begins with."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from speechssl import distributed
from speechssl.checkpoint import Checkpoint
from speechssl.config.json import to_json
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.pretext.layers import main_layer
from speechssl.pretext.tasks import TaskConfigs, Tasks
from speechssl.text import Tokenizer, shared_symbols


@dataclass(frozen=True)
class KeptHeads:
    """What a model folder gets of the tasks; the tensors in the first process only."""

    published: dict[str, Tensor] = field(default_factory=dict)
    """Those of wav2vec 2.0, in the form in which it is published."""
    for_use: dict[str, Tensor] = field(default_factory=dict)
    """By ``TASK.NAME``, those that are of use beside the model."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Their settings."""


def kept_heads(tasks: Tasks, configs: TaskConfigs) -> KeptHeads:
    """The heads to keep; every process calls it."""
    meta: dict[str, Any] = {}
    own = tasks.saved
    module = None if own is None else own.saved_heads
    published = {} if module is None else distributed.whole_state(module)
    if own is not None:
        meta["pretraining"] = to_json(configs[own.name]) | own.saved_fields()
    for_use: dict[str, Tensor] = {}
    for name, one in tasks.for_use.items():
        for_use |= {f"{name}.{n}": v for n, v in distributed.whole_state(one).items()}
        meta.setdefault("heads", {})[name] = {
            "config": to_json(configs[name]),
            "layer": main_layer(configs[name]),
            **tasks.by_name[name].saved_fields(),
        }
    return KeptHeads(published, for_use, meta)


def with_recogniser(
    tasks: Tasks, model: SpeechModel, weights: dict[str, Tensor]
) -> tuple[SpeechModel | CTCModel, dict[str, Tensor]]:
    """The model with the head that a task trained to transcribe, where one did, and the weights of
    both, from those of the model alone; every process calls it."""
    head = tasks.recogniser
    if head is None:
        return model, weights
    parts = (("speech", weights), ("head", distributed.whole_state(head)))
    both = {f"{part}.{name}": v for part, state in parts for name, v in state.items()}
    return CTCModel(model, head), both


def take_heads(tasks: Tasks, init: Checkpoint, tokenizer: Tokenizer | None) -> str:
    """Use the heads that a model came with, where they fit.

    Args:
        tasks: of the run.
        init: the model that it starts from.
        tokenizer: of the run, where a task looks at transcripts.

    Returns:
        What was done, for a person.
    """
    taken = [_take_published(tasks, init)]
    if tokenizer is None or init.tokenizer is None:
        return taken[0]
    if tokenizer.symbols == init.tokenizer.symbols:
        for name, module in tasks.for_use.items():
            its, own = init.heads_of(name), module.state_dict()
            if {n: v.shape for n, v in its.items()} == {n: v.shape for n, v in own.items()}:
                module.load_state_dict(its)
                taken.append(f"the heads of {name}")
    head = tasks.recogniser
    its_head = init.model.head if isinstance(init.model, CTCModel) else None
    if head is not None and its_head is not None and its_head.upsample == head.upsample:
        places = shared_symbols(tokenizer, init.tokenizer)
        head.take_rows(its_head, places)
        num = sum(place is not None for place in places)
        taken.append(f"{num} of {len(places)} symbols of the CTC head")
    return ", ".join(taken)


def _take_published(tasks: Tasks, init: Checkpoint) -> str:
    """Those of the form in which wav2vec 2.0 is published."""
    own = None if tasks.saved is None else tasks.saved.saved_heads
    if own is None:
        return "the model's weights, with fresh heads"
    if not init.pretraining:
        return "the model's weights, with a fresh quantizer and projections, as it has none"
    shapes = {name: value.shape for name, value in init.pretraining.items()}
    if shapes != {name: value.shape for name, value in own.state_dict().items()}:
        return "the model's weights, with a fresh quantizer and projections of other sizes"
    own.load_state_dict(init.pretraining)
    return "the model's weights, its quantizer and its projections"
