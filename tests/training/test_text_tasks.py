"""Tasks that look at transcripts, as runs: mixed manifests, and what becomes of their heads."""

import json
import re
from dataclasses import replace

import pytest
import torch

from speechssl.checkpoint import load_model
from speechssl.cli import main
from speechssl.data.index import Corpora
from speechssl.data.manifest import write_manifest
from speechssl.model.speech_model import CTCModel
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.speech_text import SpeechTextConfig
from speechssl.pretext.supervised import CTCConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.report.page import write_report
from speechssl.runlog import read_metrics
from speechssl.text import CharTokenizer
from speechssl.training.finetune import FinetuneConfig, build_head
from speechssl.training.pretrain import hold_out_valid, pretrain
from tests.training.test_many_processes import looped, smooth, together

UNITS = MaskedUnitsConfig(num_units=9, target_dim=8)
SPACE = SpeechTextConfig(dim=8, text_dim=8, text_kernel=3)


@pytest.fixture(scope="module")
def corpora(tones):
    """One manifest without transcripts and one with."""
    own = [replace(u, text=None) for u in tones[0][:20]]
    return Corpora([own, tones[0][20:40]])


def short(config, *tasks, steps=3):
    loop = replace(config.loop, max_steps=steps, num_validations=1)
    return replace(config, tasks=TaskConfigs(tasks), loop=loop)


@pytest.fixture(scope="module")
def run(corpora, tones, tmp_path_factory):
    """All three tasks on both manifests."""
    from tests.training.conftest import pretrain_config

    config = short(pretrain_config.__wrapped__(), UNITS, SPACE, CTCConfig())
    place = tmp_path_factory.mktemp("mixed") / "run"
    pretrain(replace(config, mix_temperature=0.5), corpora, place, valid_set=tones[1])
    return place


def test_labeled_and_unlabeled_manifests_are_mixed(run):
    lines = read_metrics(run)
    assert all("loss/ctc" in m and "loss/masked_units" in m for m in lines if "loss/total" in m)
    (valid,) = [m for m in lines if "valid/loss" in m]
    assert 0 < valid["valid/ctc/cer"] <= 2
    assert valid["valid/ctc/left_out"] == 0
    assert valid["valid/speech_text/find_text_at_1_chance"] == pytest.approx(1 / 20)


def test_the_model_folder_transcribes(run, tones, capsys):
    checkpoint = load_model(run)
    model, tokenizer = checkpoint.require_ctc()
    assert tokenizer.symbols[2:] == (" ", *"abcdef")
    assert model.head.vocab_size == tokenizer.vocab_size
    assert main(["transcribe", str(run), str(tones[1][0].audio)]) == 0
    assert not capsys.readouterr().err


def test_the_report_draws_each_curve_once(run, tmp_path):
    html = write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")
    titles = re.findall(r"<h4>(.*?)</h4>", html.split('id="curves"')[1].split("</section>")[0])
    assert "CTC loss" in titles
    assert len(titles) == len(set(titles))


def test_the_weights_are_those_of_the_run(run):
    """The head in the model folder is the one that the last checkpoint holds."""
    from speechssl.training.states import newest_weights

    model, _ = load_model(run / "model").require_ctc()
    trained = newest_weights(run)
    assert torch.equal(model.head.linear.weight, trained["ctc.heads.0.linear.weight"])
    heads = load_model(run / "model").heads_of("speech_text")
    assert torch.equal(heads["log_scale"], trained["speech_text.log_scale"])


def test_finetuning_keeps_the_rows_of_the_head(run):
    init = load_model(run)
    tokenizer = CharTokenizer.train(["cab xyz"])
    head, origin = build_head(FinetuneConfig(), init.speech, tokenizer, init)
    assert {"a", "b", "c", " "} <= set(origin.kept)
    assert set(origin.fresh) == {"x", "y", "z"}
    old, new = (t.symbols.index("b") for t in (init.tokenizer, tokenizer))
    assert torch.equal(head.linear.weight[new], init.model.head.linear.weight[old])


def test_pretraining_goes_on_with_the_heads(run, tones, pretrain_config, tmp_path, capsys):
    init = load_model(run)
    config = replace(short(pretrain_config, SPACE, CTCConfig(), steps=1), model=init.speech.config)
    config = replace(config, optim=replace(config.optim, lr=1e-12))
    pretrain(config, tones[0][20:40], tmp_path / "on", valid_set=tones[1], init=init)
    said = capsys.readouterr().err
    assert "the heads of speech_text" in said
    assert "9 of 9 symbols of the CTC head" in said
    after = load_model(tmp_path / "on")
    for name, value in init.heads_of("speech_text").items():
        torch.testing.assert_close(after.heads_of("speech_text")[name], value)
    torch.testing.assert_close(after.model.head.linear.weight, init.model.head.linear.weight)


def test_other_letters_begin_with_fresh_encoders(run, tones, pretrain_config, tmp_path, capsys):
    init = load_model(run)
    config = replace(short(pretrain_config, SPACE, steps=1), model=init.speech.config)
    train = [replace(u, text=f"{u.text}z") for u in tones[0][20:40]]
    pretrain(config, train, tmp_path / "on", valid_set=tones[1], init=init)
    assert "heads of speech_text" not in capsys.readouterr().err


def test_held_out_utterances_know_their_manifest(corpora):
    rest, held = hold_out_valid(corpora, 0)
    assert len(rest) + len(held) == len(corpora)
    assert len(rest.sizes()) == len(held.sizes()) == 2
    ids = {u.id for u in held}
    assert not ids & {u.id for u in rest}


def test_an_alphabet_for_each_manifest(tones, pretrain_config, tmp_path):
    """Heads of both are trained, the first one's is kept, and validation of held-out utterances
    takes that of their manifest."""
    second = [replace(u, text=u.text.upper()) for u in tones[0][20:40]]
    config = short(pretrain_config, CTCConfig(alphabets="per_corpus"))
    pretrain(config, Corpora([tones[0][:20], second]), tmp_path / "run")
    from speechssl.training.states import newest_weights

    trained = newest_weights(tmp_path / "run")
    heads = [trained[f"ctc.heads.{i}.linear.weight"] for i in (0, 1)]
    assert not torch.equal(*heads)
    model = load_model(tmp_path / "run" / "model").model
    assert isinstance(model, CTCModel)
    assert torch.equal(model.head.linear.weight, heads[0])


def test_a_run_without_transcripts_says_so(corpora, pretrain_config, tmp_path):
    own = [replace(u, text=None) for u in corpora]
    with pytest.raises(ValueError, match="ctc learns from transcripts, and --train has none"):
        pretrain(short(pretrain_config, CTCConfig()), own, tmp_path / "run")


def test_without_text_tasks_a_folder_is_as_before(tones, pretrain_config, tmp_path):
    pretrain(short(pretrain_config, UNITS), tones[0][:8], tmp_path / "run", valid_set=tones[1][:4])
    assert {p.name for p in (tmp_path / "run" / "best").iterdir()} == {
        "config.json",
        "meta.json",
        "model.safetensors",
    }


@pytest.mark.distributed
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_write_the_folder_of_one(parallel, tones, pretrain_config, tmp_path):
    """Also where each process holds a part of the heads only."""
    config = looped(smooth(short(pretrain_config, SPACE, CTCConfig())), max_steps=3)
    one = looped(config, accumulate=2)
    two = looped(config, parallel=parallel)
    pretrain(one, tones[0][:20], tmp_path / "one", valid_set=tones[1])
    together(lambda: pretrain(two, tones[0][:20], tmp_path / "two", valid_set=tones[1]))
    first, second = (load_model(tmp_path / name / "model") for name in ("one", "two"))
    for name, value in first.heads.items():
        torch.testing.assert_close(second.heads[name], value, rtol=1e-4, atol=1e-5)
    its, other = (checkpoint.model.head.linear.weight for checkpoint in (first, second))
    torch.testing.assert_close(other, its, rtol=1e-4, atol=1e-5)


def test_the_command_mixes_manifests(tones, tmp_path):
    """Two manifests on the command line, one of them without text."""
    write_manifest(tmp_path / "own.jsonl", [replace(u, text=None) for u in tones[0][:20]])
    write_manifest(tmp_path / "labeled.jsonl", tones[0][20:40])
    small = ["--max-steps", "2", "--loop.num-workers", "0", "--precision", "fp32"]
    size = [
        "--model.context.num-layers",
        "1",
        "--model.context.local-layers",
        "0",
        "--model.context.dim",
        "32",
    ]
    size += ["--model.context.num-heads", "2", "--model.context.ffn-dim", "32", "--batch-s", "6"]
    mixed = ["--train", tmp_path / "own.jsonl", tmp_path / "labeled.jsonl"]
    mixed += ["--mix-temperature", "0", "--tasks", "ctc=0.5", "masked_units"]
    mixed += ["--masked-units.num-units", "9"]
    command = ["pretrain", *mixed, "--out", tmp_path / "run", *small, *size]
    assert main(list(map(str, command))) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["mix_temperature"] == 0
    assert load_model(tmp_path / "run").meta["corpora"] == 2
