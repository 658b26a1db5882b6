"""Of a large model in bfloat16, the weights of its products: once for all worker processes.

Autocast gives each process a copy of them in bfloat16, half of what the model takes (180 MB for
`base`). Written to a file in that dtype, they are the file's own pages, which all processes share;
the products are the same to the last bit.
"""

import contextlib
import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from speechssl.checkpoint import write_tensors
from speechssl.inference.batching import InferencePrecision, fills_the_cpu
from speechssl.model.layers import TransformerLayer

_FILE = "products.safetensors"

Model = TypeVar("Model", bound=nn.Module)


@contextlib.contextmanager
def shared_weights(model: nn.Module, precision: InferencePrecision) -> Iterator[Path | None]:
    """A file for :func:`with_weights` as long as the context lasts; None where it would bring
    nothing (another precision, a small model, a GPU) or where there is no room for it."""
    if precision != "bf16" or not fills_the_cpu(model):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="speechssl-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / _FILE
        weights = _weights_of_products(model)
        try:
            write_tensors({name: each.to(torch.bfloat16) for name, each in weights.items()}, path)
            is_there = True
        except OSError:  # no room for it
            is_there = False
        yield path if is_there else None


def with_weights(model: Model, path: Path) -> Model:
    """A model for inference in bfloat16 that uses the weights of a file which
    :func:`shared_weights` made of the same model, and the model's own for all else."""
    own = {id(each): each for each in (*model.parameters(), *model.buffers())}
    model = copy.deepcopy(model, own)
    for name, weight in load_file(path).items():
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, nn.Parameter(weight, requires_grad=False))
    return model


def _weights_of_products(model: nn.Module) -> dict[str, Tensor]:
    """Those of the linear maps of transformer layers, which are used in nothing but products that
    autocast rounds."""
    return {
        f"{layer}.{linear}.weight": module.weight.detach()
        for layer, transformer in model.named_modules()
        if isinstance(transformer, TransformerLayer)
        for linear, module in transformer.named_modules()
        if isinstance(module, nn.Linear)
    }
