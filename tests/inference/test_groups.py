"""What is in a group, how many threads and processes work, and what a worker opens."""

import os
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechssl import workers
from speechssl.checkpoint import load_model, save_model
from speechssl.inference import groups
from speechssl.inference.recordings import Clip
from speechssl.inference.transcribe import transcribe_files


def clip(seconds: float) -> Clip:
    return Clip(f"{seconds}", Path("none.wav"), 0.0, seconds)


def made(lengths: list[float], group_s: float, on_cpu: bool = True) -> list[tuple[int, ...]]:
    places: deque[tuple[int, ...]] = deque()
    clips = [clip(seconds) for seconds in lengths]
    found = list(groups._groups(clips, clips, group_s, on_cpu, places))
    for group, members in zip(found, places, strict=True):
        assert [each.duration_s for each in group.items] == [lengths[i] for i in members]
        assert group.seconds == pytest.approx(sum(lengths[i] for i in members))
    return list(places)


def test_a_group_is_a_batch_of_about_equal_lengths_the_longest_first():
    assert made([1, 9, 1, 8, 2, 30], 10.0) == [(5,), (1,), (3,), (4, 0, 2)]


def test_clips_are_sorted_among_those_of_eight_batches():
    lengths = [5.0, 1.0] * 20
    found = made(lengths, 5.0)
    assert sorted(i for group in found for i in group) == list(range(40))
    window = [i for group in found for i in group if i < 14]
    assert sorted(window) == list(range(14))
    assert all(max(group) - min(group) < 16 for group in found)


def test_on_a_gpu_clips_stay_together_and_in_order():
    assert made([5.0] * 20, 5.0, on_cpu=False) == [
        tuple(range(8)),
        tuple(range(8, 16)),
        tuple(range(16, 20)),
    ]


@pytest.mark.parametrize("batch_s", [0.0, -1.0, float("nan")])
def test_a_batch_of_no_seconds(batch_s, tiny_models, record):
    checkpoint = load_model(tiny_models["ctc"])
    clips = [Clip("a", record("a.wav", 0.5))]
    with pytest.raises(ValueError, match="batch_s must be above 0 seconds, got"):
        list(transcribe_files(checkpoint, clips, source="", batch_s=batch_s, say=print))


@pytest.mark.parametrize(
    ("cores", "num_groups", "threads"), [(1, 5, 1), (2, 1, 2), (8, 2, 4), (8, 3, 2), (4, 9, 1)]
)
def test_threads_do_not_depend_on_the_processes(
    cores, num_groups, threads, tiny_models, record, monkeypatch
):
    """A group alone gets all cores, several share them, in however many processes."""
    now = [cores]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda num: now.__setitem__(0, num))
    seen: list[int] = []
    jobs: list[groups.ModelJob] = []

    def share(given, work, job, *, processes, **_):
        jobs.append(job)
        assert processes == (1 if not seen else 3)
        for group in given:
            seen.append(now[0])
            yield work(group.items)

    monkeypatch.setattr(workers, "share", share)
    checkpoint = load_model(tiny_models["ctc"])
    path = record("a.wav", 0.5)
    clips = [Clip(f"{i}", path, 0.0, 0.5) for i in range(num_groups)]
    for processes in (1, 3):
        how = {"source": "", "processes": processes, "batch_s": 0.5, "say": print}
        assert len(list(transcribe_files(checkpoint, clips, **how))) == num_groups
    assert set(seen) == {threads}
    assert [job.threads for job in jobs] == [threads] * 2
    assert now == [cores]


@pytest.mark.parametrize("source", [b"bytes", np.zeros(16000, np.float32), "pipe"])
def test_what_is_no_file_is_work_for_one_process(source, tmp_path):
    if isinstance(source, str):
        os.mkfifo(tmp_path / "pipe")
        source = tmp_path / "pipe"
    said: list[str] = []
    most = groups._most_processes
    assert most(4, 8, True, [clip(1.0), Clip("-", source)], said.append) == 1
    assert said == ["One process does all, as a recording is no file."]
    assert most("auto", 8, True, [Clip("-", source)], said.append) == 1
    assert most(1, 8, True, [Clip("-", source)], said.append) == 1
    assert len(said) == 1  # nobody asked for more


def test_auto_is_every_core_that_memory_allows(monkeypatch):
    most, said = groups._most_processes, []
    memory = groups.device.Memory
    for free_gb, expected in ((64, 8), (3.5, 3), (0.2, 1)):
        free = int(free_gb * 2**30)
        monkeypatch.setattr(groups.device, "memory", lambda _, free=free: memory(free, 2 * free))
        assert most("auto", 8, True, [clip(1.0)], said.append) == expected
        assert most(5, 8, True, [clip(1.0)], said.append) == 5
    monkeypatch.setattr(groups.device, "memory", lambda _: os.no_such_call)  # AttributeError
    assert most("auto", 8, True, [clip(1.0)], said.append) == 8
    assert most("auto", 8, False, [clip(1.0)], said.append) == 1  # a GPU
    assert said == []
    assert most(2, 8, False, [clip(1.0)], said.append) == 1
    assert said == ["One process does all, as the model is on a GPU."]


def test_a_worker_refuses_a_model_that_has_changed(tiny_models, tmp_path):
    checkpoint = load_model(tiny_models["ctc"])
    before = groups.fingerprint(checkpoint)
    with torch.no_grad():
        checkpoint.model.head.linear.bias[0] += 1
    save_model(tmp_path / "model", checkpoint)
    threads = torch.get_num_threads()
    job = groups.ModelJob(str(tmp_path / "model"), before, threads, lambda _: list)
    with pytest.raises(ValueError, match=r"the model .*/model has changed since the command began"):
        job.start()
    assert replace(job, fingerprint=groups.fingerprint(checkpoint)).start() is list
