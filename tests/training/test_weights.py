"""Transcripts that count less: in the manifest, in the batch, in the loss."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import PlannedBatches, Waves
from speechssl.data.index import ManifestIndex
from speechssl.data.manifest import read_manifest, write_manifest
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.pretext.ctc import ctc_loss
from speechssl.text import CharTokenizer
from speechssl.training.finetune import finetune
from speechssl.training.finetune_work import FinetuneWork
from tests.training.conftest import MICRO


@pytest.fixture
def weighted(tones):
    return [replace(u, weight=w) for u, w in zip(tones[0], (0.25, 1.0, 0.5), strict=False)]


def test_a_manifest_keeps_weights_and_has_none_where_they_are_1(weighted, tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(path, weighted, notes=[{"teacher": "t"}] * 3)
    assert read_manifest(path) == weighted
    assert list(ManifestIndex.open(path)) == weighted
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("weight") for line in lines] == [0.25, None, 0.5]
    assert {line["teacher"] for line in lines} == {"t"}


@pytest.mark.parametrize("weight", ["0", "-1", "true", '"1"', "1e7", "NaN", "[1]", "Infinity"])
def test_a_weight_that_is_none_is_named_with_its_line(weight, tmp_path):
    path = tmp_path / "m.jsonl"
    line = '{"id": "a", "audio": "a.wav", "duration_s": 1.0, "sample_rate": 16000, "weight": %s}\n'
    path.write_text(line % weight)
    with pytest.raises(ValueError, match="line 1: weight must be a number above 0, at most 1e6"):
        read_manifest(path)


@pytest.mark.parametrize(("weight", "value"), [("0.5", 0.5), ("2", 2.0), ("null", 1.0)])
def test_weights_that_are_allowed(weight, value, tmp_path):
    path = tmp_path / "m.jsonl"
    line = '{"id": "a", "audio": "a.wav", "duration_s": 1.0, "sample_rate": 16000, "weight": %s}\n'
    path.write_text(line % weight)
    assert read_manifest(path)[0].weight == value


def batches(utterances, batch_s=6.0):
    waves = Waves.open(utterances, None, 16000, progress=False)
    plan = BatchPlan(waves.lengths_s(), batch_s=batch_s, seed=0, shuffle=False)
    return PlannedBatches(waves, plan, seed=0)


def test_a_batch_has_weights_where_one_is_not_1(weighted, tones):
    batch = batches(weighted)[0]
    known = {u.id: u.weight for u in weighted}
    assert batch.weights == tuple(known[name] for name in batch.ids)
    assert batches(tones[0][:3])[0].weights == ()


def test_the_loss_is_the_weighted_sum_of_those_of_one_utterance_each():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 9, 5, generator=generator).log_softmax(-1)
    lengths, targets = torch.tensor([9, 7, 5]), [[1, 2, 2], [3], [4, 1]]
    each = [
        float(ctc_loss(rows[i : i + 1], lengths[i : i + 1], targets[i : i + 1])) for i in range(3)
    ]
    weights = (0.25, 2.0, 0.0)
    weighted = float(ctc_loss(rows, lengths, targets, weights))
    assert weighted == pytest.approx(float(np.dot(each, weights)), rel=1e-6)
    assert float(ctc_loss(rows, lengths, targets)) == pytest.approx(sum(each), rel=1e-6)


def gradients(config, utterances, num_batches) -> dict[str, torch.Tensor]:
    """Of one update on all utterances, in so many micro-batches."""
    torch.manual_seed(0)
    tokenizer = CharTokenizer.train(["abcdef"])
    model = CTCModel(SpeechModel(MICRO), CTCHead(MICRO.context.dim, tokenizer.vocab_size))
    waves = Waves.open(utterances, None, 16000, progress=False)
    work = FinetuneWork(config, model, tokenizer, waves, torch.device("cpu"), pretrained=False)
    made = batches(utterances, batch_s=99.0 if num_batches == 1 else 1.5)
    assert made.plan.num_batches == num_batches
    work.backward(0, 10, [made[i] for i in range(num_batches)])
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_weights_are_factors_on_gradients_however_they_are_batched(tones, finetune_config):
    some = list(tones[0][:4])
    single = [gradients(finetune_config, [u], 1) for u in some]
    weights = (0.5, 1.0, 0.25, 2.0)
    weighted = [replace(u, weight=w) for u, w in zip(some, weights, strict=True)]
    whole = gradients(finetune_config, weighted, 1)
    parts = gradients(finetune_config, weighted, 4)
    sizes = [len(u.text) for u in some]
    for name, value in whole.items():
        expected = sum(
            g[name] * w * n for g, w, n in zip(single, weights, sizes, strict=True)
        ) / sum(sizes)
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(parts[name], value, rtol=1e-3, atol=1e-6)


def test_two_views_have_the_weight_of_their_utterance(tones, finetune_config):
    some = list(tones[0][:2])
    config = replace(finetune_config, consistency=1e-9, mask_from_share=0.0)
    one = gradients(finetune_config, [replace(u, weight=0.5) for u in some], 1)
    two = gradients(config, [replace(u, weight=0.5) for u in some], 1)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-6)


def test_a_run_of_other_weights_is_another_run(tones, finetune_config, tmp_path):
    loop = replace(finetune_config.loop, max_steps=1, num_validations=1)
    config = replace(finetune_config, loop=loop)
    train, valid = tones[0][:4], tones[1][:2]
    finetune(config, train, valid, tmp_path)
    lighter = [replace(u, weight=0.5) for u in train]
    with pytest.raises(ValueError, match=r"other inputs \(training weights\)"):
        finetune(config, lighter, valid, tmp_path)
    finetune(config, train, valid, tmp_path)
