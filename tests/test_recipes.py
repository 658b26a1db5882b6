"""Every recipe: its functions give configs that can be written, read, built and trained a step."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from speechssl import audio
from speechssl.checkpoint import Checkpoint, save_model
from speechssl.config.json import from_json, to_json
from speechssl.data.dataset import Batch, Waves
from speechssl.data.manifest import Utterance, read_manifest
from speechssl.data.synthetic import CorpusPaths, make_corpus
from speechssl.experiment import Budget
from speechssl.model.config import ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.masking import span_mask
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.pretext.features import FEATURE_DIMS
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.pretext.teacher import Recogniser
from speechssl.pretext.wav2vec import Wav2VecConfig
from speechssl.rng import rng
from speechssl.text import CharTokenizer, PhoneTokenizer
from speechssl.training.alphabets import Alphabets
from speechssl.training.finetune import FinetuneConfig, FinetuneWork
from speechssl.training.pretrain import PretrainConfig, PretrainWork
from speechssl.training.recipe import load_recipe

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "recipes").glob("*/README.md"))
SECTIONS = ["Data", "Task", "Run", "Time", "Results"]
KINDS: dict[str, type[PretrainConfig | FinetuneConfig]] = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
}
NAMES = [folder.name for folder in FOLDERS]


def functions(task: str) -> Iterator[str]:
    """``mboshi:tiny`` for every public function in recipes/*/TASK.py."""
    for folder in FOLDERS:
        for node in ast.parse((folder / f"{task}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{folder.name}:{node.name}"


RECIPES = [(task, name) for task in KINDS for name in functions(task)]


def shortened(model: ModelConfig) -> ModelConfig:
    """One layer above the local ones, of which one stays, and a narrow feed-forward part."""
    local = min(model.context.local_layers, 1)
    context = replace(model.context, num_layers=local + 1, local_layers=local, ffn_dim=64)
    return replace(model, context=replace(context, layerdrop=0.0))


@pytest.fixture(scope="session")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Waves:
    """Two recordings of noise, 0.7 s and 1 s."""
    folder = tmp_path_factory.mktemp("waves")
    utterances = []
    for duration_s in (0.7, 1.0):
        wave = rng(0, "recipes").uniform(-0.3, 0.3, round(16000 * duration_s))
        audio.write(folder / f"{duration_s}.wav", wave.astype(np.float32), 16000)
        path = folder / f"{duration_s}.wav"
        utterances.append(Utterance(path.stem, path, 0.0, duration_s, 16000, None, "ab"))
    return Waves.open(utterances, folder / "cache", 16000, progress=False)


def only_batch(waves: Waves) -> Batch:
    """Both recordings."""
    clean = torch.zeros(2, 16000)
    for row in range(2):
        wave = torch.from_numpy(waves.cache.get(row).copy())
        clean[row, : len(wave)] = wave
    lengths = torch.tensor([11200, 16000])
    return Batch(0, ("0.7", "1.0"), ("ab", "ab"), clean, clean, lengths, ipa=("ab", "ab"))


def alphabets(model: ModelConfig) -> Alphabets:
    """Of letters and phones, and a teacher that transcribes."""
    letters = CharTokenizer.train(["ab"])
    head = CTCHead(model.context.dim, letters.vocab_size)
    teacher = Recogniser.frozen(CTCModel(SpeechModel(model), head), letters)
    return Alphabets(letters, PhoneTokenizer.train(["ab"]), teacher)


def test_the_published_corpora_have_recipes() -> None:
    assert set(NAMES) >= {"synthetic", "fsdd", "mboshi", "wolof", "librispeech", "folder"}
    for script in (ROOT / "data_prep").glob("[!_]*.py"):
        assert script.stem in NAMES
    for task in KINDS:
        assert {name.partition(":")[0] for name in functions(task)} == set(NAMES)


@pytest.mark.parametrize(("task", "name"), RECIPES)
def test_a_recipe_is_a_config_that_can_be_written_and_read(task: str, name: str) -> None:
    kind = KINDS[task]
    config = load_recipe(name, task, "none", kind)
    assert isinstance(config, kind)
    assert from_json(kind, to_json(config)) == config
    size = name.partition(":")[2]
    if size in ("tiny", "small", "base"):  # what --size calls
        assert load_recipe(name.partition(":")[0], task, size, kind) == config


@pytest.mark.parametrize("name", [*functions("pretrain")])
def test_a_pretraining_step(name: str, waves: Waves, tmp_path: Path) -> None:
    config = load_recipe(name, "pretrain", "", PretrainConfig)
    assert config is not None
    tasks = config.tasks
    if "contrastive" in tasks:
        tasks = tasks.having(replace(tasks["contrastive"], entries=8, num_negatives=5))
    if "masked_units" in tasks:
        tasks = tasks.having(replace(tasks["masked_units"], num_units=8))
    if "wav2vec" in tasks:
        tasks = tasks.having(replace(tasks["wav2vec"], entries=8))
    low = [replace(task, layers=tuple(min(n, 1) for n in task.layers)) for task in tasks]
    tasks = TaskConfigs(tuple(low))
    config = replace(config, model=shortened(config.model), tasks=tasks, precision="fp32")
    torch.manual_seed(0)
    if config.teacher is not None:
        save_model(tmp_path / "teacher", Checkpoint(SpeechModel(config.model)))
        config = replace(config, teacher=str(tmp_path / "teacher"), teacher_layer=1)
    work = PretrainWork(
        replace(config, device="cpu"),
        SpeechModel(config.model),
        waves,
        waves,
        torch.device("cpu"),
        alphabets=alphabets(config.model),
    )
    logged = work.backward(0, 10, [only_batch(waves)])
    assert torch.isfinite(logged["loss/total"])
    assert logged["loss/total"] > 0
    gradient = work.model.project.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", [*functions("finetune")])
def test_a_fine_tuning_step(name: str, waves: Waves) -> None:
    config = load_recipe(name, "finetune", "", FinetuneConfig)
    assert config is not None
    config = replace(config, model=shortened(config.model), mask_from_share=0.0, precision="fp32")
    torch.manual_seed(0)
    speech = SpeechModel(config.model)
    tokenizer = CharTokenizer.train(["ab"])
    model = CTCModel(speech, CTCHead(config.model.context.dim, tokenizer.vocab_size))
    work = FinetuneWork(config, model, tokenizer, waves, torch.device("cpu"), pretrained=True)
    logged = work.backward(0, 10, [only_batch(waves)])
    assert torch.isfinite(logged["loss/ctc"])
    assert logged["loss/ctc"] > 0
    assert model.head.linear.weight.grad is not None
    frozen = config.head_only_steps > 0
    assert (speech.project.weight.grad is None) == frozen
    work.backward(config.head_only_steps, 10 * (config.head_only_steps + 1), [only_batch(waves)])
    assert speech.project.weight.grad is not None


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*/*.py")), ids=str)
def test_a_recipe_imports_only_the_package(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).partition(".")[0])
    assert imported <= {"speechssl", "numpy", "soundfile", *sys.stdlib_module_names}


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_has_its_sections(name: str) -> None:
    text = (ROOT / "recipes" / name / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    for row in ("Source", "Licence", "Hours", "Speakers"):
        assert re.search(rf"^\| {row} \| \S", text, re.MULTILINE), row


def test_the_folder_recipe_says_how_the_minutes_are_shared_out() -> None:
    text = (ROOT / "recipes" / "folder" / "README.md").read_text(encoding="utf-8")
    budget = Budget.of(100)
    assert f"{budget.pretrain:g} % of it is for pretraining and {budget.finetune:g} % for" in text


@pytest.mark.parametrize("name", NAMES)
def test_run_sh_parses_and_names_what_exists(name: str) -> None:
    path = ROOT / "recipes" / name / "run.sh"
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = path.read_text(encoding="utf-8")
    scripts = re.findall(r"^\s*python (\S+)", text, re.MULTILINE)
    assert all((ROOT / script).is_file() for script in scripts)
    named = re.findall(r"--recipe (\S+)", text)
    assert set(named) <= {name}
    assert scripts or name == "folder"


def test_run_sh_stops_without_a_corpus(tmp_path: Path) -> None:
    for name in ("wolof", "commonvoice", "folder"):
        command = ["bash", str(ROOT / "recipes" / name / "run.sh")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "give the folder" in done.stderr
        assert not list(tmp_path.iterdir())


def test_base_is_the_published_batch_and_schedule() -> None:
    """arXiv:2006.11477, section 4.2 and appendix B; fairseq's yaml files."""
    base = load_recipe("librispeech", "pretrain", "base", PretrainConfig)
    assert base is not None
    samples = base.batch_s * base.loop.accumulate * base.model.sample_rate
    assert samples / 64 == 1_400_000
    assert base.max_crop_s * base.model.sample_rate == 250_000
    for processes in (8, 64):
        name = f"librispeech:base_960h_{processes}"
        shared = load_recipe(name, "pretrain", "", PretrainConfig)
        assert shared is not None
        assert processes * shared.loop.accumulate == base.loop.accumulate
        assert replace(shared, loop=base.loop) == base
    for name, updates, lr, frozen, channels in (
        ("base_10m", 13_000, 5e-5, 10_000, 0.25),
        ("base_1h", 13_000, 5e-5, 10_000, 0.25),
        ("base_10h", 20_000, 5e-5, 10_000, 0.5),
        ("base_100h", 80_000, 3e-5, 0, 0.5),
    ):
        config = load_recipe(f"librispeech:{name}", "finetune", "", FinetuneConfig)
        assert config is not None
        assert config.loop.max_steps == updates
        assert (config.optim.lr, config.head_only_steps) == (lr, frozen)
        assert (config.channel_share, config.channel_span) == (channels, 64)
        assert config.batch_s * config.loop.accumulate * 16000 == 8 * 3_200_000


def published(name: str) -> PretrainConfig:
    config = load_recipe(f"librispeech:{name}", "pretrain", "", PretrainConfig)
    assert config is not None
    return config


def test_hubert_is_as_published() -> None:
    """arXiv:2106.07447, sections 3 and 4.2; fairseq's hubert_base_librispeech.yaml."""
    first, second = published("hubert_round_1"), published("hubert_round_2")
    assert (first.mask.share, first.mask.span) == (0.8, 10)
    assert masked_share(first) == pytest.approx(0.567, abs=0.01)
    for config, num_units, updates in ((first, 100, 250_000), (second, 500, 400_000)):
        units = config.tasks["masked_units"]
        assert isinstance(units, MaskedUnitsConfig)
        assert (units.num_units, units.target_dim, units.temperature) == (num_units, 256, 0.1)
        assert (units.quantizer, units.feature_penalty) == ("kmeans", 10.0)
        assert config.loop.max_steps == updates
        assert config.batch_s * config.loop.accumulate * 16000 == 32 * 1_400_000
        assert (config.optim.lr, config.optim.warmup_steps) == (5e-4, 32_000)
        assert (config.optim.clip_norm, config.encoder_grad_scale) == (10.0, 0.1)
        assert config.model.hop_samples == 320
    assert first.teacher is None
    assert first.tasks["masked_units"].features == ("mfcc",)  # type: ignore[attr-defined]
    assert FEATURE_DIMS["mfcc"] == 39
    assert second.teacher is not None
    assert second.teacher_layer == 6


def test_best_rq_is_as_published() -> None:
    """arXiv:2202.01855, sections 3.1 and 4.1: each 10 ms begins a span of 400 ms with probability
    0.01."""
    config = published("best_rq")
    units = config.tasks["masked_units"]
    assert isinstance(units, MaskedUnitsConfig)
    assert (units.quantizer, units.features, units.num_units) == ("random", ("logmel",), 8192)
    frame_s = config.model.hop_samples / config.model.sample_rate
    assert config.mask.span * frame_s == pytest.approx(0.4)
    spans_per_s = config.mask.share / (config.mask.span * frame_s)
    assert spans_per_s == pytest.approx(0.01 * 100)
    assert masked_share(config) == pytest.approx(1 - 0.99**40, abs=0.01)


def masked_share(config: PretrainConfig) -> float:
    """Of the frames of a long recording."""
    mask = span_mask(
        [100_000],
        100_000,
        share=config.mask.share,
        span=config.mask.span,
        generator=rng(0, "share"),
    )
    return float(mask.mean())


def test_wav2vec_is_as_published() -> None:
    """arXiv:1904.05862, section 3; arXiv:1910.05453, section 4; fairseq's README."""
    first, codes = published("wav2vec"), published("vq_wav2vec")
    for config in (first, codes):
        task = config.tasks["wav2vec"]
        assert isinstance(task, Wav2VecConfig)
        assert (task.num_steps, task.num_negatives, task.loss) == (12, 10, "binary")
        assert config.model.is_causal
        assert (config.model.hop_samples, config.model.latent_dim) == (160, 512)
        assert config.max_crop_s * config.model.sample_rate == 150_000
        assert (config.loop.max_steps, config.optim.schedule) == (400_000, "cosine")
        assert config.optim.lr * config.optim.final_share == pytest.approx(1e-6)
        quantized = (task.targets, task.groups, task.entries, task.commitment)
        assert quantized == ("latents" if config is first else "codes", 2, 320, 0.25)
    assert first.optim.lr * first.optim.initial_share == pytest.approx(1e-7)
    assert first.batch_s * first.loop.accumulate * 16000 == 8 * 1_500_000
    assert (first.optim.lr, codes.optim.lr) == (5e-3, 1e-5)
    assert codes.batch_s * 16000 == 300_000


@pytest.mark.extras
def test_the_synthetic_corpus_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("espeakng_loader")
    from recipes.synthetic.prepare import main

    small = ["--unlabeled-minutes", "0.05", "--labeled-minutes", "0.05"]
    assert main(["--out", str(tmp_path), "--unlabeled-minutes", "0"]) == 2
    assert "unlabeled minutes" in capsys.readouterr().err

    def tiny_dev_and_test(out: Path, **minutes: float) -> CorpusPaths:
        return make_corpus(out, **{**minutes, "dev_minutes": 0.05, "test_minutes": 0.05})  # type: ignore[arg-type]

    monkeypatch.setattr("recipes.synthetic.prepare.make_corpus", tiny_dev_and_test)
    assert main(["--out", str(tmp_path), *small]) == 0
    assert all(u.text is None for u in read_manifest(tmp_path / "unlabeled.jsonl"))
    assert all(u.text for u in read_manifest(tmp_path / "test.jsonl"))
