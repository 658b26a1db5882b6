"""The matrix products of an ONNX model in 8 bits, each frame by itself.

onnxruntime's own dynamic quantisation has one scale for a whole batch of activations, so that a
loud recording makes the steps of the quiet one beside it coarser, and its text another one. Here
each row of the activations (a frame) has its own scale, its largest magnitude over 127, and each
column of the weights too: LLM.int8 (arXiv:2208.07339, section 2.1, vector-wise quantisation)
without its outliers. A row's result depends on that row alone.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

_UINT8, _FLOAT = 2, 1  # onnx.TensorProto
_ZERO = 128
"""Of the activations, which are unsigned: onnxruntime is fastest with those."""
_SMALLEST_STORED = 2**14
"""Elements of a weight; below, 8 bits save nothing."""


def require(*names: str) -> tuple[ModuleType, ...]:
    """The packages; ImportError with the extra's name where one is missing."""
    try:
        return tuple(importlib.import_module(name) for name in names)
    except ImportError as error:
        raise ImportError(f"ONNX needs {error.name}: pip install 'speechssl[onnx]'.") from error


def quantize(place: Path) -> None:
    """Rewrite the float32 model in `place`: products with weights in 8 bits, other large weights
    stored in 8 bits; what belongs to the encoder stays as it is."""
    (onnx,) = require("onnx")
    model = onnx.load(place)
    graph = model.graph
    _replace_products(onnx, graph)
    _store_in_8_bits(onnx, graph)
    onnx.save(model, place)


def _is_kept(name: str) -> bool:
    return "encoder" in name


def _replace_products(onnx: ModuleType, graph: Any) -> None:
    """Each MatMul (..., N) x (N, M) with a constant right side as a product of integers."""
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    constants = {
        "int8_axes": np.array([-1], np.int64),
        "int8_least": np.float32(1e-12),
        "int8_steps": np.float32(1 / 127),
        "int8_float_zero": np.float32(_ZERO),
        "int8_zero": np.uint8(_ZERO),
    }
    nodes, coded = [], set()
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or weight.ndim != 2 or _is_kept(node.input[1]):
            nodes.append(node)
            continue
        x, name = node.input[0], node.input[1]
        if x not in coded:  # queries, keys and values share theirs
            coded.add(x)
            nodes += _code_rows(onnx, x)
        if f"{name}_int8" not in constants:
            scale = _scale(weight, 0)  # (1, M)
            constants[f"{name}_int8"] = np.round(weight / scale).astype(np.int8)
            constants[f"{name}_scale"] = scale[0]
        nodes += _product(onnx, x, name, node.output[0])
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in constants.items())
    _drop_unused(graph)


def _code_rows(onnx: ModuleType, x: str) -> Iterator[Any]:
    """``X_rows`` uint8, the shape of `x`, and ``X_scale`` (..., 1) float32."""
    node = onnx.helper.make_node
    yield node("Abs", [x], [f"{x}_abs"])
    yield node("ReduceMax", [f"{x}_abs", "int8_axes"], [f"{x}_most"], keepdims=1)
    yield node("Max", [f"{x}_most", "int8_least"], [f"{x}_range"])
    yield node("Mul", [f"{x}_range", "int8_steps"], [f"{x}_scale"])
    yield node("Div", [x, f"{x}_scale"], [f"{x}_steps"])
    yield node("Round", [f"{x}_steps"], [f"{x}_rounded"])
    yield node("Add", [f"{x}_rounded", "int8_float_zero"], [f"{x}_shifted"])
    yield node("Cast", [f"{x}_shifted"], [f"{x}_rows"], to=_UINT8)


def _product(onnx: ModuleType, x: str, weight: str, out: str) -> Iterator[Any]:
    """``OUT = X_rows * WEIGHT_int8``, times both scales."""
    node = onnx.helper.make_node
    yield node("MatMulInteger", [f"{x}_rows", f"{weight}_int8", "int8_zero"], [f"{out}_int32"])
    yield node("Cast", [f"{out}_int32"], [f"{out}_float"], to=_FLOAT)
    yield node("Mul", [f"{out}_float", f"{x}_scale"], [f"{out}_scaled"])
    yield node("Mul", [f"{out}_scaled", f"{weight}_scale"], [out])


def _drop_unused(graph: Any) -> None:
    """Remove the weights that no node reads any more."""
    read = {name for node in graph.node for name in node.input}
    kept = [i for i in graph.initializer if i.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _scale(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    largest = np.abs(values).max(axis=axis, keepdims=True)
    return np.maximum(largest / 127, 1e-12).astype(np.float32)


def _store_in_8_bits(onnx: ModuleType, graph: Any) -> None:
    """Each remaining large float weight as int8, with a scale for each of its rows."""
    for initializer in list(graph.initializer):
        values = onnx.numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < _SMALLEST_STORED:
            continue
        name = initializer.name
        if _is_kept(name):
            continue
        scale = _scale(values, tuple(range(1, values.ndim)))
        graph.initializer.remove(initializer)
        for suffix, array in (
            ("int8", np.round(values / scale).astype(np.int8)),
            ("scale", scale.ravel()),
        ):
            graph.initializer.append(onnx.numpy_helper.from_array(array, f"{name}_{suffix}"))
        stored = [f"{name}_int8", f"{name}_scale"]
        graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", stored, [name], axis=0))
