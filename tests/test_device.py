"""How much memory there is, within what a container allows."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from speechssl import device
from speechssl.device import autocast, double, has_bf16_units, machine_name, memory, pick_device


def test_the_machine_has_memory():
    found = memory(torch.device("cpu"))
    assert 0 < found.free <= found.total
    assert found.total > 2**28


@pytest.mark.parametrize(
    ("version", "stat"), [(2, "anon 7\ninactive_file 200"), (1, "total_inactive_file 200\ncache 1")]
)
def test_a_container_limits_it(version, stat, tmp_path: Path, monkeypatch):
    limit, used, _ = device._CGROUP_FILES[version]
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / used).write_text("700\n")
    (tmp_path / "memory.stat").write_text(f"{stat}\n")
    groups = [(tmp_path / "none", device._CGROUP_FILES[version])]
    groups.append((tmp_path, device._CGROUP_FILES[version]))
    monkeypatch.setattr(device, "_cgroups", lambda: iter(groups))
    assert memory(torch.device("cpu")) == device.Memory(free=500, total=1000)
    (tmp_path / limit).write_text("max\n")
    assert memory(torch.device("cpu")).total > 1000


def test_each_process_of_a_machine_takes_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert pick_device("auto") == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:3")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("tiles", [True, False])
def test_tiles_for_bfloat16_are_units_for_it(tiles, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert has_bf16_units(torch.device("cpu")) == tiles


def test_autocast_takes_what_was_chosen_and_nothing_else():
    cpu = torch.device("cpu")
    with autocast(cpu, "bf16"):
        assert torch.is_autocast_enabled("cpu")
    with autocast(cpu, "fp32"):
        assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(ValueError, match="precision is 'auto' and has not been chosen"):
        autocast(cpu, "auto")
    with pytest.raises(ValueError, match="precision must be one of auto, bf16, fp32, got 'int8'"):
        autocast(cpu, "int8")


def test_a_cpu_has_a_name():
    assert machine_name(torch.device("cpu"))


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((9, 0), True)])
def test_bfloat16_is_not_taken_from_a_gpu_that_emulates_it(capability, fast, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    properties = SimpleNamespace(major=capability[0], minor=capability[1])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True, raising=False)
    assert has_bf16_units(torch.device("cuda:0")) == fast


@pytest.mark.parametrize("name", ["gpu", "mps:1", "cuda:", "cpu:1", ""])
def test_a_device_that_is_none_is_a_sentence(name):
    with pytest.raises(ValueError, match=r"device must be one of auto, cpu, cuda, cuda:NUMBER"):
        pick_device(name)


def test_a_gpu_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device is 'cuda:2'.*no GPU here: give --device cpu"):
        pick_device("cuda:2")


def test_a_gpu_of_apple_is_taken_where_it_is_asked_for_and_there(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"'mps'.*no GPU of Apple here.*give --device cpu"):
        pick_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps") == torch.device("mps")
    assert pick_device("auto").type != "mps"  # not measured


def test_apple_gpus_have_no_float64():
    on_cpu = torch.ones(2)
    assert double(on_cpu).dtype == torch.float64

    class OnMps(torch.Tensor):
        device = torch.device("mps")

    assert double(on_cpu.as_subclass(OnMps)).dtype == torch.float32
    assert double(torch.ones(2, dtype=torch.bfloat16).as_subclass(OnMps)).dtype == torch.float32
    assert double(torch.tensor([True]).as_subclass(OnMps)).dtype == torch.float32
