"""Offline units: the same from the cache as computed for a batch; found again, and when not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from speechssl.data.dataset import Waves
from speechssl.model.config import ConvEncoderConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.training import units as units_module
from speechssl.training.pretrain import PretrainWork


def work_of(config, utterances, folder, *, run):
    """The work on some utterances, all of them for training and validation."""
    waves = Waves.open(utterances, folder / "cache", 16000, False)
    torch.manual_seed(0)
    model = SpeechModel(config.model)
    return PretrainWork(config, model, waves, waves, torch.device("cpu"), run=run)


def units_of(work, index):
    """The units of a training batch, and the frames that count."""
    x = work.inputs(work.dataset(work.valid_batches.waves, shuffle=True)[index])
    return x.units("masked_units/mfcc"), x.frames


@pytest.mark.parametrize("encoder", ["filterbank", "conv"])
def test_units_of_crops_are_those_of_the_whole_utterance(encoder, tones, pretrain_config, tmp_path):
    config = replace(pretrain_config, max_crop_s=0.5)
    if encoder == "conv":
        config = replace(config, model=replace(config.model, encoder=ConvEncoderConfig((8,) * 7)))
    work = work_of(config, tones[0][:12], tmp_path, run=tmp_path)
    waves, hop = work.valid_batches.waves, config.model.hop_samples
    batch = work.dataset(waves, shuffle=True)[0]
    assert all(start % hop == 0 for start in batch.starts)
    assert len(set(batch.starts)) > 3
    found, frames = units_of(work, 0)
    for row, (item, start) in enumerate(zip(batch.items, batch.starts, strict=True)):
        x = units_module.single_inputs(work.model, waves.wave(item), torch.device("cpu"))
        whole = units_module.compute_units(work.tasks, x)["masked_units/mfcc"][0]
        own, num = found[row], int(frames[row])
        assert torch.equal(own[:num], whole[start // hop :][:num])
        assert not own[num:].any()


def test_without_a_folder_they_are_computed_for_the_batch(tones, pretrain_config, tmp_path):
    cached, fresh = (
        work_of(pretrain_config, tones[0][:12], tmp_path, run=run) for run in (tmp_path, None)
    )
    (one, frames), (two, _) = units_of(cached, 0), units_of(fresh, 0)
    for row, num in enumerate(frames.tolist()):
        assert torch.equal(one[row, :num], two[row, :num])
    assert len(list((tmp_path / "cache").glob("units-*.u16"))) == 1


def test_a_file_of_units_is_found_again(tones, pretrain_config, tmp_path, monkeypatch):
    first, _ = units_of(work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path), 0)
    computed = []
    real = units_module.compute_units
    monkeypatch.setattr(
        units_module, "compute_units", lambda *args: computed.append(1) or real(*args)
    )
    again, _ = units_of(work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path), 0)
    assert torch.equal(first, again)
    assert len(computed) == 1  # to see which there are


@pytest.mark.parametrize("change", ["centroids", "utterances", "recordings", "cut off"])
def test_what_they_depend_on_names_the_file(change, tones, pretrain_config, tmp_path):
    chosen = tones[0][:12]
    units_of(work_of(pretrain_config, chosen, tmp_path, run=tmp_path), 0)
    (path,) = (tmp_path / "cache").glob("units-*.u16")
    config = pretrain_config
    if change == "centroids":
        config = replace(config, loop=replace(config.loop, seed=1))
    if change == "utterances":
        chosen = tones[0][1:13]
    if change == "recordings":
        for sound in (tmp_path / "cache").glob("*.i16"):
            sound.touch()
    if change == "cut off":
        path.write_bytes(path.read_bytes()[:-2])
    size = path.stat().st_size
    work = work_of(config, chosen, tmp_path, run=tmp_path)
    units_of(work, 0)
    files = list((tmp_path / "cache").glob("units-*.u16"))
    assert len(files) == (1 if change == "cut off" else 2)
    assert change != "cut off" or path.stat().st_size == size + 2


def test_a_disk_that_takes_nothing_is_no_end(tones, pretrain_config, tmp_path, monkeypatch):
    expected, _ = units_of(work_of(pretrain_config, tones[0][:12], tmp_path, run=None), 0)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(units_module.OfflineUnits, "_fill", full)
    work = work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path)
    with pytest.warns(UserWarning, match="No space left on device"):
        found, frames = units_of(work, 0)
    for row, num in enumerate(frames.tolist()):
        assert np.array_equal(found[row, :num], expected[row, :num])
