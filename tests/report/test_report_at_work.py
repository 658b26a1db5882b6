"""The sections that show a run at work, of runs that were really made."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechssl import audio
from speechssl.data import distortion
from speechssl.data.manifest import Utterance
from speechssl.model.config import ContextConfig, FilterbankEncoderConfig, ModelConfig
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.report.codes import CodeMeanings, code_meanings, codes_section
from speechssl.report.page import write_report
from speechssl.report.pretexts import examples, pretexts_section
from speechssl.report.recognition import chosen_utterances, read_result, utterances_section
from speechssl.report.runs import read_run
from speechssl.rng import rng
from speechssl.training.finetune import FinetuneConfig, finetune
from speechssl.training.loop import LoopConfig
from speechssl.training.pretrain import PretrainConfig, pretrain

MODEL = ModelConfig(
    encoder=FilterbankEncoderConfig(num_filters=8, stack=4),
    context=ContextConfig(
        dim=16, num_layers=1, num_heads=2, ffn_dim=16, pos_kernel=5, pos_groups=2, layerdrop=0.0
    ),
)
LOOP = LoopConfig(max_steps=4, num_validations=2, log_every=1, num_workers=0)
TEXTS = ("ab ba", "ca", "b", "abc cab")


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with the runs `pretrain`, `gumbel` and `finetune`, and their recordings."""
    folder = tmp_path_factory.mktemp("at-work")
    utterances = []
    for number in range(8):
        generator = rng(0, "at-work", number)
        loudness = np.repeat(generator.uniform(0.01, 0.4, 16), 2000)
        path = folder / "audio" / f"{number}.wav"
        audio.write(path, (loudness * generator.uniform(-1, 1, 32000)).astype(np.float32), 16000)
        text = TEXTS[number % len(TEXTS)]
        utterances.append(Utterance(f"u{number}", path, 0.0, 2.0, 16000, None, text))
    first = PretrainConfig(
        model=MODEL,
        tasks=TaskConfigs((MaskedUnitsConfig(num_units=8, target_dim=8), ReconstructionConfig())),
        distortion=replace(distortion.none(), gain=distortion.GainConfig(p=1.0)),
        batch_s=8.0,
        loop=LOOP,
        precision="fp32",
    )
    learned = ContrastiveConfig(entries=4, target_dim=8, num_negatives=4)
    tasks = TaskConfigs((learned, ReconstructionConfig()))
    configs = {"pretrain": first, "gumbel": replace(first, tasks=tasks)}
    for name, config in configs.items():
        pretrain(config, utterances, folder / name, valid_set=utterances[:6])
    tuning = FinetuneConfig(model=MODEL, batch_s=8.0, loop=LOOP, precision="fp32")
    finetune(tuning, utterances, utterances[:6], folder / "finetune")
    return folder


@pytest.fixture
def copied(made, tmp_path) -> Path:
    """The same, to be changed; the recordings stay where they are."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


SECTIONS = {
    "pretext": (pretexts_section, "pretrain"),
    "codes": (codes_section, "pretrain finetune"),
    "utterances": (utterances_section, "finetune"),
}


def shown(folder: Path, name: str) -> str:
    """One section of the runs that it is about."""
    make, runs = SECTIONS[name]
    return make([read_run(folder / run, run) for run in runs.split()])


def section(html: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', html, re.DOTALL)
    assert found is not None, f"there is no section {name}"
    return found[0]


def test_every_section_has_something_in_it(made, tmp_path):
    runs = [made / name for name in ("pretrain", "gumbel", "finetune")]
    html = write_report(runs, tmp_path / "a.html").read_text(encoding="utf-8")
    heard = section(html, "pretext")
    assert heard.count("<audio") == heard.count("data:image/png") == 2 * 2 * 3
    assert heard.count("<h4>Rebuilt</h4>") == 4
    assert "Distorted by gain" in heard
    assert 'class="hidden"' in heard
    codes = section(html, "codes")
    assert "Predicted codes of masked units" in codes
    assert "Codes of contrastive, group 1" in codes
    assert codes.count("of what there is to know about its character") == 1 + 2
    utterances = section(html, "utterances")
    assert utterances.count("<article") == utterances.count("<audio") == 1 + 5
    assert utterances.count(">said</text>") == 6
    assert "Learning rate" in section(html, "curves")
    assert "Throughput" in section(html, "curves")
    assert "What was measured" in section(html, "verdicts")
    assert "95 % intervals" in html
    again = write_report(runs, tmp_path / "b.html").read_text(encoding="utf-8")
    assert again == html
    assert not re.search(r"(https?:)?//\w|@import|<script|<link|url\(", without_data(html))
    assert len(html) < 5_000_000


def without_data(html: str) -> str:
    return re.sub(r"data:[\w/]+;base64,[\w+/=]+", "", html)


@pytest.fixture
def without_recordings(made, copied) -> Iterator[Path]:
    """Runs whose recordings are gone."""
    (made / "audio").rename(made / "elsewhere")
    yield copied
    (made / "elsewhere").rename(made / "audio")


def test_the_recordings_are_gone_but_not_the_cache(without_recordings):
    assert shown(without_recordings, "pretext").count("<audio") == 2 * 3


def test_the_recordings_and_the_cache_are_gone(without_recordings):
    for name in ("pretrain", "finetune"):
        shutil.rmtree(without_recordings / name / "cache")
    for name in SECTIONS:
        html = shown(without_recordings, name)
        assert "are gone, and it has no cache of them" in html
        assert "<audio" not in html


@pytest.mark.parametrize(
    ("lost", "where", "sentence"),
    [
        ("pretrain/checkpoints", "pretext", "pretrain has no checkpoint"),
        ("pretrain/valid.jsonl", "pretext", "does not say what it validates on"),
        ("finetune/best/hypotheses.jsonl", "utterances", "does not tell what its best model wrote"),
        ("finetune/valid.jsonl", "codes", "does not say what it validates on"),
    ],
)
def test_what_is_lost_is_named(lost, where, sentence, copied):
    path = copied / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert sentence in shown(copied, where)


def test_a_checkpoint_of_other_settings_is_named(copied):
    path = copied / "pretrain" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tasks"]["reconstruction"]["hidden_dim"] = 7
    path.write_text(json.dumps(config), encoding="utf-8")
    assert "cannot be opened" in shown(copied, "pretext")


def test_codes_without_a_model_that_writes(made):
    html = codes_section([read_run(made / "pretrain", "pretrain")])
    assert "Give a fine-tuned run beside this one" in html


def test_transcripts_and_names_are_escaped(copied):
    run, evil = copied / "finetune", "<script>alert(1)</script>"
    for path in (run / "valid.jsonl", run / "best" / "hypotheses.jsonl"):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            line["id"] += evil
            for field in {"text", "reference", "hypothesis"} & line.keys():
                line[field] = f"{evil} {line[field]}"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    html = shown(copied, "utterances")
    assert "&lt;script&gt;" in html
    assert "<script" not in html


def test_what_is_heard(made):
    run = read_run(made / "pretrain", "pretrain")
    first, second = examples(run)
    assert first.id != second.id
    assert first.applied == ("gain",)
    assert first.mask.shape == (50,)
    assert 0.2 < first.mask.mean() < 0.4
    assert first.clean_mels.shape == (200, 80)
    louder = np.abs(first.distorted).mean() / np.abs(first.clean).mean()
    moved = (first.distorted_mels - first.clean_mels).mean()
    assert moved == pytest.approx(2 * np.log(louder), abs=0.1)
    note, rebuilt = first.panels
    assert note.note.endswith(f"of {first.mask.sum()} masked units predicted.")
    assert rebuilt.log_mels.mean(0) == pytest.approx(first.clean_mels.mean(0), abs=4.0)


def test_the_worst_are_the_worst(made):
    run = read_run(made / "finetune", "finetune")
    result = read_result(run)
    assert result is not None
    typical, worst = chosen_utterances(run)
    assert [u.result.id for u in worst] == [u.id for u in result.worst(5)]
    assert typical[0].result.cer == sorted(u.cer for u in result.utterances)[3]
    said = "".join(label.text for label in worst[0].said)
    assert said == worst[0].result.reference.replace(" ", "\N{OPEN BOX}")
    starts = [label.start_s for label in worst[0].said]
    assert starts == sorted(starts)


def test_every_frame_of_the_aligned_speech_is_counted(made):
    runs = [read_run(made / name, name) for name in ("gumbel", "finetune")]
    groups = code_meanings(*runs)
    assert list(groups) == ["contrastive 0", "contrastive 1"]
    assert [meanings.counts.shape[1] for meanings in groups.values()] == [4, 4]
    assert {meanings.counts.sum() for meanings in groups.values()} == {6 * 50}
    assert set(groups["contrastive 0"].characters) <= set("abc\N{OPEN BOX}–")


def test_what_codes_tell_of_characters():
    def known(counts: list[list[int]]) -> float:
        return CodeMeanings(("a", "b"), np.array(counts, float), 1.0).known_share

    assert known([[5, 0], [0, 3]]) == pytest.approx(1.0)
    assert known([[4, 2], [2, 1]]) == pytest.approx(0.0, abs=1e-9)
    assert known([[5, 3], [0, 0]]) == 0.0
    assert 0 < known([[4, 1], [1, 4]]) < 1
