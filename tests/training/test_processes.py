"""Processes that a command starts itself: they share each update of one process."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from speechssl.checkpoint import Checkpoint
from speechssl.config.json import to_json
from speechssl.data.manifest import write_manifest
from speechssl.model.context import ContextNetwork
from speechssl.model.speech_model import SpeechModel
from speechssl.runlog import read_metrics
from speechssl.training import pretrain as pretraining
from speechssl.training.finetune import finetune
from speechssl.training.loop import PreemptedRunError
from speechssl.training.pack import pack
from speechssl.training.pretrain import PretrainWork, pretrain
from speechssl.training.resume import newest_state
from speechssl.training.team import LostProcessError
from tests.training.conftest import MICRO
from tests.training.faulty import FaultyWork

pytestmark = pytest.mark.distributed


def looped(config, **changes):
    return replace(config, loop=replace(config.loop, **changes))


@pytest.fixture
def short(pretrain_config):
    """Four updates; smooth: an update is no step function of the gradient."""
    config = replace(pretrain_config, optim=replace(pretrain_config.optim, eps=1e-4))
    return looped(config, max_steps=4, checkpoint_every=2, num_validations=1)


def losses(run: Path, name: str = "loss/total") -> list[float]:
    return [m[name] for m in read_metrics(run) if name in m]


def assert_same(run: Path, other: Path, name: str = "loss/total") -> None:
    assert losses(run, name) == pytest.approx(losses(other, name), rel=1e-5)
    ours, theirs = newest_state(run).tensors(), newest_state(other).tensors()
    assert ours.keys() == theirs.keys()
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], atol=1e-5, rtol=0, msg=key)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_two_processes_share_the_updates_of_one(accumulate, tones, short, tmp_path):
    """A micro-batch is cut in two, two are shared out, and three are cut each."""
    config = looped(short, accumulate=accumulate)
    pretrain(config, tones[0], tmp_path / "one", valid_set=tones[1])
    pretrain(config, tones[0], tmp_path / "two", valid_set=tones[1], processes=2)
    assert len(losses(tmp_path / "two")) == 4
    assert_same(tmp_path / "one", tmp_path / "two")


def test_two_processes_share_a_finetuning(tones, finetune_config, tmp_path):
    """With dropout, masks and a frozen begin; the validation is shared too."""
    config = replace(
        finetune_config,
        optim=replace(finetune_config.optim, eps=1e-4),
        dropout=0.2,
        mask_share=0.2,
        channel_share=0.2,
        head_only_steps=1,
        batch_s=5.0,
    )
    config = looped(config, max_steps=4, num_validations=2, checkpoint_every=4)
    init = Checkpoint(SpeechModel(config.model))
    for name, processes in (("one", 1), ("two", 2)):
        finetune(config, *tones, tmp_path / name, init=init, processes=processes)
    assert_same(tmp_path / "one", tmp_path / "two", "loss/ctc")
    one, two = ([m for m in read_metrics(tmp_path / n) if "valid/cer" in m] for n in ("one", "two"))
    assert [m["valid/cer"] for m in one] == [m["valid/cer"] for m in two]
    assert [m["valid/loss"] for m in one] == pytest.approx([m["valid/loss"] for m in two])


@pytest.mark.parametrize("numbers", [(2, 1), (1, 2)])
def test_a_run_goes_on_in_another_number_of_processes(numbers, tones, short, tmp_path, monkeypatch):
    """Its units are those of the centroids with which it began."""
    pretrain(short, tones[0], tmp_path / "whole", valid_set=tones[1])
    real = PretrainWork.backward

    def stopped(self, step, max_steps, batches):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", stopped)
    run = tmp_path / "run"
    with pytest.raises(PreemptedRunError, match="Stopped at step 2 of 4"):
        pretrain(short, tones[0], run, valid_set=tones[1], processes=numbers[0])
    assert newest_state(run).progress.processes == numbers[0]
    monkeypatch.setattr(PretrainWork, "backward", real)
    pretrain(short, tones[0], run, valid_set=tones[1], processes=numbers[1])
    assert newest_state(run).progress.processes == numbers[1]
    assert_same(tmp_path / "whole", run)


def test_the_failure_of_a_process_ends_the_run_and_is_named(tones, short, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "PretrainWork", FaultyWork)
    with pytest.raises(
        LostProcessError, match=r"Process 2 of 2 has failed: .*No space left on device.* goes on"
    ):
        pretrain(short, tones[0], tmp_path / "run", valid_set=tones[1], processes=2)


def test_a_model_with_weight_norm_is_packed():
    context = ContextNetwork(MICRO.context)
    other = pickle.loads(pack([context, context.state_dict()]))[0]
    x, lengths = torch.randn(2, 9, 32), torch.tensor([9, 5])
    assert torch.equal(context(x, lengths).context, other(x, lengths).context)
    other.position.conv.weight = 2 * other.position.conv.weight  # it is a parametrization still
    assert other.state_dict().keys() == context.state_dict().keys()
    assert not torch.equal(context(x, lengths).context, other(x, lengths).context)


# --- the command ----------------------------------------------------------------------------------

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc says who is there")


class Command:
    """``speechssl pretrain --processes N`` as a person starts it."""

    started: ClassVar[list[subprocess.Popen]] = []

    def __init__(self, folder: Path, processes: int) -> None:
        self.run = folder / "run"
        self.before = len(losses(self.run))
        command = f"""{sys.executable} -m speechssl.cli pretrain --recipe {folder}/config.json
            --train {folder}/train.jsonl --valid {folder}/valid.jsonl --out {self.run}
            --processes {processes}"""
        self.job = subprocess.Popen(
            command.split(), start_new_session=True, stderr=subprocess.PIPE, text=True
        )
        self.started.append(self.job)

    def wait_for_an_update(self) -> None:
        """One more than the commands before have made; what no state holds is made again."""
        deadline = time.monotonic() + 300
        while len(losses(self.run)) <= self.before:
            assert self.job.poll() is None, self.job.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def others(self) -> list[int]:
        """The further processes."""
        children = Path(f"/proc/{self.job.pid}/task/{self.job.pid}/children").read_text().split()
        return [int(child) for child in children if b"training.worker" in commandline(child)]

    def end(self) -> tuple[int, str]:
        _, said = self.job.communicate(timeout=120)
        return self.job.returncode, said


def commandline(pid: int | str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def assert_gone(pids: list[int]) -> None:
    """However busy the machine is."""
    deadline = time.monotonic() + 30
    while any(b"training.worker" in commandline(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def folder(tones, short, tmp_path) -> Iterator[Path]:
    """The settings and data of a run of twenty updates, each of which is saved."""
    config = looped(short, max_steps=20, checkpoint_every=1)
    (tmp_path / "config.json").write_text(json.dumps(to_json(config)))
    for name, part in zip(("train", "valid"), tones, strict=True):
        write_manifest(tmp_path / f"{name}.jsonl", part)
    yield tmp_path
    for job in Command.started:  # where a test has failed
        job.kill()
        job.wait()
        job.stderr.close()
    Command.started.clear()


@on_linux
@pytest.mark.slow
def test_a_command_through_all_its_troubles(folder, tones, short):
    """A process is killed, the person presses Ctrl-C, the first process is killed, and one process
    alone ends the run: to the weights of one that was never disturbed."""
    command = Command(folder, 2)
    command.wait_for_an_update()
    (other,) = command.others()
    os.kill(other, signal.SIGKILL)
    code, said = command.end()
    assert code == 1
    assert (
        said.strip().splitlines()[-1].startswith("speechssl: Process 2 of 2 was ended by SIGKILL")
    )
    assert "Traceback" not in said

    command = Command(folder, 2)
    command.wait_for_an_update()
    others = command.others()
    for pid in (command.job.pid, *others):  # a terminal tells all of them
        os.kill(pid, signal.SIGINT)
    code, said = command.end()
    assert code == 130
    assert said.count("the state is saved") == 1
    assert_gone(others)

    command = Command(folder, 2)
    command.wait_for_an_update()
    others = command.others()
    assert len(others) == 1
    command.job.kill()
    command.end()
    assert_gone(others)

    config = looped(short, max_steps=20, checkpoint_every=1)
    pretrain(config, tones[0], command.run, valid_set=tones[1])
    pretrain(config, tones[0], folder / "whole", valid_set=tones[1])
    assert [m["step"] for m in read_metrics(command.run) if "loss/total" in m] == [*range(1, 21)]
    assert losses(command.run) == pytest.approx(losses(folder / "whole"), rel=1e-4)
    assert len(list((command.run / "cache").glob("*.i16"))) == 2  # made once, for all
