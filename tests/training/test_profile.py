"""A profile adds up, and changes nothing."""

import json
from dataclasses import replace

import torch

from speechssl.training.pretrain import pretrain
from speechssl.training.resume import newest_state


def test_a_profiled_run_is_the_same_run(tones, pretrain_config, tmp_path, capsys):
    config = replace(
        pretrain_config, loop=replace(pretrain_config.loop, max_steps=3, num_validations=1)
    )
    for name, profile in (("plain", False), ("profiled", True)):
        pretrain(config, tones[0], tmp_path / name, valid_set=tones[1], profile=profile)
    plain, profiled = (newest_state(tmp_path / name).tensors() for name in ("plain", "profiled"))
    assert plain.keys() == profiled.keys()
    assert all(torch.equal(plain[key], profiled[key]) for key in plain)
    assert not (tmp_path / "plain" / "profile").exists()

    table = (tmp_path / "profiled" / "profile" / "table.txt").read_text()
    assert table in capsys.readouterr().err
    head, *rows = table.splitlines()
    assert head.startswith("A step takes ")
    assert len(rows) <= 10
    shares = [float(row.split()[-1].rstrip("%")) for row in rows]
    assert abs(sum(shares) - 100) < 1
    assert shares == sorted(shares, reverse=True)
    for part in ("encoder, forward", "backward", "optimizer", "waiting for data"):
        assert part in table
    trace = json.loads((tmp_path / "profiled" / "profile" / "trace.json").read_text())
    assert {"optimizer", "encoder, forward"} <= {e.get("name") for e in trace["traceEvents"]}
