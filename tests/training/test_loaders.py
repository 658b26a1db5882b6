"""How many loader processes a training has where the config leaves it open."""

from dataclasses import replace

import pytest
import torch

from speechssl.training import loaders
from speechssl.training.loop_config import LoopConfig

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "processors", "sharers", "loader_processes"),
    [
        (CPU, 2, 1, 0),  # its threads take every processor
        (CPU, 4, 1, 1),
        (CPU, 4, 2, 0),
        (GPU, 2, 1, 1),
    ],
)
def test_a_loader_takes_no_processor_from_the_training(
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
    processors: int,
    sharers: int,
    loader_processes: int,
) -> None:
    monkeypatch.setattr(loaders, "num_cpus", lambda: processors)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert loaders.num_loaders(LoopConfig(), device, sharers) == loader_processes


@pytest.mark.parametrize(("asked", "sharers", "each"), [(0, 1, 0), (3, 1, 3), (3, 2, 1), (1, 2, 0)])
def test_what_is_asked_for_is_shared_out(asked: int, sharers: int, each: int) -> None:
    assert loaders.num_loaders(replace(LoopConfig(), num_workers=asked), CPU, sharers) == each
