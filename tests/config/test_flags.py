"""Every setting of a run has a flag, a meaning, a range and a default, shown without torch."""

import dataclasses
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pytest

from speechssl.cli import main
from speechssl.commands.overview import FILE, current
from speechssl.commands.parser import Parser
from speechssl.config.bounds import (
    AtMost,
    Count,
    Positive,
    Weight,
    Whole,
    check_fields,
    field_types,
)
from speechssl.config.flags import Setting, add_settings, setting_groups, shown
from speechssl.config.json import collections, from_json, override, setting_names, to_json
from speechssl.config.names import closest, nearest
from speechssl.config.source import field_docs, load
from speechssl.pretext.tasks import TASKS
from speechssl.selftraining import config as selftraining
from speechssl.training import finetune, pretrain

MODULES = {"pretrain": pretrain, "finetune": finetune, "selftrain": selftraining}
REAL = {run: module.preset("tiny") for run, module in MODULES.items()}
LOADED = {run: load(module.__name__, "preset")("tiny") for run, module in MODULES.items()}
FIELDS = [
    pytest.param(run, setting, id=f"{run}-{setting.name}")
    for run, config in LOADED.items()
    for group in setting_groups(config)
    for setting in group.settings
]


def values(config) -> dict[str, object]:
    """The value of each setting, as JSON, by the name that is typed."""
    groups = collections(type(config))
    found = {}
    for name in setting_names(to_json(config)):
        value = to_json(config)
        for part in name.split("."):
            value = value[part]
        first, _, rest = name.partition(".")
        if name.rpartition(".")[2] != "kind":
            found[rest if first in groups else name] = value
    return found


@pytest.fixture(scope="module")
def help_all() -> dict[str, str]:
    """What ``--help-all`` prints for each run, without line breaks in its texts."""
    shown = {}
    for run in REAL:
        command = [sys.executable, "-m", "speechssl", run, "--help-all"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        shown[run] = " ".join(done.stdout.split())
    return shown


@pytest.mark.parametrize(("run", "setting"), FIELDS)
def test_every_setting(run, setting, help_all):
    config = REAL[run]
    assert setting.doc, f"a docstring below {setting.name} says what it is"
    assert re.match(r"--[a-z0-9.-]+$", setting.flag)
    assert f" {setting.flag} {setting.metavar} " in help_all[run]
    end = f"default {shown(setting.default)})"
    assert end in help_all[run].split(f" {setting.flag} {setting.metavar} ", 1)[1]
    if setting.name in values(config):
        assert values(config)[setting.name] == to_json(setting.default)
        typed = [(setting.flag.removeprefix("--"), shown(setting.default))]
        assert override(config, typed) == config  # in bounds, and typed as it is shown
        assert override(config, [(setting.name, shown(setting.default))]) == config


@pytest.mark.parametrize("run", REAL)
def test_no_setting_is_left_out(run):
    listed = {setting.name for group in setting_groups(LOADED[run]) for setting in group.settings}
    assert values(REAL[run]).keys() <= listed
    assert len(listed) > 80


@pytest.mark.parametrize("run", REAL)
@pytest.mark.parametrize(
    "size", ["tiny", "tiny-conv", "tiny-wav2vec", "small", "base", "large", "wav2vec"]
)
def test_a_config_by_its_source_has_the_values_of_the_real_one(run, size):
    module = MODULES[run]
    assert to_json(load(module.__name__, "preset")(size)) == to_json(module.preset(size))


def test_help_shows_a_range_a_choice_and_a_word(capsys):
    for arguments, texts in {
        ("pretrain", "--help-all", "clip-norm"): ["--optim.clip-norm X", "(above 0; default 2.0)"],
        ("finetune", "--help-all", "SCHEDULE"): ["--optim.schedule {tri_stage,linear,cosine}"],
        ("pretrain", "--size", "base", "--help-all", "warmup"): ["default 32000)"],
        ("pretrain", "--help"): ["--optim.NAME VALUE", "warmup-steps", "--help-all"],
    }.items():
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        assert stopped.value.code == 0
        out = " ".join(capsys.readouterr().out.split())
        for text in texts:
            assert text in out
    with pytest.raises(SystemExit) as stopped:
        main(["pretrain", "--help-all", "wombat"])
    assert stopped.value.code == 2
    assert "no setting has 'wombat'" in capsys.readouterr().err


def test_help_imports_neither_torch_nor_numpy():
    for arguments in (["pretrain", "--help-all"], ["finetune", "--help"]):
        code = (
            "import sys, speechssl.cli as c\n"
            "try: c.main(sys.argv[1:])\n"
            "finally: print(sorted({'torch', 'numpy', 'soundfile'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"


@dataclass(frozen=True)
class Plain:
    """One kind. More of it.

    And details.
    """

    kind: ClassVar[str] = "plain"
    width: Count = 3
    """Columns."""


@dataclass(frozen=True)
class Fancy:
    """Another kind."""

    kind: ClassVar[str] = "fancy"
    rate: Positive = 0.5
    """Of 100 % (:func:`nothing`), see ``here``."""


@dataclass(frozen=True)
class Toy:
    """A toy."""

    part: Plain | Fancy = Fancy()
    """What it has."""
    extra: Plain | None = None
    """None: nothing more."""
    workers: Annotated[Whole, AtMost(9)] = 1
    many: Count | Literal["auto"] = "auto"
    names: tuple[str, ...] = ()
    pair: tuple[float, float] = (0.5, 1.0)
    fast: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "toy")


def toy_help(word=""):
    parser = Parser(prog="toy", add_help=False)
    num = add_settings(parser, Toy(), word)
    return num, " ".join(parser.format_help().split())


def test_unions_none_lists_and_markup_in_help():
    num, text = toy_help()
    assert num == 8
    for part in (
        "--part.rate X Of 100 %, see here. (above 0; default 0.5)",
        "--part.width N Columns. (at least 1; default 3)",
        "Another kind. What it has. This one is fancy.",
        "One kind. More of it. None: nothing more.",
        "--workers N (at least 0, at most 9; default 1)",
        "--many N|{auto} (at least 1; default auto)",
        "--names TEXT[,...] (default [])",
        "--pair X,X (each a number; default 0.5,1.0)",
        "--fast {true,false} (default false)",
    ):
        assert part in text
    assert "details" not in text
    assert text.index("--part.rate") < text.index("--part.width")  # what it is comes first
    assert toy_help("COLUMN")[0] == 2
    assert toy_help("part.w")[0] == 1


def test_a_setting_that_is_an_option_too_is_no_conflict():
    parser = Parser(prog="toy")
    parser.add_argument("--workers")
    assert add_settings(parser, Toy()) == 8


@pytest.mark.parametrize(
    ("typed", "config"),
    [
        ([("names", "a,b")], Toy(names=("a", "b"))),
        ([("names", '["a"]')], Toy(names=("a",))),
        ([("names", "a")], Toy(names=("a",))),
        ([("pair", "1,2.5")], Toy(pair=(1, 2.5))),
        ([("fast", None)], Toy(fast=True)),
        ([("fast", "true")], Toy(fast=True)),
        ([("many", "4")], Toy(many=4)),
        ([("part.rate", "2")], Toy(part=Fancy(rate=2.0))),
    ],
)
def test_values_as_they_are_typed(typed, config):
    assert override(Toy(), typed) == config
    assert from_json(Toy, to_json(config)) == config


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ([("workers", None)], "The setting --workers needs a value."),
        ([("pair", "1")], "pair must be a list, got 1"),
        ([("pair", "1,fast")], "toy.pair must be a list, each a number"),
        ([("workers", "10")], "toy.workers must be at most 9, got 10."),
        ([("many", "0")], "toy.many must be at least 1 or one of auto, got 0."),
        ([("wrokers", "1")], "There is no setting 'wrokers'. Perhaps --workers?"),
        ([("part.raet", "1")], "There is no setting 'part.raet'. Perhaps --part.rate?"),
    ],
)
def test_wrong_values_are_a_sentence(typed, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        override(Toy(), typed)


def test_kinds_are_written_and_read():
    data = to_json(Toy())
    assert data["part"] == {"kind": "fancy", "rate": 0.5}
    assert from_json(Toy, {"part": {"kind": "plain", "width": 7}}).part == Plain(7)
    assert from_json(Toy, {"part": {"width": 7}}).part == Plain(7)  # the first is meant
    assert from_json(Toy, {"extra": {"kind": "plain"}}).extra == Plain()
    with pytest.raises(ValueError, match=r"part\.kind must be one of plain, fancy, got \[\]\."):
        from_json(Toy, {"part": {"kind": []}})
    with pytest.raises(ValueError, match=r"part config has unknown fields \['width'\]"):
        from_json(Toy, {"part": {"kind": "fancy", "width": 7}})


def test_docs_and_types_of_a_real_class():
    docs = field_docs(pretrain.OptimConfig)
    assert docs["lr"] == "The peak."
    assert set(docs) == set(field_types(pretrain.OptimConfig))
    assert [f.name for f in dataclasses.fields(load("speechssl.training.optim", "OptimConfig"))]
    with pytest.raises(KeyError):
        load("speechssl.training.optim", "NoSuchConfig")


@pytest.mark.parametrize("where", ["real", "source"])
def test_docs_of_inherited_fields(where):
    module = "speechssl.pretext.cbow"
    cls = load(module, "CBOWConfig") if where == "source" else TASKS["cbow"]
    docs = field_docs(cls)
    assert {"weight", "layers", "segment_s"} <= set(field_types(cls)) <= set(docs)
    assert docs["weight"] == "Weight of the task in the loss."
    own = field_docs(TASKS["contrastive"])["weight"]  # said again, and with more
    assert own == "Weight of the task in the loss, its two penalties included."


def test_nearest_names():
    assert closest("max-stps", ["max-steps", "max-crop-s", "seed"]) == ["max-steps"]
    assert nearest("lr", ["optim.lr", "seed"], "--") == "Perhaps --optim.lr?"
    assert nearest("zzz", ["a", "b"], "--") == "Known: --a, --b."
    assert "a.…" in nearest("zzz", [f"a.{i}" for i in range(40)])
    assert Setting("optim.warmup_steps", Whole, 3, "").flag == "--optim.warmup-steps"


@dataclass(frozen=True)
class Guess:
    """Guesses."""

    name: ClassVar[str] = "guess"
    weight: Weight = 1.0
    """In the loss."""


@dataclass(frozen=True)
class Jigsaw:
    """Puts parts in order."""

    name: ClassVar[str] = "jigsaw"
    num_parts: Count = 4
    """Of a recording."""


@dataclass(frozen=True)
class Jobs:
    """Jobs by name."""

    members: ClassVar[dict[str, type]] = {"guess": Guess, "jigsaw": Jigsaw}
    configs: tuple[Guess | Jigsaw, ...] = (Guess(),)


@dataclass(frozen=True)
class Run:
    """A run."""

    jobs: Jobs = Jobs()
    seed: Whole = 0
    """Of chance."""

    @staticmethod
    def upgrade(data):
        """`chance` was the name of `seed`."""
        return {"seed" if key == "chance" else key: value for key, value in data.items()}


def test_a_collection_of_named_configs():
    both = Run(Jobs((Jigsaw(2), Guess(0.5))), 1)
    data = {"jobs": {"jigsaw": {"num_parts": 2}, "guess": {"weight": 0.5}}, "seed": 1}
    assert to_json(both) == data
    assert from_json(Run, data) == both
    assert from_json(Run, {"jobs": {"guess": {}, "jigsaw": None}}) == Run()
    assert override(Run(), [("guess.weight", "2")]) == Run(Jobs((Guess(2.0),)))
    assert override(Run(), [("jobs.guess.weight", "2")]) == Run(Jobs((Guess(2.0),)))
    groups = list(setting_groups(Run()))
    assert [s.flag for group in groups for s in group.settings] == [
        "--seed",
        "--guess.weight",
        "--jigsaw.num-parts",
    ]
    assert [group.doc for group in groups[1:]] == [
        "Guesses.",
        "Puts parts in order. Only with --jobs jigsaw.",
    ]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (
            "jigsaw.num_parts",
            "jigsaw is not a job of this run (guess): name it with --jobs.",
        ),
        ("guess.wieght", "There is no setting 'guess.wieght'. Perhaps --guess.weight?"),
        ("gess.weight", "There is no setting 'gess.weight'. Perhaps --guess.weight?"),
    ],
)
def test_a_setting_of_no_member_is_a_sentence(name, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        override(Run(), [(name, "3")])


def test_wrong_collections_are_a_sentence():
    with pytest.raises(
        ValueError, match=r"jobs config has unknown fields \['gess'\]. Perhaps guess"
    ):
        from_json(Run, {"jobs": {"gess": {}}})
    with pytest.raises(
        ValueError, match=r"jobs must be an object of configs by name, got \['guess'\]"
    ):
        from_json(Run, {"jobs": ["guess"]})


def test_an_earlier_versions_json_is_upgraded():
    assert from_json(Run, {"chance": 3}) == Run(seed=3)
    assert from_json(Run, {"seed": 3}) == Run(seed=3)


def test_the_names_in_help_are_those_of_the_configs():
    told = json.loads(FILE.read_text(encoding="utf-8"))
    assert told == current(), "write it again: python -m speechssl.commands.overview"
