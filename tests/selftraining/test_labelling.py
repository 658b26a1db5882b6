"""What a teacher makes of a pool, and how sure it is."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from speechssl.data.manifest import Utterance
from speechssl.decoding.greedy import greedy_decode
from speechssl.decoding.lm import train_lm, write_arpa
from speechssl.inference.decoders import choose_decoder
from speechssl.selftraining import labelling
from speechssl.selftraining.gate import Label
from speechssl.selftraining.labelling import confidences, label_pool, pairs_with_text
from speechssl.selftraining.rounds import label_cer


def collapsed(path) -> tuple[int, ...]:
    return tuple(s for i, s in enumerate(path) if s and (i == 0 or s != path[i - 1]))


def test_the_confidence_is_the_likelihood_of_all_paths_for_a_symbol():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 5, 3, generator=generator).log_softmax(-1)
    ids, lengths = [[1, 2], [1, 1], [2]], torch.tensor([5, 4, 3])
    found = confidences(rows, lengths, ids)
    for row, length, own, value in zip(rows, lengths.tolist(), ids, found, strict=True):
        paths = [p for p in product(range(3), repeat=length) if collapsed(p) == tuple(own)]
        total = sum(np.exp(sum(float(row[t, s]) for t, s in enumerate(p))) for p in paths)
        assert value == pytest.approx(total ** (1 / len(own)), abs=1e-6)


def test_no_symbols_and_impossible_ones_are_not_sure_at_all():
    rows = torch.zeros(3, 2, 3).log_softmax(-1)
    assert confidences(rows, torch.tensor([2, 2, 2]), [[], [1, 2, 1], [1]])[:2] == [0, 0]


def label(teacher, pool, path, said=None):
    say = (lambda _: None) if said is None else said.append
    return label_pool(teacher, pool, path, decode=greedy_decode, say=say)


def test_the_true_transcripts_are_not_looked_at(toy, teacher, tmp_path):
    pool = toy.pool[:10]
    labels = label(teacher, pool, tmp_path / "a.jsonl")
    silent = label(teacher, [replace(u, text=None) for u in pool], tmp_path / "b.jsonl")
    assert [(a.text, a.confidence) for a in labels] == [(b.text, b.confidence) for b in silent]
    assert [a.utterance for a in labels] == list(pool)
    assert all(0 < each.confidence <= 1 for each in labels if each.text)
    assert len({each.text for each in labels}) > 5
    assert list(pairs_with_text(silent)) == []
    assert next(iter(pairs_with_text(labels))) == (pool[0].text, labels[0].text)


def test_a_command_that_is_stopped_goes_on_where_it_was(toy, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(labelling, "BATCH_S", 4.0)
    pool, path = toy.pool[:16], tmp_path / "hypotheses.jsonl"
    whole = label(teacher, pool, tmp_path / "whole.jsonl")
    real, calls = labelling._label, []

    def counted(*given):
        calls.append(len(given[1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(labelling, "_label", counted)
    with pytest.raises(KeyboardInterrupt):
        label(teacher, pool, path)
    content = path.read_bytes()
    assert content.count(b"\n") == sum(calls[:2])
    path.write_bytes(content[:-9])  # the last line was cut off
    assert label(teacher, pool, path) == whole
    assert sum(calls[3:]) == len(pool) - calls[0]  # the second batch is done again
    calls.clear()
    assert label(teacher, pool, path) == whole
    assert calls == []


@pytest.mark.parametrize(
    "line", ["{}", "[]", "no json", '{"number": 99, "text": "", "confidence": 0, "error": ""}']
)
def test_damaged_labels_are_a_sentence(line, toy, teacher, tmp_path):
    path = tmp_path / "hypotheses.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"hypotheses\.jsonl is damaged: delete it"):
        label(teacher, toy.pool[:3], path)


def test_what_cannot_be_labeled_is_empty_and_says_why(toy, teacher, tmp_path):
    from speechssl import audio

    audio.write(tmp_path / "silent.wav", np.zeros(16000, np.float32), 16000)
    audio.write(tmp_path / "short.wav", np.full(3, 0.1, np.float32), 16000)
    pool = [
        toy.pool[0],
        replace(toy.pool[1], audio=Path("/gone.wav")),
        replace(toy.pool[2], duration_s=3600.0),
        replace(toy.pool[3], audio=tmp_path / "silent.wav", duration_s=1.0),
        replace(toy.pool[4], audio=tmp_path / "short.wav", duration_s=3 / 16000),
    ]
    found = label(teacher, pool, tmp_path / "hypotheses.jsonl")
    assert found[0].text
    assert "/gone.wav" in found[1].error
    assert [each.text for each in found[1:4]] == ["", "", ""]
    assert [each.error == "" for each in found] == [True, False, True, True, True]
    assert not found[3].confidence


def test_progress_is_said(toy, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(labelling, "BATCH_S", 4.0)
    monkeypatch.setattr(labelling, "_BATCHES", 2)
    said: list[str] = []
    label(teacher, toy.pool[:12], tmp_path / "hypotheses.jsonl", said)
    assert said
    assert said[0].endswith("of 12 utterances are labelled.")


def test_lines_hold_what_a_person_wants_to_see(toy, teacher, tmp_path):
    path = tmp_path / "hypotheses.jsonl"
    label(teacher, toy.pool[:2], path)
    for line in path.read_text(encoding="utf-8").splitlines():
        assert json.loads(line).keys() == {"number", "text", "confidence", "error"}


def test_errors_of_labels_are_counted_over_all_characters():
    utterance = Utterance("a", Path("a.wav"), 0.0, 1.0, 16000, None, "abcd")
    right, wrong = Label(utterance, "abcd", 1.0), Label(replace(utterance, text="ab"), "", 0.0)
    untold = Label(replace(utterance, text=None), "zz", 0.5)
    assert label_cer([right, wrong, untold]) == 2 / 6
    assert label_cer([untold]) is None


def test_labels_by_beam_search_with_a_language_model(toy, teacher, tmp_path):
    write_arpa(train_lm(["abcdef"] * 3, order=2, unit="char"), tmp_path / "lm.arpa")
    decode = choose_decoder(teacher, beam=4, lm=tmp_path / "lm.arpa", lm_weight=3.0, bonus=4.0)
    made = label_pool(teacher, toy.pool[:8], tmp_path / "b.jsonl", decode=decode, say=print)
    greedy = label(teacher, toy.pool[:8], tmp_path / "a.jsonl")
    assert [each.text for each in made] != [each.text for each in greedy]
    assert all(each.text and 0 < each.confidence < 1 for each in made)
