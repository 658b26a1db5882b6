"""Model folders: bit-identical round trips, sentences for damage, saves whole or not at all."""

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechssl import checkpoint
from speechssl.checkpoint import (
    Checkpoint,
    find_model,
    load_model,
    replace_folder,
    save_model,
    sweep,
    write_tensors,
)
from speechssl.model.config import (
    ContextConfig,
    ConvEncoderConfig,
    FilterbankEncoderConfig,
    ModelConfig,
)
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.text import CharTokenizer
from tests.breaking import Killed, break_at

CONTEXT = ContextConfig(dim=8, num_layers=1, num_heads=2, ffn_dim=8, pos_kernel=4, pos_groups=2)
CONFIGS = {
    "conv": ModelConfig(encoder=ConvEncoderConfig((4,) * 7), context=CONTEXT, normalize_wave=True),
    "filterbank": ModelConfig(encoder=FilterbankEncoderConfig(num_filters=4), context=CONTEXT),
}
TOKENIZER = CharTokenizer.train(["abc déf"])


def speech(kind="conv", seed=0) -> SpeechModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SpeechModel(CONFIGS[kind])


def writer(kind="conv", seed=0, upsample=1) -> Checkpoint:
    head = CTCHead(8, TOKENIZER.vocab_size, upsample)
    return Checkpoint(CTCModel(speech(kind, seed), head), TOKENIZER, {"steps": seed})


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def folder(tmp_path) -> Path:
    return save_model(tmp_path / "best", writer())


# --- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_pretrained_model_comes_back_bit_for_bit(kind, tmp_path):
    model = speech(kind)
    meta = {"steps": 7, "hours": 1.5, "data": "mboshi: ɛ́"}
    back = load_model(save_model(tmp_path / "m", Checkpoint(model, meta=meta)))
    assert same(model, back.model)
    assert isinstance(back.model, SpeechModel)
    assert back.speech is back.model
    assert back.tokenizer is None
    assert back.model.config == model.config
    assert meta.items() <= back.meta.items()
    assert back.folder == tmp_path / "m"
    assert not back.model.training


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("upsample", [1, 2])
def test_a_writing_model_comes_back_bit_for_bit(kind, upsample, tmp_path):
    made = writer(kind, upsample=upsample)
    back = load_model(save_model(tmp_path / "m", made))
    assert same(made.model, back.model)
    model, tokenizer = back.require_ctc()
    assert model.head.upsample == upsample
    assert tokenizer.symbols == TOKENIZER.symbols
    wave, lengths = torch.randn(2, 3000) / 5, torch.tensor([3000, 1500])
    with torch.no_grad():
        ours, theirs = made.model.eval()(wave, lengths)[0], model(wave, lengths)[0]
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", CONFIGS)
def test_opening_a_model_copies_nothing(kind, tmp_path, monkeypatch):
    read = {}
    monkeypatch.setattr(checkpoint, "load_file", lambda p: read.setdefault(p, load_file(p)))
    made = save_model(tmp_path / "m", Checkpoint(speech(kind)))
    back = load_model(made).model
    tensors = read[made / "model.safetensors"]
    state = back.state_dict()
    assert all(state[name].data_ptr() == value.data_ptr() for name, value in tensors.items())
    assert all(parameter.requires_grad for parameter in back.parameters())


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_every_file_has_the_permissions_of_a_new_one(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        write_tensors({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
        write_tensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")  # over the other
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == mode


def test_the_files_say_what_they_are(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "meta.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    config = json.loads((folder / "config.json").read_text())
    assert (config["format"], config["version"]) == ("speechssl", 1)
    assert "speechssl" in json.loads((folder / "meta.json").read_text())


def test_a_folder_can_be_moved_and_lives_without_meta(folder, tmp_path):
    first = load_model(folder)
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "m")
    shutil.rmtree(folder)
    (moved / "meta.json").unlink()
    second = load_model(moved)
    assert same(first.model, second.model)
    assert second.meta == {}


def test_a_pretrained_model_cannot_transcribe_and_says_so(tmp_path):
    back = load_model(save_model(tmp_path / "m", Checkpoint(speech())))
    with pytest.raises(ValueError, match=r"no transcription head.*speechssl finetune --init"):
        back.require_ctc()


def test_the_best_model_of_a_run_is_found_before_the_latest(tmp_path):
    save_model(tmp_path / "run" / "model", writer(seed=1))
    assert load_model(tmp_path / "run").meta["steps"] == 1
    save_model(tmp_path / "run" / "best", writer(seed=2))
    assert load_model(tmp_path / "run").meta["steps"] == 2


# --- what is wrong is said ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", r"config\.json is missing"),
        ("model.safetensors", r"not a whole model folder: it has no model\.safetensors"),
        ("tokenizer.json", r"tokenizer\.json is missing"),
    ],
)
def test_a_missing_file_is_named(folder, name, said):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=said):
        load_model(folder)


def test_no_folder_an_empty_folder_and_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no model folder .*nowhere"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"is not a model folder: it has no config\.json"):
        load_model(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file; a model is a folder"):
        load_model(tmp_path / "file")


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_damaged_weights_are_named(folder, damage):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "noise": b"x" * 500, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or not a safetensors"):
        load_model(folder)


def test_a_pickle_is_not_opened(folder):
    path = folder / "model.safetensors"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is damaged or not a safetensors file"):
        load_model(folder)


def test_weights_of_another_shape_are_named(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["head.linear.bias"] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors")
    said = (
        rf"head\.linear\.bias has shape \(3,\), config\.json asks for \({TOKENIZER.vocab_size},\)"
    )
    with pytest.raises(ValueError, match=said):
        load_model(folder)


def test_missing_and_unexpected_weights_are_named(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["extra"] = tensors.pop("speech.mask_embedding")
    save_file(tensors, folder / "model.safetensors")
    said = r"missing tensors \['speech\.mask_embedding'\], unexpected \['extra'\]"
    with pytest.raises(ValueError, match=said):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"colour": 1}}, r"config\.json .*unknown fields \['colour'\]"),
        ({"model": {"encoder": {"kind": "sinc"}}}, "encoder.kind must be one of"),
        ({"model": {"context": {"dim": "wide"}}}, r"config\.json describes a model that cannot"),
        ({"model": [1]}, r"config\.json describes a model that cannot"),
        ({"head": {"vocab_size": -1}}, r"config\.json describes a model that cannot"),
        ({"head": {"vocab_size": 10**14}}, r"config\.json describes a model that cannot"),
        ({"head": {"vocab_size": 10**400}}, r"config\.json describes a model that cannot"),
        ({"head": {"rows": 3}}, r"config\.json describes a model that cannot.*vocab_size"),
        ({"version": 2}, r"newer speechssl \(format 2, this one reads up to 1\): upgrade"),
        ({"version": 2, "model": {"new": 1}}, "newer speechssl"),
    ],
)
def test_a_config_that_cannot_be_built_is_a_sentence(folder, changes, said):
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=said):
        load_model(folder)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{}", "describes no model: it has no field 'model'"),
        ("[]", "must hold a JSON object"),
        ("{oops", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        ('{"version": ' + "9" * 5000 + "}", "is damaged"),
        ("[" * 200000, "is damaged"),
    ],
)
def test_a_damaged_config_is_named(folder, written, said):
    data = written if isinstance(written, bytes) else written.encode()
    (folder / "config.json").write_bytes(data)
    with pytest.raises(ValueError, match=rf"config\.json.*{said}"):
        load_model(folder)


def test_a_tokenizer_of_another_model_is_noticed(folder):
    CharTokenizer.train(["ab"]).save(folder)
    with pytest.raises(ValueError, match=r"tokenizer has .* symbols but the head has .* together"):
        load_model(folder)


# --- saving ---------------------------------------------------------------------------------------


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.parent.iterdir() if p != folder)


def test_a_new_save_replaces_the_old_and_leaves_nothing_behind(folder):
    (folder / "old.txt").write_text("x")
    save_model(folder, writer(seed=5))
    assert load_model(folder).meta["steps"] == 5
    assert not (folder / "old.txt").exists()
    assert leftovers(folder) == []


def test_a_full_disk_leaves_the_old_folder_as_it_was(folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(_tensors, path, _metadata):
        Path(path).write_bytes(b"half a fi")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_model(folder, writer(seed=5))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert leftovers(folder) == []
    assert load_model(folder).meta["steps"] == 0


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "_write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_model(tmp_path / "m", writer())
    assert list(tmp_path.iterdir()) == []


def killed_between_the_moves(folder: Path, fresh: Path, monkeypatch) -> None:
    rename = Path.rename
    calls = []

    def once(self, target):
        calls.append(self)
        if len(calls) > 1:
            raise SystemExit("killed")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", once)
        with pytest.raises(SystemExit):
            replace_folder(fresh, folder)
    assert not folder.exists()


@pytest.mark.parametrize("run", [False, True])
def test_a_kill_between_the_two_moves_recovers(tmp_path, monkeypatch, run):
    folder = save_model(tmp_path / "best", writer(seed=1))
    fresh = save_model(tmp_path / ".best.new-1", writer(seed=2))
    killed_between_the_moves(folder, fresh, monkeypatch)
    asked = tmp_path if run else folder
    assert load_model(asked).meta["steps"] == 1
    save_model(folder, writer(seed=3))  # and the next save cleans up
    assert find_model(asked) == folder
    assert load_model(asked).meta["steps"] == 3
    assert not (tmp_path / ".best.old").exists()


@pytest.mark.parametrize("fails", [Killed, OSError])
def test_a_save_that_breaks_off_at_any_call_loses_nothing(fails, tmp_path, monkeypatch):
    reached, number = True, 0
    while reached:
        run = tmp_path / f"{number}"
        folder = save_model(run / "best", writer(seed=1))
        again = writer(seed=2)
        with monkeypatch.context() as patch:
            calls = break_at(patch, checkpoint, number, fails)
            with contextlib.suppress(Killed, OSError):
                save_model(folder, again)
        reached = len(calls) > number
        for asked in (folder, run):
            assert load_model(asked).meta["steps"] in (1, 2)
        sweep(run)
        assert [p.name for p in run.iterdir()] == ["best"]
        assert load_model(folder).meta["steps"] in (1, 2)
        number += 1
    assert load_model(folder).meta["steps"] == 2  # the last time nothing broke
    assert number > 15


def test_a_folder_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for place in ("home", "file"):
        with pytest.raises(ValueError, match=f"{place} exists and is no model folder"):
            save_model(tmp_path / place, writer())
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert load_model(save_model(tmp_path / "empty", writer())).meta["steps"] == 0


def test_parents_are_made(tmp_path):
    assert load_model(save_model(tmp_path / "a" / "b" / "m", writer())).tokenizer is not None


def test_saving_does_not_change_the_model(tmp_path):
    made = writer()
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    made.model.train()
    save_model(tmp_path / "m", made)
    assert made.model.training
    assert all(torch.equal(before[name], v) for name, v in made.model.state_dict().items())
