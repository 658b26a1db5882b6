"""Offline units: the same from the cache as computed for a batch; found again, and when not."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from speechssl.checkpoint import Checkpoint, load_model, save_model
from speechssl.data.dataset import Waves
from speechssl.data.voice import VoiceConfig
from speechssl.model.config import ConvEncoderConfig
from speechssl.model.quantizer import RandomProjectionQuantizer
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training import units as units_module
from speechssl.training.pretrain import PretrainWork, pretrain


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


def test_the_rate_and_what_units_are_made_of_lie_beside_them_and_in_the_model(
    tones, pretrain_config, tmp_path
):
    units = replace(pretrain_config.tasks["masked_units"], features=("mfcc", "prosody"))
    config = replace(pretrain_config, tasks=pretrain_config.tasks.having(units))
    work = work_of(config, tones[0][:12], tmp_path, run=tmp_path)
    units_of(work, 0)
    (path,) = (tmp_path / "cache").glob("units-*.json")
    index = json.loads(path.read_text(encoding="utf-8"))
    expected = {
        f"masked_units/{name}": {
            "rate_hz": 25.0,
            "made_of": name,
            "quantizer": "kmeans",
            "num_units": 16,
        }
        for name in ("mfcc", "prosody")
    }
    assert index["rate_hz"] == 25.0
    assert index["units"] == expected
    work.save(tmp_path / "model", 1, {})
    assert load_model(tmp_path / "model").meta["units"] == expected


def test_units_of_a_teacher_name_its_layer(tones, pretrain_config, tmp_path):
    torch.manual_seed(1)
    save_model(tmp_path / "teacher", Checkpoint(SpeechModel(pretrain_config.model)))
    config = replace(
        pretrain_config,
        tasks=pretrain_config.tasks.without("reconstruction"),
        teacher=str(tmp_path / "teacher"),
        teacher_layer=1,
    )
    work = work_of(config, tones[0][:12], tmp_path, run=tmp_path)
    work.save(tmp_path / "model", 1, {})
    (units,) = load_model(tmp_path / "model").meta["units"].values()
    assert units == {
        "rate_hz": 25.0,
        "made_of": "teacher",
        "layer": 1,
        "quantizer": "kmeans",
        "num_units": 16,
    }


def test_a_model_without_units_says_nothing_of_them(tones, pretrain_config, tmp_path):
    tasks = pretrain_config.tasks.without("masked_units")
    work = work_of(replace(pretrain_config, tasks=tasks), tones[0][:12], tmp_path, run=tmp_path)
    work.save(tmp_path / "model", 1, {})
    assert "units" not in load_model(tmp_path / "model").meta


@pytest.mark.parametrize(("rate", "is_refused"), [(50.0, True), (25.0, False), (None, False)])
def test_units_of_another_rate_are_refused(rate, is_refused, tones, pretrain_config, tmp_path):
    """An index of version 0.1 says no rate and is taken."""
    first, _ = units_of(work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path), 0)
    (path,) = (tmp_path / "cache").glob("units-*.json")
    index = json.loads(path.read_text(encoding="utf-8"))
    index.pop("rate_hz")
    path.write_text(json.dumps(index if rate is None else index | {"rate_hz": rate}))
    work = work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path)
    if not is_refused:
        assert torch.equal(units_of(work, 0)[0], first)
        return
    said = r"units-\w+.u16 holds 50.0 units a second, and the model has 25 frames a second: delete"
    with pytest.raises(ValueError, match=said):
        units_of(work, 0)


@pytest.mark.parametrize("content", ["[]", "{", '"names"', '{"bytes": []}'])
def test_a_damaged_index_is_written_anew(content, tones, pretrain_config, tmp_path):
    first, _ = units_of(work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path), 0)
    (path,) = (tmp_path / "cache").glob("units-*.json")
    whole = path.read_text(encoding="utf-8")
    path.write_text(content, encoding="utf-8")
    again, _ = units_of(work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path), 0)
    assert torch.equal(first, again)
    assert path.read_text(encoding="utf-8") == whole


def test_a_random_projection_never_learns_and_is_restored(
    tones, pretrain_config, tmp_path, monkeypatch
):
    """Projection and codes are the same before, during and after training, and a run that goes on
    has those of its states, whatever a fresh one would draw."""
    units = replace(pretrain_config.tasks["masked_units"], quantizer="random")
    config = replace(pretrain_config, tasks=TaskConfigs((units,)))
    run, real = tmp_path / "run", PretrainWork.backward
    seen = []

    def watch(self, step, max_steps, batches):
        quantizer = self.tasks.by_name["masked_units"].codebooks[0].quantizer
        seen.append((quantizer.projection.clone(), quantizer.codebook.clone()))
        if step == 8 and len(seen) <= 9:
            raise RuntimeError("killed")
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", watch)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(config, tones[0], run, valid_set=tones[1])
    drawn = RandomProjectionQuantizer.__init__
    monkeypatch.setattr(
        RandomProjectionQuantizer, "__init__", lambda self, *a: drawn(self, *a, seed=99)
    )
    pretrain(config, tones[0], run, valid_set=tones[1])
    assert len(seen) > 12
    assert all(torch.equal(p, seen[0][0]) and torch.equal(c, seen[0][1]) for p, c in seen)
    fresh = RandomProjectionQuantizer(seen[0][0].shape[0], 16)
    assert not torch.equal(fresh.projection, seen[0][0])


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


def test_without_a_disk_crops_have_the_units_that_they_have_with_one(
    tones, pretrain_config, tmp_path, monkeypatch
):
    config = replace(pretrain_config, max_crop_s=0.5, voice=VoiceConfig(pitch_p=0.3))
    expected, _ = units_of(work_of(config, tones[0][:12], tmp_path, run=tmp_path), 0)
    (tmp_path / "other").mkdir()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(units_module.OfflineUnits, "_fill", full)
    work = work_of(config, tones[0][:12], tmp_path, run=tmp_path / "other")
    with pytest.warns(UserWarning, match="No space left on device"):
        found, _ = units_of(work, 0)
    assert torch.equal(found, expected)
    assert torch.equal(units_of(work, 0)[0], expected)


def test_a_kill_while_a_lost_file_is_made_again_leaves_no_wrong_units(
    tones, pretrain_config, tmp_path, monkeypatch
):
    """Somebody deleted the units and left their index."""
    first, _ = units_of(work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path), 0)
    (path,) = (tmp_path / "cache").glob("units-*.u16")
    path.unlink()

    def killed(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(units_module.OfflineUnits, "_write_share", killed)
    with pytest.raises(KeyboardInterrupt):
        units_of(work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path), 0)
    assert path.stat().st_size  # of zeros
    monkeypatch.undo()
    again, _ = units_of(work_of(pretrain_config, tones[0][:12], tmp_path, run=tmp_path), 0)
    assert torch.equal(again, first)


@pytest.mark.parametrize("kept", [True, False])
def test_units_of_another_voice_are_of_the_altered_wave(kept, tones, pretrain_config, tmp_path):
    voice = VoiceConfig(speed_p=0.5, pitch_p=0.5)
    config = replace(pretrain_config, voice=voice, max_crop_s=0.9)
    work = work_of(config, tones[0][:12], tmp_path, run=tmp_path if kept else None)
    waves = work.valid_batches.waves
    data = work.dataset(waves, shuffle=True)
    batch = data[0]
    assert {True, False} == set(batch.altered)
    x = work.inputs(batch)
    found = x.units("masked_units/mfcc")
    num_other = 0
    for row, (item, start) in enumerate(zip(batch.items, batch.starts, strict=True)):
        num = int(x.frames[row])
        recorded = units_of_wave(work, waves.wave(item))[start // config.model.hop_samples :][:num]
        if batch.altered[row]:
            expected = units_of_wave(work, batch.clean[row, : int(batch.lengths[row])].numpy())
            num_other += not torch.equal(expected, recorded)
        elif kept:  # of the whole utterance
            expected = recorded
        else:
            expected = units_of_wave(work, batch.clean[row, : int(batch.lengths[row])].numpy())
        assert torch.equal(found[row, :num], expected)
        assert not kept or not found[row, num:].any()
    assert num_other > 1
    assert torch.equal(work.inputs(batch).units("masked_units/mfcc"), found)  # from what was kept
    assert torch.equal(work.inputs(data[1]).units("masked_units/mfcc"), of_batch(work, data[1]))


def units_of_wave(work, wave):
    x = units_module.single_inputs(work.model, wave, torch.device("cpu"))
    return units_module.compute_units(work.tasks, x)["masked_units/mfcc"][0]


def of_batch(work, batch):
    """Asked for alone."""
    work._train_units._of_batch = (None, {})
    return work.inputs(batch).units("masked_units/mfcc")


def test_only_altered_samples_are_computed_for_the_batch(
    tones, pretrain_config, tmp_path, monkeypatch
):
    config = replace(pretrain_config, voice=VoiceConfig(pitch_p=0.4))
    work = work_of(config, tones[0][:12], tmp_path, run=tmp_path)
    data = work.dataset(work.valid_batches.waves, shuffle=True)
    units_of(work, 0)
    computed = []
    real = units_module.compute_units
    monkeypatch.setattr(
        units_module,
        "compute_units",
        lambda tasks, x: computed.append(len(x.frames)) or real(tasks, x),
    )
    altered = []
    for index in range(4):
        batch = data[index]
        altered.append(sum(batch.altered))
        work.inputs(batch).units("masked_units/mfcc")
    assert computed == [num for num in altered if num]
    work.inputs(work.valid_batches[0], valid=True).units("masked_units/mfcc")
    assert not any(work.valid_batches[0].altered)


def test_a_plan_has_room_for_slow_speech(tones, pretrain_config, tmp_path):
    slow = replace(pretrain_config, voice=VoiceConfig(speed_p=1.0, speed=(0.5, 0.5)))
    work = work_of(slow, tones[0][:12], tmp_path, run=None)
    for shuffle, factor in ((True, 2), (False, 1)):
        data = work.dataset(work.valid_batches.waves, shuffle=shuffle)
        assert data.plan.lengths_s == pytest.approx(factor * data.waves.lengths_s())
        for index in range(data.plan.num_batches):
            batch = data[index]
            padded_s = batch.clean.numel() / 16000
            assert padded_s <= slow.batch_s * 1.001 or len(batch.ids) == 1
