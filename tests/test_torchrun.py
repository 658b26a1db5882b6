"""What torchrun says of a process: read in one way, and one sentence where it makes no sense."""

import pytest
import torch

from speechssl import distributed, torchrun

TOLD = {"WORLD_SIZE": "4", "RANK": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TOLD, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_one_process_is_the_first() -> None:
    assert torchrun.num_processes() == torchrun.num_on_this_machine() == 1
    assert torchrun.number_on_this_machine() is None
    assert torchrun.is_first()


def test_what_torchrun_sets_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (TOLD | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    assert torchrun.num_processes() == 4
    assert torchrun.num_on_this_machine() == 2
    assert torchrun.number_on_this_machine() == 1
    assert not torchrun.is_first()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"RANK": None}, "WORLD_SIZE is 4, and RANK is not set: start the processes with torchrun"),
        ({"RANK": None, "MASTER_ADDR": ""}, "RANK and MASTER_ADDR are not set"),
        ({"MASTER_PORT": None}, "MASTER_PORT is not set"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT must be a whole number from 0 on, got 'http'"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number from 1 on, got 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE must be a whole number from 1 on, got '0'"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE must be a whole number from 1 on, got ''"),
        ({"RANK": "-1"}, "RANK must be a whole number from 0 on, got '-1'"),
        ({"RANK": "4"}, "RANK is 4, and must be below WORLD_SIZE, which is 4"),
    ],
)
def test_an_environment_that_makes_no_sense_is_one_sentence(
    changed: dict[str, str | None], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (TOLD | changed).items():
        if value is not None:
            monkeypatch.setenv(name, value)
    with (
        pytest.raises(ValueError, match=sentence),
        distributed.process_group(torch.device("cpu")),
    ):
        pass


def test_a_number_on_the_machine_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(ValueError, match="LOCAL_RANK must be a whole number from 0 on"):
        torchrun.number_on_this_machine()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "0")
    with pytest.raises(ValueError, match="LOCAL_WORLD_SIZE must be a whole number from 1 on"):
        torchrun.num_on_this_machine()
