"""A model folder that explains itself: config.json, model.safetensors, tokenizer, meta.json.

Loading needs the folder and nothing else, and runs no code from it. A folder is written beside its
place and moved there whole, so a full disk or a crash leaves the old one as it was.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from speechssl import __version__, text
from speechssl.files import writing
from speechssl.model import config as model_config
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.system import rename, sync
from speechssl.text.tokenizer import INFO_FILE

FORMAT_VERSION = 1
_PRETRAINING, _HEADS = "pretraining.safetensors", "heads.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A model and all that came with it."""

    model: SpeechModel | CTCModel
    tokenizer: text.Tokenizer | None = None
    """Present where the model has a CTC head, or heads that read text."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Recipe, data, steps, seeds, scores: what the run knew."""
    folder: Path | None = None
    """Where it was read from."""
    pretraining: dict[str, Tensor] = field(default_factory=dict)
    """The quantizer and projections of wav2vec 2.0 that a model was pretrained with, from which
    pretraining goes on and which an export can write. Their settings are
    ``meta["pretraining"]``."""
    heads: dict[str, Tensor] = field(default_factory=dict)
    """Heads of other pretext tasks that are of use afterwards (a text encoder), by ``TASK.NAME``.
    Their settings are ``meta["heads"][TASK]``."""

    def heads_of(self, task: str) -> dict[str, Tensor]:
        """The heads of one task by their own names; none where it has none."""
        prefix = f"{task}."
        found = {n: value for n, value in self.heads.items() if n.startswith(prefix)}
        return {name.removeprefix(prefix): value for name, value in found.items()}

    @property
    def speech(self) -> SpeechModel:
        """The model without its head."""
        return self.model.speech if isinstance(self.model, CTCModel) else self.model

    def require_ctc(self) -> tuple[CTCModel, text.Tokenizer]:
        """The CTC model and its tokenizer; ValueError where the model was only pretrained."""
        if isinstance(self.model, CTCModel) and self.tokenizer is not None:
            return self.model, self.tokenizer
        left_out = self.meta.get("left_out", ())
        why = f"only its body is read, not {', '.join(left_out)}" if left_out else ""
        raise ValueError(
            f"The model in {self.folder} has no transcription head: "
            f"{why or 'it was pretrained but not fine-tuned'}. Run `speechssl finetune --init` on "
            "it first."
        )


def save_model(
    folder: str | Path, checkpoint: Checkpoint, weights: dict[str, Tensor] | None = None
) -> Path:
    """Write a model folder, whole or not at all; an older one in its place is replaced.

    `weights` are written where the model's own are sharded over several processes.

    OSError (a full disk, no permission) is raised with the old folder untouched; ValueError where
    something that is no model folder is in its place.
    """
    folder = Path(folder)
    in_the_way = any(folder.iterdir()) if folder.is_dir() else folder.exists()
    if in_the_way and not (folder / "config.json").exists():
        raise ValueError(f"{folder} exists and is no model folder: name another place.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        weights = checkpoint.model.state_dict() if weights is None else weights
        write_tensors(weights, fresh / "model.safetensors")
        if checkpoint.pretraining:
            write_tensors(checkpoint.pretraining, fresh / _PRETRAINING)
        if checkpoint.heads:
            write_tensors(checkpoint.heads, fresh / _HEADS)
        if checkpoint.tokenizer is not None:
            checkpoint.tokenizer.save(fresh)
        _write_json(fresh / "config.json", _describe(checkpoint.model))
        _write_json(fresh / "meta.json", {"speechssl": __version__, **checkpoint.meta})
        sync_folder(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    replace_folder(fresh, folder)
    return folder


def add_to_meta(folder: Path, name: str, value: Any) -> None:
    """Set one field of a model folder's meta.json; a reader finds the old file or the new one.

    Raises FileNotFoundError or ValueError where the file is missing or damaged.
    """
    path = folder / "meta.json"
    _write_json(path, {**_read_json(path), name: value})


def check_only_a_model(folder: Path) -> None:
    """ValueError where a folder holds more than a model that :func:`save_model` wrote (a run, a
    model of others, somebody's files), which to replace would be to lose it."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if others := sorted(names - _MODEL_FILES):
        raise ValueError(f"{folder} holds {', '.join(others[:3])} too: name another place.")
    if names and "meta.json" not in names:
        raise ValueError(f"{folder} is no model folder of speechssl: name another place.")


_MODEL_FILES = {
    "config.json",
    "hypotheses.jsonl",
    "meta.json",
    "model.safetensors",
    _HEADS,
    _PRETRAINING,
    "tokenizer.json",
    "tokenizer.model",
}


def write_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, with the permissions of any new file; OSError where that fails (a
    full disk)."""
    path.touch()
    mode = path.stat().st_mode & 0o777
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)
    except SafetensorError as error:
        raise OSError(f"{path} could not be written ({error}).") from error
    path.chmod(mode)  # safetensors makes its files private


def replace_folder(fresh: Path, folder: Path) -> None:
    """Move `fresh` to `folder`; at every moment the old or the new one is whole, or aside as
    .old."""
    old = _aside(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        rename(folder, old)
    rename(fresh, folder)
    sync(folder.parent)  # or a crash of the machine may undo the move and keep the removal
    shutil.rmtree(old, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until a folder without sub-folders is on the disk, names and all."""
    for path in (*folder.iterdir(), folder):
        sync(path)


def throw_away(folder: Path) -> None:
    """Remove a folder in such a way that a crash never leaves a part of it under its name."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Clear what killed saves and removals left in `parent`; a folder that was only put aside
    takes its place again."""
    for old in parent.glob(".*.old"):
        folder = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            rename(old, folder)
    for pattern in (".*.new-*", ".*.gone"):
        for left in parent.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def _aside(folder: Path) -> Path:
    """Where an older folder lies while a newer one takes its place."""
    return folder.with_name(f".{folder.name}.old")


def load_model(folder: str | Path) -> Checkpoint:
    """Read a model folder, or the best (else the latest) model of a run folder.

    The weights are the file's own pages, read when they are first used, so that memory holds them
    once. Raises FileNotFoundError naming what is missing, ValueError naming what is damaged.
    """
    folder = find_model(Path(folder))
    model = _build(folder / "config.json")
    tokenizer = None
    if isinstance(model, CTCModel):
        tokenizer = text.load_tokenizer(folder)
        if tokenizer.vocab_size != model.head.vocab_size:
            raise ValueError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size} symbols but the head has "
                f"{model.head.vocab_size}; these files do not belong together."
            )
    _load_tensors(model, folder / "model.safetensors")
    meta_path = folder / "meta.json"
    meta = _read_json(meta_path) if meta_path.exists() else {}
    pretraining, heads = (
        _read_tensors(folder / name) if (folder / name).exists() else {}
        for name in (_PRETRAINING, _HEADS)
    )
    if heads and tokenizer is None and (folder / INFO_FILE).exists():
        tokenizer = text.load_tokenizer(folder)
    return Checkpoint(model, tokenizer, meta, folder, pretraining, heads)


def hash_tensors(digest: "hashlib._Hash | hashlib.blake2b", tensors: Mapping[str, Tensor]) -> None:
    """Put names, dtypes, shapes and values of tensors into a digest, in their order."""
    for name, value in tensors.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)


def find_model(folder: Path) -> Path:
    """The model folder meant by `folder`: itself, or `best/` or `model/` of a run folder."""
    if not folder.exists():
        if (old := _aside(folder)).is_dir():
            return old  # a save was killed between its two moves
        raise FileNotFoundError(f"There is no model folder {folder}.")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; a model is a folder with config.json in it.")
    for place in (folder, folder / "best", folder / "model"):
        if (place / "model.safetensors").exists():
            return place
        if not place.exists() and (old := _aside(place)).is_dir():
            return old
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"{folder} is not a model folder: it has no config.json.")
    raise FileNotFoundError(f"{folder} is not a whole model folder: it has no model.safetensors.")


def _describe(model: SpeechModel | CTCModel) -> dict[str, Any]:
    speech = model.speech if isinstance(model, CTCModel) else model
    head = None
    if isinstance(model, CTCModel):
        head = {"vocab_size": model.head.vocab_size, "upsample": model.head.upsample}
    return {
        "format": "speechssl",
        "version": FORMAT_VERSION,
        "model": model_config.to_dict(speech.config),
        "head": head,
    }


def _build(path: Path) -> SpeechModel | CTCModel:
    """The model that a config.json describes, its weights not yet read."""
    description = _read_json(path)
    version = description.get("version", 1)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ValueError(
            f"{path.parent} was written by a newer speechssl (format {version}, this one reads up "
            f"to {FORMAT_VERSION}): upgrade speechssl."
        )
    if "model" not in description:
        raise ValueError(f"{path} describes no model: it has no field 'model'.")
    try:
        config = model_config.from_dict(description["model"])
        if not (head := description.get("head")):
            return build_empty(config)
        return build_empty(config, head["vocab_size"], head.get("upsample", 1))
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        # RuntimeError: torch has no tensor of a size below 0, or above the memory
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} describes a model that cannot be built: {reason}") from error


def build_empty(
    config: model_config.ModelConfig, vocab_size: int | None = None, upsample: int = 1
) -> SpeechModel | CTCModel:
    """A model whose weights are whatever lay in memory, with a CTC head where `vocab_size` is
    given; :func:`fill` gives it tensors."""
    with _Undrawn():
        speech = SpeechModel(config)
        if vocab_size is None:
            return speech
        return CTCModel(speech, CTCHead(config.context.dim, vocab_size, upsample))


class _Undrawn(TorchFunctionMode):
    """Leaves out the random draws of first weights, which a file's weights replace at once: they
    take seconds, and memory that is not written to is never given by the system."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func.__name__ in ("normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_"):
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Make `tensors` (float32, every name of the model's state) the weights, without a copy; from
    then on the model is in evaluation."""
    model.load_state_dict(tensors, assign=True)
    model.eval()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, those of smaller floats (a seed's bfloat16) as float32."""
    try:
        found = load_file(path)
        return {n: v.float() if v.is_floating_point() else v for n, v in found.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file ({error}).") from error


def _load_tensors(model: nn.Module, path: Path) -> None:
    tensors = {name: value.float() for name, value in _read_tensors(path).items()}
    own = model.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or extra:
        raise ValueError(
            f"{path} does not fit its config.json: missing tensors {missing}, unexpected {extra}."
        )
    for name, value in own.items():
        if tensors[name].shape != value.shape:
            raise ValueError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, config.json asks for "
                f"{tuple(value.shape)}."
            )
    fill(model, tensors)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a JSON object.")
    return data


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with writing(path) as file:
        file.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
