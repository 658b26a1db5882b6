"""A run goes on with what it was started on, wherever that lies, and with nothing else."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.data.index import Corpora, ManifestIndex
from speechssl.data.manifest import read_manifest, write_manifest
from speechssl.model.speech_model import SpeechModel
from speechssl.training import pretrain as pretraining
from speechssl.training.finetune import FinetuneWork, finetune
from speechssl.training.inputs import changed, pretraining_inputs
from speechssl.training.pretrain import PretrainWork, pretrain
from speechssl.training.resume import newest_progress


def steps(config, num):
    loop = replace(config.loop, max_steps=num, num_validations=1, checkpoint_every=1)
    return replace(config, loop=loop)


def files(run: Path) -> dict[Path, tuple[int, bytes]]:
    """Everything in a folder, with its time of change."""
    found = [path for path in run.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def fresh_model(config, seed: int) -> Checkpoint:
    torch.manual_seed(seed)
    return Checkpoint(SpeechModel(config.model))


def spelled(utterances, texts: str):
    return [replace(u, text=texts[i % len(texts)]) for i, u in enumerate(utterances)]


@contextmanager
def stopping_at(step: int, work: type, monkeypatch) -> Iterator[pytest.MonkeyPatch]:
    """A run under this breaks off in an update; what is patched beside it ends with it."""
    real = work.backward

    def stops(self, now, max_steps, batches):
        if now == step:
            raise RuntimeError("stopped")
        return real(self, now, max_steps, batches)

    with monkeypatch.context() as patch:
        patch.setattr(work, "backward", stops)
        with pytest.raises(RuntimeError, match="stopped"):
            yield patch


CHANGES = {
    "training recordings": lambda train, valid, init: (train[1:], valid, init),
    "training transcripts": lambda train, valid, init: (spelled(train, "xy"), valid, init),
    "validation recordings": lambda train, valid, init: (train, valid[1:], init),
    "validation transcripts": lambda train, valid, init: (train, spelled(valid, "ba"), init),
    "initial model": lambda train, valid, init: (train, valid, init + 1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_fine_tuning_on_something_else_is_refused_and_changes_nothing(
    name, tones, finetune_config, tmp_path
):
    run, config = tmp_path / "run", steps(finetune_config, 2)
    train, valid = spelled(tones[0], "ab"), spelled(tones[1], "ab")
    finetune(config, train, valid, run, init=fresh_model(config, 1))
    before = files(run)
    train, valid, seed = CHANGES[name](train, valid, 1)
    with pytest.raises(ValueError, match=f"other inputs .*{name}.*another --out"):
        finetune(config, train, valid, run, init=fresh_model(config, seed))
    assert files(run) == before
    finetune(config, train, valid, run, init=fresh_model(config, seed), resume=False)


def test_from_scratch_is_not_gone_on_with_from_a_model(tones, finetune_config, tmp_path):
    config = steps(finetune_config, 1)
    finetune(config, *tones, tmp_path / "run")
    with pytest.raises(ValueError, match=r"other inputs \(initial model\)"):
        finetune(config, *tones, tmp_path / "run", init=fresh_model(config, 1))


def test_a_head_never_gets_the_symbols_of_another_set(
    tones, finetune_config, tmp_path, monkeypatch
):
    """As a stopped run does that is started again when its transcripts were spelled anew."""
    run, config = tmp_path / "run", steps(finetune_config, 4)
    with stopping_at(2, FinetuneWork, monkeypatch):
        finetune(config, spelled(tones[0], "ab"), tones[1], run)
    with pytest.raises(ValueError, match="training transcripts, tokenizer"):
        finetune(config, spelled(tones[0], "xy"), tones[1], run)
    assert finetune(config, spelled(tones[0], "ab"), tones[1], run).steps == 4
    _, tokenizer = load_model(run).require_ctc()
    assert {"a", "b"} < set(tokenizer.symbols)


def test_pretraining_on_something_else_is_refused(tones, pretrain_config, tmp_path):
    run, config = tmp_path / "run", steps(pretrain_config, 2)
    (train, valid), init = tones, fresh_model(pretrain_config, 1)
    pretrain(config, train, run, valid_set=valid)
    before = files(run)
    for name, call in {
        "training recordings": lambda: pretrain(config, train[:-1], run, valid_set=valid),
        "validation recordings": lambda: pretrain(config, train, run),
        "initial model": lambda: pretrain(config, train, run, valid_set=valid, init=init),
    }.items():
        with pytest.raises(ValueError, match=rf"other inputs \({name}\)"):
            call()
    assert files(run) == before
    texts = spelled(train, "z")  # it does not look at them
    assert pretrain(config, texts, run, valid_set=valid).steps == 2


def test_other_settings_are_refused_before_anything_is_changed(tones, pretrain_config, tmp_path):
    run, config = tmp_path / "run", steps(pretrain_config, 1)
    pretrain(config, tones[0], run)
    before = files(run)
    other = replace(config, loop=replace(config.loop, seed=1))
    with pytest.raises(ValueError, match=r"other settings \(loop.seed 0 there, 1 now\)"):
        pretrain(other, tones[0], run)  # its seed holds out other recordings
    assert files(run) == before


def test_a_run_whose_data_were_moved_goes_on(tones, pretrain_config, finetune_config, tmp_path):
    here, there = tmp_path / "here", tmp_path / "far" / "there"
    here.mkdir()
    kept = [replace(u, audio=here / u.audio.name) for u in tones[0]]
    for old, new in zip(tones[0], kept, strict=True):
        shutil.copy(old.audio, new.audio)
    write_manifest(here / "train.jsonl", kept)
    utterances = read_manifest(here / "train.jsonl")
    pretrain(steps(pretrain_config, 1), utterances, tmp_path / "p", valid_set=tones[1])
    finetune(steps(finetune_config, 1), utterances, tones[1], tmp_path / "f")
    there.parent.mkdir()
    here.rename(there)
    moved = read_manifest(there / "train.jsonl")
    pretrain(steps(pretrain_config, 1), moved, tmp_path / "p", valid_set=tones[1])
    finetune(steps(finetune_config, 1), moved, tones[1], tmp_path / "f")


def test_a_run_of_before_goes_on_and_is_guarded_from_then_on(
    tones, pretrain_config, tmp_path, monkeypatch
):
    run, config = tmp_path / "run", steps(pretrain_config, 3)
    with stopping_at(1, PretrainWork, monkeypatch) as patch:
        patch.setattr(pretraining, "pretraining_inputs", lambda *_: {})
        pretrain(config, tones[0], run)
    assert newest_progress(run).inputs == {}
    assert pretrain(config, tones[0], run).steps == 3
    with pytest.raises(ValueError, match="training recordings"):
        pretrain(config, tones[0][1:], run)


def test_an_index_and_a_list_are_the_same_data(tones, tmp_path):
    write_manifest(tmp_path / "a.jsonl", tones[0])
    listed, indexed = read_manifest(tmp_path / "a.jsonl"), ManifestIndex.open(tmp_path / "a.jsonl")
    one, two = (pretraining_inputs(data, [], None) for data in (listed, Corpora([indexed])))
    assert one == two
    shifted = [replace(listed[0], start_s=0.1), *listed[1:]]
    other = pretraining_inputs(shifted, [], None)
    assert changed(one, other) == ["training recordings"]
    turned = pretraining_inputs(listed[::-1], [], None)
    assert changed(one, turned) == ["training recordings"]


def test_a_model_is_its_weights_with_their_names_types_and_shapes(pretrain_config):
    """The same bytes in another form are another model."""
    model = fresh_model(pretrain_config, 1)

    def digest(**heads: torch.Tensor) -> str:
        return pretraining_inputs([], [], replace(model, pretraining=heads))["initial model"]

    zeros = torch.zeros(2, 3)
    others = [
        digest(scale=torch.ones(2, 3)),
        digest(shift=zeros),
        digest(scale=zeros.to(torch.int32)),
        digest(scale=zeros.T),
    ]
    assert digest(scale=zeros) == digest(scale=zeros.clone())
    assert len({digest(scale=zeros), *others}) == 5


def test_the_command_says_which_input_is_another(tones, tmp_path, capsys):
    from speechssl.cli import main

    for name, chosen in (("a", tones[0][:8]), ("b", tones[0][8:16]), ("v", tones[1][:2])):
        write_manifest(tmp_path / f"{name}.jsonl", chosen)
    command = ["finetune", "--init", "scratch", "--valid", str(tmp_path / "v.jsonl")]
    command += ["--max-steps", "1", "--loop.num_workers", "0", "--loop.num_validations", "1"]
    command += ["--batch_s", "4", "--out", str(tmp_path / "run")]
    assert main([*command, "--train", str(tmp_path / "a.jsonl")]) == 0
    meta = json.loads((tmp_path / "run" / "best" / "meta.json").read_text())
    capsys.readouterr()
    assert main([*command, "--train", str(tmp_path / "b.jsonl")]) == 2
    said = capsys.readouterr().err
    assert "holds a run that was started on other inputs (training recordings, training" in said
    assert json.loads((tmp_path / "run" / "best" / "meta.json").read_text()) == meta
    assert main([*command, "--train", str(tmp_path / "a.jsonl"), "--label-minutes", "0.05"]) == 2
