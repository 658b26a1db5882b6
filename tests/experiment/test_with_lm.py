"""Scores with a language model of the labels."""

import json
from dataclasses import replace

import pytest

from speechssl.checkpoint import load_model
from speechssl.data.manifest import read_manifest
from speechssl.decoding.beam import BeamConfig
from speechssl.experiment import jobs, with_lm
from speechssl.experiment.results import Row
from speechssl.experiment.with_lm import LM_FILE, score_with_lm
from speechssl.inference.decoders import choose_decoder
from speechssl.inference.evaluate import evaluate
from speechssl.inference.tune_lm import tune_lm
from speechssl.inference.tuned import tuned_file


def sets(job):
    """(train, dev, test) of the job, those with transcripts."""
    names = ("train", "dev", "test")
    found = [read_manifest(job.out / "data" / f"{name}.jsonl") for name in names]
    return [[u for u in own if u.is_labeled] for own in found]


def test_a_run_scores_with_and_without_and_keeps_what_it_scored_with(job, monkeypatch, capsys):
    monkeypatch.setattr(jobs, "score_with_lm", score_with_lm)
    job.run()
    shown = capsys.readouterr().out
    told = json.loads((job.out / "results.json").read_text(encoding="utf-8"))
    assert set(told["models_with_lm"]) == {f"{name} + LM" for name in told["models"]}
    assert all(f"\n  {name} " in shown for name in told["models_with_lm"])
    assert f"with --lm {job.out / LM_FILE}" in shown
    best = load_model(job.out / "pretrained")
    decode = choose_decoder(best, lm=job.out / LM_FILE)
    assert any("tuned on the validation set" in note for note in decode.notes)
    found = evaluate(best, sets(job)[2], decode=decode)
    assert found.cer == told["models_with_lm"]["pretrained + LM"]["cer"]


def test_nothing_is_tuned_on_what_is_scored(job):
    train, dev, _ = sets(job)
    lm = job.out / LM_FILE
    row = Row(
        "pretrained", job.out / "pretrained", evaluate(load_model(job.out / "pretrained"), dev)
    )
    found, _ = score_with_lm([row], row, labeled=train, valid=dev, test=dev, out=job.out)
    assert lm.exists()
    assert not tuned_file(lm).exists()
    model = load_model(row.run)
    decode = choose_decoder(model, lm=lm, lm_weight=BeamConfig.lm_weight, bonus=BeamConfig.bonus)
    assert found[0].result.cer == evaluate(model, dev, decode=decode).cer


@pytest.mark.parametrize("rates", [(0.9, 0.1), (0.1, 0.9)])
def test_offered_is_the_model_with_the_fewest_errors_with_it(rates, job, monkeypatch):
    """On the validation set; the weights that are kept are its own."""
    left = iter(rates)

    def tuned(*args, **options):
        found = tune_lm(*args, **options)
        return replace(found, rates=replace(found.rates, cer=next(left)))

    monkeypatch.setattr(with_lm, "tune_lm", tuned)
    train, dev, test = sets(job)
    rows = [
        Row(name, job.out / name, evaluate(load_model(job.out / name), test))
        for name in ("pretrained", "from-scratch")
    ]
    given = {"labeled": train, "valid": dev, "test": test, "out": job.out}
    scored, best = score_with_lm(rows, None, **given)
    assert best is rows[rates.index(0.1)]
    assert [row.name for row in scored] == ["pretrained + LM", "from-scratch + LM"]
    assert '"cer": 0.1' in tuned_file(job.out / LM_FILE).read_text()


def test_symbols_without_such_a_language_model_are_said(job, monkeypatch, capsys):
    def refuse(*_args, **_options):
        raise ValueError("the symbols are no characters.")

    monkeypatch.setattr(jobs, "score_with_lm", refuse)
    job.run()
    told = capsys.readouterr()
    assert (
        "language model of the transcripts: the symbols are no characters." in told.err + told.out
    )
    assert "+ LM" not in told.out
    results = json.loads((job.out / "results.json").read_text(encoding="utf-8"))
    assert "models_with_lm" not in results


def test_without_transcripts_there_is_no_language_model(job):
    row = Row("pretrained", job.out / "pretrained", None)
    with pytest.raises(ValueError, match="There is no text"):
        score_with_lm([row], row, labeled=[], valid=[], test=[], out=job.out)
