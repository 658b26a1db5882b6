"""Several corpora, phones, a rehearsal and a frozen teacher, as runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from speechssl.checkpoint import load_model
from speechssl.cli import main
from speechssl.data.index import Corpora
from speechssl.data.manifest import write_manifest
from speechssl.doctor import describe_run
from speechssl.pretext.ctc_distillation import CTCDistillationConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.phones import PhonesConfig
from speechssl.pretext.supervised import CTCConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.report.page import write_report
from speechssl.runlog import read_metrics
from speechssl.training.pretrain import PretrainWork, pretrain
from speechssl.training.states import newest_weights
from tests.training.test_pretrain import steps_only, weights

UNITS = MaskedUnitsConfig(num_units=9, target_dim=8)


@pytest.fixture(scope="module")
def corpora(tones):
    """Own speech without transcripts, one corpus with both kinds, one with characters alone."""
    own = [replace(u, text=None, ipa=None) for u in tones[0][:20]]
    return [own, tones[0][20:40], [replace(u, ipa=None) for u in tones[0][40:50]]]


def short(config, *tasks, steps=4, **more):
    loop = replace(config.loop, max_steps=steps, num_validations=1, checkpoint_every=2)
    return replace(config, tasks=TaskConfigs(tasks), loop=loop, **more)


@pytest.fixture(scope="module")
def taught(corpora, tones, tmp_path_factory):
    """A run of units, characters at the top and phones below, half of it own speech."""
    from tests.training.conftest import pretrain_config

    config = short(
        pretrain_config.__wrapped__(),
        UNITS,
        CTCConfig(weight=0.5),
        PhonesConfig(layers=(1,)),
        mix_shares=(0.5,),
        mix_temperature=0.3,
    )
    place = tmp_path_factory.mktemp("taught") / "run"
    pretrain(config, Corpora(corpora), place, valid_set=tones[1])
    return place


def test_characters_and_phones_are_learned_at_once(taught):
    lines = read_metrics(taught)
    assert all("loss/ctc" in m and "loss/phones" in m for m in lines if "loss/total" in m)
    (valid,) = [m for m in lines if "valid/loss" in m]
    for task in ("ctc", "phones"):
        assert 0 < valid[f"valid/{task}/cer"] <= 5
        assert valid[f"valid/{task}/left_out"] == 0
        assert valid[f"valid/{task}/chance"] == pytest.approx(np.log(6), abs=0.1)


def test_the_folder_keeps_both_heads(taught):
    checkpoint, trained = load_model(taught), newest_weights(taught)
    model, tokenizer = load_model(taught / "model").require_ctc()
    assert tokenizer.symbols[2:] == (" ", *"abcdef")
    assert torch.equal(model.head.linear.weight, trained["ctc.heads.0.linear.weight"])
    heads = load_model(taught / "model").heads_of("phones")
    key = "phones.tasks.0.heads.0.linear.weight"
    assert torch.equal(heads["linear.weight"], trained[key])
    about = checkpoint.meta["heads"]["phones"]
    assert about["symbols"] == ["<blank>", "⁇", *"abcdef"]
    assert about["layer"] == 1


def test_the_doctor_and_the_report_know_the_phones(taught, tmp_path):
    assert "CTC loss of phones" in describe_run(taught)
    html = write_report([taught], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "CTC loss of phones" in html
    assert "cannot be opened" not in html


def test_pretraining_goes_on_with_both_heads(taught, corpora, tones, pretrain_config, tmp_path):
    """As from one stage of a long training to the next: no state of the optimizer, a new warm-up,
    and the heads as they were."""
    init = load_model(taught / "model")
    config = short(pretrain_config, CTCConfig(), PhonesConfig(layers=(1,)), steps=1)
    config = replace(config, model=init.speech.config, optim=replace(config.optim, lr=1e-12))
    pretrain(config, Corpora(corpora), tmp_path / "on", valid_set=tones[1], init=init)
    after = load_model(tmp_path / "on")
    said = after.meta["heads"]
    assert set(said) == {"phones"}
    for name, value in init.heads_of("phones").items():
        torch.testing.assert_close(after.heads_of("phones")[name], value)
    torch.testing.assert_close(after.model.head.linear.weight, init.model.head.linear.weight)


def test_all_heads_go_on_where_they_are_kept(
    corpora, tones, pretrain_config, tmp_path, capsys, taught
):
    """Centroids and codebooks too; without `keep_heads` they begin anew."""
    assert not load_model(taught).heads_of("masked_units")
    tasks = (replace(UNITS, layers=(1, -1)), PhonesConfig())
    config = short(pretrain_config, *tasks, steps=2, keep_heads=True)
    pretrain(config, Corpora(corpora), tmp_path / "run", valid_set=tones[1])
    init = load_model(tmp_path / "run" / "model")
    trained = newest_weights(tmp_path / "run")
    own = init.heads_of("masked_units")
    assert len(own) > 4
    assert all(torch.equal(trained[f"masked_units.{n}"], v) for n, v in own.items())
    config = replace(config, model=init.speech.config, optim=replace(config.optim, lr=1e-12))
    loop = replace(config.loop, max_steps=1, seed=3)  # other first heads and centroids
    config = replace(config, loop=loop)
    pretrain(config, Corpora(corpora), tmp_path / "on", valid_set=tones[1], init=init)
    assert "the heads of masked_units, 8 of 8 symbols of the phones" in capsys.readouterr().err
    after = load_model(tmp_path / "on" / "model").heads_of("masked_units")
    for name, value in own.items():
        torch.testing.assert_close(after[name], value)


def test_a_head_below_the_top_is_kept_too(tones, pretrain_config, tmp_path, capsys):
    config = short(pretrain_config, CTCConfig(layers=(1,)), steps=2)
    pretrain(config, tones[0][:20], tmp_path / "run", valid_set=tones[1])
    kept = load_model(tmp_path / "run")
    assert set(kept.heads_of("ctc")) == {"linear.weight", "linear.bias"}
    config = replace(config, model=kept.speech.config)
    pretrain(config, tones[0][:20], tmp_path / "on", valid_set=tones[1], init=kept)
    assert "9 of 9 symbols of the ctc head" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["shares", "rehearsal"])
def test_a_mix_resumes_exactly(how, corpora, tones, pretrain_config, tmp_path, monkeypatch):
    write_manifest(tmp_path / "rehearsed.jsonl", corpora[1])
    mix = {
        "shares": {"mix_shares": (0.5,), "mix_temperature": 0.0},
        "rehearsal": {"rehearsal": str(tmp_path / "rehearsed.jsonl"), "rehearsal_share": 0.25},
    }
    config = short(pretrain_config, UNITS, CTCConfig(), PhonesConfig(), **mix[how])
    train = Corpora(corpora) if how == "shares" else corpora[0]
    pretrain(config, train, tmp_path / "whole", valid_set=tones[1])
    real = PretrainWork.backward

    def dies(self, step, max_steps, batches):
        if step == 3:
            raise RuntimeError("killed")
        return real(self, step, max_steps, batches)

    monkeypatch.setattr(PretrainWork, "backward", dies)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(config, train, tmp_path / "broken", valid_set=tones[1])
    monkeypatch.setattr(PretrainWork, "backward", real)
    pretrain(config, train, tmp_path / "broken", valid_set=tones[1])
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    assert steps_only(tmp_path / "whole") == steps_only(tmp_path / "broken")


def test_a_rehearsal_is_the_last_corpus(corpora, tones, pretrain_config, tmp_path):
    """Its transcripts are learned while own speech has none; half of the micro-batches are it."""
    write_manifest(tmp_path / "rehearsed.jsonl", corpora[1])
    config = short(pretrain_config, UNITS, CTCConfig(), rehearsal=str(tmp_path / "rehearsed.jsonl"))
    pretrain(config, corpora[0], tmp_path / "run", valid_set=tones[1])
    kept = load_model(tmp_path / "run")
    assert kept.meta["corpora"] == 2
    assert kept.meta["train_utterances"] == 39  # one of the rehearsal is held out
    assert kept.meta["valid_utterances"] == len(tones[1]) + 1
    lines = [m for m in read_metrics(tmp_path / "run") if "loss/total" in m]
    assert sum(m["loss/ctc"] > 0 for m in lines) == len(lines) / 2


def test_transcripts_of_own_validation_are_not_scored(corpora, tones, pretrain_config, tmp_path):
    """They may be in other letters: what is rehearsed is validated on its own held-out part."""
    write_manifest(tmp_path / "rehearsed.jsonl", corpora[1])
    config = short(pretrain_config, CTCConfig(), rehearsal=str(tmp_path / "rehearsed.jsonl"))
    other = [replace(u, text="zyx") for u in tones[1]]
    pretrain(config, corpora[0], tmp_path / "run", valid_set=other)
    (valid,) = [m for m in read_metrics(tmp_path / "run") if "valid/loss" in m]
    assert valid["valid/ctc/left_out"] == 0
    assert valid["valid/ctc/cer"] > 0


# --- a frozen teacher -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(taught, corpora, tones, tmp_path_factory):
    """Own speech alone, with the frozen model of the run above."""
    from tests.training.conftest import pretrain_config

    config = short(pretrain_config.__wrapped__(), UNITS, CTCDistillationConfig(top=4))
    init = load_model(taught)
    config = replace(config, model=init.speech.config)
    place = tmp_path_factory.mktemp("kept") / "run"
    pretrain(config, corpora[0], place, valid_set=tones[1], init=init)
    return place


def test_what_it_could_transcribe_is_kept(kept, taught, tones, capsys):
    model, tokenizer = load_model(kept).require_ctc()
    assert tokenizer.symbols == load_model(taught).tokenizer.symbols
    trained = newest_weights(kept)["ctc_distillation.head.linear.weight"]
    assert torch.equal(load_model(kept / "model").model.head.linear.weight, trained)
    assert model.head.vocab_size == tokenizer.vocab_size
    assert main(["transcribe", str(kept), str(tones[1][0].audio)]) == 0
    assert not capsys.readouterr().err


def test_the_teachers_outputs_are_computed_once(kept):
    files = [json.loads(p.read_text()) for p in (kept / "cache").glob("units-*.json")]
    columns = [name for name in files[0]["names"] if name.startswith("ctc_distillation")]
    assert len(columns) == 2 * 4 + 1
    assert files[0]["units"][columns[0]]["temperature"] == 2.0


def test_the_frozen_teacher_is_no_part_of_what_is_saved(kept):
    names = {name for name in newest_weights(kept) if name.startswith("ctc_distillation")}
    assert names == {"ctc_distillation.head.linear.weight", "ctc_distillation.head.linear.bias"}


def test_the_doctor_and_the_report_know_the_teacher(kept, tmp_path):
    """A teacher of four updates emits only blanks, which the doctor finds."""
    said = describe_run(kept)
    assert "distance from the teacher's symbols" in said
    assert "The teacher emits a symbol in 0.0 % of the rows" in said
    html = write_report([kept], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "distance from the teacher's symbols" in html.replace("&#x27;", "'")
    assert "cannot be opened" not in html


def test_other_symbols_in_the_same_run(taught, corpora, pretrain_config, tones, tmp_path):
    """A teacher of one alphabet beside transcripts of another: the folder has that of the
    transcripts."""
    init = load_model(taught)
    labeled = [replace(u, text=f"{u.text}z") for u in corpora[1]]
    config = short(pretrain_config, CTCDistillationConfig(), CTCConfig(), steps=1)
    config = replace(config, model=init.speech.config)
    pretrain(config, labeled, tmp_path / "run", valid_set=tones[1], init=init)
    _, tokenizer = load_model(tmp_path / "run").require_ctc()
    assert "z" in tokenizer.symbols


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "which", "said"),
    [
        ((CTCDistillationConfig(),), "none", "give --init a model with a CTC head"),
        ((CTCDistillationConfig(),), "headless", "it has no CTC head: name one that was taught"),
        ((CTCDistillationConfig(upsample=2),), "taught", "upsample must be 1"),
        ((PhonesConfig(),), "none", 'phones, and --train has none: .*lines have "ipa"'),
    ],
)
def test_tasks_without_what_they_need(
    tasks, which, said, corpora, taught, pretrain_config, tmp_path
):
    init = None if which == "none" else load_model(taught)
    if which == "headless":
        init = replace(init, model=init.speech)
    config = short(pretrain_config, *tasks)
    if init is not None:
        config = replace(config, model=init.speech.config)
    with pytest.raises(ValueError, match=said):
        pretrain(config, corpora[0], tmp_path / "run", init=init)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--mix-shares", "[0.5]"],
            "--mix-shares 0.5 mixes several manifests, and --train names one",
        ),
        (["--rehearsal", "nowhere.jsonl"], "--rehearsal nowhere.jsonl: there is no such manifest"),
        (["--rehearsal-share", "0"], "rehearsal must be in (0, 1), got 0"),
        (["--rehearsal-share", "2"], "rehearsal_share must be in"),
        (["--tasks", "ctc-distillation"], "give --init a model with a CTC head"),
        (["--tasks", "phones"], "learns from transcripts as phones, and --train has none"),
    ],
)
def test_the_command_says_it_in_a_sentence(given, said, corpora, tmp_path, capsys):
    own = write_own(tmp_path, corpora)
    if given[0] == "--rehearsal-share":
        given = [*given, "--rehearsal", str(own[1])]
    command = ["pretrain", "--train", str(own[0]), "--out", str(tmp_path / "run"), *given]
    assert main([*command, "--max-steps", "1", "--precision", "fp32"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def write_own(folder, corpora):
    paths = [folder / f"{number}.jsonl" for number in range(len(corpora))]
    for path, utterances in zip(paths, corpora, strict=True):
        write_manifest(path, utterances)
    return paths


def test_three_shares_for_two_manifests(corpora, tmp_path, capsys):
    first, second, _ = write_own(tmp_path, corpora)
    command = ["pretrain", "--train", str(first), str(second), "--out", str(tmp_path / "run")]
    assert main([*command, "--mix-shares", "0.2,0.3,0.5"]) == 2
    assert "3 shares (0.2, 0.3, 0.5) for 2 manifests" in capsys.readouterr().err
