"""The functions that compiled loops are made of, against numpy's."""

import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from speechssl.model.fast import loop_maths, loops
from speechssl.model.fast.loop_maths import (
    compiled,
    erf,
    exp2,
    from_ordered,
    mix,
    ordered,
    read,
    tanh,
    write,
)


def test_exp2_erf_and_tanh_are_close_to_numpys():
    numbers = np.linspace(-125, 120, 20001, dtype=np.float32)
    got = np.array([exp2(x) for x in numbers], dtype=np.float64)
    np.testing.assert_allclose(got, np.exp2(numbers.astype(np.float64)), rtol=4e-7)
    assert exp2(np.float32(-200)) == exp2(np.float32(-np.inf)) == 0
    assert np.isnan(exp2(np.float32(np.nan)))
    numbers = np.linspace(-12, 12, 4001, dtype=np.float32)
    got = np.array([tanh(x) for x in numbers], dtype=np.float64)
    np.testing.assert_allclose(got, np.tanh(numbers.astype(np.float64)), atol=4e-7)
    got = np.array([erf(x) for x in numbers], dtype=np.float64)
    exact = torch.erf(torch.from_numpy(numbers).double()).numpy()
    np.testing.assert_allclose(got, exact, atol=4e-7)


def test_ordered_numbers_are_in_the_order_of_the_floats():
    numbers = np.array([-np.inf, -3e38, -2, -1e-40, -0.0, 0.0, 1e-40, 1, 3e38, np.inf], np.float32)
    found = [int(ordered(x)) for x in numbers]
    assert found == sorted(found)
    assert [from_ordered(np.int32(i)) for i in found] == numbers.tolist()


def test_every_bit_of_a_mixed_number_hangs_on_every_bit():
    drawn = np.random.default_rng(0).integers(0, 2**32, 4000, dtype=np.uint32)
    for bit in range(32):
        other = drawn ^ np.uint32(1 << bit)
        flipped = np.array([mix(a) ^ mix(b) for a, b in zip(drawn, other, strict=True)])
        shares = [((flipped >> k) & 1).mean() for k in range(32)]
        assert min(shares) > 0.45
        assert max(shares) < 0.55


@compiled
def _through(values, row, out):
    read(values, row)
    write(row, out)


def test_bfloat16_is_read_and_rounded_as_torch_does():
    numbers = torch.randn(4096) * torch.logspace(-38, 37, 4096)
    numbers[:4] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf])
    out = torch.empty(4096, dtype=torch.bfloat16)
    row = np.empty(4096, np.float32)
    _through(numbers.numpy(), row, loops.array(out))
    assert torch.equal(out, numbers.bfloat16())
    back = torch.empty(4096)
    _through(loops.array(out), row, back.numpy())
    assert torch.equal(back, out.float())


def test_the_python_forms_of_read_and_write_say_where_they_belong():
    for function in (loop_maths.read, loop_maths.write):
        with pytest.raises(NotImplementedError):
            function(np.zeros(1), np.zeros(1))


@pytest.fixture(params=["torch's threads", "threads of our own"])
def threads(request, monkeypatch):
    """Sets how many there are; with each of the two ways to have them."""
    if request.param == "threads of our own":
        monkeypatch.setattr(loops, "_openmp", lambda: None)
    elif loops._openmp() is None:
        pytest.skip("torch is not built with GNU's OpenMP here")
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("least", [0, 1, 3])
def test_all_rows_are_done_whatever_the_threads(threads, least):
    for count in (1, 2, 3):
        threads(count)
        for num in (0, 1, 2, 7):
            parts: list[tuple[int, int]] = []
            loops.over_rows(lambda *part: part[2].append(part[:2]), num, parts, least=least)
            assert sorted(row for part in parts for row in range(*part)) == list(range(num))
            assert len(parts) <= min(count, max(num // max(least, 1), 1))


def test_calls_run_at_the_same_time(threads):
    threads(2)
    met = threading.Barrier(2)
    loops.side_by_side([lambda: met.wait(timeout=20)] * 2)
    done = []
    loops.side_by_side([functools.partial(done.append, i) for i in range(7)])
    assert sorted(done) == list(range(7))


def test_an_error_in_another_thread_is_raised(threads):
    def fail():
        raise ValueError("there")

    threads(2)
    with pytest.raises(ValueError, match="there"):
        loops.side_by_side([lambda: None, fail])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_a_forked_process_has_threads_too():
    code = """
import os, torch
from speechssl.model.fast import loops
torch.set_num_threads(2)
done = []
def call(): done.append(1)
loops.side_by_side([call, call])
child = os.fork()
loops.side_by_side([call, call])
if child == 0:
    os._exit(len(done))
print(len(done), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert ran.stdout.split() == ["4", "4"]


def test_loops_that_do_not_load_are_none():
    assert loops.load("no_such_loops") is None
