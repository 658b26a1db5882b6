"""Where the seed lies, what is said where it is damaged or missing, and how it is made."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speechssl import doctor, seed
from speechssl.checkpoint import load_model, save_model
from speechssl.cli import main
from speechssl.interop.card import CardFields, model_card
from speechssl.interop.sources import import_model, open_model
from speechssl.model.config import ContextConfig, FilterbankEncoderConfig, ModelConfig
from speechssl.seed import pack as packing
from speechssl.seed.card import read_card
from speechssl.seed.pack import pack
from tests.seed.seeds import CARD, a_card, card_file, put_seed, trained

FORM = ModelConfig(
    encoder=FilterbankEncoderConfig(num_filters=8, hop_samples=160, stack=2),
    context=ContextConfig(
        dim=16, num_layers=2, num_heads=2, ffn_dim=32, pos_kernel=5, pos_groups=2, layerdrop=0.0
    ),
)


@pytest.fixture
def place(monkeypatch, tmp_path) -> Path:
    """The folder of the seed, which the package seems to have."""
    return put_seed(monkeypatch, tmp_path / "package", FORM)


@pytest.fixture
def none(monkeypatch, tmp_path) -> None:
    """A package without one."""
    monkeypatch.setattr(seed, "FOLDER", tmp_path / "package")


# ---- which one is meant --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("seed", "tiny"),
        ("seed:tiny", "tiny"),
        ("seed:small", "small"),
        ("seed:", ""),
        ("./seed", None),
        ("seeds", None),
        ("Seed", None),
        ("runs/seed", None),
        ("seed/best", None),
        ("seed\n", None),
        (Path("seed"), None),
        (Path("./seed"), None),
    ],
)
def test_which_names_mean_a_seed(source, size):
    assert seed.size_of(source) == size


def test_the_seed_opens_like_any_model_in_float32(place):
    found = open_model("seed")
    assert found.folder == place
    stored = load_file(place / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    own = found.model.state_dict()
    assert all(torch.equal(own[name], value.float()) for name, value in stored.items())
    assert {value.dtype for value in own.values()} == {torch.float32}
    assert found.tokenizer.symbols == trained(FORM).tokenizer.symbols
    assert found.meta["start"] == "supervised"


def test_other_sizes_have_names(place):
    for name in ("small", ".tiny.packing"):  # the latter is left by one that was killed
        shutil.copytree(place, place.with_name(name))
    assert seed.sizes() == ["small", "tiny"]
    assert open_model("seed:small").folder == place.with_name("small")
    assert [seed.name_of(place), seed.name_of(place.with_name("small"))] == ["seed", "seed:small"]
    assert seed.name_of(place.with_name("gone")) is seed.name_of(place / "tiny") is None


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("source", ["seed:base", "seed:", "seed:../tiny", "seed:tiny "])
def test_a_size_that_is_not_there_is_named_with_those_that_are(source):
    with pytest.raises(FileNotFoundError, match=r"no seed of the size '.*': this package has tiny"):
        open_model(source)


def test_a_folder_of_that_name_is_meant_by_its_path(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seed.say_which.cache_clear()
    own = trained(replace(FORM, context=replace(FORM.context, num_layers=1)))
    save_model(tmp_path / "seed", own)
    assert open_model("seed").folder == place
    said = capsys.readouterr().err
    assert said == (
        "seed means the seed that comes with speechssl; your own seed in this folder is ./seed.\n"
    )
    open_model("seed")
    assert not capsys.readouterr().err  # once is enough
    for mine in ("./seed", Path("seed"), tmp_path / "seed"):
        assert len(open_model(mine).speech.context.layers) == 1
    assert not capsys.readouterr().err
    seed.say_which.cache_clear()


@pytest.mark.usefixtures("place")
def test_it_is_not_imported(tmp_path):
    with pytest.raises(ValueError, match="seed is a model folder of speechssl already"):
        import_model("seed", tmp_path / "out")


# ---- damaged, missing ----------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "NOTICE"])
@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda p: p.write_bytes(b"")])
def test_a_damaged_seed_is_one_sentence(name, damage, place):
    damage(place / name)
    with pytest.raises(ValueError, match=rf"The seed in .*tiny is damaged \({name} is") as said:
        open_model("seed")
    assert "install speechssl again" in str(said.value)


@pytest.mark.parametrize("sums", ["", "nonsense\n", "0" * 64 + "  model.safetensors\n", "\xff"])
def test_damaged_digests_are_damage(sums, place):
    (place / seed.SUMS).write_text(sums, encoding="latin-1")
    with pytest.raises(ValueError, match=r"damaged \(SHA256SUMS"):
        open_model("seed")


@pytest.mark.parametrize("left", ["all", "nothing", "no digests", "no folder"])
def test_a_package_without_it_says_how_to_get_it(left, place, capsys):
    if left == "no folder":
        shutil.rmtree(place.parent)
    elif left == "nothing":
        shutil.rmtree(place)
    elif left == "no digests":
        (place / seed.SUMS).unlink()
    else:
        assert main(["doctor"]) == 0
        assert "Seeds\n  seed                12.5 h of 3 languages, CC-BY-SA-4.0" in (
            capsys.readouterr().out
        )
        return
    with pytest.raises(FileNotFoundError, match="This installation of speechssl has no seed") as e:
        open_model("seed")
    assert "install speechssl again" in str(e.value)
    assert "Seeds" not in doctor.describe_machine()


def test_the_doctor_sees_damage(place):
    flip(place / "model.safetensors")
    assert "seed                The seed in" in doctor.describe_machine()


COMMANDS = {
    "finetune": "--init seed --train {m} --valid {m} --out {out}",
    "pretrain": "--init seed --train {m} --out {out}",
    "teacher": "--teacher seed --tasks masked_units --train {m} --out {out}",
    "run": "{folder} --transcripts {t} --out {out} --init seed",
    "demo": "--init seed --out {out}",
    "selftrain": "seed --unlabeled {m} --labeled {m} --valid {m} --out {out}",
    "evaluate": "seed {m}",
    "check": "seed {m}",
    "transcribe": "seed {wav}",
    "extract": "seed {wav} --out {out}",
    "find": "seed {wav} --text a",
    "probe": "seed --task character --train {m} --test {m} --out {out}",
    "compare": "--train {m} --valid {m} --test {m} --models seed --labels all --out {out}",
    "import": "seed --out {out}",
    "export": "seed --format onnx --out {out}",
}


@pytest.mark.usefixtures("none")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_takes_a_model_takes_the_seed(command, record, tmp_path, capsys):
    """All of them ask the one resolver, which here says that the package has none."""
    wav = record("in/a.wav", 1.0)
    line = {"id": "a", "audio": str(wav), "duration_s": 1.0, "sample_rate": 16000, "text": "ab"}
    manifest, table = tmp_path / "m.jsonl", tmp_path / "t.tsv"
    manifest.write_text(json.dumps(line) + "\n")
    table.write_text("path\ttext\na.wav\tab\n")
    places = {"m": manifest, "t": table, "wav": wav, "folder": wav.parent, "out": tmp_path / "out"}
    given = COMMANDS[command].format(**places).split()
    name = "pretrain" if command == "teacher" else command
    assert main([name, *given]) == 2
    said = capsys.readouterr().err
    assert "This installation of speechssl has no seed" in said.splitlines()[-1]


def test_the_package_ships_what_lies_there():
    """Nothing keeps its files from the wheel, the source distribution or the repository."""
    root = Path(seed.__file__).parents[2]
    ignored = (root / ".gitignore").read_text().split()
    assert not [line for line in ignored if "safetensors" in line or "seed" in line]
    assert "speechssl/seed/** -text" in (root / ".gitattributes").read_text()


# ---- where the script matters --------------------------------------------------------------------


@pytest.mark.usefixtures("place")
def test_its_own_transcripts_are_of_no_script_and_that_is_said_there(record, tmp_path, capsys):
    wav = record("a.wav", 1.0)
    line = {"id": "a", "audio": str(wav), "duration_s": 1.0, "sample_rate": 16000, "text": "абв"}
    (tmp_path / "m.jsonl").write_text(json.dumps(line) + "\n")
    wanted = "this model emits letters of a romanisation (uroman), whatever the script"
    for command in (["transcribe", "seed", str(wav)], ["evaluate", "seed", f"{tmp_path}/m.jsonl"]):
        assert main([*command, "--processes", "1"]) == 0
        assert wanted in capsys.readouterr().err
    assert main(["extract", "seed", str(wav), "--out", str(tmp_path / "x")]) == 0
    assert wanted not in capsys.readouterr().err
    assert main(["check", "seed", f"{tmp_path}/m.jsonl"]) == 0
    assert "letters of another alphabet" in capsys.readouterr().err


# ---- how it is made ------------------------------------------------------------------------------


def test_a_packed_seed_keeps_what_is_needed_and_states_the_rest(tmp_path):
    run = trained(FORM)
    before = {"task": "pretrain", "steps": 3, "valid": {"loss": 1.0}}
    heads = {"other.weight": torch.ones(2, 3)}
    meta = {**run.meta, "init": before, "heads": {"other": {"layer": -1}}}
    run = replace(run, meta=meta, pretraining={"q": torch.ones(4)}, heads=heads)
    pack(run, a_card(tmp_path), tmp_path / "tiny", best_layer=2)
    names = {path.name for path in (tmp_path / "tiny").iterdir()}
    assert names == {
        "NOTICE",
        "README.md",
        "SHA256SUMS",
        "config.json",
        "heads.safetensors",
        "meta.json",
        "model.safetensors",
        "tokenizer.json",
    }
    found = load_model(tmp_path / "tiny")
    assert found.meta["best_layer"] == 2
    assert found.meta["init"] == {"task": "pretrain", "steps": 3}  # no curves
    card = (tmp_path / "tiny" / "README.md").read_text(encoding="utf-8")
    assert f"- Updates: 3, then {run.meta['steps']}\n" in card
    assert "valid" not in found.meta
    assert found.heads["other.weight"].dtype == torch.float32
    assert found.meta["card"] == {
        "license": "CC-BY-SA-4.0",
        "hours": 12.5,
        "languages": ["ln", "wo", "yo"],
        "writes": CARD["writes"],
    }
    page = (tmp_path / "tiny" / "README.md").read_text()
    assert "| [Corpus A](https://example.org/a) | wo, ln | 10.0 | used | CC-BY-4.0 |" in page
    assert "0.5 [0.4, 0.6]" in page
    assert "Corpus A by its authors." in (tmp_path / "tiny" / "NOTICE").read_text()
    assert not list(tmp_path.glob(".tiny*"))


def test_packing_again_replaces_a_seed_and_nothing_else(tmp_path):
    card = a_card(tmp_path)
    pack(trained(FORM), card, tmp_path / "tiny", best_layer=1)
    pack(trained(FORM), card, tmp_path / "tiny", best_layer=2)
    assert load_model(tmp_path / "tiny").meta["best_layer"] == 2
    save_model(tmp_path / "mine", trained(FORM))
    with pytest.raises(ValueError, match="exists and is no seed"):
        pack(trained(FORM), card, tmp_path / "mine", best_layer=1)
    assert load_model(tmp_path / "mine").meta["steps"] == 7


def test_bfloat16_that_changes_the_outputs_is_refused(tmp_path):
    run = trained(FORM)
    with torch.no_grad():
        run.model.head.linear.bias.copy_(1000 + 0.7 * torch.arange(len(run.model.head.linear.bias)))
    with pytest.raises(ValueError, match=r"Nothing was written, since bfloat16 .*allowed 2"):
        pack(run, a_card(tmp_path), tmp_path / "tiny", best_layer=1)
    assert not (tmp_path / "tiny").exists()


def test_what_bfloat16_changes_is_measured():
    run = trained(FORM)
    same = packing.compare(run, run.model.state_dict(), packing.made_waves(16000))
    assert same.of_layers == (0.0, 0.0, 0.0)
    assert same.of_symbols == 0.0
    scaled = {
        n: v * (2.0 if n == "speech.project.weight" else 1.0)
        for n, v in run.model.state_dict().items()
    }
    other = packing.compare(run, scaled, packing.made_waves(16000))
    assert not other.is_allowed
    nan = {n: v * float("nan") for n, v in run.model.state_dict().items()}
    assert not packing.compare(run, nan, packing.made_waves(16000)).is_allowed


@pytest.mark.parametrize("layer", [0, 3, -1])
def test_the_best_layer_is_one_of_the_model(layer, tmp_path):
    with pytest.raises(ValueError, match="--best-layer must be from 1 to 2, got"):
        pack(trained(FORM), a_card(tmp_path), tmp_path / "tiny", best_layer=layer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"license": None}, "is no card of a seed"),
        ({"sources": []}, "it names no sources"),
        ({"hours": 3}, "unknown fields"),
        ({"sources": [{"name": "A", "licence": "x"}]}, "sources config has unknown fields"),
        ({"sources": [{"name": "A"}]}, "missing 4 required"),
    ],
)
def test_a_card_that_lacks_something_is_refused(change, said, tmp_path):
    data = {k: v for k, v in {**CARD, **change}.items() if v is not None}
    (tmp_path / "card.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=said):
        read_card(tmp_path / "card.json")


def test_one_command_makes_it_of_a_run(monkeypatch, record, tmp_path, capsys):
    monkeypatch.setattr(seed, "FOLDER", tmp_path / "package")
    save_model(tmp_path / "run" / "best", trained(FORM))
    given = [str(tmp_path / "run"), "--card", str(card_file(tmp_path)), "--best-layer", "2"]
    assert packing.main([*given, "--audio", str(record("a.wav", 0.5))]) == 0
    assert "MB; bfloat16 changes the layers by" in capsys.readouterr().out
    assert open_model("seed").meta["best_layer"] == 2
    assert packing.main(["gone", *given[1:]]) == 2
    assert capsys.readouterr().err == "speechssl: There is no model folder gone.\n"


@pytest.mark.usefixtures("place")
def test_an_export_of_what_began_with_it_names_its_licence():
    tuned = replace(trained(FORM), meta={"task": "finetune", "init": open_model("seed").meta})
    page = model_card(tuned, "onnx", None, CardFields())
    assert "These weights came with speechssl, under CC-BY-SA-4.0" in page


# ---- the one of the package ----------------------------------------------------------------------


def test_the_seed_of_this_package_is_whole_and_says_what_it_is(monkeypatch):
    folder = Path(seed.__file__).parent
    monkeypatch.setattr(seed, "FOLDER", folder)
    assert seed.sizes() == ["tiny"]
    found = open_model("seed")  # its digests are checked
    assert sum(p.numel() for p in found.model.parameters()) < 5e6
    assert sum(path.stat().st_size for path in (folder / "tiny").iterdir()) < 12e6
    assert 1 <= found.meta["best_layer"] <= found.speech.config.context.num_layers
    assert set(found.heads)  # of reconstruction and of phones, for those who go on
    card = (folder / "tiny" / "README.md").read_text(encoding="utf-8")
    assert "license: cc-by-4.0" in card
    for language in found.meta["card"]["languages"]:
        assert f"\n- {language}\n" in card
    told = (folder / "tiny" / "NOTICE").read_text(encoding="utf-8")
    for owner in ("Sewade Ogun", "Carlo Flora", "ALFFA", "Picovoice", "Michel Gutierrez"):
        assert owner in told
    assert not {"mbo", "nld"} & set(found.meta["card"]["languages"])  # what it is judged by
