"""Future frames: the loss against the formula, causality, what needs no learning."""

import numpy as np
import pytest
import torch

from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.ahead import received_samples, samples_before
from speechssl.pretext.future_frames import CLEAN, FutureFramesConfig, newest_repeated
from speechssl.pretext.task import Resources, combine
from speechssl.pretext.tasks import TaskConfigs, Tasks
from tests.pretext.causal import CAUSAL, changed
from tests.pretext.speech import LENGTHS, MODELS, GivenInputs, model_and_task, run, waves

KINDS = pytest.mark.parametrize("kind", CAUSAL)
PLAIN = FutureFramesConfig()


@KINDS
@pytest.mark.parametrize("ahead", [None, 2, 4])
def test_the_loss_and_its_baselines_by_numpy(kind, ahead):
    model, task = model_and_task(FutureFramesConfig(weight=2.0, ahead=ahead), kind)
    x = GivenInputs(model, *waves())
    context, features = x.encode(CLEAN).context.detach().numpy(), x.features("logmel").numpy()
    weight, bias = (p.detach().numpy() for p in (task.head.weight, task.head.bias))
    steps, hops = ahead or 2, model.config.hop_samples // 160
    total, mean, copy, num = 0.0, 0.0, 0.0, 0
    for row, length in enumerate(x.frames.tolist()):
        for t in range(length - steps):
            target = features[row, t + steps]
            total += np.abs(weight @ context[row, t] + bias - target).mean()
            mean += np.abs(target).mean()
            newest = features[row, t].reshape(hops, 80)[-1]
            copy += np.abs(target.reshape(hops, 80) - newest).mean()
            num += 1
    result = task(x)
    (term,) = result.terms.values()
    assert term.total.item() == pytest.approx(total, rel=1e-5)
    assert (term.count, term.weight) == ("future_frames_pairs", 2.0)
    assert task.counts(x) == {"future_frames_pairs": num}
    assert float(result.metrics["future_frames/chance"]) == pytest.approx(mean / num, rel=1e-5)
    assert float(result.metrics["future_frames/copy"]) == pytest.approx(copy / num, rel=1e-5)


@KINDS
@pytest.mark.parametrize("ahead", [2, 3])
@torch.no_grad()
def test_the_target_and_all_that_follows_change_no_prediction(kind, ahead):
    """From the first sample of the target on the wave is another: the prediction is the same."""
    model, task = model_and_task(FutureFramesConfig(ahead=ahead), kind)
    hop, at = model.config.hop_samples, 4
    wave, lengths = waves((9000,))
    start = (at + ahead) * hop - samples_before("logmel", 16000)
    assert start >= at * hop + received_samples(model.config)
    other = changed(wave, start)
    one, two = (
        task.predict(GivenInputs(model, each, lengths).encode(CLEAN).context[0])
        for each in (wave, other)
    )
    torch.testing.assert_close(one[: at + 1], two[: at + 1])
    assert float((one[-1] - two[-1]).abs().max()) > 1e-2


def test_a_model_that_sees_the_future_is_refused():
    with pytest.raises(ValueError, match=r"future_frames must not see future frames: give --model"):
        Tasks(TaskConfigs((PLAIN,)), SpeechModel(MODELS["filterbank"]), Resources())
    assert Tasks(TaskConfigs((PLAIN,)), SpeechModel(CAUSAL["filterbank"]), Resources()).needs.causal


@pytest.mark.parametrize("ahead", [0, -1, 1.5])
def test_an_impossible_distance_is_refused(ahead):
    with pytest.raises(ValueError, match=r"future_frames.ahead must be"):
        FutureFramesConfig(ahead=ahead)


def test_a_distance_that_overlaps_the_input_is_refused():
    with pytest.raises(ValueError, match=r"future_frames.ahead must be at least 2 with this model"):
        model_and_task(FutureFramesConfig(ahead=1), "filterbank")


@KINDS
@pytest.mark.parametrize("samples", [1, 400, 900, 1300])
def test_an_utterance_that_is_too_short_adds_nothing(kind, samples):
    model, task = model_and_task(FutureFramesConfig(ahead=4), kind)
    x = GivenInputs(model, *waves((samples,)))
    result = task(x)
    assert task.counts(x) == {"future_frames_pairs": 0}
    loss = combine(result.terms, task.counts(x))
    loss.backward()
    assert loss.item() == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in task.parameters())
    assert all(float(value) == 0 for value in result.metrics.values())


@KINDS
def test_an_utterance_has_the_same_loss_in_any_batch(kind):
    model, task = model_and_task(PLAIN, kind)
    wave, lengths = waves()
    whole = run(model, task).terms["future_frames"].total
    alone = [
        run(model, task, wave[i : i + 1, :n], lengths[i : i + 1]).terms["future_frames"].total
        for i, n in enumerate(LENGTHS)
    ]
    torch.testing.assert_close(whole, sum(alone), rtol=1e-4, atol=1e-4)


def test_the_input_is_clean_and_without_masks():
    model, task = model_and_task(PLAIN, "filterbank")
    wave, lengths = waves()
    one, two = (
        run(model, task, wave, lengths, distorted=distorted).terms["future_frames"].total
        for distorted in (wave, -0.5 * wave)
    )
    assert torch.equal(one, two)


def test_it_is_float32_under_autocast():
    model, task = model_and_task(PLAIN, "conv")
    with torch.autocast("cpu", torch.bfloat16):
        total = run(model, task).terms["future_frames"].total
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(
        run(model, task).terms["future_frames"].total.item(), rel=0.05
    )


def test_what_repeats_is_learned_better_than_by_a_copy():
    """Bursts of noise, each of several frames."""
    model, task = model_and_task(PLAIN, "filterbank")
    wave, lengths = waves((32000, 24000))
    wave = wave * (torch.arange(32000) // 1600 % 2)
    optimizer = torch.optim.Adam([*model.parameters(), *task.parameters()], lr=5e-3)
    for _ in range(60):
        x = GivenInputs(model, wave, lengths)
        result, counts = task(x), task.counts(x)
        loss = combine(result.terms, counts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.6 * float(result.metrics["future_frames/chance"])
    assert loss.item() < 0.6 * float(result.metrics["future_frames/copy"])


def test_the_newest_hop_is_repeated():
    frames = torch.arange(2 * 160.0).view(2, 160)
    repeated = newest_repeated(frames)
    assert torch.equal(repeated[:, :80], frames[:, 80:])
    assert torch.equal(repeated[:, 80:], frames[:, 80:])


def test_the_report_shows_the_prediction():
    model, task = model_and_task(PLAIN, "filterbank")
    x = GivenInputs(model, *waves((9000,)), task=task)
    (panel,) = task.panels(x)
    assert panel.log_mels.shape == (int(x.frames) * 4, 80)
    assert "80 ms" in panel.note
