"""Representations on disk: whole or not there, .npy and Parquet."""

import contextlib
import json

import numpy as np
import pytest

from speechssl import audio
from speechssl.checkpoint import load_model
from speechssl.inference.extract import Features, Layers, extract_all
from speechssl.inference.feature_files import write_features, write_mean
from speechssl.inference.recordings import as_clip
from speechssl.rng import rng


def parts(*sizes, width=4, then=None):
    """Parts with so many frames, and then perhaps an error."""
    start = 0
    for size in sizes:
        frames = rng(0, "frames", start).normal(size=(size, width)).astype(np.float32)
        yield Features(frames, 0.02 * (start + np.arange(size) + 0.5), 2)
        start += size
    if then:
        raise then


def whole(*sizes):
    made = list(parts(*sizes))
    return np.concatenate([p.frames for p in made]), np.concatenate([p.times_s for p in made])


def test_files_are_written_as_the_parts_come(tmp_path):
    shape = write_features(parts(30, 1, 12), tmp_path / "out", "sub/a")
    frames, times_s = whole(30, 1, 12)
    found = np.load(tmp_path / "out/sub/a.npy")
    assert found.shape == shape == (43, 4)
    assert found.dtype == np.float32
    assert np.array_equal(found, frames)
    assert np.array_equal(np.load(tmp_path / "out/sub/a.times.npy"), times_s)
    assert len(list((tmp_path / "out/sub").iterdir())) == 2


def test_the_mean(tmp_path):
    assert write_mean(parts(30, 1, 12), tmp_path / "out", "a") == (43, 4)
    found = np.load(tmp_path / "out/a.npy")
    assert found.shape == (4,)
    assert found.dtype == np.float32
    assert np.allclose(found, whole(30, 1, 12)[0].mean(0), atol=1e-6)


@pytest.mark.parametrize("write", [write_features, write_mean])
def test_a_file_that_breaks_off_leaves_nothing(tmp_path, write):
    (tmp_path / "out").mkdir()
    with pytest.raises(audio.AudioError):
        write(parts(3, then=audio.AudioError("cut off")), tmp_path / "out", "a")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("write", [write_features, write_mean])
def test_a_disk_that_is_full_leaves_the_older_file(tmp_path, monkeypatch, write):
    write(parts(3), tmp_path, "a")
    before = (tmp_path / "a.npy").read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        write(parts(7), tmp_path, "a")
    assert (tmp_path / "a.npy").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_real_model_through_files(tiny_models, record, tmp_path):
    checkpoint = load_model(tiny_models["speech"])
    found = extract_all(checkpoint, [as_clip(record("a.wav", 5.0))], Layers(1), max_chunk_s=1.0)
    num_frames, width = write_features(next(found), tmp_path, "a")
    assert np.load(tmp_path / "a.npy", mmap_mode="r").shape == (num_frames, width)
    assert width == 16


# ---- Parquet ------------------------------------------------------------------------------------


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet")


@pytest.mark.extras
def test_a_table_of_frames(tmp_path, parquet, monkeypatch):
    from speechssl.inference import feature_table

    monkeypatch.setattr(feature_table, "_VALUES_AT_ONCE", 40)  # ten frames
    path = tmp_path / "new" / "all.parquet"
    with feature_table.FeatureTable(path, pool=False, about={"layer": 2}) as table:
        assert table.add("a.wav", parts(30, 1, 12)) == (43, 4)
        with pytest.raises(audio.AudioError):
            table.add("bad.wav", parts(30, then=audio.AudioError("cut off")))
        assert table.add("b.wav", parts(2)) == (2, 4)
        assert not path.exists()
    found = parquet.read_table(path)
    assert found.column_names == ["audio", "time_s", "features"]
    assert found["audio"].to_pylist() == ["a.wav"] * 43 + ["b.wav"] * 2
    frames, times_s = whole(30, 1, 12)
    assert np.array_equal(np.array(found["features"].to_pylist()[:43], np.float32), frames)
    assert np.array_equal(found["time_s"].to_numpy()[:43], times_s)
    assert parquet.ParquetFile(path).num_row_groups == 6
    assert json.loads(found.schema.metadata[b"speechssl"]) == {"layer": 2}
    assert [p.name for p in path.parent.iterdir()] == ["all.parquet"]


@pytest.mark.extras
def test_a_table_of_means(tmp_path, parquet):
    from speechssl.inference.feature_table import FeatureTable

    with FeatureTable(tmp_path / "all.parquet", pool=True) as table:
        table.add("a.wav", parts(30, 1, 12))
        table.add("b.wav", parts(2))
    found = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["audio"] for row in found] == ["a.wav", "b.wav"]
    assert [row["num_frames"] for row in found] == [43, 2]
    assert np.allclose(found[0]["features"], whole(30, 1, 12)[0].mean(0), atol=1e-6)


@pytest.mark.extras
def test_a_table_that_breaks_off_leaves_the_older_one(tmp_path, parquet):
    from speechssl.inference.feature_table import FeatureTable

    path = tmp_path / "all.parquet"
    path.write_text("older")
    with (
        contextlib.suppress(KeyboardInterrupt),
        FeatureTable(path, pool=True) as table,
    ):
        table.add("a.wav", parts(30))
        raise KeyboardInterrupt
    with FeatureTable(path, pool=True):
        pass  # no row
    assert path.read_text() == "older"
    assert [p.name for p in tmp_path.iterdir()] == ["all.parquet"]
    assert parquet


@pytest.mark.extras
def test_a_name_that_is_not_utf8_in_a_table(tmp_path, parquet):
    from speechssl.inference.feature_table import FeatureTable

    with FeatureTable(tmp_path / "all.parquet", pool=True) as table:
        table.add("caf\udce9.wav", parts(3))
    found = parquet.read_table(tmp_path / "all.parquet")
    assert found["audio"].to_pylist() == [r"caf\udce9.wav"]
