"""Fine-tuning end to end on tones: the bound fails if training is broken."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from speechssl.checkpoint import load_model
from speechssl.data.manifest import read_manifest
from speechssl.doctor import judge_run
from speechssl.runlog import read_metrics
from speechssl.training.findings_ctc import UNKNOWN_CHARACTERS
from speechssl.training.finetune import finetune
from speechssl.training.labels import take_minutes


def test_it_learns_to_write_tones(tones, finetune_config, tmp_path):
    train, valid = tones
    outcome = finetune(finetune_config, train, valid, tmp_path / "run")
    assert outcome.best_score is not None
    assert outcome.best_score < 0.05  # chance is above 0.8
    checkpoint = load_model(tmp_path / "run")
    _, tokenizer = checkpoint.require_ctc()
    assert tokenizer.vocab_size == 3 + 6  # blank, unknown, space, letters
    assert checkpoint.meta["train_utterances"] == 60
    metrics = read_metrics(tmp_path / "run")
    validations = [m for m in metrics if "valid/cer" in m]
    assert len(validations) == 10
    assert {"valid/wer", "valid/blank_rate", "valid/loss"} <= validations[0].keys()
    assert read_manifest(tmp_path / "run" / "valid.jsonl") == valid
    text = (tmp_path / "run" / "best" / "hypotheses.jsonl").read_text(encoding="utf-8")
    written = [json.loads(line) for line in text.splitlines()]
    assert [line["reference"] for line in written] == [u.text for u in valid]
    wrong = sum(line["hypothesis"] != line["reference"] for line in written)
    assert wrong <= len(valid) // 2


def test_the_last_step_frozen_encoder_stays_as_it_was(tones, finetune_config, tmp_path):
    from speechssl.checkpoint import Checkpoint
    from speechssl.model.speech_model import SpeechModel

    train, valid = tones
    torch.manual_seed(0)
    speech = SpeechModel(finetune_config.model)
    before = speech.encoder.filters.detach().clone()
    config = replace(finetune_config, loop=replace(finetune_config.loop, max_steps=3))
    finetune(config, train, valid, tmp_path / "run", init=Checkpoint(speech))
    after = load_model(tmp_path / "run").speech.encoder.filters
    assert torch.equal(before, after)


def test_a_resumed_run_with_masks_has_the_same_gradients(tones, finetune_config, tmp_path):
    """No optimizer group holds the mask embedding; its gradient must not add up all the same."""
    train, valid = tones
    loop = replace(finetune_config.loop, max_steps=8, num_validations=1, checkpoint_every=4)
    config = replace(finetune_config, mask_share=0.3, mask_from_share=0.0, loop=loop)
    finetune(config, train, valid, tmp_path / "run")
    whole = [m["grad_norm"] for m in read_metrics(tmp_path / "run") if "grad_norm" in m]
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000008")
    finetune(config, train, valid, tmp_path / "run")
    again = [m["grad_norm"] for m in read_metrics(tmp_path / "run") if "grad_norm" in m]
    assert len(whole) == 8
    assert whole == again


def test_names_that_are_not_utf8(tones, finetune_config, tmp_path):
    train, valid = tones
    train = [*train, replace(train[0], id="long-\udce9", text="abcdef" * 40)]
    valid = [replace(valid[0], id="caf\udce9"), *valid[1:]]
    config = replace(finetune_config, loop=replace(finetune_config.loop, max_steps=1))
    finetune(config, train, valid, tmp_path / "run")
    assert load_model(tmp_path / "run").meta["dropped_too_many_symbols"] == ["long-\udce9"]
    text = (tmp_path / "run" / "best" / "hypotheses.jsonl").read_text(encoding="utf-8")
    assert json.loads(text.splitlines()[0])["id"] == "caf\udce9"


def test_transcripts_that_do_not_fit_are_dropped_by_name(tones, finetune_config, tmp_path):
    train, valid = tones
    long = replace(train[0], id="too-long", text="abcdef" * 40)
    config = replace(finetune_config, loop=replace(finetune_config.loop, max_steps=1))
    finetune(config, [*train, long], valid, tmp_path / "run")
    assert load_model(tmp_path / "run").meta["dropped_too_many_symbols"] == ["too-long"]


def test_what_does_not_fit_when_it_is_played_fast_is_dropped(
    tones, finetune_config, tmp_path, capsys
):
    train, valid = tones  # a second, 25 frames
    tight = replace(train[0], id="tight", text="abcdef" * 4)
    config = replace(finetune_config, loop=replace(finetune_config.loop, max_steps=1))
    finetune(config, [*train, tight], valid, tmp_path / "even")
    assert load_model(tmp_path / "even").meta["dropped_too_many_symbols"] == []
    fast = replace(config, speeds=(1.0, 1.2))
    finetune(fast, [*train, tight], valid, tmp_path / "fast")
    assert load_model(tmp_path / "fast").meta["dropped_too_many_symbols"] == ["tight"]
    assert "1 of the training transcripts (tight), not learned from" in capsys.readouterr().err
    with pytest.raises(ValueError, match="lower --speeds"):
        finetune(fast, [tight], valid, tmp_path / "none")


def test_validation_transcripts_that_do_not_fit_are_named_and_are_not_in_the_loss(
    tones, finetune_config, tmp_path, capsys
):
    train, valid = tones
    long = replace(valid[0], id="too-long", text="abcdef" * 40)
    config = replace(finetune_config, loop=replace(finetune_config.loop, max_steps=1))
    config = replace(config, loop=replace(config.loop, num_validations=1))
    losses, chances = [], []
    for name, heard in (("without", valid), ("with", [*valid, long])):
        finetune(config, train, heard, tmp_path / name)
        (scored,) = (m for m in read_metrics(tmp_path / name) if "valid/loss" in m)
        losses.append(scored["valid/loss"])
        chances.append(scored["valid/ctc/chance"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert chances[1] == chances[0]
    assert load_model(tmp_path / "with").meta["valid_too_many_symbols"] == ["too-long"]
    written = (tmp_path / "with" / "best" / "hypotheses.jsonl").read_text(encoding="utf-8")
    assert '"too-long"' in written  # it is in the WER
    assert "1 of the validation transcripts (too-long)" in capsys.readouterr().err


def test_characters_unseen_in_training_are_named(tones, finetune_config, tmp_path):
    train, valid = tones
    odd = [replace(valid[0], text="aqz"), *valid[1:]]
    config = replace(finetune_config, loop=replace(finetune_config.loop, max_steps=1))
    finetune(config, train, odd, tmp_path / "run")
    unseen = load_model(tmp_path / "run").meta["valid_characters_unseen_in_training"]
    assert unseen == {"q": 1, "z": 1}


def test_unknown_characters_are_said_and_are_not_too_long(tones, finetune_config, tmp_path, capsys):
    """Six symbols that are all unknown need no blanks between them: nobody is to raise upsample."""
    train, valid = tones
    config = replace(finetune_config, loop=replace(finetune_config.loop, max_steps=1))
    upper = [replace(u, text="ABCDEF" * 3) for u in valid[:5]]  # 35 frames, were they one symbol
    finetune(config, train, [*upper, *valid[5:]], tmp_path / "run")
    told = capsys.readouterr().err
    assert "5 of 20 validation transcripts (1-0, 1-1, 1-2, 1-3, 1-4) hold characters" in told
    assert "upper case where the vocabulary is lower case (A B C D E F)" in told
    assert "upsample" not in told
    meta = load_model(tmp_path / "run").meta
    assert meta["valid_too_many_symbols"] == []
    assert meta["valid_utterances_with_unseen_characters"] == [u.id for u in upper]
    (scored,) = (m for m in read_metrics(tmp_path / "run") if "valid/loss" in m)
    assert scored["valid/unknown/utterances"] == 0.25
    assert scored["valid/unknown/characters"] == pytest.approx(90 / (90 + 15 * 5))
    finetune(config, train, [*upper, *valid[5:]], tmp_path / "run")  # goes on: said once
    assert "hold characters" not in capsys.readouterr().err


def test_the_loss_is_of_transcripts_that_can_be_output(tones, finetune_config, tmp_path):
    train, valid = tones
    loop = replace(finetune_config.loop, max_steps=1, num_validations=1)
    config = replace(finetune_config, loop=loop)
    odd = [replace(valid[0], text="aÀ"), *valid[1:]]
    losses = []
    for name, heard in (("without", valid[1:]), ("with", odd)):
        finetune(config, train, heard, tmp_path / name)
        (scored,) = (m for m in read_metrics(tmp_path / name) if "valid/loss" in m)
        losses.append((scored["valid/loss"], scored["valid/ctc/chance"]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_validation_in_upper_case_has_no_loss_and_a_verdict(tones, finetune_config, tmp_path):
    train, valid = tones
    loop = replace(finetune_config.loop, max_steps=4, num_validations=2)
    upper = [replace(u, text=(u.text or "").upper()) for u in valid]
    finetune(replace(finetune_config, loop=loop), train, upper, tmp_path / "run")
    scored = [m for m in read_metrics(tmp_path / "run") if "valid/cer" in m]
    assert len(scored) == 2
    assert "valid/loss" not in scored[0]
    assert scored[0]["valid/unknown/characters"] == 1
    found = judge_run(tmp_path / "run")
    assert found.name == UNKNOWN_CHARACTERS
    assert sorted(found.findings[0].evidence[-1].removeprefix("They are: ").split()) == list(
        "ABCDEF"
    )


def test_nothing_to_learn_from_is_a_sentence(tones, finetune_config, tmp_path):
    train, valid = tones
    silent = [replace(u, text=None) for u in train]
    with pytest.raises(ValueError, match="No utterance of the training set has a transcript"):
        finetune(finetune_config, silent, valid, tmp_path / "run")


def test_label_minutes_are_random_deterministic_and_nested(tones):
    train, _ = tones
    few, more = take_minutes(train, 0.1, seed=3), take_minutes(train, 0.3, seed=3)
    assert few == more[: len(few)]
    assert few != take_minutes(train, 0.1, seed=4)[: len(few)]
    assert sum(u.duration_s for u in few[:-1]) < 6 <= sum(u.duration_s for u in few)


def test_early_stop(tones, finetune_config, tmp_path):
    train, valid = tones
    optim = replace(finetune_config.optim, lr=1e-9)
    loop = replace(finetune_config.loop, max_steps=60, num_validations=20, patience=2)
    outcome = finetune(
        replace(finetune_config, optim=optim, loop=loop), train, valid, tmp_path / "r"
    )
    assert outcome.steps < 60


def test_two_views_at_several_speeds_learn_too(tones, finetune_config, tmp_path):
    train, valid = tones
    config = replace(finetune_config, consistency=0.2, speeds=(0.95, 1.0, 1.05))
    outcome = finetune(config, train, valid, tmp_path / "run")
    assert outcome.best_score is not None
    assert outcome.best_score < 0.1


@pytest.mark.parametrize("change", [{"consistency": -1.0}, {"speeds": ()}, {"speeds": (0.1,)}])
def test_views_and_speeds_out_of_range_are_named(finetune_config, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(finetune_config, **change)
