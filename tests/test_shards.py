"""Recordings inside tar files are recordings like any other."""

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio, shards
from speechssl.audio import AudioError
from speechssl.cli import main
from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import PlannedBatches, Waves
from speechssl.data.layouts import detect_layout, read_layout
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.prepare import prepare
from speechssl.data.wave_cache import WaveCache
from speechssl.rng import rng


def pack(shard: Path, files: dict[str, bytes]) -> Path:
    shard.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(shard, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return shard


@pytest.fixture
def plain(tmp_path) -> list[Path]:
    paths = []
    for i, suffix in enumerate((".wav", ".flac", ".ogg", ".wav", ".flac", ".wav")):
        wave = 0.3 * rng(0, "shard", i).uniform(-1, 1, 8000 + 3000 * i).astype(np.float32)
        paths.append(tmp_path / "plain" / f"r{i}{suffix}")
        audio.write(paths[-1], wave, 16000, None)
    return paths


@pytest.fixture
def shard(plain, tmp_path) -> Path:
    files = {f"sub/{path.name}": path.read_bytes() for path in plain}
    files["sub/r0.txt"] = "ɛ text\n".encode()
    files["sub/r1.json"] = json.dumps({"text": "of json", "speaker": 7}).encode()
    return pack(tmp_path / "shards" / "train-000.tar", files)


def test_a_member_sounds_as_its_file(plain, shard):
    for path in plain:
        inside = shard / "sub" / path.name
        assert audio.probe(inside).num_samples == audio.probe(path).num_samples
        assert np.array_equal(audio.read(inside), audio.read(path))
        part = audio.read(inside, start_s=0.1, duration_s=0.2)
        assert np.array_equal(part, audio.read(path, start_s=0.1, duration_s=0.2))
    with pytest.raises(FileNotFoundError, match="the shard has no member of that name"):
        audio.read(shard / "sub" / "gone.wav")
    assert shards.file_of(plain[0]) == plain[0]


def test_the_index_is_made_once_and_follows_the_shard(plain, shard, monkeypatch):
    audio.probe(shard / "sub" / "r0.wav")
    shards._index.cache_clear()
    real = shards.members
    monkeypatch.setattr(shards, "members", lambda _: pytest.fail("the shard was read again"))
    audio.probe(shard / "sub" / "r0.wav")
    monkeypatch.setattr(shards, "members", real)
    pack(shard, {"new.wav": plain[0].read_bytes()})
    assert audio.probe(shard / "new.wav").num_samples == 8000
    with pytest.raises(FileNotFoundError, match="no member"):
        audio.probe(shard / "sub" / "r0.wav")
    shard.write_bytes(b"no tar" * 400)
    with pytest.raises(AudioError, match="is no tar file"):
        audio.probe(shard / "new.wav")


def test_an_older_shard_in_place_of_another_has_its_own_index(plain, shard, tmp_path):
    """`mv` and `cp -p` keep the time of change, so the new shard is older than the index."""
    audio.write(tmp_path / "low.wav", 0.1 * audio.read(plain[0]), 16000)
    loud, low = plain[0].read_bytes(), (tmp_path / "low.wav").read_bytes()
    pack(shard, {"a.wav": loud, "b.wav": low})
    assert audio.read(shard / "a.wav").max() > 0.2
    other = pack(shard.with_name("other.tar"), {"b.wav": low, "a.wav": loud})
    os.utime(other, (1e9, 1e9))
    os.replace(other, shard)
    for _ in range(2):
        assert audio.read(shard / "a.wav").max() > 0.2
        shards._index.cache_clear()  # another process


def test_a_shard_that_was_cut_off_has_its_first_members(plain, shard):
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    assert np.array_equal(audio.read(shard / "sub" / "r0.wav"), audio.read(plain[0]))
    items = [(shard / "sub" / path.name, 0.0, None) for path in plain]
    faults = WaveCache.build(shard.parent / "cache", items).faults
    assert 0 < len(faults) < len(plain)
    assert all("no member" in reason for reason in faults.values())
    with pytest.raises(ValueError, match=r"train-000\.tar is .* cut off"):  # nothing is lost unsaid
        list(read_layout(shard.parent))


def test_layout(shard, plain):
    assert detect_layout(shard.parent) == detect_layout(shard) == "shards"
    assert detect_layout(plain[0].parent) == "folder"
    found = list(read_layout(shard.parent))
    assert [r.id for r in found] == [f"train-000/sub/r{i}" for i in range(6)]
    assert (found[0].text, found[0].speaker) == ("ɛ text", None)
    assert (found[1].text, found[1].speaker) == ("of json", "7")
    assert found[2].text is None
    assert {r.split for r in found} == {None}  # one split alone is none
    pack(shard.with_name("test-000.tar"), {"x.wav": plain[0].read_bytes()})
    assert {r.split for r in read_layout(shard.parent)} == {"train", "test"}
    pack(shard.with_name("test-001.tar"), {"x.wav": b"", "x.json": b"[1]"})
    with pytest.raises(ValueError, match=r"test-001\.tar/x\.json must hold a JSON object"):
        list(read_layout(shard.parent))


def test_members_of_any_name_are_listed(plain, tmp_path):
    sound = plain[0].read_bytes()
    files = {"d/spk1.v2.wav": sound, "d/spk1.v2.txt": b"bye", "d/c.m4a": b"x", "d/._c.wav": b"x"}
    files |= {"b.far.flac": sound, "b.near.flac": sound, "b.txt": b"both", "b.near.json": b"{}"}
    files |= {"b.near.txt": b"near", "notes.md": b"x"}
    found = {r.audio.name: r for r in read_layout(pack(tmp_path / "x.tar", files))}
    assert {name: (r.id, r.text) for name, r in found.items()} == {
        "spk1.v2.wav": ("x/d/spk1.v2", "bye"),
        "c.m4a": ("x/d/c", None),
        "b.far.flac": ("x/b.far", "both"),  # WebDataset's key is `b`
        "b.near.flac": ("x/b.near", "near"),
    }
    prepare(found.values(), tmp_path / "out")
    assert "x.tar/d/c.m4a cannot be opened" in (tmp_path / "out" / "dropped.jsonl").read_text()


def test_batches_are_those_of_plain_files(plain, shard, tmp_path):
    def batches(paths, cache):
        utterances = [
            Utterance(f"u{i}", path, 0.0, audio.probe(path).duration_s, 16000)
            for i, path in enumerate(paths)
        ]
        waves = Waves.open(utterances, cache, 16000, False)
        data = PlannedBatches(
            waves, BatchPlan(waves.lengths_s(), batch_s=2.0, seed=0), seed=0, max_crop_s=0.6
        )
        return [data[i] for i in range(2 * data.plan.num_batches)]

    inside = [shard / "sub" / path.name for path in plain]
    for cache in (None, tmp_path / "cache"):
        for one, two in zip(batches(plain, cache), batches(inside, cache), strict=True):
            assert replace(one, distorted=0, clean=0, lengths=0) == replace(
                two, distorted=0, clean=0, lengths=0
            )
            assert np.array_equal(one.distorted, two.distorted)


def test_prepare_writes_paths_into_shards(shard, tmp_path, capsys):
    out = tmp_path / "data"
    assert main(["prepare", str(shard.parent), "--out", str(out), "--dev-share", "0"]) == 0
    found = [u for path in out.glob("t*.jsonl") for u in read_manifest(path)]
    assert len(found) == 6, capsys.readouterr()
    assert all(len(audio.read(u.audio)) > 0 for u in found)
    assert '"audio": "../shards/train-000.tar/sub/r' in (out / "train.jsonl").read_text()
