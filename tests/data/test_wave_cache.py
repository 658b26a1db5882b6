"""The cache of decoded waves."""

import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.audio import AudioError, AudioWarning
from speechssl.data import wave_cache
from speechssl.data.wave_cache import CacheItem, WaveCache

RATE = 16000


def tone(duration_s: float = 0.5, rate: int = RATE, frequency: float = 440.0) -> np.ndarray:
    """A tone with a slow change of level, so that no two stretches are the same."""
    t = np.arange(round(duration_s * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * frequency * t) * (0.5 + 0.5 * np.sin(3 * t))).astype("f4")


@pytest.fixture
def items(tmp_path: Path) -> list[CacheItem]:
    audio.write(tmp_path / "a.wav", tone(0.3), RATE)
    audio.write(tmp_path / "b.wav", tone(0.5, 44100), 44100)
    return [
        (tmp_path / "a.wav", 0.0, 0.3),
        (tmp_path / "b.wav", 0.1, 0.2),
        (tmp_path / "b.wav", 0.0, None),
    ]


def same(cache: WaveCache, items: list[CacheItem]) -> bool:
    pairs = [
        (cache.get(i), audio.read(path, start_s=start, duration_s=duration))
        for i, (path, start, duration) in enumerate(items)
    ]
    return len(cache) == len(items) and all(
        a.shape == b.shape and a.dtype == np.float32 and np.abs(a - b).max() < 2**-15
        for a, b in pairs
    )


def test_cache_gives_what_read_gives(tmp_path: Path, items: list[CacheItem]) -> None:
    cache = WaveCache.build(tmp_path / "cache", items)
    assert same(cache, items)
    assert same(pickle.loads(pickle.dumps(cache)), items)
    with pytest.raises(IndexError):
        cache.get(3)
    wave = cache.get(0)
    wave *= 0  # a copy: the caller may distort it in place
    assert same(cache, items)


def test_a_cache_is_found_whatever_has_become_of_the_recordings(
    tmp_path: Path, items: list[CacheItem]
) -> None:
    folder = tmp_path / "cache"
    assert same(WaveCache.find(folder, items), items)
    assert not folder.exists()
    built = WaveCache.build(folder, items)
    for path in {path for path, _, _ in items}:
        path.unlink()
    assert np.array_equal(WaveCache.find(folder, items).get(1), built.get(1))


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the file was decoded again")

    monkeypatch.setattr(wave_cache, "read_with_notes", fail)


def test_cache_is_used_again(
    tmp_path: Path, items: list[CacheItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    WaveCache.build(tmp_path / "cache", items)
    forbid_reading(monkeypatch)
    assert len(WaveCache.build(tmp_path / "cache", items).get(0)) == 4800


def test_cache_follows_changes(tmp_path: Path, items: list[CacheItem]) -> None:
    folder = tmp_path / "cache"
    WaveCache.build(folder, items)
    audio.write(tmp_path / "a.wav", tone(0.4), RATE)
    longer = [(tmp_path / "a.wav", 0.0, 0.4), *items[1:]]
    assert same(WaveCache.build(folder, longer), longer)
    assert WaveCache.build(folder, items[1:2], 8000).get(0).shape == (1600,)


@pytest.mark.parametrize(
    "damage", ["no index", "half an index", "half the samples", "[]", '{"num_samples": [1e999]}']
)
def test_half_a_cache_is_built_again(tmp_path: Path, items: list[CacheItem], damage: str) -> None:
    folder = tmp_path / "cache"
    WaveCache.build(folder, items)
    (data,), (index,) = folder.glob("*.i16"), folder.glob("*.json")
    if damage == "no index":
        index.unlink()
    elif damage[0] in "[{":
        index.write_text(damage)
    elif damage == "half an index":
        index.write_text(index.read_text()[:20])
    else:
        data.write_bytes(data.read_bytes()[:1000])
    (folder / f"{data.stem}.999999.part").write_bytes(b"left by a killed process")
    assert same(WaveCache.build(folder, items), items)
    assert not list(folder.glob("*.part"))


def test_full_disk_decodes_on_read(
    tmp_path: Path, items: list[CacheItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Usage", (), {"free": 10})
    monkeypatch.setattr(wave_cache.shutil, "disk_usage", lambda _: full)
    with pytest.warns(UserWarning, match=r"No wave cache in .*decoded on each read"):
        cache = WaveCache.build(tmp_path / "cache", items)
    assert same(cache, items)
    assert same(pickle.loads(pickle.dumps(cache)), items)


def test_with_and_without_a_full_disk_the_waves_are_the_same(
    tmp_path: Path, items: list[CacheItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may begin with a full disk and go on when there is room."""
    with monkeypatch.context() as patch:
        patch.setattr(wave_cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
        with pytest.warns(UserWarning, match="No wave cache"):
            without = WaveCache.build(tmp_path / "cache", items)
    cached = WaveCache.build(tmp_path / "cache", items, keep=True)
    assert all(np.array_equal(without.get(i), cached.get(i)) for i in range(len(items)))
    assert not np.array_equal(cached.get(1), audio.read(items[1][0], start_s=0.1, duration_s=0.2))


def test_disk_that_fills_up_leaves_nothing_behind(
    tmp_path: Path, items: list[CacheItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wave_cache.os, "fsync", no_space)
    with pytest.warns(UserWarning, match="No space left"):
        cache = WaveCache.build(tmp_path / "cache", items)
    assert same(cache, items)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


def test_cache_names_what_it_could_not_read(tmp_path: Path, items: list[CacheItem]) -> None:
    (tmp_path / "x.wav").write_text("text")
    bad = [(tmp_path / "gone.wav", 0.0, 0.1), (tmp_path / "x.wav", 0.0, None)]
    for _ in range(2):  # as it is made, and as it is found
        cache = WaveCache.build(tmp_path / "cache", [bad[0], *items, bad[1]])
        assert cache.faults.keys() == {0, len(items) + 1}
        assert [len(cache.get(1 + i)) for i in range(2)] == [4800, 3200]
        with pytest.raises(AudioError, match=r"No such recording: .*gone\.wav"):
            cache.get(0)
        with pytest.raises(AudioError, match=r"x\.wav"):
            cache.get(len(items) + 1)


def test_a_part_without_a_sample_is_a_fault(tmp_path: Path, items: list[CacheItem]) -> None:
    empty = (items[0][0], 0.1, 0.0)
    cache = WaveCache.build(tmp_path / "cache", [items[0], empty])
    assert cache.faults.keys() == {1}
    for some in (cache, WaveCache([items[0], empty], RATE)):
        with pytest.raises(AudioError, match=r"a\.wav: the part from 0\.1 s on is too short"):
            some.get(1)
    (index,) = (tmp_path / "cache").glob("*.json")
    stored = json.loads(index.read_text())
    index.write_text(json.dumps({**stored, "faults": {}}))  # a cache of before
    assert WaveCache.build(tmp_path / "cache", [items[0], empty], keep=True).faults.keys() == {1}


def test_cache_is_kept_although_recordings_changed(tmp_path: Path, items: list[CacheItem]) -> None:
    folder = tmp_path / "cache"
    before = WaveCache.build(folder, items).get(0)
    audio.write(tmp_path / "a.wav", np.zeros(8000, np.float32), RATE)
    (tmp_path / "b.wav").unlink()
    kept = WaveCache.build(folder, items, keep=True)
    assert not kept.faults
    assert np.array_equal(kept.get(0), before)
    fresh = WaveCache.build(folder, items)
    assert fresh.faults.keys() == {1, 2}
    assert not fresh.get(0).any()


def test_empty_cache(tmp_path: Path) -> None:
    assert len(WaveCache.build(tmp_path / "cache", [])) == 0


def _build(folder: Path, items: list[CacheItem]) -> float:
    return float(np.abs(WaveCache.build(folder, items).get(0)).sum())


@pytest.mark.distributed
def test_processes_build_one_cache_together(tmp_path: Path, items: list[CacheItem]) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        sums = pool.starmap(_build, [(tmp_path / "cache", items)] * 6)
    assert len(set(sums)) == 1
    assert len(list((tmp_path / "cache").glob("*.i16"))) == 1


def test_a_cache_says_once_what_is_missing_of_its_recordings(
    tmp_path: Path, items: list[CacheItem]
) -> None:
    for name in ("c", "d"):
        audio.write(tmp_path / f"{name}.wav", tone(0.5), RATE)
        data = (tmp_path / f"{name}.wav").read_bytes()
        (tmp_path / f"{name}.wav").write_bytes(data[: len(data) // 2])
    cut: list[CacheItem] = [(tmp_path / "c.wav", 0.0, None), (tmp_path / "d.wav", 0.0, None)]
    words = r"c\.wav is cut off or damaged: 0\.249 s of the 0\.500 s .* So it is with 1 other\."
    with pytest.warns(AudioWarning, match=words) as said:
        cache = WaveCache.build(tmp_path / "cache", [*items, *cut], num_threads=1)
    assert len(said) == 1
    assert not cache.faults
    assert len(cache.get(3)) == len(cache.get(4)) == 3989
    with pytest.warns(AudioWarning, match=r"c\.wav is cut off"):
        assert len(WaveCache(cut, RATE).get(0)) == 3989
