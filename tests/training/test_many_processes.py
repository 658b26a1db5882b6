"""Several processes are one process that accumulates, whatever each of them holds of the model."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks import kill_resume
from speechssl.checkpoint import Checkpoint, load_model
from speechssl.data.manifest import write_manifest
from speechssl.model.config import ConvEncoderConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.objectives.contrastive import ContrastiveConfig
from speechssl.runlog import read_metrics
from speechssl.training.finetune import finetune
from speechssl.training.loop import InterruptedRunError
from speechssl.training.pretrain import PretrainConfig, PretrainWork, pretrain
from speechssl.training.resume import newest_state
from speechssl.training.runfolder import to_json

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def together(work: Callable[[], object], num: int = 2) -> None:
    """Do `work` in `num` processes that find each other as those of `torchrun` do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [_start(work, rank, num, port) for rank in range(num)]
    for child in children:
        kill_resume.finish(child, 120)


def _start(work: Callable[[], object], rank: int, num: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(num), "LOCAL_WORLD_SIZE": str(num)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.set_num_threads(1)
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


@pytest.fixture
def config(pretrain_config: PretrainConfig) -> PretrainConfig:
    """Four updates of a model that leaves out layers and values at random."""
    context = replace(pretrain_config.model.context, dropout=0.1, layerdrop=0.4)
    loop = replace(pretrain_config.loop, max_steps=4, checkpoint_every=2)
    return replace(
        pretrain_config, model=replace(pretrain_config.model, context=context), loop=loop
    )


def looped(config, **changes):
    return replace(config, loop=replace(config.loop, **changes))


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    return load_file(newest / "model.safetensors") | load_file(newest / "optimizer.safetensors")


def losses(run: Path, name: str = "loss/total") -> list[float]:
    return [m[name] for m in read_metrics(run) if name in m]


def assert_same(run: Path, other: Path) -> None:
    assert losses(run) == pytest.approx(losses(other), rel=1e-6)
    assert_same_weights(run, other)


def assert_same_weights(run: Path, other: Path) -> None:
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_are_one_with_accumulation(parallel, tones, config, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    pretrain(looped(config, accumulate=2), tones[0], one, valid_set=tones[1])
    both = looped(config, parallel=parallel)
    together(lambda: pretrain(both, tones[0], two, valid_set=tones[1]))
    assert len(losses(two)) == 4
    assert_same(one, two)
    shared = load_model(two).model.state_dict()
    for name, value in load_model(one).model.state_dict().items():
        torch.testing.assert_close(shared[name], value, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("first", ["ddp", "fsdp"])
def test_what_one_form_saved_the_others_go_on_with(first, tones, config, tmp_path):
    """Two updates in two processes, one in a single one, the last in two of the other form."""
    other = {"ddp": "fsdp", "fsdp": "ddp"}[first]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = replace(config, optim=replace(config.optim, warmup_steps=0, schedule="linear"))
    pretrain(looped(config, accumulate=2), tones[0], whole, valid_set=tones[1])

    def session(steps: int, parallel: str) -> None:
        stop_after(steps)
        with contextlib.suppress(InterruptedRunError):
            pretrain(looped(config, parallel=parallel), tones[0], parts, valid_set=tones[1])

    together(lambda: session(2, first))
    together(lambda: session(3, first), num=1)
    together(lambda: session(9, other))
    assert [m["step"] for m in read_metrics(parts) if "loss/total" in m] == [1, 2, 3, 4]
    assert_same(whole, parts)


def stop_after(steps: int) -> None:
    """Ask this process's run to stop when that many updates are done; for good."""
    real = PretrainWork.backward

    def signalled(self, step, max_steps, batches):
        if step == steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, step, max_steps, batches)

    PretrainWork.backward = signalled


def test_finetuning_with_a_frozen_beginning_is_the_same(tones, finetune_config, tmp_path):
    """Weights that do not learn yet stay as they are in every form."""
    config = replace(finetune_config, head_only_steps=2, freeze_encoder_share=0.5, batch_s=4.0)
    config = looped(config, max_steps=4, num_validations=1, checkpoint_every=4)
    init = Checkpoint(SpeechModel(config.model))
    runs = {"one": looped(config, accumulate=2)}
    runs |= {how: looped(config, parallel=how) for how in ("ddp", "fsdp")}
    for name, run in runs.items():
        together(
            lambda name=name, run=run: finetune(run, *tones, tmp_path / name, init=init),
            num=1 if name == "one" else 2,
        )
    for name in ("ddp", "fsdp"):
        assert losses(tmp_path / "one", "loss/ctc") == pytest.approx(
            losses(tmp_path / name, "loss/ctc"), rel=1e-6
        )
        assert_same_weights(tmp_path / "one", tmp_path / name)


CONV = ConvEncoderConfig(dims=(16, 16, 16), kernels=(10, 8, 8), strides=(5, 8, 8))
GUMBEL = ContrastiveConfig(quantizer="gumbel", entries=8, target_dim=16, num_negatives=5)


@pytest.mark.parametrize("kind", ["gru", "conv"])
def test_every_kind_of_layer_can_be_spread(kind, tones, config, tmp_path):
    """With the plan that the command makes first; GRUs, or convolutions and learned codes."""
    model = config.model
    if kind == "gru":
        context = replace(model.context, upper="gru", local_layers=1, layerdrop=0.0)
        other = replace(config, model=replace(model, context=context))
    else:
        other = replace(config, model=replace(model, encoder=CONV), contrastive=GUMBEL)
    other = looped(other, max_steps=2, num_validations=1)
    for how in ("ddp", "fsdp"):
        run = looped(other, parallel=how)
        together(
            lambda run=run, how=how: pretrain(
                run, tones[0], tmp_path / how, valid_set=tones[1], announce=True
            )
        )
    assert_same(tmp_path / "ddp", tmp_path / "fsdp")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_whole_job_saves_once(number, tones, config, tmp_path):
    """To every process of the job's group: torchrun, and through it the two it started."""
    write_manifest(tmp_path / "train.jsonl", tones[0])
    endless = looped(config, max_steps=100_000, checkpoint_every=100_000, budget_minutes=4.0)
    (tmp_path / "config.json").write_text(json.dumps(to_json(endless)))
    command = f"""torchrun --nproc-per-node 2 --signals-to-handle SIGTERM,SIGINT,SIGUSR1
        -m speechssl.cli pretrain --recipe {tmp_path}/config.json --train {tmp_path}/train.jsonl
        --out {tmp_path}/run"""
    job = subprocess.Popen(
        command.split(), start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not losses(tmp_path / "run") and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(job.pid, number)
        _, said = job.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    steps = re.findall(r"speechssl: Stopped at step (\d+)", said)
    assert len(steps) == 2, said
    assert newest_state(tmp_path / "run").progress.step == int(steps[0]) == int(steps[1])
    assert len(losses(tmp_path / "run")) == int(steps[0])
