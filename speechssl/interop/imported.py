"""Weights of other tools, under our names, as a checkpoint of ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from speechssl.checkpoint import Checkpoint, build_empty, fill
from speechssl.interop.huggingface import ImportedWeights
from speechssl.interop.vocabulary import take_rows
from speechssl.model.config import ModelConfig
from speechssl.text import Tokenizer


def ctc_checkpoint(
    config: ModelConfig,
    weights: ImportedWeights,
    vocabulary: tuple[Tokenizer, list[int | None]],
    meta: Mapping[str, Any],
    folder: Path | None = None,
) -> Checkpoint:
    """The model with its CTC head. `vocabulary`: the tokenizer, and their row of each symbol."""
    tokenizer, rows = vocabulary
    assert weights.head is not None
    model = build_empty(config, tokenizer.vocab_size)
    head = {f"head.{k}": v for k, v in take_rows(_float32(weights.head), rows).items()}
    fill(model, {**{f"speech.{k}": v for k, v in _float32(weights.speech).items()}, **head})
    return Checkpoint(model, tokenizer, dict(meta), folder)


def body_checkpoint(
    config: ModelConfig,
    weights: ImportedWeights,
    meta: Mapping[str, Any],
    folder: Path | None = None,
    pretraining: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """The model without a head; `pretraining`: the settings of its pretraining heads, where it has
    them."""
    model = build_empty(config)
    fill(model, _float32(weights.speech))
    if pretraining is None:
        return Checkpoint(model, None, dict(meta), folder)
    heads = _float32(weights.contrastive or {})
    return Checkpoint(model, None, {**meta, "pretraining": dict(pretraining)}, folder, heads)


def _float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() for name, value in state.items()}
