"""A run as bytes, for a process that continues with it; modules with weight norm included."""

import io
import pickle
from collections import OrderedDict
from typing import Any

from torch import nn
from torch.nn.utils import parametrize


def pack(value: object) -> bytes:
    """Pickle a value; :func:`pickle.loads` gives it back, in a process with the same modules."""
    into = io.BytesIO()
    _Pickler(into, pickle.HIGHEST_PROTOCOL).dump(value)
    return into.getvalue()


class _Pickler(pickle.Pickler):
    """PyTorch refuses to pickle modules with a parametrization (weight norm), whose class it makes
    while the program runs; here that class is made again."""

    def reducer_override(self, obj: object) -> Any:
        if not isinstance(obj, nn.Module) or not parametrize.is_parametrized(obj):
            return NotImplemented
        names = list(obj.parametrizations)  # type: ignore[arg-type]
        # Its hooks are functions without a name; they rename weights of old versions of PyTorch.
        state = {**obj.__dict__, "_load_state_dict_pre_hooks": OrderedDict()}
        return _make, (type(obj).__bases__[0], names), state


def _make(kind: type[nn.Module], names: list[str]) -> nn.Module:
    """An empty module of a class, whose tensors of these names are parametrized."""
    module = kind.__new__(kind)
    parametrize._inject_new_class(module)
    for name in names:
        parametrize._inject_property(module, name)
    return module
