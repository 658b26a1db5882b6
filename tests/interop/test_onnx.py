"""ONNX: onnxruntime gives our outputs, at any batch and length, also from 8 bits."""

import json

import numpy as np
import pytest
import torch

from speechssl import shapes
from speechssl.checkpoint import Checkpoint, load_model
from speechssl.interop.export import export_model
from speechssl.interop.onnx import OPSET
from speechssl.interop.onnx_int8 import quantize
from speechssl.model.config import ContextConfig, FilterbankEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.text import CharTokenizer, train_tokenizer
from tests.interop.test_families import WAVLM, config
from tests.interop.test_folders import own, room_for

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")
pytestmark = [pytest.mark.extras, pytest.mark.slow]


def recurrent(dim=24) -> ModelConfig:
    return ModelConfig(
        encoder=FilterbankEncoderConfig(num_filters=8, stack=2),
        context=ContextConfig(
            dim=dim,
            num_layers=3,
            num_heads=2,
            ffn_dim=32,
            norm_order="pre",
            pos_kernel=5,
            pos_groups=2,
            pos_norm=True,
            local_layers=1,
            local_kernel=3,
            upper="gru",
        ),
    )


CONFIGS = {
    "filterbank-gru": recurrent(),
    "group-post": config("group", "post"),
    "layer-pre": config("layer", "pre"),
    "wavlm": config("layer", "pre", **WAVLM),
    "data2vec": config("layer", "post", pos_stack=2, pos_kernel=5),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_any_batch_and_length_gives_our_rows(tmp_path, name):
    mine = own(CONFIGS[name], "abc déf" if name != "group-post" else None)
    proof = export_model(mine, tmp_path / "onnx", "onnx")
    assert all(gap.largest <= gap.bound for gap in proof.gaps)
    session = runtime.InferenceSession(tmp_path / "onnx/model.onnx")
    assert not any(isinstance(n, int) for i in session.get_inputs() for n in i.shape)
    (opset,) = (o for o in onnx.load(tmp_path / "onnx/model.onnx").opset_import if not o.domain)
    assert opset.version == OPSET
    generator = np.random.default_rng(1)
    for sizes in ((5000,), (1700, 9001, 4000), (800, 700)):
        waves = [0.1 * generator.standard_normal(n).astype(np.float32) for n in sizes]
        wave, lengths = shapes.pad_waves(waves)
        rows, num = session.run(None, {"wave": wave.numpy(), "lengths": lengths.numpy()})
        with torch.no_grad():
            out = mine.model(wave, lengths)
        ours, ours_num = out if isinstance(out, tuple) else (out.context, out.lengths)
        assert num.tolist() == ours_num.tolist()
        for row, expected, valid in zip(rows, ours, num, strict=True):
            np.testing.assert_allclose(row[:valid], expected[:valid].numpy(), atol=1e-4)


def test_eight_bits_are_a_third_and_nearly_the_same(tmp_path):
    ours = recurrent(dim=192)
    tokenizer = CharTokenizer.train(["abc déf"])
    torch.manual_seed(3)
    model = CTCModel(SpeechModel(ours), CTCHead(192, tokenizer.vocab_size)).eval()
    mine = Checkpoint(model, tokenizer)
    export_model(mine, tmp_path / "whole", "onnx", verify=False)
    proof = export_model(mine, tmp_path / "small", "onnx", int8=True)
    whole, small = ((tmp_path / n / "model.onnx").stat().st_size for n in ("whole", "small"))
    assert small < 0.35 * whole
    assert 0 < max(gap.largest for gap in proof.gaps) < 0.05


def test_in_8_bits_a_recording_does_not_depend_on_the_others_of_its_batch(tmp_path):
    """With one scale for a whole batch a loud one makes the steps of the others coarser."""
    mine = own(recurrent(dim=32))
    proof = export_model(mine, tmp_path / "onnx", "onnx", int8=True)
    assert "log_probs, alone and batched" in [gap.name for gap in proof.gaps]
    session = runtime.InferenceSession(tmp_path / "onnx/model.onnx")
    generator = np.random.default_rng(1)
    wave, other = (0.1 * generator.standard_normal((2, 6000))).astype(np.float32)
    rows = [
        session.run(None, {"wave": np.stack([wave, mate]), "lengths": np.array([6000, 6000])})[0][0]
        for mate in (other, 9 * other, 0 * other, wave)
    ]
    assert all(np.array_equal(rows[0], row) for row in rows)
    alone = session.run(None, {"wave": wave[None], "lengths": np.array([6000])})[0][0]
    assert np.abs(np.exp(alone) - np.exp(rows[0])).max() < 0.01


@pytest.mark.parametrize("int8", [False, True])
def test_the_file_tells_nothing_of_the_machine(tmp_path, int8):
    export_model(own(recurrent()), tmp_path / "onnx", "onnx", verify=False, int8=int8)
    data = (tmp_path / "onnx/model.onnx").read_bytes()
    assert b".py" not in data
    assert b"stack_trace" not in data


def test_integers_in_place_of_products_give_nearly_the_same(tmp_path):
    """Against numpy, without a model around it: weights of any size, rows of zeros, a weight that
    two products share, and one that the encoder keeps."""
    generator = np.random.default_rng(2)
    weights = {
        "a": generator.standard_normal((6, 5)).astype(np.float32),
        "b": (1e-9 * generator.standard_normal((5, 4))).astype(np.float32),
        "encoder.c": generator.standard_normal((6, 3)).astype(np.float32),
    }
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            make("MatMul", ["x", "a"], ["xa"]),
            make("MatMul", ["xa", "b"], ["xab"]),
            make("MatMul", ["x", "encoder.c"], ["xc"]),
            make("MatMul", ["x2", "a"], ["xa2"]),
        ],
        "products",
        [info(name, 1, ["B", "T", 6]) for name in ("x", "x2")],
        [info(name, 1, None) for name in ("xa", "xab", "xc", "xa2")],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "m")
    quantize(tmp_path / "m")
    x, x2 = generator.standard_normal((2, 2, 3, 6)).astype(np.float32)
    x[0, 1] = 0
    session = runtime.InferenceSession(tmp_path / "m", providers=["CPUExecutionProvider"])
    xa, xab, xc, xa2 = session.run(None, {"x": x, "x2": x2})
    for found, expected in ((xa, x @ weights["a"]), (xa2, x2 @ weights["a"])):
        assert 0 < np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert np.abs(xab - xa @ weights["b"]).max() < 0.02 * np.abs(xab).max()
    assert not xa[0, 1].any()
    np.testing.assert_allclose(xc, x @ weights["encoder.c"], rtol=1e-5, atol=1e-6)
    names = {i.name for i in onnx.load(tmp_path / "m").graph.initializer}
    assert "encoder.c" in names
    assert not {"a", "b"} & names


def test_symbols_spell_the_transcript(tmp_path):
    ours = recurrent()
    tokenizer = train_tokenizer("spm:30", ["the cat sat on the mat " * 8], allow_smaller=True)
    model = CTCModel(SpeechModel(ours), CTCHead(24, tokenizer.vocab_size)).eval()
    export_model(Checkpoint(model, tokenizer), tmp_path / "onnx", "onnx", verify=False)
    known = json.loads((tmp_path / "onnx/symbols.json").read_text())
    ids = tokenizer.encode("the cat")
    assert "".join(known["symbols"][i] for i in ids).strip() == "the cat"
    assert known["sample_rate"] == 16000


@pytest.mark.parametrize("int8", [False, True])
def test_a_full_disk_leaves_nothing(tmp_path, int8):
    with room_for(20_000), pytest.raises(OSError, match="too large"):
        export_model(own(recurrent()), tmp_path / "onnx", "onnx", int8=int8)
    assert not list(tmp_path.iterdir())


def test_int8_is_for_onnx_only(tiny_models, tmp_path):
    with pytest.raises(ValueError, match="--int8 is for --format onnx"):
        export_model(load_model(tiny_models["ctc"]), tmp_path / "x", "hf", int8=True)


def test_a_missing_package_names_the_extra(tiny_models, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"speechssl\[onnx\]"):
        export_model(load_model(tiny_models["ctc"]), tmp_path / "x", "onnx")
    assert not list(tmp_path.iterdir())
