"""What README.md, docs/ and the recipes tell people to type exists, what they show runs, and what
they link to is there."""

import argparse
import contextlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.cli import build_parser, main
from speechssl.commands.training import pairs
from speechssl.config.json import override
from speechssl.data.layouts import detect_layout
from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.decoding.lm import train_lm, write_arpa
from speechssl.inference.transcribe import transcribe
from speechssl.interop.export import export_model
from speechssl.model import config as model_config
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.tasks import TASKS, TaskConfigs
from speechssl.selftraining.config import SelfTrainConfig
from speechssl.training.finetune import FinetuneConfig
from speechssl.training.pretrain import PretrainConfig, preset

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*GUIDE, ROOT / "CONTRIBUTING.md", ROOT / "data_prep" / "README.md"]
PAGES += sorted((ROOT / "recipes").glob("*/README.md"))
LINKING = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "RESULTS.md", ROOT / "results" / "README.md"]
LINKING += sorted((ROOT / "docs" / "log").glob("*.md"))  # their options are those of their day
SCRIPTS = sorted((ROOT / "recipes").glob("*/run.sh"))
CONFIGS = {"pretrain": PretrainConfig, "finetune": FinetuneConfig, "selftrain": SelfTrainConfig}
CONFIGS_OF_TEXT = (
    PretrainConfig(),
    preset("tiny-conv"),
    preset("tiny-wav2vec"),
    FinetuneConfig(),
    SelfTrainConfig(),
)

OF_ALL_TASKS = replace(PretrainConfig(), tasks=TaskConfigs(tuple(c() for c in TASKS.values())))


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(shell: str) -> Iterator[list[str]]:
    """The arguments behind each `speechssl` of some shell code.

    ``${NAME:-default}`` counts as its default, ``$size`` as tiny, any other variable as 1.
    """
    for line in shell.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", line).replace("$size", "tiny")
        line = re.sub(r"\$\w+", "1", line)
        words = shlex.split(line, comments=True)
        for start, word in enumerate(words):
            if word in ("speechssl", "speechssl.cli"):
                end = words.index("&&", start) if "&&" in words[start:] else len(words)
                yield words[start + 1 : end]


def page_text(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def without_named_blocks(text: str) -> str:
    """A page without the fenced blocks that name a language."""
    return re.sub(r"^```\w+\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def links(text: str) -> list[tuple[str, str]]:
    """``(file, anchor)`` of each relative link; '' where there is none."""
    found = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", without_code(text))
    return [(target, anchor) for target, anchor in found]


def anchors(text: str) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    actions = parser._subparsers._group_actions if parser._subparsers else []
    return dict(next(a for a in actions if isinstance(a.choices, dict)).choices or {})


COMMANDS = subparsers(build_parser())


def options(command: str) -> set[str]:
    return {o for action in COMMANDS[command]._actions for o in action.option_strings}


def written() -> list[tuple[str, list[str]]]:
    """Every complete command on every page and in every script."""
    found = []
    for page in [*PAGES, *SCRIPTS]:
        text = page.read_text(encoding="utf-8")
        parts = [text] if page.suffix == ".sh" else blocks(text, "bash")
        name = str(page.relative_to(ROOT))
        found += [(name, words) for part in parts for words in commands(part)]
    return found


WRITTEN = written()


def test_commands_are_found() -> None:
    shell = (
        'pip install ".[demo]" && speechssl demo\nspeechssl run "$a" \\\n  --out "${B:-c d}" # x'
    )
    assert list(commands(shell)) == [["demo"], ["run", "1", "--out", "c d"]]
    assert len(WRITTEN) > 30


class Reached(BaseException):
    """A training would begin; the command line was understood."""


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_models: dict[str, Path]
) -> Callable[[list[str]], object]:
    """The real command line up to where a training begins; returns the training's config."""
    utterances = [
        Utterance(f"{i}", Path(f"{i}.wav"), 0.0, 30.0, 16000, "a", "b") for i in range(2000)
    ]

    def begins(config: object, *_args: object, **_kwargs: object) -> None:
        raise Reached(config)

    def model(source: object) -> Checkpoint | None:
        kind = "ctc" if source == "runs/finetune" else "speech"
        return None if source == "scratch" else load_model(tiny_models[kind])

    monkeypatch.setattr("speechssl.training.pretrain.pretrain", begins)
    monkeypatch.setattr("speechssl.training.finetune.finetune", begins)
    monkeypatch.setattr("speechssl.selftraining.rounds.selftrain", begins)
    monkeypatch.setattr("speechssl.training.finetune.load_init", model)
    monkeypatch.setattr("speechssl.interop.sources.open_model", model)
    monkeypatch.setattr("speechssl.data.index.open_manifest", lambda _: utterances)
    monkeypatch.setattr("speechssl.data.manifest.read_manifest", lambda _: utterances)
    monkeypatch.chdir(tmp_path)
    Path("recipes").symlink_to(ROOT / "recipes")

    def config_of(words: list[str]) -> object:
        with pytest.raises(Reached) as reached:
            raise AssertionError(f"exit code {main(words)}: {words}")
        return reached.value.args[0]

    return config_of


@pytest.mark.parametrize(
    ("page", "words"), WRITTEN, ids=[f"{page}:{' '.join(w)}"[:80] for page, w in WRITTEN]
)
def test_a_command_is_one_that_the_parser_takes(
    page: str, words: list[str], cli: Callable[[list[str]], object]
) -> None:
    args, extra = build_parser().parse_known_args(words)
    if args.command in CONFIGS:  # settings by dotted name
        assert isinstance(cli(words), CONFIGS[args.command])
    else:
        assert not extra, page


@pytest.mark.parametrize(
    "words",
    [
        "pretrain --train a --out b --tasks masked_unit",
        "pretrain --train a --out b --contrastive.entrees 3",
        "pretrain --train a --out b --recipe nowhere",
        "pretrain --train a --out b --mask.share 2",
        "finetune --init scratch --train a --out b",
        "finetune --init scratch --train a --valid a --out b --tokeniser char",
    ],
)
def test_a_command_that_is_wrong_is_found(
    words: str, cli: Callable[[list[str]], object], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((AssertionError, SystemExit), match="2"):
        cli(words.split())
    assert capsys.readouterr().err


def test_the_table_lists_every_command_and_no_option_that_is_not_there() -> None:
    rows = re.findall(r"^\| `speechssl ([\w-]+)([^`]*)`", page_text("commands.md"), re.MULTILINE)
    assert [name for name, _ in rows] == list(COMMANDS)
    for name, rest in rows:
        assert set(re.findall(r"--[\w.-]+", rest)) <= options(name), name
        required = {
            action.option_strings[-1]
            for action in COMMANDS[name]._actions
            if action.required and action.option_strings
        }
        assert required <= set(re.findall(r"--[\w.-]+", rest)), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_in_the_text_exists(page: Path) -> None:
    known = {o for name in COMMANDS for o in options(name)} | {"--debug", "--download", "--parts"}
    for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        if not span.startswith(("--", "speechssl ")):
            continue
        for option in re.findall(r"(?<!\S)--[\w.-]+", span):
            if option not in known:
                value = re.search(rf"{option} (\S+)", span)
                setting = pairs([option, value[1] if value and "/" not in span else "1"])
                for config in (*CONFIGS_OF_TEXT, OF_ALL_TASKS):
                    with contextlib.suppress(ValueError):
                        override(config, setting)
                        break
                else:
                    pytest.fail(f"{option} is no option of a command and no setting.")


@pytest.fixture
def runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_models: dict[str, Path],
    record: Callable[..., Path],
) -> Path:
    """A folder, which is the current one, with what the pages' Python takes as there."""
    shutil.copytree(tiny_models["ctc"], tmp_path / "runs" / "finetune" / "best")
    shutil.copytree(tiny_models["speech"], tmp_path / "runs" / "pretrain" / "best")
    utterance = Utterance("a", record("a.wav", 1.0), 0.0, 1.0, 16000, "anna", "abc déf")
    write_manifest(tmp_path / "data" / "test.jsonl", [utterance])
    write_arpa(train_lm(["abc déf"], order=2, unit="char"), tmp_path / "lm.arpa")
    digits = [
        Utterance(name, record(f"{name}.wav", 0.3), 0.0, 0.3, 16000, name[2:6], "zero")
        for name in ("0_anna_0", "0_anna_5", "0_bert_1", "0_bert_6")
    ]
    for i, split in enumerate(("train", "dev", "test")):
        write_manifest(
            tmp_path / f"runs/fsdd/data/{split}.jsonl", digits[i : 4 if i == 2 else i + 1]
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


WITH_PYTHON = [page for page in GUIDE if blocks(page.read_text(encoding="utf-8"), "python")]


def run_blocks(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page's Python, in one module."""
    module = ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    for block in blocks(page.read_text(encoding="utf-8"), "python"):
        exec(compile(block, page.name, "exec"), module.__dict__)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_python_blocks_run(
    page: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if page.name == "reuse.md":
        pytest.importorskip("onnxruntime")
        export_model(load_model(runs / "runs" / "finetune"), runs / "onnx", "onnx")
        capsys.readouterr()
    run_blocks(page, monkeypatch)
    out = capsys.readouterr().out
    if page.name == "reuse.md":
        (said,) = re.findall(r"^ONNX: ?(.*)$", out, re.MULTILINE)
        ours = transcribe(load_model(runs / "runs" / "finetune"), runs / "a.wav").text
        assert said.replace("⁇", "") == ours.replace("⁇", "")
    if page.name == "python.md":
        assert "WER " in out
        assert "torch.Size([2, 50, 16]) tensor([50, 37]) 3" in out
        assert "0.0005" in out
        assert re.search(r"^speakers: (0\.[05]00|1\.000) right; layers: \[0\.", out, re.MULTILINE)
    if page.name == "design.md":
        assert out == "LoudnessConfig(weight=0.5, layers=(-1,))\n"


def test_pages_with_python_are_found() -> None:
    assert {"README.md", "python.md", "reuse.md", "design.md"} <= {p.name for p in WITH_PYTHON}


def test_the_manifest_line_is_one(tmp_path: Path) -> None:
    (line,) = blocks(page_text("data.md"), "json")
    (tmp_path / "train.jsonl").write_text(line, encoding="utf-8")
    (utterance,) = read_manifest(tmp_path / "train.jsonl")
    assert utterance.audio == tmp_path / "wav" / "a_1.wav"
    assert utterance.text == json.loads(line)["text"]


def test_the_table_of_a_folder_is_one(tmp_path: Path) -> None:
    page = (ROOT / "recipes" / "folder" / "README.md").read_text(encoding="utf-8")
    (table,) = [block for block in blocks(page, "") if block.startswith("path\t")]
    (tmp_path / "texts.tsv").write_text(table, encoding="utf-8")
    assert detect_layout(tmp_path / "texts.tsv") == "tsv"


def test_the_layouts_are_those_of_the_command() -> None:
    (layout,) = [a for a in COMMANDS["prepare"]._actions if a.dest == "layout"]
    rows = re.findall(
        r"^\| `(\w+)` \|", page_text("data.md").split("| layout |")[1].split("##")[0], re.MULTILINE
    )
    assert ["auto", *rows] == list(layout.choices or [])


def test_the_sizes_have_the_parameters_that_the_table_says() -> None:
    text = page_text("pretraining.md")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) M \| (\d+) ms", text, re.MULTILINE)
    assert [name for name, *_ in rows] == list(model_config.SIZES)
    for name, millions, frame_ms in rows:
        config = model_config.size(name)
        is_conv = isinstance(config.encoder, model_config.ConvEncoderConfig)
        with torch.device("meta") if is_conv else contextlib.nullcontext():
            num = sum(p.numel() for p in SpeechModel(config).parameters())
        assert float(millions) == pytest.approx(num / 1e6, rel=0.01), name
        assert int(frame_ms) == 1000 * config.hop_samples / config.sample_rate


def test_the_two_lines_of_the_first_screen_and_ci_agree() -> None:
    first = blocks(README, "bash")[:2]
    assert first[0].strip() == "pip install '.[demo]' && speechssl demo"
    setup, test = first[1].strip().split(" && ")
    assert README.index(first[1]) < 1500
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(rf"(^|/python -m ){re.escape(setup)}$", ci.replace(" --quiet", ""), re.M)
    assert re.search(rf"^{re.escape(test)}$", ci, re.MULTILINE)


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in links(text):
        other = page.parent / target if target else page
        assert other.exists(), target
        if anchor:
            assert anchor in anchors(other.read_text(encoding="utf-8")), f"{target}#{anchor}"
    for block in blocks(text, "bash"):
        for path in re.findall(r"(?<!\S)((?:data_prep|recipes|benchmarks|\.ci)/\S+)", block):
            assert (ROOT / path).exists(), path


def test_links_and_anchors_are_read() -> None:
    text = "# A b, `c`-d: e?\n[x](y.md#a) [z](#b) [w](https://w.org)\n```\n[n](o.md)\n```\n"
    assert links(text) == [("y.md", "a"), ("", "b")]
    assert anchors(text) == {"a-b-c-d-e"}


def test_every_page_of_docs_is_reached_from_readme() -> None:
    linked = {target for target, _ in links(README)}
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked
    log = (ROOT / "docs" / "log" / "README.md").read_text(encoding="utf-8")
    entries = {page.name for page in (ROOT / "docs" / "log").glob("2*.md")}
    assert entries <= {target for target, _ in links(log)}


def test_where_things_are() -> None:
    """Names beside a file are defined in it, and files and folders in code spans exist."""
    text = page_text("design.md")
    rows = re.findall(r"^\| .* \| (.*) \|$", text.split("## Where")[1].split("##")[0], re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        for names, path in re.findall(r"((?:`\w+`(?:, | and )?)+) in \[(\S+)\]", row):
            source = (ROOT / path).read_text(encoding="utf-8")
            for name in re.findall(r"`(\w+)`", names):
                assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), name
    for path in re.findall(r"`((?:speechssl|tests|recipes)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_tree_in_readme_is_that_of_the_package() -> None:
    parts = re.findall(r"^```\n(.*?)^```", without_named_blocks(README), re.MULTILINE | re.DOTALL)
    tree = next(part for part in parts if part.startswith("speechssl/"))
    package, _, rest = tree.partition("recipes/ ")
    for name in re.findall(r"(?<!\S)([\w/]+(?:/|\.py))(?!\S)", package.partition("\n")[2]):
        assert (ROOT / "speechssl" / name).exists(), name
    for name in re.findall(r"(?<!\S)(\w+/)(?!\S)", f"recipes/ {rest}"):
        assert (ROOT / name).exists() or name == "log/", name
    folders = {p.parent.name for p in (ROOT / "speechssl").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"\w+", package))


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200
