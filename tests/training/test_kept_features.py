"""Features of the recordings: kept or computed, the same to the last bit; of crops, of changed
voices; and when they are computed anew."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import PlannedBatches, Waves
from speechssl.data.voice import VoiceConfig
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.features import SpeechFeatures
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.task import MaskConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training import kept_features
from speechssl.training.kept_features import KeptFeatures, speech_features
from speechssl.training.pretrain import pretrain

CPU = torch.device("cpu")
NAMES = ("logmel", "mfcc", "prosody")


@pytest.fixture
def made(monkeypatch):
    """How often each feature was computed."""
    counter, real = Counter(), SpeechFeatures._make
    monkeypatch.setattr(
        SpeechFeatures, "_make", lambda self, name: counter.update([name]) or real(self, name)
    )
    return counter


class Corpus:
    """Some tones, their batches, and their features."""

    def __init__(self, utterances, folder, model_config, *, kept=True, **changes):
        self.waves = Waves.open(utterances, folder / "cache", 16000, False)
        self.model = SpeechModel(model_config)
        self.data = PlannedBatches(
            self.waves,
            BatchPlan(self.waves.lengths_s(), batch_s=5.0, seed=0),
            seed=0,
            hop_samples=model_config.hop_samples,
            **changes,
        )
        self.kept = KeptFeatures(self.model, self.waves, folder / "cache", CPU) if kept else None

    def inputs(self, index=0):
        own = None if self.kept is None else self.kept.of_inputs
        batch = self.data[index]
        return Inputs(self.model, batch, device=CPU, seed=0, mask=MaskConfig(), features=own)


@pytest.fixture
def corpus(tones, pretrain_config, tmp_path):
    return lambda **changes: Corpus(
        tones[0][:12], changes.pop("folder", tmp_path), pretrain_config.model, **changes
    )


@pytest.mark.parametrize("name", NAMES)
def test_from_the_file_they_are_what_is_computed_to_the_last_bit(name, corpus, made, tmp_path):
    """Of a whole utterance alone; log-mel and cepstra also as of the padded batch."""
    first = corpus().inputs().features(name)
    num = made[name]
    assert num > 1
    again = corpus().inputs().features(name)  # from the file
    assert made[name] == num
    assert torch.equal(first, again)
    computed = corpus(kept=False).inputs().features(name)
    if name == "prosody":
        assert torch.allclose(first, computed, atol=1e-4)
    else:
        assert torch.equal(first, computed)
    x = corpus(kept=False).inputs()
    for row, (n, length) in enumerate(zip(x.frames.tolist(), x.lengths.tolist(), strict=True)):
        own = speech_features(x.model, x.batch.clean[row, :length].numpy(), CPU).features(name)[0]
        assert torch.equal(first[row, :n], own)
        assert not first[row, n:].any()
    assert len(list((tmp_path / "cache").glob(f"features-{name}-*.f32"))) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_crop_has_its_part_of_the_whole_utterance(name, corpus):
    one = corpus(max_crop_s=0.5)
    x = one.inputs()
    assert all(x.batch.cropped)
    assert len(set(x.batch.starts)) > 3
    for found in (x.features(name), corpus(max_crop_s=0.5).inputs().features(name)):
        for row, (item, start) in enumerate(zip(x.batch.items, x.batch.starts, strict=True)):
            whole = speech_features(one.model, one.waves.wave(item), CPU).features(name)[0]
            first = start // one.model.config.hop_samples
            assert torch.equal(found[row], whole[first : first + int(x.frames[row])])


def test_crops_of_the_whole_and_features_of_the_crop_are_alike(corpus):
    """What the two definitions differ in: the level and range of a tone's part, and its edges."""
    for name, least in (("logmel", 0.8), ("mfcc", 0.8)):
        whole = corpus(max_crop_s=0.6).inputs().features(name)
        crop = corpus(max_crop_s=0.6, kept=False).inputs().features(name)
        assert not torch.equal(whole, crop)
        alike = np.corrcoef(whole.flatten().numpy(), crop.flatten().numpy())[0, 1]
        assert least < alike < 1


def test_of_a_changed_voice_they_are_those_of_what_is_played(corpus, made):
    voice = VoiceConfig(speed_p=0.5, pitch_p=0.3)
    for _ in range(2):  # computed, then from the file
        one = corpus(voice=voice, max_crop_s=0.9)
        x = one.inputs()
        assert {True, False} == set(x.batch.altered)
        found = x.features("logmel")
        for row, altered in enumerate(x.batch.altered):
            num, start = int(x.frames[row]), x.batch.starts[row]
            played = x.batch.clean[row, : int(x.lengths[row])].numpy()
            wave = played if altered else one.waves.wave(x.batch.items[row])
            own = speech_features(one.model, wave, CPU).features("logmel")[0]
            first = 0 if altered else start // one.model.config.hop_samples
            assert torch.equal(found[row, :num], own[first : first + num])
    num_altered, num_rows = sum(x.batch.altered), len(x.batch.altered)
    own_calls = 2 * num_rows  # of this test
    assert made["logmel"] == own_calls + num_rows + num_altered


@pytest.mark.parametrize("change", ["wave", "version", "rows", "device", "torch"])
def test_what_they_depend_on(change, corpus, made, monkeypatch):
    one = corpus()
    expected = one.inputs().features("mfcc")
    num = made["mfcc"]
    path = one.waves.cache.path
    if change == "wave":  # decoded anew, by another decoder say, while all else is as it was
        samples = np.fromfile(path, "<i2")
        samples[::2] += 1
        samples.tofile(path)
    if change == "version":
        monkeypatch.setitem(kept_features.FEATURE_VERSIONS, "mfcc", 2)
    if change == "torch":
        monkeypatch.setattr(torch, "__version__", "99")
    if change == "rows":
        file = next(path.parent.glob("features-mfcc-*.f32"))
        content = file.read_bytes()
        file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    other = corpus()
    if change == "device":
        other.kept._device = type("Device", (), {"type": "cuda"})()
        monkeypatch.setattr(kept_features, "send", lambda values, _: values)
    found = other.inputs().features("mfcc")
    assert made["mfcc"] > num
    assert torch.equal(found, expected) == (change != "wave")
    files = list(path.parent.glob("features-mfcc-*.f32"))
    assert len(files) == (2 if change in ("version", "torch", "device") else 1)


def test_an_unwritable_disk_is_said_once_and_changes_no_number(corpus, monkeypatch):
    expected = {name: corpus().inputs().features(name) for name in NAMES}

    def full(*_args):
        raise OSError(28, "No space left on device")

    for place in ("_make", "_write"):
        monkeypatch.setattr(f"speechssl.data.frame_file.{place}", full)
        one = corpus(folder=corpus().waves.cache.path.parents[1])
        for file in one.waves.cache.path.parent.glob("features-*.f32"):
            file.unlink()
        with pytest.warns(UserWarning, match="No space left on device") as warned:
            found = {name: one.inputs().features(name) for name in NAMES}
        assert len(warned) == 1
        assert all(torch.equal(found[name], expected[name]) for name in NAMES)
        monkeypatch.undo()


class Event:
    """Of a copy from a GPU, which has arrived or not."""

    def __init__(self):
        self.is_there = False

    def query(self):
        return self.is_there


def test_what_a_gpu_computes_is_written_when_it_is_there(corpus, made):
    one = corpus()
    event, kept, num = Event(), one.kept, len(one.inputs().frames)
    real, kept._write_arrived = kept._write_arrived, lambda: None
    expected = one.inputs().features("mfcc")
    kept._on_the_way[1] = (event, *kept._on_the_way[1][1:])
    real()
    assert len(kept._on_the_way) == num - 1  # in order: none overtakes another
    corpus().inputs().features("mfcc")
    assert made["mfcc"] == num + num - 1
    event.is_there = True
    real()
    assert not kept._on_the_way
    assert torch.equal(corpus().inputs().features("mfcc"), expected)
    assert made["mfcc"] == num + num - 1


def test_the_wave_and_what_is_large_are_not_kept(corpus, monkeypatch, tmp_path):
    one = corpus(max_crop_s=0.5)
    plain = corpus(max_crop_s=0.5, kept=False)
    assert torch.equal(one.inputs().features("wave"), plain.inputs().features("wave"))
    monkeypatch.setattr(kept_features, "_MOST_BYTES", 4 * 25 * 12 * 320)  # 12 s of log-mel
    assert [one.kept.keeps(name) for name in (*NAMES, "wave")] == [True, True, True, False]
    monkeypatch.setattr(kept_features, "_MOST_BYTES", 4 * 25 * 10 * 320)
    assert [one.kept.keeps(name) for name in NAMES] == [False, True, True]
    assert torch.equal(one.inputs().features("logmel"), plain.inputs().features("logmel"))
    assert not list((tmp_path / "cache").glob("features-*"))


def test_crops_of_long_recordings_are_computed_from_the_crop(corpus, monkeypatch):
    monkeypatch.setattr(kept_features, "_LONGEST_S", 0.9)
    one, plain = (corpus(max_crop_s=0.5, kept=kept) for kept in (True, False))
    assert torch.equal(one.inputs().features("mfcc"), plain.inputs().features("mfcc"))


def test_features_are_computed_once_however_many_tasks_and_epochs(corpus, made):
    one = corpus()
    for index in range(4 * one.data.plan.num_batches):
        x = one.inputs(index)
        assert x.features("logmel") is x.features("logmel")
        x.features("mfcc")
    assert made == {"logmel": 12, "mfcc": 12}


def losses(run):
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "time_s" and "speed" not in k}
        for line in lines
    ]


@pytest.mark.parametrize("name", ["logmel", "prosody"])
def test_a_run_is_the_same_to_the_last_digit(name, tones, pretrain_config, tmp_path, monkeypatch):
    """Kept, without a disk, gone on with after the files are lost; and, of features that do not
    depend on the batch, as computed for each batch."""
    tasks = TaskConfigs((ReconstructionConfig(features=(name,)),))
    loop = replace(pretrain_config.loop, max_steps=6, num_validations=1, checkpoint_every=2)
    config = replace(pretrain_config, tasks=tasks, loop=loop)

    def run(folder, **changes):
        pretrain(replace(config, **changes), tones[0][:20], tmp_path / folder, valid_set=tones[1])
        return losses(tmp_path / folder)

    kept = run("kept")
    assert list((tmp_path / "kept" / "cache").glob(f"features-{name}-*.f32"))
    if name != "prosody":
        assert run("batch", keep_features=False) == kept
        assert not list((tmp_path / "batch" / "cache").glob("features-*"))

    real, calls = kept_features.KeptFeatures.of_inputs, []

    def interrupted(self, name, x):
        calls.append(1)
        if len(calls) == 5:
            for file in (tmp_path / "stopped" / "cache").glob("features-*"):
                file.write_bytes(b"")
            raise RuntimeError("killed")
        return real(self, name, x)

    monkeypatch.setattr(kept_features.KeptFeatures, "of_inputs", interrupted)
    with pytest.raises(RuntimeError, match="killed"):
        run("stopped")
    assert run("stopped") == kept
    monkeypatch.undo()
    monkeypatch.setattr(kept_features.KeptFeatures, "_open", lambda *_: None)
    assert run("no disk") == kept
