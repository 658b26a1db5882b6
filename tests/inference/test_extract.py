"""Representations: every layer, frame times, files."""

import numpy as np
import pytest
import torch

from speechssl import audio
from speechssl.checkpoint import load_model
from speechssl.inference.extract import extract, extract_parts, write_features
from speechssl.inference.recordings import as_clip


@pytest.fixture(params=["ctc", "conv", "speech"])
def checkpoint(request, tiny_models):
    return load_model(tiny_models[request.param])


def test_layers_are_those_of_the_model(checkpoint, record):
    path = record("a.wav", 2.0)
    wave = torch.from_numpy(audio.read(path))[None]
    with torch.no_grad():
        out = checkpoint.speech(wave, torch.tensor([wave.shape[1]]), keep_hidden=True)
    for layer in range(3):
        found = extract(checkpoint, path, layer)
        assert found.frames.dtype == np.float32
        assert np.array_equal(found.frames, out.hidden[layer][0].numpy())
        assert found.layer == layer
    last = extract(checkpoint, path)
    assert np.array_equal(last.frames, out.context[0].numpy())
    assert last.layer == 2


def test_times_are_the_middle_of_each_frame(checkpoint, record):
    found = extract(checkpoint, record("a.wav", 2.0, rate=44100))
    assert found.times_s.shape == (len(found.frames),)
    assert found.times_s[0] == 0.01
    assert np.allclose(np.diff(found.times_s), 0.02)
    assert 1.95 < found.times_s[-1] < 2.0


def test_a_long_file_stays_on_the_grid(checkpoint, record):
    path = record("a.wav", 9.0)
    parts = list(extract_parts(checkpoint, as_clip(path), max_chunk_s=2.0))
    times = np.concatenate([p.times_s for p in parts])
    assert len(parts) >= 5
    assert np.allclose((times - 0.01) / 0.02, np.round((times - 0.01) / 0.02))
    assert (np.diff(times) > 0.019).all()
    assert len(times) >= 450 - len(parts)


@pytest.mark.parametrize("num_samples", [1, 3, 399, 401])
def test_a_very_short_wave_gives_a_frame(checkpoint, num_samples):
    found = extract(checkpoint, np.full(num_samples, 0.1, np.float32))
    assert found.frames.shape == (1, 16)


@pytest.mark.parametrize("layer", [-2, 3])
def test_no_such_layer(checkpoint, record, layer):
    with pytest.raises(ValueError, match=rf"layers 0 .* to 2, and -1 for the last; got {layer}"):
        extract(checkpoint, record("a.wav", 0.5), layer)


def test_files_are_written_as_the_parts_come(checkpoint, record, tmp_path):
    path = record("a.wav", 9.0)
    parts = list(extract_parts(checkpoint, as_clip(path), max_chunk_s=2.0))
    shape = write_features(iter(parts), tmp_path / "out", "sub/a")
    frames = np.load(tmp_path / "out/sub/a.npy")
    assert frames.shape == shape
    assert frames.dtype == np.float32
    assert np.array_equal(frames, np.concatenate([p.frames for p in parts]))
    times = np.load(tmp_path / "out/sub/a.times.npy")
    assert np.array_equal(times, np.concatenate([p.times_s for p in parts]))


def test_a_file_that_breaks_off_leaves_nothing(checkpoint, record, tmp_path):
    def broken():
        yield from extract_parts(checkpoint, as_clip(record("a.wav", 1.0)))
        raise audio.AudioError("cut off")

    with pytest.raises(audio.AudioError):
        write_features(broken(), tmp_path / "out", "a")
    assert list((tmp_path / "out").iterdir()) == []
