"""The verdict on runs that were made sick on purpose, and on healthy ones: all really trained."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechssl import audio
from speechssl.data import distortion
from speechssl.data.dataset import PlannedBatches
from speechssl.data.manifest import Utterance
from speechssl.doctor import describe_verdict, in_short, judge_run
from speechssl.model.quantizer import KMeansQuantizer
from speechssl.pretext.contrastive import ContrastiveConfig, ContrastiveTask
from speechssl.pretext.tasks import TaskConfigs
from speechssl.training.finetune import FinetuneConfig, finetune
from speechssl.training.loop import NonFiniteLossError
from speechssl.training.pretrain import PretrainConfig, PretrainWork, pretrain
from speechssl.training.verdict import TOO_EARLY, Verdict, judge

Config = PretrainConfig | FinetuneConfig
Tones = tuple[list[Utterance], list[Utterance]]


def changed(config: Config, **settings: Any) -> Any:
    """``optim_lr=0.1``: the field `lr` of `optim`; a name without such a part is a field itself."""
    for name, value in settings.items():
        part, _, inner = name.partition("_")
        if inner and part in getattr(config, "tasks", ()):
            task = replace(config.tasks[part], **{inner: value})
            config = replace(config, tasks=config.tasks.having(task))
            continue
        if inner and hasattr(config, part):
            value = replace(getattr(config, part), **{inner: value})
        config = replace(config, **{part if inner and hasattr(config, part) else name: value})
    return config


@pytest.fixture
def verdict(tones: Tones, tmp_path: Path) -> Callable[..., Verdict]:
    """Train a config and judge the run."""

    def train(config: Config, train_set: list[Utterance] | None = None) -> Verdict:
        data = train_set or tones[0], tones[1]
        config = changed(config, loop_log_every=2, loop_checkpoint_every=10_000)
        try:
            if isinstance(config, PretrainConfig):
                pretrain(config, data[0], tmp_path / "run", valid_set=data[1], resume=False)
            else:
                finetune(config, *data, tmp_path / "run", resume=False)
        except NonFiniteLossError:
            assert config.optim.lr < 1
        return judge_run(tmp_path / "run")

    return train


@pytest.fixture
def pretrain_config(pretrain_config: PretrainConfig) -> PretrainConfig:
    return changed(pretrain_config, loop_max_steps=60, loop_num_validations=4)


@pytest.fixture
def gumbel(pretrain_config: PretrainConfig) -> PretrainConfig:
    contrastive = ContrastiveConfig(target_dim=16, entries=8, num_negatives=10)
    return replace(pretrain_config, tasks=TaskConfigs((contrastive,)))


@pytest.fixture
def rebuilding(pretrain_config: PretrainConfig) -> PretrainConfig:
    config = replace(pretrain_config, tasks=pretrain_config.tasks.without("masked_units"))
    return changed(config, optim_lr=1e-2)


# ---- healthy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pretrain_config", "gumbel", "rebuilding", "finetune_config"])
def test_healthy_runs(kind, request, verdict):
    found = verdict(request.getfixturevalue(kind))
    assert (found.name, found.findings) == ("healthy", ())
    assert in_short(found) == ""


def test_everything_is_measured(pretrain_config, verdict):
    told = dict(verdict(changed(pretrain_config, loop_max_steps=4)).measures)
    names = {"masked unit loss", "units predicted", "masked frames", "logmel copied"}
    names |= {"latents, rank", "latents, share that varies", "context, rank"}
    names |= {"waiting for data", "padding", "gradient of encoder", "gradient of masked_units"}
    assert names <= told.keys()
    assert "at chance" in told["rebuilt logmel, unmasked frames"]
    assert "at chance" in told["masked unit loss"]


# ---- sick ---------------------------------------------------------------------------------------


def test_a_learning_rate_of_nothing(pretrain_config, verdict):
    found = verdict(changed(pretrain_config, optim_lr=1e-12, loop_max_steps=20))
    assert found.name == "at chance"
    assert any("2.6" in sentence for sentence in found.findings[0].evidence)  # the chance line
    assert "1e-12" in found.findings[0].advice


def test_targets_that_do_not_belong_to_the_recordings(pretrain_config, verdict, monkeypatch):
    def drawn(self, frames):
        return torch.randint(self.entries, (len(frames),))

    monkeypatch.setattr(KMeansQuantizer, "forward", drawn)
    assert verdict(pretrain_config).name == "at chance"


def test_reconstruction_that_has_learned_nothing(rebuilding, verdict):
    found = verdict(changed(rebuilding, optim_lr=1e-12, loop_max_steps=10))
    assert found.name == "at chance"
    assert "mean of each bin" in found.findings[0].evidence[0]


def test_a_huge_learning_rate(pretrain_config, verdict):
    found = verdict(changed(pretrain_config, optim_lr=3.0, optim_clip_norm=1e9))
    assert found.name == "diverging"
    assert "gradient" in found.findings[0].evidence[1]


def test_a_learning_rate_so_huge_that_the_first_logged_line_is_after_the_explosion(
    rebuilding, verdict
):
    """Then no loss is above that of the beginning."""
    found = verdict(changed(rebuilding, optim_lr=50.0))
    assert found.name == "diverging"
    assert "a fresh model is nearer" in found.findings[0].evidence[0]
    assert "Lower the learning rate" in found.findings[0].advice


def test_a_loss_that_is_not_a_number(pretrain_config, verdict, monkeypatch):
    real = PretrainWork.losses

    def poisoned(self, x):
        result = real(self, x)
        if x.batch.index == 6:
            name, term = next(iter(result.terms.items()))
            result.terms[name] = replace(term, total=term.total * float("nan"))
        return result

    monkeypatch.setattr(PretrainWork, "losses", poisoned)
    found = verdict(pretrain_config)
    assert found.name == "diverging"
    assert "update 7" in found.findings[0].evidence[0]


def test_a_codebook_that_has_collapsed(gumbel, verdict, monkeypatch):
    real = ContrastiveTask.__init__

    def collapsed(self, *args):
        real(self, *args)
        with torch.no_grad():
            self.quantizer.logits.bias.unflatten(0, (2, 8))[:, 0] += 200

    monkeypatch.setattr(ContrastiveTask, "__init__", collapsed)
    found = verdict(changed(gumbel, contrastive_diversity_weight=0.0, loop_max_steps=20))
    assert found.name == "codebook collapse"
    assert "1.000 of its 8 codes" in found.findings[0].evidence[0]
    assert "diversity-weight (now 0.0" in found.findings[0].advice


def test_a_context_that_weight_decay_has_flattened(pretrain_config, verdict):
    config = changed(pretrain_config, optim_weight_decay=60.0, optim_lr=1e-2)
    found = verdict(config)
    assert found.name == "latents collapsed"
    assert "context" in found.findings[0].evidence[0]


def test_recordings_of_silence(gumbel, tmp_path):
    silent = []
    for number in range(12):
        path = tmp_path / f"{number}.wav"
        audio.write(path, np.zeros(16000, dtype=np.float32), 16000)
        silent.append(Utterance(str(number), path, 0.0, 1.0, 16000, None, None))
    config = changed(gumbel, loop_max_steps=10, distortion=distortion.none())
    run = tmp_path / "silence"
    pretrain(config, silent, run, valid_set=silent[:4])
    found = judge_run(run)
    assert "latents collapsed" in [finding.name for finding in found.findings]


@pytest.mark.parametrize("task", ["gumbel", "finetune_config"])
def test_silent_training_beside_spoken_validation(task, request, tones, verdict, tmp_path):
    """Silence is quickly learned by heart: it is not overfitting."""
    silent = []
    for number, spoken in enumerate(tones[0][:12]):
        path = tmp_path / f"{number}.wav"
        audio.write(path, np.zeros(16000, dtype=np.float32), 16000)
        silent.append(replace(spoken, audio=path, duration_s=1.0))
    found = verdict(changed(request.getfixturevalue(task), loop_max_steps=30), silent)
    assert found.name == "silent recordings"
    assert "overfitting" not in [finding.name for finding in found.findings]
    assert "recordings of the training set are silent" in found.findings[0].evidence[0]


def test_a_reconstruction_that_copies(rebuilding, verdict):
    config = changed(rebuilding, reconstruction_masked_weight=0.0, loop_max_steps=100)
    config = changed(config, reconstruction_unmasked_weight=1.0, distortion=distortion.none())
    found = verdict(config)
    assert found.name == "reconstruction is a copy"
    assert "copying the input would give 0.000" in found.findings[0].evidence[0]


def test_transcripts_of_other_recordings(finetune_config, tones, verdict):
    """Before it has learned which letters are common, as it is with a large alphabet for long."""
    train = tones[0]
    shuffled = [replace(u, text=train[i - 7].text) for i, u in enumerate(train)]
    found = verdict(changed(finetune_config, loop_max_steps=30), shuffled)
    assert found.name == "only blanks"
    assert "100.0 % of the frames are blank" in found.findings[0].evidence[0]


def test_transcripts_of_other_recordings_when_it_guesses(finetune_config, tones, verdict):
    """Of six letters a fifth is right by chance: the error rate alone would look as if it heard."""
    train = tones[0]
    shuffled = [replace(u, text=train[i - 7].text) for i, u in enumerate(train)]
    assert verdict(changed(finetune_config, loop_max_steps=120), shuffled).name == TOO_EARLY
    finding = verdict(changed(finetune_config, loop_max_steps=300), shuffled).findings[0]
    assert finding.name in ("at chance", "overfitting")
    assert "only how frequent they are" in " ".join(finding.evidence)
    assert "heck that t" in finding.advice


def test_a_few_transcripts_learned_by_heart(finetune_config, tones, verdict):
    train = tones[0][:6]
    shuffled = [replace(u, text=train[i - 2].text) for i, u in enumerate(train)]
    config = changed(finetune_config, loop_max_steps=250, loop_num_validations=5)
    assert verdict(config, shuffled).name == "overfitting"


def test_a_slow_loader(pretrain_config, verdict, monkeypatch):
    real = PlannedBatches.__getitem__

    def slow(self, index):
        time.sleep(0.15)
        return real(self, index)

    monkeypatch.setattr(PlannedBatches, "__getitem__", slow)
    config = changed(pretrain_config, loop_max_steps=40, loop_num_validations=1)
    found = verdict(config)
    assert found.name == "starved of data"
    assert "num_workers (now 0)" in found.findings[0].advice


def test_a_run_that_has_only_begun():
    found = judge([{"step": 2, "time_s": 1.0, "loss/total": 6.0}], {})
    assert found.name == "too early to tell"
    assert "look again" in describe_verdict(found, "run")


def test_the_verdict_as_text(pretrain_config, verdict, tmp_path):
    found = verdict(changed(pretrain_config, optim_lr=1e-12, loop_max_steps=10))
    text = describe_verdict(found, "runs/x")
    assert text.startswith("runs/x: at chance\n  The masked unit loss")
    assert "What to change:" in text
    assert in_short(found).startswith("Doctor: at chance. The masked unit loss")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    signals = pretrain_config.tasks.signals
    records = [json.loads(line) for line in lines]
    assert judge(records, {}, signals).name == "at chance"  # without settings
