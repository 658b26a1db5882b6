"""How several processes share a model: each holds all of it, or a part.

``ddp``: each process has every weight; gradients are averaged after the backward pass
(:func:`speechssl.distributed.average_gradients`). ``fsdp``: weights, gradients and optimizer state
are sharded over the processes, and a layer's weights are gathered while they are needed
(arXiv:2304.11277). Both compute the same numbers up to rounding. In a single process they are the
same thing.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

from torch import nn

from speechssl import distributed
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.task import PretextTask

Parallel = Literal["ddp", "fsdp"]


def shard(modules: nn.Module, how: Parallel) -> None:
    """Spread the weights over the processes where `how` is ``fsdp``, in place, before an optimizer
    is made of them; every process has the same weights when it calls this."""
    if how == "ddp" or distributed.world() == 1:
        return
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    # The frames are views, and nothing here changes them in place.
    warnings.filterwarnings("ignore", r"FSDP2-wrapped module .* returned a view", UserWarning)
    for unit in _units(modules):
        fully_shard(unit)
        for name in unit.called_methods if isinstance(unit, PretextTask) else ():
            register_fsdp_forward_method(unit, name)


def _units(modules: nn.Module) -> Iterator[nn.Module]:
    """What is gathered at one time, from the inside out: each layer of the context network, the
    rest of each speech model, and whatever else is called by itself (tasks, the whole model)."""
    for module in modules.modules():
        if isinstance(module, SpeechModel):
            yield from module.context.layers
            yield module
    outermost: Sequence[nn.Module] = (
        list(modules.values()) if isinstance(modules, nn.ModuleDict) else [modules]
    )
    yield from (m for m in outermost if not isinstance(m, SpeechModel))
