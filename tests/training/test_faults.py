"""Recordings that vanish, are cut off or change under a run: replaced, counted, named, limited."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speechssl import audio
from speechssl.cli import main
from speechssl.data import wave_cache
from speechssl.data.dataset import FaultyDataError
from speechssl.data.index import Corpora
from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.runlog import read_metrics
from speechssl.training.faults import open_waves
from speechssl.training.finetune import finetune
from speechssl.training.pretrain import PretrainWork, pretrain


@pytest.fixture
def own_tones(tones, tmp_path) -> tuple[list[Utterance], list[Utterance]]:
    """Copies of the tones, which a test may damage."""

    def copied(utterance: Utterance) -> Utterance:
        path = tmp_path / "audio" / utterance.audio.name
        path.parent.mkdir(exist_ok=True)
        return replace(utterance, audio=Path(shutil.copy(utterance.audio, path)))

    return [copied(u) for u in tones[0][:32]], [copied(u) for u in tones[1][:6]]


def vanish(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def tolerant(config, share=0.2):
    loop = replace(config.loop, max_fault_share=share, max_steps=6, checkpoint_every=2)
    return replace(config, loop=replace(loop, num_validations=1))


def end_of(run: Path) -> tuple[dict[str, torch.Tensor], list[dict]]:
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    tensors = {k: v.clone() for k, v in load_file(newest / "model.safetensors").items()}
    metrics = [
        {k: v for k, v in m.items() if k != "time_s" and not k.startswith("speed/")}
        for m in read_metrics(run)
    ]
    return tensors, metrics


def same_end(one: Path, two: Path) -> bool:
    (a, lines), (b, others) = end_of(one), end_of(two)
    return lines == others and all(torch.equal(a[k], b[k]) for k in a)


def named(run: Path) -> dict[str, str]:
    lines = (run / "faults.jsonl").read_text(encoding="utf-8").splitlines()
    return {told["id"]: told["reason"] for told in map(json.loads, lines)}


def at_steps(monkeypatch, **what) -> None:
    """``step_3=f``: call f before the gradients of step 3, the first time it is reached."""
    real = PretrainWork.backward

    def backward(self, step, max_steps, batches):
        what.pop(f"step_{step}", lambda: None)()
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", backward)


def die() -> None:
    raise RuntimeError("killed")


@pytest.mark.parametrize("damage", [vanish, truncate])
def test_what_is_damaged_before_the_start_is_replaced_and_resume_is_exact(
    damage, own_tones, pretrain_config, tmp_path, monkeypatch, capsys
):
    train_set, valid_set = own_tones
    damage(train_set[3].audio)
    damage(train_set[20].audio)
    config = tolerant(pretrain_config)
    pretrain(config, train_set, tmp_path / "whole", valid_set=valid_set)
    assert named(tmp_path / "whole").keys() == {"0-3", "0-20"}
    assert "0-3 is replaced by other utterances: " in capsys.readouterr().err
    replaced = [m.get("faults/replaced", 0) for m in read_metrics(tmp_path / "whole")]
    assert sum(replaced) >= 2

    at_steps(monkeypatch, step_5=die)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(config, train_set, tmp_path / "again", valid_set=valid_set)
    vanish(train_set[7].audio)  # between the sessions: the run goes on with what it heard
    pretrain(config, train_set, tmp_path / "again", valid_set=valid_set)
    assert same_end(tmp_path / "whole", tmp_path / "again")
    assert named(tmp_path / "again") == named(tmp_path / "whole")


@pytest.mark.parametrize("damage", [vanish, truncate])
@pytest.mark.filterwarnings("ignore:No wave cache:UserWarning")
def test_what_is_damaged_under_a_run_without_a_cache(
    damage, own_tones, pretrain_config, tmp_path, monkeypatch
):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wave_cache, "_fill", no_space)
    config = tolerant(pretrain_config)

    def run(name: str, *, dies: bool) -> Path:
        train_set, valid_set = ([copy_of(u, name) for u in part] for part in own_tones)
        steps = {"step_1": lambda: [damage(u.audio) for u in train_set[:5]]}
        with monkeypatch.context() as patch:
            at_steps(patch, **steps, **({"step_5": die} if dies else {}))
            if dies:
                with pytest.raises(RuntimeError, match="killed"):
                    pretrain(config, train_set, tmp_path / name, valid_set=valid_set)
            pretrain(config, train_set, tmp_path / name, valid_set=valid_set)
        return tmp_path / name

    def copy_of(utterance: Utterance, name: str) -> Utterance:
        path = tmp_path / f"audio-{name}" / utterance.audio.name
        path.parent.mkdir(exist_ok=True)
        return replace(utterance, audio=Path(shutil.copy(utterance.audio, path)))

    whole, broken = run("whole", dies=False), run("broken", dies=True)
    damaged = {f"0-{i}" for i in range(5)}
    assert named(whole).keys() <= damaged
    assert len(named(whole)) >= 3
    assert same_end(whole, broken)


def rewrite(path: Path) -> None:
    """As long as it was, with other sound."""
    wave = audio.read(path, sample_rate=16000)
    audio.write(path, wave[::-1].copy(), 16000)


@pytest.mark.parametrize("damage", [vanish, truncate, rewrite])
def test_what_is_damaged_under_a_run_that_keeps_no_cache(
    damage, own_tones, pretrain_config, tmp_path, monkeypatch
):
    train_set, valid_set = own_tones
    at_steps(monkeypatch, step_1=lambda: [damage(u.audio) for u in train_set[:5]])
    config = replace(tolerant(pretrain_config), cache=False)
    pretrain(config, train_set, tmp_path / "run", valid_set=valid_set)
    assert named(tmp_path / "run").keys() <= {f"0-{i}" for i in range(5)}
    assert len(named(tmp_path / "run")) >= 3


@pytest.mark.parametrize("cache", [True, False])
def test_an_utterance_of_no_length_is_replaced_and_named(
    cache, own_tones, pretrain_config, tmp_path
):
    train_set, valid_set = own_tones
    train_set[4] = replace(train_set[4], duration_s=0.0)
    config = replace(tolerant(pretrain_config), cache=cache)
    pretrain(config, train_set, tmp_path / "run", valid_set=valid_set)
    (reason,) = named(tmp_path / "run").values()
    assert "the part from 0 s on is too short to hold a sample" in reason


def test_caches_of_other_data_are_told_with_their_size(tones, tmp_path, capsys):
    train_set, valid_set = tones

    def opened(num, cache=True):
        open_waves((train_set[:num], valid_set[:2]), tmp_path, 16000, True, 0.0, cache)
        return capsys.readouterr().err

    assert opened(8) == opened(8) == ""
    first = {path.name for path in (tmp_path / "cache").glob("*.i16")}
    (name,) = re.findall(r"cache holds [\d.e-]+ GB .* to free it, delete (\w+\.i16)\.", opened(9))
    assert name in first
    assert opened(9, cache=False).count(".i16") == 3
    (tmp_path / "cache" / name).unlink()
    assert opened(9) == ""


def test_a_cache_from_before_a_folder_was_moved_is_not_said_to_be_of_other_data(
    tones, own_tones, tmp_path, capsys
):
    for train_set, valid_set in (tones, own_tones):
        open_waves((train_set[:4], valid_set[:2]), tmp_path / "run", 16000, True, 0.0)
    told = capsys.readouterr().err
    assert "GB of decoded sound of other data, or of the same in another place, which" in told
    assert told.count(".i16") == 2


def test_too_many_faults_stop_a_run_with_a_sentence(own_tones, pretrain_config, tmp_path):
    train_set, valid_set = own_tones
    for utterance in train_set[:4]:
        vanish(utterance.audio)
    with pytest.raises(
        FaultyDataError, match=r"4 of 32 utterances .*share of 0\.05 .*first is 0-0 \(No such rec"
    ):
        pretrain(tolerant(pretrain_config, 0.05), train_set, tmp_path / "run", valid_set=valid_set)


@pytest.mark.filterwarnings("ignore:No wave cache:UserWarning")
def test_too_many_faults_under_a_run(own_tones, pretrain_config, tmp_path, monkeypatch):
    train_set, valid_set = own_tones
    monkeypatch.setattr(
        wave_cache, "_need_space", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    at_steps(monkeypatch, step_3=lambda: [vanish(u.audio) for u in train_set[:12]])
    with pytest.raises(FaultyDataError, match=r"of 32 utterances cannot be read, more than"):
        pretrain(tolerant(pretrain_config, 0.02), train_set, tmp_path / "run", valid_set=valid_set)
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").is_dir()


def test_corpora_may_use_the_same_ids(own_tones, pretrain_config, tmp_path):
    first, second = own_tones[0][:16], own_tones[0][16:]
    second = [replace(u, id=v.id) for u, v in zip(second, first, strict=True)]
    for utterance in (first[3], second[3], second[4]):
        vanish(utterance.audio)
    valid = Corpora([own_tones[1], own_tones[1]])
    pretrain(tolerant(pretrain_config), Corpora([first, second]), tmp_path / "run", valid_set=valid)
    ids = [first[i].id for i in (3, 3, 4)]
    assert named(tmp_path / "run").keys() == {f"1/{ids[0]}", f"2/{ids[1]}", f"2/{ids[2]}"}
    assert read_manifest(tmp_path / "run" / "valid.jsonl") == list(valid)


def test_two_manifests_for_fine_tuning_may_use_the_same_ids(own_tones, tmp_path):
    train, valid = own_tones
    vanish(train[3].audio)
    copied = [replace(u, id=v.id) for u, v in zip(train[16:], train[:16], strict=True)]
    for name, part in (("a", train[:16]), ("b", copied), ("v", valid)):
        write_manifest(tmp_path / f"{name}.jsonl", part)
    command = ["finetune", "--init", "scratch", "--train", str(tmp_path / "a.jsonl")]
    command += [str(tmp_path / "b.jsonl"), "--valid", str(tmp_path / "v.jsonl"), "--out"]
    command += [str(tmp_path / "run"), "--max-steps", "1", "--loop.num_workers", "0"]
    command += ["--loop.max_fault_share", "0.2", "--loop.num_validations", "1"]
    assert main(command) == 0
    assert named(tmp_path / "run").keys() == {f"1/{train[3].id}"}


def test_the_transcript_is_that_of_what_is_heard(own_tones, finetune_config, tmp_path):
    train_set, valid_set = own_tones
    truncate(train_set[5].audio)
    truncate(valid_set[1].audio)
    loop = replace(finetune_config.loop, max_steps=60, num_validations=2, max_fault_share=0.2)
    finetune(replace(finetune_config, loop=loop), train_set, valid_set, tmp_path / "run")
    assert named(tmp_path / "run").keys() == {"0-5"}
    losses = [m["loss/ctc"] for m in read_metrics(tmp_path / "run") if "loss/ctc" in m]
    assert losses[-1] < 0.6 * losses[0]
