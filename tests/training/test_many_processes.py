"""Two processes are one process that accumulates two micro-batches."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from speechssl.runlog import read_metrics
from speechssl.training.pretrain import pretrain

_WORKER = """
import pickle, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from speechssl.training.pretrain import pretrain
config, train, valid, run = pickle.load(open(sys.argv[1], "rb"))
pretrain(config, train, Path(run), valid_set=valid)
"""


@pytest.mark.distributed
def test_two_processes_are_one_with_accumulation(tones, pretrain_config, tmp_path):
    loop = replace(pretrain_config.loop, max_steps=6, checkpoint_every=6)
    one = replace(pretrain_config, loop=replace(loop, accumulate=2))
    pretrain(one, tones[0], tmp_path / "one", valid_set=tones[1])

    two = tmp_path / "two"
    job = tmp_path / "job.pkl"
    job.write_bytes(pickle.dumps((replace(pretrain_config, loop=loop), *tones, two)))
    script = tmp_path / "worker.py"
    script.write_text(_WORKER)
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29631"}
    processes = [
        subprocess.Popen([sys.executable, script, job], env={**common, "RANK": str(r)})
        for r in (0, 1)
    ]
    for process in processes:
        process.wait(timeout=120)  # an abort at interpreter exit, after the work, is gloo's own

    def weights(run):
        return load_file(run / "checkpoints" / "step-00000006" / "model.safetensors")

    a, b = weights(tmp_path / "one"), weights(two)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-5), name
    losses = [
        [m["loss/total"] for m in read_metrics(run) if "loss/total" in m]
        for run in (tmp_path / "one", two)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(losses[0]) == 6
