"""A file of values by frame: what is not sealed is not there, whatever happened to the file."""

import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import namedtuple

import numpy as np
import pytest

from speechssl.data.frame_file import FrameFile

OFFSETS = np.array([0, 3, 3, 10, 14])
WIDTH = 5


def wave(item):
    return lambda: np.arange(100 + item, dtype=np.float32) / 1000


def values(item, seed=0):
    num = int(OFFSETS[item + 1] - OFFSETS[item])
    return np.random.default_rng(seed + item).normal(size=(num, WIDTH)).astype(np.float32)


def opened(folder, facts="logmel 1"):
    return FrameFile(folder / "own" / "x.f32", OFFSETS, WIDTH, facts)


def filled(folder):
    file = opened(folder)
    for item in range(4):
        file.put(item, wave(item)(), values(item))
    return file


def test_what_was_put_is_found_by_others_and_later(tmp_path):
    file = opened(tmp_path)
    other = opened(tmp_path)  # as another process has it
    assert [file.get(item, wave(item)) for item in range(4)] == [None] * 4
    for item in (2, 0, 3):
        file.put(item, wave(item)(), values(item))
    for each in (file, other, opened(tmp_path)):
        for item in (0, 2, 3):
            found = each.get(item, wave(item))
            assert found.dtype == np.float32
            assert np.array_equal(found, values(item))
        assert each.get(1, wave(1)) is None
    assert file.path.stat().st_size == file.num_bytes == 4096 + 4 * 14 * WIDTH


def test_the_wave_is_looked_at_once(tmp_path):
    filled(tmp_path)
    file, asked = opened(tmp_path), []
    for _ in range(3):
        assert file.get(2, lambda: asked.append(1) or wave(2)()) is not None
    assert len(asked) == 1
    assert opened(tmp_path / "empty").get(2, lambda: asked.append(1)) is None
    assert len(asked) == 1  # nor where there is nothing


@pytest.mark.parametrize("change", ["wave", "facts", "value", "seal", "cut", "longer", "other row"])
def test_what_does_not_belong_is_not_there(change, tmp_path):
    path = filled(tmp_path).path
    content = bytearray(path.read_bytes())
    first = 4096 + 4 * WIDTH * int(OFFSETS[2])
    if change == "value":
        content[first + 9] ^= 1
    if change == "seal":
        content[16 * 2] ^= 1
    if change == "other row":  # of a file with the utterances in another order
        content[16 * 2 : 16 * 3] = content[16 * 3 : 16 * 4]
    if change == "cut":
        del content[first + 8 :]
    if change == "longer":
        content += b"x" * 1000
    path.write_bytes(content)
    file = opened(tmp_path, "logmel 2" if change == "facts" else "logmel 1")
    own = wave(2) if change != "wave" else lambda: wave(2)() + np.float32(1e-6)
    assert (file.get(2, own) is None) == (change != "longer")
    assert file.path.stat().st_size == file.num_bytes
    file.put(2, own(), values(2, 7))
    assert np.array_equal(file.get(2, own), values(2, 7))


def test_a_foreign_file_is_overwritten(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "x.f32").write_bytes(np.random.default_rng(0).bytes(4096 + 280))
    file = opened(tmp_path)
    assert [file.get(item, wave(item)) for item in range(4)] == [None] * 4
    file.put(0, wave(0)(), values(0))
    assert np.array_equal(file.get(0, wave(0)), values(0))


@pytest.mark.parametrize("shape", [(7, 4), (6, 5), (7,), (0, 5)])
def test_values_of_another_shape_are_refused(shape, tmp_path):
    with pytest.raises(ValueError, match="Item 2 has 7 x 5 values, got"):
        opened(tmp_path).put(2, wave(2)(), np.zeros(shape, np.float32))


def test_no_utterance_at_all(tmp_path):
    file = FrameFile(tmp_path / "x.f32", np.zeros(1, np.int64), WIDTH, "")
    assert file.num_bytes == 4096


def test_it_takes_at_most_half_of_the_free_disk(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 0, 2 * 4376 - 2))
    with pytest.raises(OSError, match="more than half of what is free on the disk"):
        opened(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 0, 2 * 4376))
    opened(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 0, 0))
    opened(tmp_path)  # is there


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_kills_while_writing_and_two_processes_leave_no_wrong_value(tmp_path):
    opened(tmp_path)
    fork = multiprocessing.get_context("fork")
    for turn in range(6):
        started = [fork.Process(target=_write_on, args=(tmp_path, seed)) for seed in (0, 100)]
        for process in started:
            process.start()
        time.sleep(0.01 + 0.01 * turn)
        for process in started:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        file = opened(tmp_path)
        for item in (0, 2, 3):
            found = file.get(item, wave(item))
            right = [values(item, seed) for seed in (0, 100)]
            assert found is None or any(np.array_equal(found, each) for each in right)
    filled(tmp_path)
    assert np.array_equal(opened(tmp_path).get(3, wave(3)), values(3))


def _write_on(folder, seed):
    file = opened(folder)
    while True:
        for item in (0, 2, 3):
            file.put(item, wave(item)(), values(item, seed))
