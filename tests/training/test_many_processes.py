"""Several processes are one process that accumulates, whatever each of them holds of the model."""

import contextlib
import faulthandler
import gc
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from benchmarks import kill_resume
from speechssl import distributed
from speechssl.checkpoint import Checkpoint, load_model
from speechssl.config.json import to_json
from speechssl.data.dataset import FaultyDataError
from speechssl.data.manifest import Utterance, write_manifest
from speechssl.model.config import ConvEncoderConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.rng import rng
from speechssl.runlog import read_metrics
from speechssl.training import runfolder
from speechssl.training.finetune import finetune
from speechssl.training.loop import InterruptedRunError
from speechssl.training.pretrain import PretrainConfig, PretrainWork, pretrain
from speechssl.training.resume import newest_state, newest_weights

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def together(work: Callable[[], object], num: int = 2) -> None:
    """Do `work` in `num` processes that find each other as those of `torchrun` do."""
    end(begin(work, num))


def end(children: list[int]) -> None:
    """Wait for all of them: where one has died, the error of another is only what follows."""
    failures = []
    for rank, child in enumerate(children):
        try:
            kill_resume.finish(child, 120)
        except RuntimeError as error:
            failures.append(f"Process {rank}: {error}")
    assert not failures, " ".join(failures)


def begin(work: Callable[[], object], num: int = 2, port: int = 0) -> list[int]:
    """The processes, which are at work; where no store is at `port`, the first one makes one."""
    if port:
        return [_start(work, rank, num, port) for rank in range(num)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [_start(work, rank, num, port) for rank in range(num)]


def _start(work: Callable[[], object], rank: int, num: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    gc.freeze()  # what other tests have left is not this process's to take down
    faulthandler.enable(file=2)  # a crash is said where the error of the other process is
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
    pretrain_config = smooth(pretrain_config)
    context = replace(pretrain_config.model.context, dropout=0.1, layerdrop=0.4)
    loop = replace(pretrain_config.loop, max_steps=4, checkpoint_every=2)
    return replace(
        pretrain_config, model=replace(pretrain_config.model, context=context), loop=loop
    )


def smooth(config):
    """With an update that is no step function of the gradient: Adam's first ones are plus or minus
    the learning rate wherever a gradient is above `eps`, be it rounding noise."""
    return replace(config, optim=replace(config.optim, eps=1e-4))


def looped(config, **changes):
    return replace(config, loop=replace(config.loop, **changes))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return newest_state(run).tensors()


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


def states(run: Path) -> list[Path]:
    """The newest last."""
    return sorted((run / "checkpoints").iterdir())


def newest_step(run: Path) -> int:
    """Of its states, 0 for none; no file is opened."""
    names = [path.name for path in run.glob("checkpoints/step-*")]
    return max((int(n[5:]) for n in names if n[5:].isdecimal()), default=0)


@pytest.mark.parametrize("damage", ["bit", "gone"])
def test_every_process_writes_its_part_and_a_damaged_one_falls_back(
    damage, tones, config, tmp_path, capsys
):
    run = tmp_path / "run"
    config = looped(config, parallel="fsdp")
    together(lambda: pretrain(config, tones[0], run, valid_set=tones[1]))
    before, newest = states(run)
    parts = sorted(newest.glob("*.safetensors"))
    assert [p.name[:11] for p in parts] == ["shard-00001", "shard-00002"]
    assert {p.suffix for p in newest.iterdir()} == {".safetensors", ".json"}  # no pickles
    tensors = newest_state(run).tensors()
    shown = newest_weights(run)  # by the report, in one process
    assert {n for n in tensors if not n[0].isdigit()} == shown.keys()
    assert all(torch.equal(value, tensors[name]) for name, value in shown.items())
    whole = sum(value.nbytes for value in tensors.values())
    assert max(p.stat().st_size for p in parts) < 0.6 * whole + 20_000  # names and places
    data = bytearray(parts[1].read_bytes())
    data[-5] ^= 1
    parts[1].unlink() if damage == "gone" else parts[1].write_bytes(data)
    assert newest_state(run).folder == before
    assert "step-00000004 is damaged" in capsys.readouterr().err
    together(lambda: pretrain(config, tones[0], run, valid_set=tones[1]))
    together(lambda: pretrain(config, tones[0], tmp_path / "whole", valid_set=tones[1]))
    one, two = weights(run), weights(tmp_path / "whole")
    assert all(torch.equal(one[name], two[name]) for name in two)


@pytest.mark.parametrize("broken", [0, 1])
def test_a_part_that_cannot_be_written_loses_nothing(broken, tones, config, tmp_path):
    """Every process is told, and the state before stays."""
    run = tmp_path / "run"
    config = looped(config, parallel="fsdp")

    def session() -> None:
        real = HuggingFaceStorageWriter.write_data
        written: list[int] = []

        def full(self, plan, planner):
            written.append(1)
            if len(written) == 2 and distributed.rank() == broken:
                raise OSError(28, "No space left on device")
            return real(self, plan, planner)

        HuggingFaceStorageWriter.write_data = full
        with pytest.raises(OSError, match="No space left on device"):
            pretrain(config, tones[0], run, valid_set=tones[1])

    together(session)
    assert [folder.name for folder in states(run)] == ["step-00000002"]
    assert newest_state(run).progress.step == 2


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_kill_9_of_all_processes_changes_no_bit(parallel, tones, config, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    config = looped(config, parallel=parallel, max_steps=16, checkpoint_every=1, log_every=4)
    together(lambda: pretrain(config, tones[0], whole, valid_set=tones[1]))
    kills = 0
    for number in range(3):
        children = begin(lambda: pretrain(config, tones[0], killed, valid_set=tones[1]))
        before, until = newest_step(killed), time.monotonic() + 60
        while newest_step(killed) == before:
            assert time.monotonic() < until, "no state was written"
            time.sleep(0.002)
        time.sleep(float(rng(0, "kill-all", number).uniform(0.0, 0.05)))
        for child in children:
            os.kill(child, signal.SIGKILL)
        kills += [os.waitpid(child, 0)[1] for child in children] == [signal.SIGKILL] * 2
    together(lambda: pretrain(config, tones[0], killed, valid_set=tones[1]))
    assert kills
    one, two = weights(whole), weights(killed)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert losses(whole) == losses(killed)
    assert [p.name for p in killed.iterdir() if ".new-" in p.name] == []


def test_processes_that_torchrun_starts_again_find_each_other(tones, config, tmp_path):
    """It keeps its store, and in that the addresses of the processes that are gone."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    elastic = {"TORCHELASTIC_USE_AGENT_STORE": "True", "GROUP_WORLD_SIZE": "1"}

    def attempt(number: int) -> None:
        os.environ.update(elastic, TORCHELASTIC_RESTART_COUNT=str(number))
        stop_after([2, 9][number])
        with contextlib.suppress(InterruptedRunError):
            pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1])

    for number in (0, 1):
        end(begin(lambda number=number: attempt(number), port=store.port))
    assert newest_state(tmp_path / "run").progress.step == 4


def test_the_first_process_chooses_the_state_for_all(tones, config, tmp_path, capfd):
    run = tmp_path / "run"
    together(lambda: pretrain(config, tones[0], run, valid_set=tones[1]))
    (states(run)[1] / "model.safetensors").write_bytes(b"")
    together(lambda: pretrain(config, tones[0], run, valid_set=tones[1]))
    assert capfd.readouterr().err.count("step-00000004 is damaged") == 1
    for folder in states(run):
        (folder / "progress.json").unlink()

    def refused() -> None:
        with pytest.raises(ValueError, match=r"Every checkpoint in .* is damaged"):
            pretrain(config, tones[0], run, valid_set=tones[1])

    together(refused)


def test_a_second_job_is_kept_out_in_all_its_processes(tones, config, tmp_path, monkeypatch):
    monkeypatch.setattr(runfolder, "_WAIT_S", 0.2)

    def refused() -> None:
        with pytest.raises(runfolder.BusyRunError, match="Another command is at work"):
            pretrain(config, tones[0], tmp_path, valid_set=tones[1])

    with runfolder.run_lock(tmp_path):
        together(refused)


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
    config = smooth(finetune_config)
    config = replace(config, head_only_steps=2, freeze_encoder_share=0.5, batch_s=4.0)
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


def test_faults_of_all_processes_are_named_counted_and_limited(tones, config, tmp_path):
    def copied(utterance: Utterance) -> Utterance:
        return replace(utterance, audio=Path(shutil.copy(utterance.audio, tmp_path)))

    train_set = [copied(u) for u in tones[0]]
    for utterance in train_set[::10]:
        utterance.audio.unlink()
    config = replace(looped(config, max_fault_share=0.2, max_steps=8), cache=False)
    one, two = tmp_path / "one", tmp_path / "two"
    pretrain(looped(config, accumulate=2), train_set, one, valid_set=tones[1])
    together(lambda: pretrain(config, train_set, two, valid_set=tones[1]))
    assert len((one / "faults.jsonl").read_text().splitlines()) == 6
    assert (one / "faults.jsonl").read_text() == (two / "faults.jsonl").read_text()
    replaced = [[m.get("faults/replaced", 0) for m in read_metrics(run)] for run in (one, two)]
    assert replaced[0] == replaced[1]
    assert newest_state(one).progress.faults == newest_state(two).progress.faults

    def stopped() -> None:
        strict = looped(config, max_fault_share=0.04)
        with pytest.raises(FaultyDataError, match=r"[34] of 60 utterances cannot be read"):
            pretrain(strict, train_set, tmp_path / "strict", valid_set=tones[1])

    together(stopped)


CONV = ConvEncoderConfig(dims=(16, 16, 16), kernels=(10, 8, 8), strides=(5, 8, 8))
GUMBEL = TaskConfigs(
    (
        ContrastiveConfig(target_dim=16, entries=8, num_negatives=5),
        ReconstructionConfig(),
    )
)


@pytest.mark.parametrize("kind", ["gru", "conv"])
def test_every_kind_of_layer_can_be_spread(kind, tones, config, tmp_path):
    """With the plan that the command makes first; GRUs, or convolutions and learned codes."""
    model = config.model
    if kind == "gru":
        context = replace(model.context, upper="gru", local_layers=1, layerdrop=0.0)
        other = replace(config, model=replace(model, context=context))
    else:
        other = replace(config, model=replace(model, encoder=CONV), tasks=GUMBEL)
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
