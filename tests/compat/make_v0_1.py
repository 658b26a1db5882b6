"""Make the frozen folder ``v0_1`` with version 0.1 of the package: see README.md beside this file.

It runs with the package of that version on its path, and is not changed when the package changes.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from speechssl.objectives.contrastive import ContrastiveConfig
from speechssl.objectives.reconstruction import ReconstructionConfig

from speechssl import __version__, audio, load, transcribe
from speechssl.checkpoint import Checkpoint, save_model
from speechssl.config.json import to_json
from speechssl.data.index import Corpora, open_manifest
from speechssl.data.layouts import read_layout
from speechssl.data.manifest import read_manifest, write_manifest
from speechssl.data.prepare import PrepareConfig, prepare
from speechssl.interop.export import export_model
from speechssl.model import config as model_config
from speechssl.model.config import (
    ContextConfig,
    ConvEncoderConfig,
    FilterbankEncoderConfig,
    ModelConfig,
)
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.rng import rng
from speechssl.runlog import read_metrics
from speechssl.text import CharTokenizer, VocabularyTokenizer, train_tokenizer
from speechssl.training import finetune as finetuning
from speechssl.training import pretrain as pretraining
from speechssl.training.finetune import FinetuneConfig, finetune
from speechssl.training.loop import LoopConfig
from speechssl.training.optim import OptimConfig
from speechssl.training.pretrain import PretrainConfig, pretrain

RATE = 16000
STEPS, STOP, EVERY = 8, 5, 4
"""Updates of a run; those before it is killed; those between two states."""
TONES = {letter: 250 * 1.4**i for i, letter in enumerate("abcde")}
WORDS = ("bad ace", "cab ebb", "deed", "dab ace", "add bee", "cede")
DEV_WORDS = ("ace bad", "bee", "cab")

TINY = ModelConfig(  # the form of the size tiny: filterbank, convolutions, GRU
    encoder=FilterbankEncoderConfig(num_filters=8, kernel_samples=200, stack=4),
    context=ContextConfig(
        dim=16,
        num_layers=2,
        local_layers=1,
        local_kernel=3,
        upper="gru",
        num_heads=2,
        ffn_dim=16,
        norm_order="pre",
        pos_kernel=5,
        pos_groups=2,
        pos_norm=True,
        dropout=0.0,
        attention_dropout=0.0,
        layerdrop=0.0,
    ),
)
CONV = ModelConfig(  # the published form
    encoder=ConvEncoderConfig(dims=(8,) * 7),
    context=ContextConfig(
        dim=16,
        num_layers=1,
        num_heads=2,
        ffn_dim=16,
        pos_kernel=8,
        pos_groups=2,
        dropout=0.1,
        layerdrop=0.0,
    ),
)


def speak(words: str, seed: int) -> np.ndarray:
    """(S,) float32: each letter a tone of 80 ms, each space silence."""
    time_s = np.arange(round(0.08 * RATE)) / RATE
    pieces = [
        0.3 * np.sin(2 * np.pi * TONES[c] * time_s) * np.hanning(len(time_s))
        if c in TONES
        else np.zeros(len(time_s))
        for c in words
    ]
    wave = np.concatenate(pieces)
    return (wave + 0.0005 * rng(seed, "compat").standard_normal(len(wave))).astype(np.float32)


def make_data(out: Path) -> None:
    """`recordings/` with a table of transcripts, and what ``prepare`` makes of it in `data/`."""
    source = out / "recordings"
    source.mkdir(parents=True)
    rows = ["path\ttext\tspeaker\tsplit"]
    for number, words in enumerate((*WORDS, *DEV_WORDS)):
        name, split = f"{number}.flac", "train" if number < len(WORDS) else "dev"
        audio.write(source / name, speak(words, number), RATE)
        rows.append(f"{name}\t{words}\t{split}{number % 2}\t{split}")
    (source / "transcripts.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = read_layout(source / "transcripts.tsv", "tsv")
    prepare(found, out / "data", PrepareConfig(dev_share=0.3, test_share=0.0), progress=False)


def loop() -> LoopConfig:
    return LoopConfig(
        max_steps=STEPS,
        num_validations=2,
        checkpoint_every=EVERY,
        keep_checkpoints=1,
        log_every=1,
        num_workers=0,
    )


def pretrain_configs() -> dict[str, PretrainConfig]:
    """Run folder -> config: fixed codes beside reconstruction, and wav2vec 2.0 by itself."""
    optim = OptimConfig(lr=3e-3, warmup_steps=2)
    shared = {"batch_s": 2.0, "optim": optim, "loop": loop(), "precision": "fp32", "device": "cpu"}
    fixed = ContrastiveConfig(quantizer="kmeans", entries=8, target_dim=8, features=("mfcc",))
    gumbel = ContrastiveConfig(quantizer="gumbel", entries=6, target_dim=8, num_negatives=4)
    rebuilt = ReconstructionConfig(hidden_dim=8)
    return {
        "pretrain": PretrainConfig(model=TINY, contrastive=fixed, reconstruction=rebuilt, **shared),
        "pretrain_gumbel": PretrainConfig(
            model=CONV,
            contrastive=gumbel,
            reconstruction=None,
            mask_share=0.5,
            mask_span=2,
            encoder_grad_scale=0.1,
            **shared,
        ),
    }


def finetune_config() -> FinetuneConfig:
    return FinetuneConfig(
        model=TINY,
        batch_s=2.0,
        mask_share=0.0,
        optim=OptimConfig(lr=5e-3, warmup_steps=2, clip_norm=1.0),
        loop=loop(),
        precision="fp32",
        device="cpu",
    )


class Killed(Exception):
    """In place of a kill."""


def whole_and_killed(run: Path, train, work: type, whole: Path) -> dict[str, list[float]]:
    """Train to the end elsewhere, and until the kill in `run`; the numbers of every update."""
    train(whole)
    ran = work.backward

    def backward(self, step, *rest):
        if step == STOP:
            raise Killed
        return ran(self, step, *rest)

    try:
        with mock.patch.object(work, "backward", backward):
            train(run)
    except Killed:
        pass
    shutil.rmtree(run / "cache")
    (run / ".lock").unlink()
    valid = read_manifest(run / "valid.jsonl")  # names the recordings' places on the machine
    write_manifest(run / "valid.jsonl", valid, relative=True)
    lines = [m for m in read_metrics(whole) if "loss/total" in m or "grad_norm" in m]
    return {
        name: [line[name] for line in lines]
        for name in sorted(lines[0])
        if name.startswith("loss/") or name in ("grad_norm", "lr")
    }


def make_runs(out: Path, elsewhere: Path) -> dict[str, dict[str, list[float]]]:
    train_set = Corpora([open_manifest(out / "data/train.jsonl")])
    dev_set = open_manifest(out / "data/dev.jsonl")
    numbers = {}
    for name, config in pretrain_configs().items():
        numbers[name] = whole_and_killed(
            out / name,
            lambda run, config=config: pretrain(config, train_set, run, valid_set=dev_set),
            pretraining.PretrainWork,
            elsewhere / name,
        )
    init = load(out / "pretrain")
    numbers["finetune"] = whole_and_killed(
        out / "finetune",
        lambda run: finetune(
            finetune_config(),
            list(Corpora([read_manifest(out / "data/train.jsonl")])),
            read_manifest(out / "data/dev.jsonl"),
            run,
            init=init,
        ),
        finetuning.FinetuneWork,
        elsewhere / "finetune",
    )
    return numbers


def make_models(out: Path) -> None:
    """Model folders whose rows differ from frame to frame, with each kind of tokenizer."""
    spm = train_tokenizer("spm:12", [" ".join((*WORDS, *DEV_WORDS))] * 4, allow_smaller=True)
    own = VocabularyTokenizer(["<blank>", "⁇", "<s>", " ", *"ABCDE"], ["<s>"], uppercase=True)
    adapters = replace(CONV.context, norm_order="pre", adapter_dim=4)
    bias = replace(CONV.context, rel_buckets=8, rel_max_distance=12)
    for name, config, tokenizer, upsample in (
        ("models/char", TINY, CharTokenizer.train(WORDS), 2),
        ("models/spm", CONV, spm, 1),
        ("models/vocabulary", replace(CONV, normalize_wave=True), own, 1),
        ("models/adapters", replace(CONV, context=adapters), None, 1),
        ("models/distances", replace(CONV, context=bias), None, 1),
    ):
        torch.manual_seed(3)
        model = SpeechModel(config)
        if tokenizer is not None:
            head = CTCHead(config.context.dim, tokenizer.vocab_size, upsample)
            head.linear.weight.data *= 20
            head.linear.bias.data.zero_()
            model = CTCModel(model, head)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.data.add_(0.2 * torch.randn_like(parameter))
        if isinstance(model, CTCModel):
            model.head.linear.bias.data[
                1 :: model.head.vocab_size
            ] = -20.0  # so that the text has letters
        save_model(out / name, Checkpoint(model.eval(), tokenizer, {"task": "finetune", "seed": 7}))


def make_exports(out: Path) -> None:
    """Of the model with a vocabulary and of the one pretrained as wav2vec 2.0."""
    for source, name, kind in (
        ("models/vocabulary", "exported/hf", "hf"),
        ("pretrain_gumbel", "exported/hf_pretrained", "hf"),
        ("models/vocabulary", "exported/fairseq", "fairseq"),
        ("pretrain_gumbel", "exported/fairseq_pretrained", "fairseq"),
    ):
        export_model(load(out / source), out / name, kind)


def rounded(rows: torch.Tensor) -> list[list[float]]:
    """Every fifth row of (T, D)."""
    return [[round(float(x), 5) for x in row] for row in rows[::5]]


@torch.no_grad()
def outputs(out: Path) -> dict[str, dict[str, object]]:
    """Of every model for the first recording: what today's code must give again."""
    wave = torch.from_numpy(audio.read(out / "recordings/0.flac"))[None]
    lengths = torch.tensor([wave.shape[1]])
    found = {}
    weights = [*out.rglob("model.safetensors"), *out.rglob("model.pt")]
    for folder in sorted(p.parent for p in weights if "checkpoints" not in p.parts):
        checkpoint = load(folder)
        context = checkpoint.speech(wave, lengths).context[0]
        told: dict[str, object] = {"context": rounded(context)}
        if isinstance(checkpoint.model, CTCModel):
            rows, _ = checkpoint.model(wave, lengths)
            told["log_probs"] = rounded(rows[0])
            told["text"] = transcribe(checkpoint, out / "recordings/0.flac").text
        found[folder.relative_to(out).as_posix()] = told
    return found


def make_configs(out: Path) -> None:
    """Resolved configs of the presets, as version 0.1 wrote them into a run."""
    (out / "configs").mkdir()
    for size in model_config.SIZES:
        for task, preset in (("pretrain", pretraining.preset), ("finetune", finetuning.preset)):
            text = json.dumps(to_json(preset(size)), indent=1)
            (out / f"configs/{task}_{size}.json").write_text(text + "\n")


def main(out: Path, elsewhere: Path) -> None:
    """Make it in `out`, which must not exist; `elsewhere` takes the whole runs."""
    torch.set_num_threads(1)
    out.mkdir()
    make_data(out)
    expected: dict[str, object] = {"version": __version__, "updates": make_runs(out, elsewhere)}
    make_models(out)
    make_exports(out)
    make_configs(out)
    expected["outputs"] = outputs(out)
    (out / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n")
    (out / "data/probe_cache.jsonl").unlink()  # names the recordings' places on the machine


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
