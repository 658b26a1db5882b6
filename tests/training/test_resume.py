"""A run that was killed, at whatever moment, goes on to the same numbers."""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import kill_resume
from speechssl.files import sha256
from speechssl.runlog import RunLog, read_metrics
from speechssl.training import resume, runfolder, states
from speechssl.training.loop import InterruptedRunError, PreemptedRunError
from speechssl.training.pretrain import PretrainWork, pretrain
from speechssl.training.resume import Progress, StateWriter, clear_leftovers, newest_state
from tests.breaking import Killed, break_at


@pytest.fixture
def parts() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    modules = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(modules.parameters(), fused=True)
    modules(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return modules, optimizer


def save(run: Path, parts, step: int, best_step: int = 0, keep: int = 2, keep_every: int = 0):
    with StateWriter(run, keep=keep, keep_every=keep_every) as writer:
        writer.save(*parts, Progress(step=step, max_steps=100, best_step=best_step))


def steps(run: Path) -> list[int]:
    return sorted(int(p.name.split("-")[1]) for p in (run / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_kill_9_at_any_moment(precision, tmp_path):
    job = kill_resume.small_job(tmp_path, precision, max_steps=24)
    kill_resume.finish(kill_resume.start(job, tmp_path / "whole", 0), 60)
    killed = kill_resume.disturb(job, tmp_path / "killed", kills=3, longest_s=1.5, seed=1)
    assert killed > 0
    assert kill_resume.result(tmp_path / "whole") == kill_resume.result(tmp_path / "killed")


@pytest.mark.parametrize("fails", [Killed, OSError])
@pytest.mark.parametrize("keep", [1, 2])
def test_a_save_that_breaks_off_at_any_call_loses_nothing(
    fails, keep, parts, tmp_path, monkeypatch
):
    """`Killed`: the calls after it do not happen either. OSError: this one call fails."""
    reached, number = True, 0
    while reached:
        run = tmp_path / f"{number}"
        save(run, parts, 10, keep=keep)
        save(run, parts, 20, keep=keep)
        with monkeypatch.context() as patch:
            calls = break_at(patch, resume, number, fails)
            try:
                save(run, parts, 30, keep=keep)
            except (Killed, OSError):
                assert len(calls) > number
        reached = len(calls) > number
        clear_leftovers(run, resume=True)
        state = newest_state(run)
        assert state is not None
        assert state.progress.step in (20, 30)
        names = {p.name for p in (run / "checkpoints").iterdir()}
        assert all(name.startswith("step-") for name in names)
        number += 1
    assert state.progress.step == 30  # the last time nothing broke
    assert number > 15


def test_the_newest_the_best_and_every_so_many_are_kept(parts, tmp_path):
    for step in range(10, 100, 10):
        save(tmp_path, parts, step, best_step=30, keep=2, keep_every=40)
    assert steps(tmp_path) == [30, 40, 80, 90]


def test_what_is_restored_is_what_was_saved(parts, tmp_path):
    modules, optimizer = parts
    save(tmp_path, parts, 10)
    other = torch.nn.Linear(3, 2)
    fresh = torch.optim.AdamW(other.parameters(), fused=True)
    newest_state(tmp_path).restore(other, fresh)
    assert torch.equal(other.weight, modules.weight)
    assert torch.equal(
        fresh.state[other.weight]["exp_avg"], optimizer.state[modules.weight]["exp_avg"]
    )
    for model, optim in ((modules, optimizer), (other, fresh)):
        model(torch.ones(1, 3)).square().sum().backward()
        optim.step()
    modules.zero_grad()
    other.zero_grad()


def test_a_weight_that_has_not_learned_comes_back_without_moments(tmp_path):
    """It has no count of steps either, from which Adam would go on."""
    modules = torch.nn.Linear(3, 2)
    modules.weight.requires_grad_(False)
    optimizer = torch.optim.AdamW(modules.parameters())
    modules(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save(tmp_path, (modules, optimizer), 10)
    fresh = torch.optim.AdamW(modules.parameters())
    newest_state(tmp_path).restore(modules, fresh)
    assert modules.weight not in fresh.state
    assert fresh.state[modules.bias]["step"] == 1


@pytest.mark.parametrize("other", [(3, 4), (3, 2, False)])
def test_a_state_of_another_model_is_a_sentence(other, parts, tmp_path):
    save(tmp_path, parts, 10)
    modules = torch.nn.Linear(*other)
    with pytest.raises(ValueError, match=r"step-00000010 (is of another model|does not fit)"):
        newest_state(tmp_path).restore(modules, torch.optim.AdamW(modules.parameters()))


def test_a_state_with_a_file_of_another_is_passed_over(parts, tmp_path, capsys):
    save(tmp_path, parts, 10)
    save(tmp_path, parts, 20)
    folder = tmp_path / "checkpoints" / "step-00000020"
    (folder / "model (copy).safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert newest_state(tmp_path).progress.step == 10
    assert "model (copy).safetensors is not of this state" in capsys.readouterr().err


def test_a_state_of_the_first_versions_is_read(parts, tmp_path):
    """Its progress did not name its files."""
    save(tmp_path, parts, 10)
    folder = tmp_path / "checkpoints" / "step-00000010"
    progress = json.loads((folder / "progress.json").read_text())
    assert progress.pop("files") == ["model.safetensors", "optimizer.safetensors"]
    states.write_json(folder / "progress.json", progress)
    names = ("model.safetensors", "optimizer.safetensors", "progress.json")
    sums = {name: sha256(folder / name) for name in names}
    states.write_json(folder / "checksums.json", sums)
    assert torch.equal(newest_state(tmp_path).tensors()["weight"], parts[0].weight)


def test_a_snapshot_is_of_its_step(parts, tmp_path, monkeypatch):
    """What the training changes while the thread writes is not in it."""
    modules, optimizer = parts
    before = modules.weight.detach().clone()
    may_write = threading.Event()
    real = resume.write_tensors
    monkeypatch.setattr(resume, "write_tensors", lambda *a: may_write.wait(10) and real(*a))
    with StateWriter(tmp_path, keep=1) as writer:
        writer.save(modules, optimizer, Progress(step=1))
        writer.check()  # does not wait
        with torch.no_grad():
            modules.weight.zero_()
        may_write.set()
        writer.wait()
        assert torch.equal(newest_state(tmp_path).tensors()["weight"], before)
        writer.save(modules, optimizer, Progress(step=2))  # over the memory of the first
    assert torch.equal(newest_state(tmp_path).tensors()["weight"], torch.zeros_like(before))


def test_never_two_writes_at_once_and_a_failed_one_is_raised(parts, tmp_path, monkeypatch):
    at_once: list[int] = []
    running = 0
    real = resume.write_tensors

    def counted(*args):
        nonlocal running
        running += 1
        at_once.append(running)
        real(*args)
        running -= 1

    monkeypatch.setattr(resume, "write_tensors", counted)
    with StateWriter(tmp_path, keep=9) as writer:
        for step in range(1, 6):
            writer.save(*parts, Progress(step=step))
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert max(at_once) == 1

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "write_tensors", full)
    writer = StateWriter(tmp_path, keep=9)
    writer.save(*parts, Progress(step=6))
    deadline = time.monotonic() + 5
    with pytest.raises(OSError, match="No space left"):
        check_until(writer, deadline)


def check_until(writer: StateWriter, deadline: float) -> None:
    while time.monotonic() < deadline:
        writer.check()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "progress.json", "checksums.json"]
)
@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_a_damaged_newest_falls_back_and_says_so(name, damage, parts, tmp_path, capsys):
    save(tmp_path, parts, 10)
    save(tmp_path, parts, 20)
    path = tmp_path / "checkpoints" / "step-00000020" / name
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert newest_state(tmp_path).progress.step == 10
    assert "step-00000020 is damaged" in capsys.readouterr().err
    save(tmp_path, parts, 15, keep=1)  # the damaged one does not count among those to keep
    assert steps(tmp_path) == [15]


@pytest.mark.parametrize("written", ["[]", "3", "{}", '{"progress.json": 3}', "[" * 200000])
def test_a_list_of_checksums_that_is_none_falls_back(written, parts, tmp_path):
    save(tmp_path, parts, 10)
    save(tmp_path, parts, 20)
    (tmp_path / "checkpoints" / "step-00000020" / "checksums.json").write_text(written)
    assert newest_state(tmp_path).progress.step == 10


def test_what_somebody_else_put_there_is_no_state(parts, tmp_path):
    save(tmp_path, parts, 10)
    for name in ("step-00000020 (copy)", "step-old", "step-"):
        (tmp_path / "checkpoints" / name).mkdir()
    assert newest_state(tmp_path).progress.step == 10
    clear_leftovers(tmp_path, resume=False)
    assert newest_state(tmp_path) is None
    assert (tmp_path / "checkpoints" / "step-old").is_dir()


def test_a_run_whose_every_state_is_damaged_is_not_begun_anew_unasked(parts, tmp_path):
    save(tmp_path, parts, 10)
    (tmp_path / "checkpoints" / "step-00000010" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Every checkpoint .* is damaged.*--resume never"):
        newest_state(tmp_path)
    assert newest_state(tmp_path / "fresh") is None


def test_leftovers_of_killed_saves_are_cleared(parts, tmp_path):
    save(tmp_path, parts, 10)
    for name in (".best.new-77", ".model.gone", "checkpoints/.step-00000020.new-77"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoints" / "step-00000010").rename(
        tmp_path / "checkpoints" / ".step-00000010.old"
    )  # killed between the two moves
    clear_leftovers(tmp_path, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]
    assert steps(tmp_path) == [10]
    clear_leftovers(tmp_path, resume=False)
    assert newest_state(tmp_path) is None


@pytest.mark.parametrize("line", [b"\xff\xfe", b"3", b'{"step', b"[" * 200000, b"9" * 5000])
def test_metrics_end_at_a_line_that_is_none(line, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_metrics_are_cut_to_the_state_byte_for_byte(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with RunLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.metrics(step, 0.1, {"loss/total": 1 / step})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + b'{"step": 4, "loss/to')
    with RunLog(tmp_path, resume_step=2) as log:
        log.metrics(3, 0.1, {"loss/total": 1 / 3})
    assert path.read_bytes() == b"".join(lines)
    path.write_bytes(b"".join(lines)[:-1])  # killed within the line's last byte
    with RunLog(tmp_path, resume_step=3):
        pass
    assert path.read_bytes() == b"".join(lines[:2])


def test_metrics_behind_an_edited_line_are_not_thrown_away(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "time_s": 0.1}\n{"step": "2"}\n{"step": 3, "time_s": 0.3}\n')
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r'metrics\.jsonl, line 2: step is "2", not a whole number'
    ):
        RunLog(tmp_path, resume_step=3)
    assert path.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="no fcntl")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_second_command_is_kept_out_of_a_run(tones, pretrain_config, tmp_path, monkeypatch):
    """And the lock of one that was killed is gone, though a child of it lives on."""
    run = tmp_path / "run"
    reader, writer = os.pipe()
    holder = os.fork()
    if not holder:
        with runfolder.run_lock(run):
            child = os.fork()
            os.write(writer, f"{child}\n".encode()) if child else None
            time.sleep(60)
        os._exit(0)
    child = int(os.read(reader, 20))
    monkeypatch.setattr(runfolder, "_WAIT_S", 0.2)
    try:
        with pytest.raises(runfolder.BusyRunError, match=r"Another command is at work in .*run: "):
            pretrain(pretrain_config, tones[0], run, valid_set=tones[1])
        assert not (run / "checkpoints").exists()
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        with runfolder.run_lock(run), runfolder.run_lock(run):  # not against oneself
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def stopped_at(step: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PretrainWork.backward

    def signalled(self, now, max_steps, batches):
        if now == step:
            os.kill(os.getpid(), number)
        return real(self, now, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", signalled)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_between_two_log_lines_and_validations_changes_nothing(
    number, tones, pretrain_config, tmp_path, monkeypatch
):
    loop = replace(pretrain_config.loop, max_steps=8, log_every=4)
    config = replace(pretrain_config, loop=loop)
    pretrain(config, tones[0], tmp_path / "whole", valid_set=tones[1])
    stopped_at(5, number, monkeypatch)
    with pytest.raises(InterruptedRunError) as caught:
        pretrain(config, tones[0], tmp_path / "stopped", valid_set=tones[1])
    assert isinstance(caught.value, PreemptedRunError) is (number != signal.SIGINT)
    again = replace(config, loop=replace(loop, num_workers=1, checkpoint_every=3, keep_every=6))
    pretrain(again, tones[0], tmp_path / "stopped", valid_set=tones[1])
    whole, stopped = (kill_resume.result(tmp_path / name) for name in ("whole", "stopped"))
    assert whole == stopped
    assert json.loads((tmp_path / "stopped" / "config.json").read_text())["loop"]["keep_every"] == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_before_the_updates_is_no_failure(
    number, tones, pretrain_config, tmp_path, monkeypatch
):
    before = signal.getsignal(number)
    monkeypatch.setattr(PretrainWork, "__init__", lambda *_, **__: os.kill(os.getpid(), number))
    with pytest.raises(PreemptedRunError, match="The same command goes on"):
        pretrain(pretrain_config, tones[0], tmp_path / "run", valid_set=tones[1])
    assert signal.getsignal(number) == before
    monkeypatch.undo()
    short = replace(pretrain_config, loop=replace(pretrain_config.loop, max_steps=1))
    pretrain(short, tones[0], tmp_path / "run", valid_set=tones[1])


def test_other_sizes_are_a_sentence_and_never_begins_anew(tones, pretrain_config, tmp_path):
    config = replace(pretrain_config, loop=replace(pretrain_config.loop, max_steps=4))
    pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1])
    context = replace(config.model.context, ffn_dim=32)
    other = replace(config, model=replace(config.model, context=context))
    with pytest.raises(ValueError, match=r"model\.context\.ffn_dim 64 there, 32 now"):
        pretrain(other, tones[0], tmp_path / "run", valid_set=tones[1])
    short = replace(other, loop=replace(config.loop, max_steps=2))
    pretrain(short, tones[0], tmp_path / "run", valid_set=tones[1], resume=False)
    assert steps(tmp_path / "run") == [2]
    assert {m["step"] for m in read_metrics(tmp_path / "run")} == {1, 2}


def test_the_script_says_what_was_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kill_resume", "--kills", "1", "--json", "x.json"])
    monkeypatch.setattr(kill_resume, "disturb", lambda *_a: 1)
    monkeypatch.setattr(kill_resume, "finish", lambda *_a: True)
    monkeypatch.setattr(kill_resume, "start", lambda *_a: 0)
    monkeypatch.setattr(kill_resume, "result", lambda run: {"metrics": run.name})
    monkeypatch.chdir(tmp_path)
    assert kill_resume.main() == 1  # "whole" is not "killed"
    assert json.loads(Path("x.json").read_text())["same"] == {"metrics": False}
    assert '"kills": 1' in capsys.readouterr().out
