"""What every command does with its options: places to write to, names, missing packages."""

import re
import tomllib
from pathlib import Path

import pytest

from speechssl.cli import COMMANDS, EXTRAS, build_parser, main, sentence_of
from speechssl.commands.options import is_renamed
from speechssl.commands.training import pairs
from speechssl.files import output_file, output_folder

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "demo": (),
    "run": ("in", "--transcripts", "t.tsv"),
    "prepare": ("in",),
    "pretrain": ("--train", "m.jsonl"),
    "finetune": ("--init", "scratch", "--train", "m.jsonl", "--valid", "m.jsonl"),
    "selftrain": ("m", "--unlabeled", "u.jsonl", "--labeled", "l.jsonl", "--valid", "v.jsonl"),
    "transcribe": ("model", "a.wav"),
    "align": ("model", "a.wav", "a.txt"),
    "extract": ("model", "a.wav"),
    "next": ("model", "pool"),
    "probe": ("model", "--task", "digit", "--train", "m.jsonl", "--test", "m.jsonl"),
    "compare": ("data", "--tasks", "masked_units"),
    "import": ("source",),
    "export": ("model", "--format", "hf"),
}
"""The commands whose --out is a folder, with what else they need."""
FILES = {
    "evaluate": ("model", "m.jsonl"),
    "check": ("model", "m.jsonl"),
    "correct": ("desk",),
    "lm": ("text.txt",),
    "report": ("run",),
}


def refused(capsys, *arguments) -> str:
    """The one sentence on stderr of a command that ends with 2."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1
    return said


def test_every_command_is_here():
    parsers = build_parser()._subparsers._group_actions[0].choices
    writing = {name for name in COMMANDS if "--out" in parsers[name]._option_string_actions}
    assert writing == {*FOLDERS, *FILES}


@pytest.mark.parametrize("command", FOLDERS)
def test_a_file_in_a_folders_place_is_reported_before_any_work(command, tmp_path, capsys):
    place = tmp_path / "taken.wav"
    place.write_bytes(b"mine")
    for out in (place, place / "below" / "it"):
        said = refused(capsys, command, *FOLDERS[command], "--out", out)
        assert f"argument --out: {place} is a file: give a folder" in said
    assert place.read_bytes() == b"mine"


@pytest.mark.parametrize("command", FILES)
def test_a_folder_in_a_files_place_is_reported_before_any_work(command, tmp_path, capsys):
    place = tmp_path / "taken"
    place.touch()
    said = refused(capsys, command, *FILES[command], "--out", tmp_path)
    assert f"argument --out: {tmp_path} is a folder: give the name of a file" in said
    said = refused(capsys, command, *FILES[command], "--out", place / "x.json")
    assert f"{place} is a file: give a folder" in said


def test_a_parquet_file_is_no_folder(tmp_path, capsys):
    (tmp_path / "x.parquet").mkdir()
    said = refused(capsys, "extract", "m", "a.wav", "--out", tmp_path / "x.parquet")
    assert "x.parquet is a folder: give the name of a file" in said


def test_data_prep_too_before_it_downloads(tmp_path, capsys):
    from data_prep import fsdd
    from speechssl.data.corpus import main as prepare_corpus

    (tmp_path / "taken").touch()
    arguments = [str(tmp_path), "--download", "--out", str(tmp_path / "taken")]
    with pytest.raises(SystemExit) as stop:
        prepare_corpus("", fsdd.recordings, fsdd.download, arguments)
    assert stop.value.code == 2
    assert "taken is a file: give a folder" in capsys.readouterr().err


def test_places_that_are_free(tmp_path):
    (tmp_path / "old.txt").touch()
    assert output_folder(str(tmp_path)) == tmp_path
    assert output_folder(str(tmp_path / "new" / "deep")) == tmp_path / "new" / "deep"
    assert output_file(str(tmp_path / "old.txt")) == tmp_path / "old.txt"  # written anew
    assert output_file(str(tmp_path / "new" / "x")) == tmp_path / "new" / "x"
    assert output_file("/dev/stdout") == Path("/dev/stdout")
    assert output_folder("x") == Path("x")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("pretrian", "--train", "a"), "Perhaps pretrain?"),
        (("evalute",), "Perhaps evaluate?"),
        (("pretrain", "--trian", "a", "--out", "r"), "Unknown: --trian. Perhaps --train?"),
        (("finetune", "--train=a", "--outt=r", "--init", "m"), "Unknown: --outt. Perhaps --out?"),
        (("run", "in", "--transcript", "t", "--out", "r"), "Perhaps --transcripts?"),
        (("prepare", "in", "--out", "r", "--layot", "kaldi"), "Perhaps --layout?"),
        (("prepare", "in", "--out", "r", "--layout", "kaldy"), "Perhaps kaldi?"),
        (("report", "r", "--ouT", "x"), "Perhaps --out?"),
        (("lm", "t", "--out", "x", "--ordr", "3"), "Perhaps --order?"),
    ],
)
def test_a_misspelt_name_is_reported_with_the_one_that_was_meant(
    arguments, meant, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert meant in refused(capsys, *arguments)


def test_a_name_like_no_other_gets_no_hint(capsys):
    said = refused(capsys, "pretrain", "--out", "r", "--wombat", "a")
    assert said.startswith("speechssl pretrain: the following arguments are required: --train;")


def test_pairs_of_settings():
    assert pairs(["--optim.lr", "-1", "--a=b=c", "--compile", "--x", "none"]) == [
        ("optim.lr", "-1"),
        ("a", "b=c"),
        ("compile", None),
        ("x", "none"),
    ]
    assert pairs(["--cache"]) == [("cache", None)]
    assert pairs([]) == []


def test_a_missing_optional_package_is_reported_with_its_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = dict(project["optional-dependencies"])
    del extras["dev"]
    for extra, needs in extras.items():
        for need in needs:
            package = re.split(r"[\[>]", need)[0].replace("-", "_").removesuffix("_ling")
            assert EXTRAS[package] == extra
            said = sentence_of(
                ModuleNotFoundError(f"No module named {package}.x", name=f"{package}.x")
            )
            assert said == f"The package {package} is missing: pip install 'speechssl[{extra}]'."
    assert "pip install 'scipy'" in sentence_of(ModuleNotFoundError("No", name="scipy"))


def test_demo_names_its_extra_before_it_makes_anything(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    said = refused(capsys, "demo", "--out", tmp_path / "demo")
    assert "pip install 'speechssl[demo]'" in said
    assert "speechssl run" in said
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("name", "recording", "renamed"),
    [
        ("x", "a/x.wav", False),
        ("sub/x", "in/sub/x.wav", False),
        ("x.y", "x.y.flac", False),
        ("stdin", "-", False),
        ("x.wav", "a/x.wav", True),
        ("x.wav-2", "b/x.wav", True),
    ],
)
def test_whether_a_result_has_another_name(name, recording, renamed):
    assert is_renamed(name, recording) is renamed


@pytest.mark.parametrize("command", ["transcribe", "extract"])
def test_of_two_recordings_of_one_name_it_is_said_which_is_which(
    command, tiny_models, record, tmp_path, capsys
):
    paths = [record("a/x.wav", 0.4), record("b/x.wav", 0.5)]
    out = tmp_path / "out"
    assert main([command, str(tiny_models["ctc"]), *map(str, paths), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    for path in paths:  # in a line of the output, or in the name of the result
        folder = out / path.parent.name
        assert str(path) in said or (folder.is_dir() and list(folder.glob("x.*")))
