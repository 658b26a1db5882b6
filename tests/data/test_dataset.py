import os
import pickle
import time
from multiprocessing import active_children

import numpy as np
import pytest
import torch

from speechssl import audio
from speechssl.audio import AudioError
from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import FaultyDataError, PlannedBatches, Waves, load_batches
from speechssl.data.distortion import full
from speechssl.data.manifest import Utterance
from speechssl.data.wave_cache import WaveCache
from speechssl.rng import rng


@pytest.fixture
def waves(tmp_path) -> Waves:
    utterances = []
    for index in range(12):
        wave = 0.1 * rng(0, "wave", index).standard_normal(3000 + 1000 * index).astype(np.float32)
        path = tmp_path / f"{index}.wav"
        audio.write(path, wave, 16000)
        utterances.append(
            Utterance(str(index), path, 0.0, len(wave) / 16000, 16000, None, f"t{index}")
        )
    return Waves.open(utterances, tmp_path / "cache", 16000, False)


def dataset(waves, **changes) -> PlannedBatches:
    plan = BatchPlan(waves.lengths_s(), batch_s=2.0, seed=0)
    return PlannedBatches(waves, plan, seed=0, **changes)


def equal(a, b) -> bool:
    return (
        a.ids == b.ids and torch.equal(a.distorted, b.distorted) and torch.equal(a.clean, b.clean)
    )


def test_a_batch_is_a_function_of_its_number(waves):
    one = dataset(waves, max_crop_s=0.4, distortion=full())
    two = pickle.loads(pickle.dumps(one))
    for index in (5, 0, 3, 5):
        assert equal(one[index], two[index])


def test_distortion_changes_what_is_heard_and_not_what_is_clean(waves):
    plain, distorted = dataset(waves), dataset(waves, distortion=full())
    played = [distorted[i].distorted for i in range(4)]
    clean = [plain[i].clean for i in range(4)]
    assert all(torch.equal(distorted[i].clean, c) for i, c in enumerate(clean))
    assert any(not torch.equal(h, c) for h, c in zip(played, clean, strict=True))
    batch = plain[0]
    assert batch.distorted is batch.clean


def test_the_same_utterance_is_distorted_anew_in_each_epoch(waves):
    data = dataset(waves, distortion=full())
    seen = {}
    for index in range(2 * data.plan.num_batches):
        batch = data[index]
        for row, name in enumerate(batch.ids):
            seen.setdefault(name, []).append(batch.distorted[row, : batch.lengths[row]])
    assert any(not torch.equal(a, b) for a, b in seen.values())


def test_speeds_change_length_and_pitch(waves):
    tone = np.sin(2 * np.pi * 400 * np.arange(16000) / 16000).astype(np.float32)
    faster = audio.play_at(tone, 1.25)
    assert len(faster) == pytest.approx(16000 / 1.25, abs=2)
    peak = np.abs(np.fft.rfft(faster * np.hanning(len(faster)))).argmax() * 16000 / len(faster)
    assert peak == pytest.approx(500, abs=2)
    plain, data = dataset(waves), dataset(waves, speeds=(0.8, 1.0))
    ratios = {
        round(heard / said, 2)
        for index in range(2 * data.plan.num_batches)
        for heard, said in zip(
            data[index].lengths.tolist(), plain[index].lengths.tolist(), strict=True
        )
    }
    assert ratios == {1.0, 1.25}


def test_crops_are_of_the_length_asked(waves):
    batch = dataset(waves, max_crop_s=0.25)[0]
    assert int(batch.lengths.max()) <= 4000


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_begins_anywhere_and_keeps_the_order(waves, workers):
    data = dataset(waves, max_crop_s=0.4)
    loaded = list(load_batches(data, 2, 6, num_workers=workers))
    assert [b.index for b in loaded] == [2, 3, 4, 5]
    assert all(equal(b, data[b.index]) for b in loaded)


def test_a_loader_that_is_closed_leaves_no_process_not_even_a_busy_one(waves, monkeypatch):
    data, make = dataset(waves), PlannedBatches.__getitem__

    def slow(self, index):
        if index > 0:
            time.sleep(600)
        return make(self, index)

    monkeypatch.setattr(PlannedBatches, "__getitem__", slow)
    others = active_children()
    batches = load_batches(data, 0, 10, num_workers=1)
    next(batches)
    assert len(active_children()) == len(others) + 1
    batches.close()
    assert active_children() == others


def test_an_utterance_that_cannot_be_read_has_a_stand_in_of_its_length(waves, tmp_path):
    whole = dataset(waves, max_crop_s=0.4)
    batches = [whole[i] for i in range(2 * whole.plan.num_batches)]
    broken = Waves(waves.utterances, WaveCache(items_of(waves), 16000), 16000)
    (tmp_path / "4.wav").unlink()
    (tmp_path / "7.wav").write_bytes((tmp_path / "7.wav").read_bytes()[:5000])
    audio.write(tmp_path / "9.wav", np.zeros(12000, np.float32), 16000)
    data = dataset(broken, max_crop_s=0.4)
    why = {"4": "No such recording", "7": "has changed", "9": "has changed"}
    seen = {}
    for before in batches:
        batch = data[before.index]
        assert equal(batch, pickle.loads(pickle.dumps(data))[before.index])
        for name, stand_in in zip(before.ids, batch.ids, strict=True):
            seen.setdefault(name, []).append(stand_in)
            assert (stand_in == name) is (name not in why)
            assert stand_in not in why
        assert {name for name, _ in batch.faults} >= set(before.ids) & set(why)
        assert all(why[name] in reason for name, reason in batch.faults)
    assert all(abs(int(s) - int(name)) <= 6 for name in why for s in seen[name])
    assert any(len(set(seen[name])) > 1 for name in why)  # drawn anew in each epoch


def items_of(waves):
    return [(u.audio, u.start_s, u.duration_s) for u in waves.utterances]


def test_when_nothing_can_be_read_it_is_said(waves, tmp_path):
    broken = Waves(waves.utterances, WaveCache(items_of(waves), 16000), 16000)
    for index in range(12):
        (tmp_path / f"{index}.wav").unlink()
    for use in (lambda: dataset(broken)[0], lambda: broken.wave(3)):
        with pytest.raises(FaultyDataError, match="None of the utterances can be read"):
            use()


def test_without_a_cache_a_recording_stays_what_was_first_heard(waves, tmp_path):
    later = time.time() + 3600  # a clock that was wrong, or another machine's
    os.utime(tmp_path / "3.wav", (later, later))
    fresh = Waves.open(waves.utterances, None, 16000, False).cache
    copy = pickle.loads(pickle.dumps(fresh))
    assert np.array_equal(fresh.get(3), waves.cache.get(3))
    assert np.array_equal(fresh.get(3), waves.cache.get(3))
    audio.write(tmp_path / "3.wav", np.zeros(6000, np.float32), 16000)  # of the same size
    with pytest.raises(AudioError, match=r"3\.wav has changed since it was first decoded"):
        fresh.get(3)
    assert not copy.get(3).any()
    assert len(fresh) == len(copy) == 12


@pytest.mark.distributed
def test_workers_share_what_was_first_heard(waves, tmp_path):
    fresh = Waves.open(waves.utterances, None, 16000, False)
    data = dataset(fresh)
    assert not [
        f for b in load_batches(data, 0, data.plan.num_batches, num_workers=2) for f in b.faults
    ]
    audio.write(tmp_path / "5.wav", np.zeros(8000, np.float32), 16000)
    again = load_batches(data, 0, data.plan.num_batches, num_workers=1)
    assert {name for batch in again for name, _ in batch.faults} == {"5"}


def test_step_a_million_of_a_million_utterances_is_fetched_at_once(tmp_path, monkeypatch):
    """Where a run goes on is not walked to: one batch of sound is read, a second or two pass."""
    lengths = np.random.default_rng(0).uniform(1, 15, 1_000_000)
    path = tmp_path / "a.wav"
    utterances = [Utterance(str(i), path, 0.0, s, 16000) for i, s in enumerate(lengths.tolist())]
    cache = WaveCache([], 16000)
    read = []
    monkeypatch.setattr(
        WaveCache, "get", lambda _, i: read.append(i) or np.zeros(int(16000 * lengths[i]), "f4")
    )
    many = Waves(utterances, cache, 16000)
    began = time.monotonic()
    plan = BatchPlan(many.lengths_s(), batch_s=87.5, seed=0, rank=5, world=8, accumulate=8)
    data = PlannedBatches(many, plan, seed=0)
    batches = load_batches(data, 8_000_000, 8_000_010, num_workers=0)
    batch = next(batches)
    assert time.monotonic() - began < 15
    assert batch.index // 64 == 1_000_000
    assert batch.ids == tuple(str(i) for i in read)
    assert len(read) < 100


def test_a_part_is_its_rows_of_the_whole_micro_batch(waves):
    whole = dataset(waves, max_crop_s=0.4, distortion=full())
    parts = [whole.shared(rank, 2) for rank in range(2)]
    for index in range(4):
        batch, own = whole[index], [part[index] for part in parts]
        rows = sum((one.cut.rows for one in own), ())
        assert sorted(rows) == list(range(len(batch.ids)))
        assert sum((one.ids for one in own), ()) == tuple(batch.ids[row] for row in rows)
        assert sum((one.starts for one in own), ()) == tuple(batch.starts[row] for row in rows)
        for one in own:
            assert one.index == batch.index
            assert torch.equal(one.cut.lengths, batch.lengths)
            rows = list(one.cut.rows)
            assert torch.equal(one.lengths, batch.lengths[rows])
            longest = int(one.lengths.max()) if rows else 0
            assert one.distorted.shape == (len(rows), longest)
            assert torch.equal(one.distorted, batch.distorted[rows, :longest])
            assert torch.equal(one.clean, batch.clean[rows, :longest])
    assert whole[0].cut is None


def test_a_part_without_an_utterance_is_empty(waves):
    part = dataset(waves).shared(11, 12)[0]
    assert part.ids == ()
    assert part.num_samples == 0
    assert part.cut.rows == ()


def test_what_cannot_be_read_is_reported_by_the_process_that_has_it(waves):
    waves.cache.faults[3] = "gone"
    whole = dataset(waves)
    index = next(i for i in range(whole.plan.num_batches) if 3 in whole.plan.batch(i))
    reported = [whole.shared(rank, 2)[index].faults for rank in range(2)]
    assert sorted(reported, key=len) == [(), whole[index].faults]
    ids = [whole.shared(rank, 2)[index].ids for rank in range(2)]
    assert sorted(sum(ids, ())) == sorted(whole[index].ids)
