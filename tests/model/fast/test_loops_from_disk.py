"""Loops give the same bits in the process that compiles them and in those that read them."""

import os
import subprocess
import sys

import pytest

CODE = """
import hashlib
import torch
from speechssl.model.fast.attention import attend
torch.set_num_threads(1)
torch.manual_seed(0)
leaves = [torch.randn(2, 4, 150, 16, requires_grad=True) for _ in range(3)]
mask = (torch.arange(150) < torch.tensor([[150], [100]]))[:, None, None, :]
out = attend(*leaves, mask, 0.1)
grads = torch.autograd.grad(out, leaves, torch.randn(out.shape))
for values in (out, *grads):
    print(hashlib.sha256(values.detach().contiguous().numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_a_fresh_installation_computes_what_a_used_one_does(tmp_path):
    """Else a run that is continued, whose loops are read, goes on to other numbers."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    printed = [
        subprocess.run(
            [sys.executable, "-c", CODE],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        ).stdout.split()
        for _ in ("compiles", "reads")
    ]
    assert any(tmp_path.rglob("*.nbc"))
    assert len(printed[0]) == 4
    assert printed[0] == printed[1]
