"""What each side of a cut has seen, the loss against numpy, and utterances alone, short, padded."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from speechssl import shapes
from speechssl.model import config as sizes
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.reverse_context import (
    FORWARD,
    PAIRS,
    REVERSE,
    ReverseContextConfig,
    draw_cuts,
    filter_gap,
)
from speechssl.pretext.task import Resources
from speechssl.pretext.tasks import TaskConfigs, Tasks
from speechssl.rng import rng
from tests.pretext.speech import MODELS, GivenInputs, a_model, model_and_task, waves

SMALL = ReverseContextConfig(num_cuts=3, least_frames=2, gap=1)


def task_inputs(kind="filterbank", config=SMALL, lengths=(24000, 16000, 20000, 24000)):
    model, task = model_and_task(config, kind)
    return task, GivenInputs(model, *waves(lengths), task=task)


def total(task, x):
    """The loss of a micro-batch, summed."""
    return task(x).terms["reverse_context"].total.detach()


def cuts_of(frames, gap=1, least=2, num=3, seed=0):
    return draw_cuts(np.array(frames), gap, least, num, lambda row: rng(seed, "cuts", row))


def test_both_sides_of_a_cut_fit_around_the_gap():
    frames = np.array([5, 6, 7, 20, 100, 1])
    for seed in range(30):
        cuts = cuts_of(frames, seed=seed)
        assert (cuts.before >= 2).all()
        assert (cuts.after >= 2).all()
        assert (cuts.before + 1 + cuts.after == frames[cuts.rows]).all()
        assert np.bincount(cuts.rows, minlength=6).tolist() == [1, 2, 3, 3, 3, 0]


def test_an_utterance_is_cut_once_in_each_equal_part():
    found = np.stack([cuts_of([65], seed=seed).before for seed in range(200)])  # 61 places from 2
    for part, (low, high) in enumerate([(2, 22), (22, 42), (42, 63)]):
        assert found[:, part].min() >= low
        assert found[:, part].max() < high
        assert len(set(found[:, part].tolist())) > 15
    assert np.array_equal(cuts_of([65], seed=3).before, cuts_of([65], seed=3).before)


def seen_samples(model, wave, lengths, time, reverse):
    """The samples on which the output after `time` frames depends, by its gradient."""
    wave = wave.clone().requires_grad_()
    played = shapes.reverse(wave, lengths) if reverse else wave
    output = model(played, lengths).context[0, time - 1]
    (grad,) = torch.autograd.grad(output.square().sum(), wave)
    return np.flatnonzero(grad[0].numpy())


@pytest.mark.parametrize("size", ["tiny", "tiny-conv"])
def test_no_sample_is_seen_from_both_sides(size):
    config = sizes.size(size)
    narrow = {"dim": 16, "ffn_dim": 16, "num_heads": 2, "num_layers": 2, "pos_groups": 2}
    narrow |= {"local_layers": min(config.context.local_layers, 1), "causal": True}
    encoder = config.encoder
    if size == "tiny-conv":
        encoder = replace(encoder, dims=(8,) * 7)
    config = replace(
        config, context=replace(config.context, **narrow), encoder=encoder, running_norm=True
    )
    torch.manual_seed(0)
    model = SpeechModel(config).eval()
    frames, hop = 12, config.hop_samples
    num = (frames - 1) * hop + model.encoder.min_samples
    wave, lengths = waves((num,))
    gap = filter_gap(config)
    for before in (1, 7):
        overlap = {}
        for given in (gap, gap - 1):
            left = seen_samples(model, wave, lengths, before, False)
            right = seen_samples(model, wave, lengths, frames - given - before, True)
            assert left.min() < 2  # from the beginning, up to the cut
            assert right.max() > num - 3
            overlap[given] = left.max() - right.min() + 1
        assert overlap[gap] <= 0
        assert overlap[gap - 1] > 0  # one frame less would not do


@pytest.mark.parametrize("view", [FORWARD, REVERSE])
def test_only_outputs_before_the_cut_are_looked_at(view):
    task, x = task_inputs(lengths=(24000,))
    cuts, before = task.cuts(x), total(task, x)
    longest = int(max(cuts.before if view == FORWARD else cuts.after))
    output = x.encode(view)
    for first, same in ((longest, True), (longest - 1, False)):
        changed = output.context.detach().clone()
        changed[:, first:] = torch.arange(16.0)
        x._outputs[view] = replace(output, context=changed)
        assert bool(torch.equal(total(task, x), before)) is same
    assert task.gap == 1 + filter_gap(x.model.config)


def oracle(task, x):
    """(loss, pairs, right, chance, chance of the duration), with loops in float64."""
    ahead, behind = (
        x.encode(view).context.detach().double().numpy() for view in (FORWARD, REVERSE)
    )
    weight, bias = (p.detach().double().numpy() for p in task.predict.parameters())
    cuts, frames = task.cuts(x), x.frames.tolist()
    summed, pairs, right, chances, lengths = 0.0, 0, 0, [], []
    for asking, asked, answering, answered in (
        (ahead, cuts.before, behind, cuts.after),
        (behind, cuts.after, ahead, cuts.before),
    ):
        for n, row in enumerate(cuts.rows):
            predicted = weight @ asking[row, asked[n] - 1] + bias
            duration = answered[n]
            candidates = [answering[row, duration - 1]]
            for other, num in enumerate(frames):
                if other != row and num >= duration:
                    candidates.append(answering[other, duration - 1])
            of_duration = len(candidates)
            for m, other in enumerate(cuts.rows):
                if other == row and m != n:
                    candidates.append(answering[row, answered[m] - 1])
            if len(candidates) == 1:
                continue
            scores = np.array(
                [predicted @ c / np.linalg.norm(predicted) / np.linalg.norm(c) for c in candidates]
            )
            scores /= task.config.temperature
            summed += np.log(np.exp(scores).sum()) - scores[0]
            pairs += 1
            right += bool((scores[0] > scores[1:]).all())
            chances.append(math.log(len(candidates)))
            lengths.append(math.log(of_duration))
    return summed, pairs, right, np.mean(chances), np.mean(lengths)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    "lengths", [(24000, 16000, 20000, 24000), (9000, 700, 24000), (16000,), (16000, 16000)]
)
def test_the_loss_against_numpy(kind, lengths):
    task, x = task_inputs(kind, lengths=lengths)
    loss = task(x)
    expected, pairs, right, chance, of_duration = oracle(task, x)
    assert float(total(task, x)) == pytest.approx(expected, rel=1e-4)
    assert task.counts(x) == {PAIRS: pairs}
    assert loss.terms["reverse_context"].count == PAIRS
    assert pairs > 0
    metrics = {name.split("/")[1]: float(value) for name, value in loss.metrics.items()}
    assert metrics["accuracy"] == pytest.approx(right / pairs)
    assert metrics["chance"] == pytest.approx(chance)
    if len(lengths) > 2:
        assert metrics["length_chance"] == pytest.approx(of_duration)


def constant_outputs(x, make):
    for view in (FORWARD, REVERSE):
        output = x.encode(view)
        x._outputs[view] = replace(output, context=make(output.context))


def test_a_model_that_ignores_its_input_is_at_chance():
    task, x = task_inputs()
    constant_outputs(x, torch.ones_like)
    loss = task(x)
    mean = float(total(task, x)) / task.counts(x)[PAIRS]
    assert mean == pytest.approx(float(loss.metrics["reverse_context/chance"]), rel=1e-5)
    assert float(loss.metrics["reverse_context/accuracy"]) == 0


def test_who_knows_durations_alone_is_at_the_chance_of_duration():
    """Outputs that tell only how much time has passed, and a predictor that knows how long an
    utterance is: its own other cuts are told apart, other utterances are not."""
    task, x = task_inputs(lengths=(24000,) * 4, config=replace(SMALL, temperature=0.01))
    frames = int(x.frames[0])
    of_time = F.normalize(torch.randn(frames, 16, generator=torch.Generator().manual_seed(0)))
    constant_outputs(x, lambda context: of_time.expand_as(context))

    class Knows(torch.nn.Module):
        def forward(self, asked):
            passed = (asked @ of_time.T).argmax(1) + 1
            return of_time[frames - task.gap - passed - 1]

    task.predict = Knows()
    metrics = task(x).metrics
    assert float(total(task, x)) / task.counts(x)[PAIRS] == pytest.approx(math.log(4), abs=0.02)
    assert float(metrics["reverse_context/length_chance"]) == pytest.approx(math.log(4))
    assert float(metrics["reverse_context/chance"]) == pytest.approx(math.log(6))


def test_one_utterance_alone_is_told_from_its_own_cuts():
    task, x = task_inputs(lengths=(24000,))
    loss = task(x)
    assert task.counts(x) == {PAIRS: 6}
    assert float(loss.metrics["reverse_context/chance"]) == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("lengths", "config"),
    [
        ((24000,), replace(SMALL, num_cuts=1)),  # nothing to tell it from
        ((641,), SMALL),
        ((1, 640, 700), SMALL),
        ((3000, 3000), replace(SMALL, least_frames=9)),
    ],
)
def test_what_gives_no_question_gives_a_zero_with_a_graph(lengths, config):
    task, x = task_inputs(config=config, lengths=lengths)
    loss = task(x)
    assert task.counts(x) == {PAIRS: 0}
    assert float(loss.terms["reverse_context"].total.detach()) == 0
    loss.terms["reverse_context"].total.backward()
    assert all(torch.isfinite(value) for value in loss.metrics.values())


def test_a_short_utterance_beside_others_is_not_cut_and_answers_for_none():
    task, x = task_inputs(lengths=(24000, 16000, 600))
    assert set(task.cuts(x).rows.tolist()) == {0, 1}
    without, y = task_inputs(lengths=(24000, 16000))
    torch.testing.assert_close(total(task, x), total(without, y))


@pytest.mark.parametrize("kind", MODELS)
def test_padding_changes_nothing(kind):
    task, x = task_inputs(kind)
    wave, lengths = waves((24000, 16000, 20000, 24000))
    padded = torch.cat([wave, torch.full((4, 5000), 0.3)], dim=1)
    for row, num in enumerate(lengths.tolist()):
        padded[row, num:] = 0.3
    y = GivenInputs(x.model, padded, lengths, task=task)
    torch.testing.assert_close(total(task, x), total(task, y), rtol=1e-4, atol=1e-4)


def test_forward_is_distorted_and_reverse_is_clean():
    model, task = model_and_task(SMALL, "filterbank")
    wave, lengths = waves((24000, 20000))
    totals = []
    for clean, distorted in ((wave, wave), (wave, 0.2 * wave.flip(0)), (0.2 * wave.flip(0), wave)):
        x = GivenInputs(model, clean, lengths, distorted=distorted, task=task)
        expected = model(distorted, lengths).context
        torch.testing.assert_close(x.encode(FORWARD).context, expected)
        totals.append(float(total(task, x)))
    assert len(set(totals)) == 3


def test_the_same_in_bfloat16_but_for_rounding():
    task, x = task_inputs()
    exact = total(task, x)
    y = task_inputs()[1]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = total(task, y)
    assert rounded.dtype == torch.float32
    assert float(rounded) == pytest.approx(float(exact), rel=0.2)
    assert float(rounded) != float(exact)


def test_all_weights_of_the_model_learn():
    task, x = task_inputs()
    task(x).terms["reverse_context"].total.backward()
    named = dict(x.model.named_parameters()) | dict(task.named_parameters())
    idle = [name for name, value in named.items() if value.grad is None]
    assert idle == ["mask_embedding"]  # nothing is masked


def test_a_model_that_sees_the_future_is_refused():
    with pytest.raises(ValueError, match="reverse_context must not see future frames: give"):
        Tasks(TaskConfigs((SMALL,)), a_model("filterbank"), Resources())


@pytest.mark.parametrize(
    "changes", [{"num_cuts": 0}, {"least_frames": 0}, {"gap": -1}, {"temperature": 0.0}]
)
def test_impossible_settings_are_named(changes):
    with pytest.raises(ValueError, match=rf"^reverse_context\.{next(iter(changes))} must be "):
        ReverseContextConfig(**changes)
