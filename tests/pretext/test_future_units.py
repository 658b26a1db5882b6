"""Future units: the loss against the formula, causality, where units come from, baselines."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.ahead import received_samples, samples_before
from speechssl.pretext.future_units import CLEAN, FutureUnitsConfig
from speechssl.pretext.masked_units import MaskedUnitsConfig
from speechssl.pretext.task import Resources, combine
from speechssl.pretext.tasks import TaskConfigs, Tasks
from tests.pretext.causal import CAUSAL, changed
from tests.pretext.speech import LENGTHS, MODELS, GivenInputs, model_and_task, run, waves

KINDS = pytest.mark.parametrize("kind", CAUSAL)
SMALL = FutureUnitsConfig(target_dim=8, num_units=9)


def log_softmax(values: np.ndarray) -> np.ndarray:
    shifted = values - values.max()
    return shifted - np.log(np.exp(shifted).sum())


@KINDS
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("quantizer", ["kmeans", "random"])
def test_the_loss_and_its_baselines_by_numpy(quantizer, steps, kind):
    config = replace(
        SMALL, weight=2.0, steps=steps, quantizer=quantizer, features=("mfcc", "logmel")
    )
    model, task = model_and_task(config, kind)
    x = GivenInputs(model, *waves(), task=task)
    result = task(x)
    context = x.encode(CLEAN).context.detach()
    first = {"conv": 3, "filterbank": 2}[kind]
    for number, (name, suffix) in enumerate((("mfcc", ""), ("logmel", "_logmel"))):
        units = task.offline_units(x)[f"future_units/{name}"].numpy()
        codebook = task.codebooks[number]
        vectors = codebook.codebook.detach().numpy()
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        total, right, copied, targets = 0.0, 0, 0, []
        for step, ahead in enumerate(range(first, first + steps)):
            with torch.no_grad():
                projected = codebook.project_context(task.maps[step](context)).numpy()
            for row, length in enumerate(x.frames.tolist()):
                for t in range(length - ahead):
                    one = projected[row, t] / np.linalg.norm(projected[row, t])
                    logits, target = vectors @ one / 0.1, units[row, t + ahead]
                    total -= log_softmax(logits)[target]
                    right += int(logits.argmax() == target)
                    copied += int(units[row, t] == target)
                    targets.append(target)
        num = len(targets)
        term = result.terms[f"future_units{suffix}"]
        assert term.total.item() == pytest.approx(total, rel=1e-4)
        assert (term.count, term.weight) == ("future_units_pairs", 2.0)
        assert task.counts(x) == {"future_units_pairs": num}
        found = result.metrics
        assert float(found[f"future_units/accuracy{suffix}"]) == pytest.approx(right / num)
        assert float(found[f"future_units/copy_accuracy{suffix}"]) == pytest.approx(copied / num)
        share = np.bincount(targets, minlength=9) / num
        entropy = -sum(p * np.log(p) for p in share if p)
        summary = task.summarize(result.tallies)
        assert summary[f"future_units/chance{suffix}"] == pytest.approx(entropy, rel=1e-5)


@KINDS
@pytest.mark.parametrize("steps", [1, 2])
@torch.no_grad()
def test_the_target_and_all_that_follows_change_no_prediction(kind, steps):
    model, task = model_and_task(replace(SMALL, steps=steps), kind)
    hop, at = model.config.hop_samples, 4
    wave, lengths = waves((9000,))
    start = (at + task.distances[0]) * hop - samples_before("mfcc", 16000)
    assert start >= at * hop + received_samples(model.config)
    logits = [
        [task.codebooks[0](step(GivenInputs(model, each, lengths).encode(CLEAN).context[0]))
         for step in task.maps]
        for each in (wave, changed(wave, start))
    ]  # fmt: skip
    for one, two in zip(*logits, strict=True):
        torch.testing.assert_close(one[: at + 1], two[: at + 1])
        assert float((one[-1] - two[-1]).abs().max()) > 1e-2


@pytest.mark.parametrize("quantizer", ["kmeans", "random"])
def test_units_are_those_of_masked_units(quantizer):
    _, task = model_and_task(replace(SMALL, quantizer=quantizer), "filterbank")
    masked = MaskedUnitsConfig(quantizer=quantizer, target_dim=8, num_units=9)
    model, other = model_and_task(masked, "filterbank")
    x = GivenInputs(model, *waves())
    assert torch.equal(
        task.offline_units(x)["future_units/mfcc"], other.offline_units(x)["masked_units/mfcc"]
    )
    assert task.state_of_units().keys() == other.state_of_units().keys()


@KINDS
@pytest.mark.parametrize("samples", [1, 400, 900, 1300])
def test_an_utterance_that_is_too_short_adds_nothing(kind, samples):
    model, task = model_and_task(replace(SMALL, ahead=4, steps=2), kind)
    x = GivenInputs(model, *waves((samples,)), task=task)
    result = task(x)
    assert task.counts(x) == {"future_units_pairs": 0}
    loss = combine(result.terms, task.counts(x))
    loss.backward()
    assert loss.item() == 0
    assert all(float(value) in (0, 1) for value in result.metrics.values())
    assert task.summarize(result.tallies)["future_units/chance"] == 0


def test_only_the_steps_that_fit_are_predicted():
    """Of five frames, two have a second one after them, and one a third."""
    model, task = model_and_task(replace(SMALL, ahead=3, steps=2), "filterbank")
    x = GivenInputs(model, *waves((5 * 640,)), task=task)
    assert task.counts(x) == {"future_units_pairs": 2 + 1}
    assert int(task(x).tallies["future_units/targets"].sum()) == 3


@KINDS
def test_an_utterance_has_the_same_loss_in_any_batch(kind):
    model, task = model_and_task(SMALL, kind)
    wave, lengths = waves()
    whole = run(model, task).terms["future_units"].total
    alone = [
        run(model, task, wave[i : i + 1, :n], lengths[i : i + 1]).terms["future_units"].total
        for i, n in enumerate(LENGTHS)
    ]
    torch.testing.assert_close(whole, sum(alone), rtol=1e-4, atol=1e-4)


def test_the_input_is_clean_and_without_masks():
    model, task = model_and_task(SMALL, "filterbank")
    wave, lengths = waves()
    one, two = (
        run(model, task, wave, lengths, distorted=distorted).terms["future_units"].total
        for distorted in (wave, -0.5 * wave)
    )
    assert torch.equal(one, two)


def test_it_is_float32_under_autocast():
    model, task = model_and_task(replace(SMALL, steps=2), "conv")
    with torch.autocast("cpu", torch.bfloat16):
        total = run(model, task).terms["future_units"].total
    assert total.dtype == torch.float32
    plain = run(model, task).terms["future_units"].total
    assert total.item() == pytest.approx(plain.item(), rel=0.2)


def test_what_repeats_is_learned_better_than_by_a_copy():
    model, task = model_and_task(replace(SMALL, num_units=4), "filterbank")
    wave, lengths = waves((32000, 24000))
    wave = wave * (torch.arange(32000) // 1600 % 2)
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=5e-3)
    for _ in range(60):
        x = GivenInputs(model, wave, lengths, task=task)
        result, counts = task(x), task.counts(x)
        loss = combine(result.terms, counts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7 * task.summarize(result.tallies)["future_units/chance"]
    accuracy, copied = (
        float(result.metrics[f"future_units/{which}"]) for which in ("accuracy", "copy_accuracy")
    )
    assert accuracy > copied + 0.2


def test_a_model_that_sees_the_future_is_refused():
    with pytest.raises(ValueError, match=r"future_units must not see future frames: give --model"):
        Tasks(TaskConfigs((SMALL,)), SpeechModel(MODELS["filterbank"]), Resources())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ahead": 0}, r"future_units.ahead must be at least 1"),
        ({"steps": 0}, r"future_units.steps must be at least 1"),
        ({"features": ("prosody",)}, "future_units.features must be a list, each one of logmel"),
        ({"features": ()}, "future_units.features must be one or more, each once"),
        ({"quantizer": "vq"}, "future_units.quantizer must be one of kmeans, random, got 'vq'"),
        ({"num_units": 0}, r"future_units.num_units must be in \[1, 65536\]"),
    ],
)
def test_an_impossible_config_is_refused_by_name(fields, said):
    with pytest.raises(ValueError, match=said):
        FutureUnitsConfig(**fields)


@pytest.mark.parametrize(("kind", "ahead"), [("filterbank", 1), ("conv", 2)])
def test_a_distance_that_overlaps_the_input_is_refused(kind, ahead):
    with pytest.raises(ValueError, match=r"future_units.ahead must be at least \d with this model"):
        model_and_task(replace(SMALL, ahead=ahead), kind)


def test_the_report_counts_what_was_predicted():
    model, task = model_and_task(SMALL, "filterbank")
    x = GivenInputs(model, *waves((9000,)), task=task)
    (panel,) = task.panels(x)
    assert f"of {int(x.frames) - 2} future units predicted" in panel.note
    assert task.codes(x).shape == (1, int(x.frames), 1)
