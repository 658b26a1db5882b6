"""The compiled recurrent layer against the library's."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from speechssl.model.config import ContextConfig
from speechssl.model.fast import gru
from speechssl.model.fast.accelerate import accelerate
from speechssl.model.fast.gru import compiled_loops
from speechssl.model.layers import GRULayer, gru_states

LENGTHS = torch.tensor([23, 1, 20, 7])


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return nn.GRU(12, 8, batch_first=True), nn.GRU(12, 8, batch_first=True)


def compiled_gru(x, lengths, *layers):
    return gru.compiled_gru(x, lengths, layers)


def plain_gru(x, lengths, *layers):
    return gru_states(x, lengths, layers)


def test_the_compiled_loops_are_there():
    assert compiled_loops() is not None, "numba comes with librosa"


def outcome(run, layers, x, grad):
    """The output and every gradient."""
    x = x.clone().requires_grad_()
    for layer in layers:
        layer.zero_grad()
    y = run(x, LENGTHS, *layers)
    (y * grad).sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for g in layers for p in g.parameters())]


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_is_plain(layers, threads, directions):
    layers = layers[:directions]
    x, grad = 3 * torch.randn(4, 23, 12), torch.randn(4, 23, 8 * directions)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours, plain = (outcome(run, layers, x, grad) for run in (compiled_gru, plain_gru))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_saturated_gates_stay_exact(layers):
    x = 300 * torch.randn(4, 23, 12)
    with torch.no_grad():
        torch.testing.assert_close(
            compiled_gru(x, LENGTHS, *layers), plain_gru(x, LENGTHS, *layers), rtol=0, atol=2e-6
        )


@pytest.mark.parametrize("run", [compiled_gru, plain_gru])
def test_padding_changes_no_state(layers, run):
    x = torch.randn(4, 23, 12)
    whole = run(x, LENGTHS, *layers)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = run(x[row : row + 1, :length], LENGTHS[row : row + 1], *layers)
        torch.testing.assert_close(whole[row, :length], alone[0], rtol=1e-5, atol=1e-6)
        assert not whole[row, length:].any()


@pytest.mark.parametrize("causal", [False, True])
def test_without_numba_the_plain_layer_takes_over(causal, monkeypatch):
    torch.manual_seed(0)
    config = ContextConfig(dim=12, num_heads=1, pos_groups=1, norm_order="pre", upper="gru")
    layer = GRULayer(replace(config, causal=causal)).eval()
    x, valid = torch.randn(4, 23, 12), torch.arange(23) < LENGTHS[:, None]
    expected = layer(x, valid)
    torch.testing.assert_close(accelerate(layer)(x, valid), expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(gru, "compiled_loops", lambda: None)
    assert torch.equal(layer(x, valid), expected)


def test_gradient_against_finite_differences(layers):
    """In float64 through the plain layer, in float32 through ours: the plain one is the oracle."""
    x, grad = torch.randn(4, 23, 12), torch.randn(4, 23, 16)
    ours = outcome(compiled_gru, layers, x, grad)[1]
    step = 1e-2
    with torch.no_grad():
        for b, t, d in ((0, 5, 3), (2, 19, 11), (3, 0, 0)):
            moved = torch.zeros_like(x)
            moved[b, t, d] = step
            up, down = (plain_gru(x + s * moved, LENGTHS, *layers) for s in (1, -1))
            slope = float(((up - down) * grad).sum()) / (2 * step)
            assert abs(slope - float(ours[b, t, d])) < 1e-3


def test_under_autocast_the_states_are_float32(layers):
    x = torch.randn(4, 23, 12)
    exact = compiled_gru(x, LENGTHS, *layers)
    with torch.autocast("cpu", torch.bfloat16):
        y = compiled_gru(x, LENGTHS, *layers)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, exact, rtol=0, atol=0.03)


class Called(TorchDispatchMode):
    """The operations that were called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("gradients", [False, True])
def test_one_product_makes_the_gates_of_all_frames(layers, gradients):
    """A product for each frame would copy the weight as often."""
    x = torch.randn(4, 23, 12)
    with torch.set_grad_enabled(gradients), Called() as called:
        compiled_gru(x, LENGTHS, *layers)
    assert torch.ops.aten.addmm in called.names
    assert torch.ops.aten.bmm not in called.names


TWO_THREADS = """
import torch
from torch import nn
from threadpoolctl import ThreadpoolController
from speechssl.model.fast import gru, loops

torch.set_num_threads(2)
torch.manual_seed(0)
layers = nn.GRU(64, 288, batch_first=True), nn.GRU(64, 288, batch_first=True)
x = torch.randn(32, 9, 64, requires_grad=True)
out = gru.compiled_gru(x, torch.full((32,), 9), layers)
out.square().sum().backward()

def threads():
    found = ThreadpoolController().select(user_api="blas").info()
    return {one["filepath"]: one["num_threads"] for one in found}

before = threads()
with loops.products_of_one_thread():
    assert set(threads().values()) == {1}
    with loops.products_of_one_thread():
        pass
    assert set(threads().values()) == {1}  # the outer block goes on
assert threads() == before and max(before.values()) > 1, before
"""


def test_products_inside_of_its_threads_start_no_others():
    """OpenBLAS warned for each product, a thousand times in an evaluation."""
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    env["OPENBLAS_NUM_THREADS"] = "2"
    done = subprocess.run(
        [sys.executable, "-c", TWO_THREADS], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "OpenBLAS" not in done.stdout + done.stderr
