"""Representations: every layer, sums of layers, frame times, many recordings at once."""

import numpy as np
import pytest
import torch

from speechssl import audio
from speechssl.checkpoint import load_model
from speechssl.inference.extract import Layers, choose_layers, extract, extract_all
from speechssl.inference.recordings import Clip, as_clip
from speechssl.model.fast.accelerate import accelerate
from speechssl.rng import rng


@pytest.fixture(params=["ctc", "conv", "speech"])
def checkpoint(request, tiny_models):
    return load_model(tiny_models[request.param])


def test_layers_are_those_of_the_model(checkpoint, record):
    path = record("a.wav", 2.0)
    wave = torch.from_numpy(audio.read(path))[None]
    with torch.no_grad():
        out = accelerate(checkpoint.speech)(wave, torch.tensor([wave.shape[1]]), keep_hidden=True)
    for layer in range(3):
        found = extract(checkpoint, path, layer)
        assert found.frames.dtype == np.float32
        # Not equal: on an AMD a product depends on where in memory its factors lie.
        np.testing.assert_allclose(found.frames, out.hidden[layer][0].numpy(), rtol=0, atol=1e-5)
        assert found.layer == layer
    last = extract(checkpoint, path)
    np.testing.assert_allclose(last.frames, out.context[0].numpy(), rtol=0, atol=1e-5)
    assert last.layer == 2


def test_times_are_the_middle_of_each_frame(checkpoint, record):
    found = extract(checkpoint, record("a.wav", 2.0, rate=44100))
    assert found.times_s.shape == (len(found.frames),)
    assert found.times_s[0] == 0.01
    assert np.allclose(np.diff(found.times_s), 0.02)
    assert 1.95 < found.times_s[-1] < 2.0


def test_a_long_file_stays_on_the_grid(checkpoint, record):
    path = record("a.wav", 9.0)
    parts = list(next(extract_all(checkpoint, [as_clip(path)], Layers(2), max_chunk_s=2.0)))
    times = np.concatenate([p.times_s for p in parts])
    assert len(parts) >= 5
    assert np.allclose((times - 0.01) / 0.02, np.round((times - 0.01) / 0.02))
    assert (np.diff(times) > 0.019).all()
    assert np.allclose(times, (np.arange(len(times)) + 0.5) * 0.02, atol=1e-9)
    lengths = checkpoint.speech.frame_lengths(torch.tensor([9 * 16000]))
    assert len(times) == int(lengths)  # as many as of the whole, however it is cut


@pytest.mark.parametrize("max_chunk_s", [0.1, 0.5, 1.0, 3.3])
@pytest.mark.parametrize("num_samples", [48000, 48079, 48080, 48319, 48320, 51233])
def test_frames_do_not_drift_over_chunks(checkpoint, max_chunk_s, num_samples):
    wave = rng(0, "drift").normal(0, 0.1, num_samples).astype(np.float32)
    whole = extract(checkpoint, wave)
    parts = list(next(extract_all(checkpoint, [as_clip(wave)], Layers(0), max_chunk_s=max_chunk_s)))
    times = np.concatenate([part.times_s for part in parts])
    assert np.allclose(times, whole.times_s, atol=1e-9)


@pytest.mark.parametrize("num_samples", [1, 3, 399, 401])
def test_a_very_short_wave_gives_a_frame(checkpoint, num_samples):
    found = extract(checkpoint, np.full(num_samples, 0.1, np.float32))
    assert found.frames.shape == (1, 16)


@pytest.mark.parametrize("layer", [-2, 3])
def test_no_such_layer(checkpoint, record, layer):
    with pytest.raises(ValueError, match=rf"layers 0 .* to 2, and -1 for the last; got {layer}"):
        extract(checkpoint, record("a.wav", 0.5), layer)


def test_weights(checkpoint, record):
    path = record("a.wav", 1.0)
    layers = np.stack([extract(checkpoint, path, k).frames for k in range(3)])
    found = extract(checkpoint, path, weights=[0.5, -1, 2])
    expected = 0.5 * layers[0] - layers[1] + 2 * layers[2]
    assert np.allclose(found.frames, expected, atol=1e-5)
    assert found.layer is None
    mean = extract(checkpoint, path, weights="mean")
    assert np.allclose(mean.frames, layers.mean(0), atol=1e-5)


def test_all_layers_side_by_side(checkpoint, record):
    path = record("a.wav", 1.0)
    (parts,) = map(list, extract_all(checkpoint, [as_clip(path)], Layers()))
    layers = [extract(checkpoint, path, k).frames for k in range(3)]
    assert np.allclose(parts[0].frames, np.concatenate(layers, axis=1), atol=1e-6)


@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0] * 4, [0.0, 1.0, float("nan")]])
def test_other_weights_than_layers(checkpoint, weights):
    with pytest.raises(ValueError, match="needs 3 finite weights; got"):
        choose_layers(checkpoint, weights=weights)


def frames_of(checkpoint, waves, **options):
    """The frames of each wave."""
    found = extract_all(checkpoint, [as_clip(w) for w in waves], Layers(2), **options)
    return [np.concatenate([part.frames for part in parts]) for parts in found]


def test_it_does_not_matter_what_a_recording_is_batched_with(checkpoint):
    seconds = [0.3, 2.0, 0.01, 1.1, 5.0, 0.7]
    generator = rng(0, "waves")
    waves = [generator.normal(0, 0.1, round(16000 * s)).astype(np.float32) for s in seconds]
    alone = [frames_of(checkpoint, [wave], max_chunk_s=2.0)[0] for wave in waves]
    for batch_s in (0.01, 4.0, 60.0):
        together = frames_of(checkpoint, waves, batch_s=batch_s, max_chunk_s=2.0)
        assert [len(f) for f in together] == [len(f) for f in alone]
        for one, other in zip(alone, together, strict=True):
            assert np.abs(one - other).max() < 2e-5


def test_a_recording_that_breaks_off_does_not_disturb_the_others(checkpoint, record, tmp_path):
    (tmp_path / "bad.wav").write_text("I am not sound.")
    paths = [record("a.wav", 0.5), tmp_path / "bad.wav", record("b.wav", 0.25), tmp_path / "no.wav"]
    found = []
    for parts in extract_all(checkpoint, map(as_clip, paths), Layers(1)):
        try:
            found.append(sum(len(part.frames) for part in parts))
        except (audio.AudioError, FileNotFoundError) as error:
            found.append(type(error))
    long, short = (len(extract(checkpoint, paths[i]).frames) for i in (0, 2))
    assert found == [long, audio.AudioError, short, FileNotFoundError]


def test_recordings_are_asked_for_as_they_are_needed(checkpoint):
    """So that memory does not grow with their number: eight batches are ahead, and no more."""
    asked = 0

    def clips():
        nonlocal asked
        for asked in range(1, 101):
            yield Clip(str(asked), np.full(8000, 0.1, np.float32))

    most_ahead = 0
    for done, parts in enumerate(extract_all(checkpoint, clips(), Layers(0), batch_s=1.0)):
        assert sum(len(part.frames) for part in parts) >= 24
        most_ahead = max(most_ahead, asked - done)
    assert done == 99
    assert most_ahead <= 17  # a window ends between the last clip and its end
