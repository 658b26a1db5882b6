"""The file of a fairseq checkpoint: a pickle, of which only tensors and plain tables are built."""

import argparse
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechssl.interop.folders import damage, refused_object


def load_checkpoint(place: Path, trust_pickle: bool) -> dict[str, Any]:
    """The table of a ``.pt``: ``model`` and ``cfg`` or ``args``.

    Raises FileNotFoundError, and ValueError where it is damaged, no checkpoint of fairseq, or holds
    objects of other packages without `trust_pickle`.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it then refuses
            data = torch.load(place, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {place}.") from None
    except Exception as error:
        name = refused_object(error)
        if name is None:
            raise ValueError(damage(place, error)) from error
        if not trust_pickle:
            raise ValueError(
                f"{place} holds objects of other packages beside its tensors ({name}). If you "
                "trust its source, `speechssl import --trust-pickle` reads them as plain tables "
                "(no code of the file is run even then)."
            ) from error
        data = _load_inert(place)
    if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
        raise ValueError(f"{place} is no checkpoint of fairseq: it has no table 'model'.")
    return data


class _Inert:
    """Stands for an object of another package: keeps what it was given, does nothing."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        self.args, self.fields = args, fields

    def __setstate__(self, state: Any) -> None:
        self.fields = state if isinstance(state, dict) else {"state": state}

    # Subclasses of dict and list are filled by these.
    def __setitem__(self, key: Any, value: Any) -> None:
        self.fields[key] = value

    def append(self, value: Any) -> None:
        self.args = (*self.args, value)

    def extend(self, values: Any) -> None:
        self.args = (*self.args, *values)


class _InertUnpickler(pickle.Unpickler):
    """Builds tensors and tables; whatever else the file names becomes :class:`_Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS or (module == "torch" and name.endswith("Storage")):
            return super().find_class(module, name)
        return _Inert


_HARMLESS = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "device"),
    ("torch", "Size"),
    ("argparse", "Namespace"),
    *((("torch", n)) for n in ("float32", "float16", "bfloat16", "float64", "int64", "int32")),
}


class _InertPickle:
    """What torch.load asks of a ``pickle_module``."""

    Unpickler = _InertUnpickler
    UnpicklingError = pickle.UnpicklingError
    HIGHEST_PROTOCOL = pickle.HIGHEST_PROTOCOL

    @staticmethod
    def load(file: Any, **settings: Any) -> Any:
        return _InertUnpickler(file, **settings).load()


def _load_inert(place: Path) -> Any:
    try:
        return torch.load(place, map_location="cpu", weights_only=False, pickle_module=_InertPickle)
    except Exception as error:
        raise ValueError(f"{place} cannot be read ({type(error).__name__}: {error}).") from error


def _plain(value: Any, depth: int = 0) -> Any:
    """Namespaces and omegaconf's nodes (``_content``, ``_val``) as tables and values."""
    if depth > 30:
        return None
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, _Inert):
        fields = value.fields
        if "_content" in fields:
            return _plain(fields["_content"], depth + 1)
        if "_val" in fields:
            return _plain(fields["_val"], depth + 1)
        return _plain(fields or list(value.args), depth + 1)
    if isinstance(value, Mapping):
        return {k: _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, depth + 1) for v in value]
    return value


def settings_of(data: Mapping[str, Any], place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(model, task)``: the innermost ones, which describe the wav2vec 2.0 model."""
    cfg = _plain(data.get("cfg"))
    if not cfg:  # before fairseq had a cfg
        flat = _plain(data.get("args"))
        cfg = {"model": flat, "task": flat}
    if not isinstance(cfg, dict) or not isinstance(cfg.get("model"), dict):
        raise ValueError(f"{place} has no settings of its model ('cfg' or 'args').")
    model, task = cfg["model"], cfg.get("task") or {}
    inner = model.get("w2v_args")
    if isinstance(inner, dict):
        own = inner.get("model", inner)
        return own, {**(inner.get("task") or {}), **task}
    return model, task
