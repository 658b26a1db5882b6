"""Heads of pretext tasks in model folders: which are kept there, and which a run begins with."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from speechssl import distributed
from speechssl.checkpoint import Checkpoint
from speechssl.config.json import to_json
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.pretext.layers import main_layer
from speechssl.pretext.task import PretextTask
from speechssl.pretext.tasks import TaskConfigs, Tasks
from speechssl.text import CharTokenizer, Tokenizer, shared_symbols


@dataclass(frozen=True)
class KeptHeads:
    """What a model folder gets of the tasks; the tensors in the first process only."""

    published: dict[str, Tensor] = field(default_factory=dict)
    """Those of wav2vec 2.0, in the form in which it is published."""
    for_use: dict[str, Tensor] = field(default_factory=dict)
    """By ``TASK.NAME``, those that are of use beside the model."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Their settings."""


def kept_heads(tasks: Tasks, configs: TaskConfigs, *, whole: bool = False) -> KeptHeads:
    """The heads to keep, with `whole` those of every task; every process calls it."""
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
    for task in _with_other_heads(tasks) if whole else ():
        state = distributed.whole_state(task)
        for_use |= {f"{task.name}.{n}": v for n, v in state.items()}
        meta.setdefault("heads", {})[task.name] = {"config": to_json(configs[task.name])}
    return KeptHeads(published, for_use, meta)


def _with_other_heads(tasks: Tasks) -> list[PretextTask]:
    """The tasks whose heads are of use only where a pretraining goes on: no alphabet, by whose
    symbols they would fit, and not kept otherwise."""
    return [
        task
        for task in tasks
        if task.name not in tasks.for_use and task is not tasks.saved and task.alphabet is None
    ]


def with_recogniser(
    tasks: Tasks, tokenizer: Tokenizer | None, model: SpeechModel, weights: dict[str, Tensor]
) -> tuple[SpeechModel | CTCModel, dict[str, Tensor], Tokenizer | None]:
    """The model with the head that a task trained to transcribe, where one did, the weights of
    both, from those of the model alone, and the head's alphabet; every process calls it."""
    task = tasks.transcriber(tokenizer)
    if task is None or task.recogniser is None:
        return model, weights, None
    parts = (("speech", weights), ("head", distributed.whole_state(task.recogniser)))
    both = {f"{part}.{name}": v for part, state in parts for name, v in state.items()}
    return CTCModel(model, task.recogniser), both, task.alphabet


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
    if tokenizer is not None and init.tokenizer is not None:
        if tokenizer.symbols == init.tokenizer.symbols:
            for name, module in tasks.for_use.items():
                if tasks.by_name[name].alphabet is not None:
                    continue  # symbol by symbol, below
                its = init.heads_of(name)
                if _fit(its, module):
                    module.load_state_dict(its)
                    taken.append(f"the heads of {name}")
        its_head = init.model.head if isinstance(init.model, CTCModel) else None
        for task in tasks:
            if its_head is not None and task.alphabet is tokenizer and task.recogniser is not None:
                taken += _take_symbols(task.recogniser, tokenizer, its_head, init.tokenizer)
    for task in _with_other_heads(tasks):
        its = init.heads_of(task.name)
        if its and _fit(its, task):
            task.load_state_dict(its)
            taken.append(f"the heads of {task.name}")
    for name, module in tasks.for_use.items():
        alphabet, kept = tasks.by_name[name].alphabet, _kept_ctc_head(init, name)
        if alphabet is not None and kept is not None and isinstance(module, CTCHead):
            taken += _take_symbols(module, alphabet, *kept, what=name)
    return ", ".join(taken)


def _fit(weights: dict[str, Tensor], module: nn.Module) -> bool:
    """Whether they are of the names and shapes of a module's."""
    shapes = {name: value.shape for name, value in weights.items()}
    return shapes == {name: value.shape for name, value in module.state_dict().items()}


def _take_symbols(
    head: CTCHead, alphabet: Tokenizer, old: CTCHead, old_alphabet: Tokenizer, what: str = "CTC"
) -> list[str]:
    """Use the rows of the symbols that both heads have, where these fit; what was done."""
    sizes = [(one.upsample, one.linear.in_features) for one in (head, old)]
    if sizes[0] != sizes[1]:
        return []
    places = shared_symbols(alphabet, old_alphabet)
    head.take_rows(old, places)
    num = sum(place is not None for place in places)
    return [f"{num} of {len(places)} symbols of the {what} head"]


def _kept_ctc_head(init: Checkpoint, task: str) -> tuple[CTCHead, Tokenizer] | None:
    """A CTC head that is kept beside a model, with its alphabet; None where there is none."""
    weights, about = init.heads_of(task), init.meta.get("heads", {}).get(task, {})
    symbols = about.get("symbols")
    if not symbols or set(weights) != {"linear.weight", "linear.bias"}:
        return None
    if len(weights["linear.bias"]) % len(symbols):
        return None  # of another alphabet than meta.json says
    width = weights["linear.weight"].shape[1]
    with torch.random.fork_rng(devices=[]):  # the heads of the run are drawn already
        head = CTCHead(width, len(symbols), len(weights["linear.bias"]) // len(symbols))
    head.load_state_dict(weights)
    return head, CharTokenizer(symbols)


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
