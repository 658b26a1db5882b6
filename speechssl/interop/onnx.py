"""A model as ONNX: runs in onnxruntime, in any language, without this package and without torch.

``model.onnx`` takes ``wave`` (B, S) float32 at the model's rate and ``lengths`` (B,) int64, B and S
free, and gives ``log_probs`` (B, T, V) float32 and ``log_probs_lengths`` (B,) int64, or ``context``
(B, T, D) and ``context_lengths`` for a model without a CTC head. ``symbols.json`` has the text of
each of the V.

Imports of onnx, onnxruntime and onnxscript are here and in ``onnx_int8``, nowhere else.
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speechssl import shapes
from speechssl.checkpoint import Checkpoint
from speechssl.interop.onnx_int8 import quantize, require
from speechssl.interop.proof import Compared, Proof, ours_of, proof_sounds, spelled
from speechssl.model.exportable import exportable, gru_operation
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.text import SPACE, SentencePieceTokenizer, Tokenizer, VocabularyTokenizer

OPSET = 22
"""The newest that onnxruntime runs: from 23 on attention is one operation, which there takes no
mask that is the same for every query."""
FILE = "model.onnx"
INT8_TOLERANCE = 0.2
"""Largest difference of a probability that 8-bit weights may make before they are refused."""


def write_onnx(checkpoint: Checkpoint, folder: Path, *, int8: bool = False) -> None:
    """Write ``model.onnx`` and ``symbols.json`` into `folder`.

    With `int8` all matrix products are computed in 8 bits, except those of the encoder, where a
    learned filterbank would lose the weak high bands (:mod:`speechssl.interop.onnx_int8`).

    Raises ImportError naming the extra.
    """
    require("onnx", "onnxruntime", "onnxscript")
    program = _export(exportable(checkpoint.model.cpu().eval()))
    _forget_where_it_was_made(program.model.graph)
    program.save(folder / FILE)
    if int8:
        quantize(folder / FILE)
    symbols = _symbols(checkpoint)
    (folder / "symbols.json").write_text(
        json.dumps(symbols, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n"
    )


class _Rows(nn.Module):
    """What is exported: the CTC model's output, or the context and its lengths."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model(wave, lengths)
        return out if isinstance(out, tuple) else (out.context, out.lengths)


def _export(model: SpeechModel | CTCModel) -> Any:
    speech = model.speech if isinstance(model, CTCModel) else model
    shortest = int(speech.encoder.min_samples)
    name = "log_probs" if isinstance(model, CTCModel) else "context"
    batch = torch.export.Dim("batch", min=1)
    samples = torch.export.Dim("samples", min=shortest)
    lengths = torch.tensor([3 * shortest + 77, 2 * shortest])
    wave = shapes.zero_padding(torch.randn(2, int(lengths[0])), lengths)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it names the packages that it does without
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's own use of what it will remove
            return torch.onnx.export(
                _Rows(model).eval(),
                (wave, lengths),
                input_names=["wave", "lengths"],
                output_names=[name, f"{name}_lengths"],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=({0: batch, 1: samples}, {0: batch}),
                custom_translation_table={torch.ops.speechssl.gru.default: _gru()},
                verbose=False,
            )
    finally:
        log.setLevel(level)


def _forget_where_it_was_made(graph: Any) -> None:
    """Remove torch's notes from nodes and values: places of source files on this machine, and for
    a small model ten times the room of its weights."""
    values = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    nodes = list(graph.all_nodes())
    for noted in (graph, *nodes, *values, *(value for node in nodes for value in node.outputs)):
        noted.metadata_props.clear()
        noted.doc_string = None


def _gru() -> Any:
    """:func:`speechssl.model.exportable.gru_operation` in the operations of ONNX, whose gates are
    in the order update, reset, candidate."""
    from onnxscript import opset22 as op

    assert gru_operation is not None  # its import registers the operation

    def stacked(weights: Any, number: int) -> Any:
        three, hidden = weights[number].shape[0], weights[1].shape[1]
        order = [*range(hidden, 2 * hidden), *range(hidden), *range(2 * hidden, three)]
        parts = [
            op.Unsqueeze(
                op.Gather(weights[k], op.Constant(value_ints=order)), op.Constant(value_ints=[0])
            )
            for k in range(number, len(weights), 4)
        ]
        return op.Concat(*parts, axis=0)

    def gru(x: Any, lengths: Any, weights: Any) -> Any:
        hidden, directions = weights[1].shape[1], len(weights) // 4
        states, _ = op.GRU(
            op.Transpose(x, perm=[1, 0, 2]),
            stacked(weights, 0),
            stacked(weights, 1),
            op.Concat(stacked(weights, 2), stacked(weights, 3), axis=1),
            op.Cast(lengths, to=6),  # int32
            direction="bidirectional" if directions == 2 else "forward",
            hidden_size=hidden,
            linear_before_reset=1,
        )  # (T, 1 or 2, B, H)
        states = op.Transpose(states, perm=[2, 0, 1, 3])  # (B, T, 1 or 2, H)
        return op.Reshape(states, op.Constant(value_ints=[0, 0, directions * hidden]))

    return gru


def _symbols(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a program needs to know beside the network."""
    config = checkpoint.speech.config
    known: dict[str, Any] = {
        "sample_rate": config.sample_rate,
        "min_samples": checkpoint.speech.encoder.min_samples,
    }
    if isinstance(checkpoint.model, CTCModel):
        _, tokenizer = checkpoint.require_ctc()
        known |= {"blank": 0, "hop_s": checkpoint.model.hop_s, "symbols": _texts(tokenizer)}
    return known


def _texts(tokenizer: Tokenizer) -> list[str]:
    """The text of each row, in order: joined, they are the transcript."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        return ["", "", *(s.replace("▁", " ") for s in tokenizer.symbols[2:])]
    silent = tokenizer.silent if isinstance(tokenizer, VocabularyTokenizer) else frozenset()
    texts = (SPACE if s.isspace() else s for s in tokenizer.symbols[2:])
    return ["", "", *("" if s in silent else s for s in texts)]


@torch.no_grad()
def against_onnxruntime(checkpoint: Checkpoint, folder: Path, *, int8: bool = False) -> Proof:
    """The model against the file written from it, one sound at a time and all in one batch."""
    (runtime,) = require("onnxruntime")
    session = runtime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    name = session.get_outputs()[0].name
    waves = proof_sounds(checkpoint.speech.config.sample_rate)
    batch, lengths = shapes.pad_waves(waves)
    rows, num_rows = session.run(None, {"wave": batch.numpy(), "lengths": lengths.numpy()})
    compared = Compared(INT8_TOLERANCE) if int8 else Compared()
    ours_text, their_text = [], []
    for wave, batched, num in zip(waves, rows, num_rows, strict=True):
        context, log_probs = ours_of(checkpoint, wave)
        ours = (context if log_probs is None else log_probs).numpy()
        alone = session.run(None, {"wave": wave[None], "lengths": np.array([len(wave)])})[0][0]
        shown = np.exp if int8 and log_probs is not None else np.asarray
        compared.add(name, shown(ours), shown(alone))
        compared.add(f"{name}, batched", shown(ours), shown(batched[:num]))
        if int8:  # another size of batch rounds otherwise, and a rounded step is a whole one
            compared.add(f"{name}, alone and batched", shown(alone), shown(batched[:num]))
        if log_probs is not None:
            ours_text.append(spelled(checkpoint, ours))
            their_text.append(spelled(checkpoint, alone))
    texts = (" ".join(ours_text), " ".join(their_text)) if ours_text else None
    return Proof(f"onnxruntime {runtime.__version__}", compared.gaps(), texts)
