"""What README.md and the recipes tell people to type exists, and what they show runs."""

import argparse
import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from speechssl.checkpoint import load_model
from speechssl.cli import build_parser
from speechssl.commands.training import pairs
from speechssl.config.json import override
from speechssl.data.layouts import detect_layout
from speechssl.data.manifest import Utterance, read_manifest, write_manifest
from speechssl.decoding.lm import train_lm, write_arpa
from speechssl.inference.transcribe import transcribe
from speechssl.interop.export import export_model
from speechssl.model import config as model_config
from speechssl.model.speech_model import SpeechModel
from speechssl.training.finetune import FinetuneConfig
from speechssl.training.pretrain import PretrainConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data_prep" / "README.md"]
PAGES += sorted((ROOT / "recipes").glob("*/README.md"))
SCRIPTS = sorted((ROOT / "recipes").glob("*/run.sh"))
CONFIGS = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}


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


@pytest.mark.parametrize(
    ("page", "words"), WRITTEN, ids=[f"{page}:{' '.join(w)}"[:80] for page, w in WRITTEN]
)
def test_a_command_is_one_that_the_parser_takes(page: str, words: list[str]) -> None:
    args, extra = build_parser().parse_known_args(words)
    if args.command in CONFIGS:  # settings by dotted name
        override(CONFIGS[args.command](), pairs(extra))
    else:
        assert not extra, page
    if getattr(args, "recipe", None) and not args.recipe.endswith(".json"):
        assert (ROOT / "recipes" / args.recipe.partition(":")[0]).is_dir()


def test_the_table_lists_every_command_and_no_option_that_is_not_there() -> None:
    rows = re.findall(r"^\| `speechssl (\w+)([^`]*)`", README, re.MULTILINE)
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
                name = option.removeprefix("--")
                value = re.search(rf"{option} (\S+)", span)
                setting = [(name, value[1] if value and "/" not in span else "1")]
                with contextlib.suppress(ValueError):
                    override(PretrainConfig(), setting)
                    continue
                override(FinetuneConfig(), setting)


def test_python_blocks_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_models: dict[str, Path],
    record: Callable[..., Path],
) -> None:
    pytest.importorskip("onnxruntime")
    shutil.copytree(tiny_models["ctc"], tmp_path / "runs" / "finetune" / "best")
    shutil.copytree(tiny_models["speech"], tmp_path / "runs" / "pretrain" / "best")
    export_model(load_model(tmp_path / "runs" / "finetune"), tmp_path / "onnx", "onnx")
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
    names: dict[str, object] = {}
    found = blocks(README, "python")
    assert len(found) >= 4
    for block in found:
        exec(compile(block, "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert "WER " in out
    (said,) = re.findall(r"^ONNX: ?(.*)$", out, re.MULTILINE)
    ours = transcribe(load_model(tmp_path / "runs" / "finetune"), tmp_path / "a.wav").text
    assert said.replace("⁇", "") == ours.replace("⁇", "")
    assert "torch.Size([2, 50, 16]) tensor([50, 37]) 3" in out
    assert "0.0005" in out
    assert re.search(r"^speakers: (0\.[05]00|1\.000) right; layers: \[0\.", out, re.MULTILINE)


def test_the_manifest_line_is_one(tmp_path: Path) -> None:
    (line,) = blocks(README, "json")
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
    rows = re.findall(r"^\| `(\w+)` \|", README.split("| layout |")[1].split("##")[0], re.MULTILINE)
    assert ["auto", *rows] == list(layout.choices or [])


def test_the_sizes_have_the_parameters_that_the_table_says() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) M \| (\d+) ms", README, re.MULTILINE)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for block in blocks(text, "bash"):
        for path in re.findall(r"(?<!\S)((?:data_prep|recipes|benchmarks|\.ci)/\S+)", block):
            assert (ROOT / path).exists(), path
