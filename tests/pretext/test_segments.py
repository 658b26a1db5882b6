"""Where segments are cut, what is cut out, and what the model makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.config.json import to_json
from speechssl.pretext.layers import build_at_layers
from speechssl.pretext.segments import (
    Windows,
    WindowShape,
    cut_waves,
    embed,
    frames_of,
    gap_frames,
    mean_of,
    segment_samples,
    short_signal,
    slices,
    spread,
    tally_mean,
    tally_short,
)
from speechssl.pretext.task import Resources
from speechssl.pretext.tasks import TASKS
from speechssl.rng import rng
from speechssl.training.pretrain_work import PretrainWork
from speechssl.training.verdict import judge
from tests.pretext.small import SMALL
from tests.pretext.speech import MODELS, GivenInputs, a_model, waves


def by_row(seed: int):
    """The randomness of each utterance."""
    return lambda row: rng(seed, "w", row)


FEW = settings(max_examples=60, deadline=None, derandomize=True)


@FEW
@given(st.data())
def test_stretches_lie_apart_and_within(data):
    num, length = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 9))
    gap, slack = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 30))
    total = num * (length + gap) - gap + slack
    starts = spread(total, num, length, gap, rng(data.draw(st.integers(0, 99)), "s"))
    assert starts.shape == (num,)
    assert starts.dtype == np.int64
    assert starts[0] >= 0
    assert starts[-1] + length <= total
    assert (np.diff(starts) >= length + gap).all()


@FEW
@given(st.data())
def test_windows_of_segments(data):
    """Each lies within its utterance; gaps are as asked; no two windows overlap; their number is
    known from the lengths, and short utterances give none."""
    least = data.draw(st.integers(0, 4))
    shape = WindowShape(
        num=data.draw(st.integers(1, 5)),
        length=data.draw(st.integers(1, 7)),
        gaps=(least, least + data.draw(st.integers(0, 4))),
    )
    frames = torch.tensor(data.draw(st.lists(st.integers(1, 150), min_size=1, max_size=5)))
    drawn = shape.draw(frames, by_row(data.draw(st.integers(0, 99))))
    assert len(drawn) == shape.count(frames) == sum(n // shape.span for n in frames.tolist())
    assert drawn.starts.shape == (len(drawn), shape.num)
    assert drawn.length == shape.length
    gaps = np.diff(drawn.starts, axis=1) - shape.length
    assert ((gaps >= shape.gaps[0]) & (gaps <= shape.gaps[1])).all()
    assert (drawn.starts >= 0).all()
    assert (drawn.starts[:, -1] + shape.length <= frames.numpy()[drawn.rows]).all()
    for row, total in enumerate(frames.tolist()):
        own = drawn.starts[drawn.rows == row]
        assert len(own) == total // shape.span
        assert (own[1:, 0] >= own[:-1, -1] + shape.length).all()


def test_every_place_and_every_gap_is_drawn():
    shape = WindowShape(2, 3, (1, 3))
    seen = {tuple(shape.draw(torch.tensor([11]), by_row(i)).starts[0]) for i in range(800)}
    assert seen == {(a, a + 3 + g) for g in (1, 2, 3) for a in range(11 - 6 - g + 1)}


def test_windows_are_a_function_of_the_seed():
    shape, frames = WindowShape(3, 4, (1, 5)), torch.tensor([90, 3, 60])
    one, two, other = (shape.draw(frames, by_row(seed)) for seed in (1, 1, 2))
    assert (one.starts == two.starts).all()
    assert (one.starts != other.starts).any()


def test_only_some_segments():
    windows = Windows(np.array([0, 2]), np.array([[1, 5, 9], [2, 6, 10]]), 3)
    assert windows.only(np.array([2, 0])).starts.tolist() == [[9, 1], [10, 2]]
    assert windows.only(np.array([[0, 1], [2, 1]])).starts.tolist() == [[1, 5], [10, 6]]
    assert windows.or_first() is windows
    nothing = Windows(np.zeros(0, np.int64), np.zeros((0, 3), np.int64), 3)
    assert len(nothing.or_first()) == 1
    assert nothing.only(np.array([1])).starts.shape == (0, 1)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("length", [1, 2, 7, 25])
def test_a_segment_gives_exactly_its_frames(kind, length):
    model = a_model(kind)
    samples = segment_samples(length, model)
    around = torch.tensor([samples - 1, samples, samples + model.config.hop_samples - 1])
    fewer = max(length - 1, 1)
    assert model.frame_lengths(around).tolist() == [fewer, length, length]


@pytest.mark.parametrize("kind", MODELS)
def test_seconds_become_frames(kind):
    config = MODELS[kind]
    hop_s = config.hop_samples / config.sample_rate
    assert frames_of(0.001, config) == gap_frames(0.02, config) == 1
    assert frames_of(0.4, config) == round(0.4 / hop_s)
    for frames in (1, 2, 3, 7):
        assert gap_frames(frames * hop_s, config) == frames  # not one more by rounding
        assert gap_frames(frames * hop_s + 0.001, config) == frames + 1


def test_what_is_cut_are_the_samples_of_the_utterance():
    wave, _ = waves()
    windows = Windows(np.array([0, 3, 2]), np.array([[0, 9], [2, 4], [13, 1]]), 4)
    cut = cut_waves(wave, windows, 320, 1360)
    assert cut.shape == (6, 1360)
    expected = [
        wave[row, start * 320 :][:1360]
        for row, starts in zip(windows.rows, windows.starts, strict=True)
        for start in starts.tolist()
    ]
    assert torch.equal(cut, torch.stack(expected))


def test_behind_the_end_are_zeros():
    wave, _ = waves()
    cut = cut_waves(wave, Windows(np.array([0]), np.array([[27]]), 4), 320, 1360)
    assert torch.equal(cut[0, :360], wave[0, 8640:])
    assert not cut[0, 360:].any()
    short = cut_waves(torch.ones(1, 90), Windows(np.array([0]), np.array([[0]]), 1), 320, 400)
    assert short.sum() == 90


def test_ends_are_faded():
    windows = Windows(np.array([0]), np.array([[3]]), 4)
    cut = cut_waves(torch.ones(1, 4000), windows, 320, 1360, fade=160)[0]
    assert cut[0] < 1e-4
    assert torch.allclose(cut, cut.flip(0))
    assert (cut[1:160] > cut[:159]).all()
    assert (cut[160:1200] == 1).all()
    assert torch.allclose(cut[:160] + cut[:160].flip(0), torch.ones(160), atol=1e-6)
    whole = cut_waves(torch.ones(1, 4000), windows, 320, 1360, fade=680)[0]
    assert whole.max() <= 1
    assert whole.shape == (1360,)


@pytest.mark.parametrize("kind", MODELS)
def test_embeddings_are_those_of_each_segment_alone(kind):
    model = a_model(kind)
    wave, lengths = waves()
    drawn = WindowShape(2, 2, (1, 2)).draw(model.frame_lengths(lengths), by_row(0))
    x = GivenInputs(model, wave, lengths)
    found = embed(x, drawn)
    assert found.shape == (len(drawn), 2, 16)
    assert len(drawn) > 3
    num = segment_samples(2, model)
    for row, starts, own in zip(drawn.rows.tolist(), drawn.starts.tolist(), found, strict=True):
        for start, vector in zip(starts, own, strict=True):
            first = start * model.config.hop_samples
            assert first + num <= lengths[row]
            alone = model(wave[row : row + 1, first : first + num], torch.tensor([num]))
            torch.testing.assert_close(vector, alone.context[0].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("gap_s", [0.02, 0.05])
def test_nothing_of_a_target_is_in_a_neighbouring_segment(kind, gap_s):
    """Whatever the features of a slice are computed from, the segments beside it stay the same."""
    model = a_model(kind)
    hop, gap = model.config.hop_samples, gap_frames(gap_s, model.config)
    wave, lengths = waves([16000])
    windows = Windows(np.array([0]), np.array([[3, 3 + 2 * (4 + gap)]]), 4)
    start = 3 + 4 + gap
    other = wave.clone()
    other[0, start * hop - 120 : (start + 4) * hop + 120] = 0.5  # windows of 25 ms around 10 ms
    one, two = (embed(GivenInputs(model, w, lengths), windows) for w in (wave, other))
    assert torch.equal(one, two)
    other[0, (3 + 4) * hop - 1] = 0.9  # the last sample of the segment before
    assert not torch.equal(one, embed(GivenInputs(model, other, lengths), windows))


def test_the_distorted_wave_is_seen_and_the_padding_is_not():
    model = a_model("filterbank")
    wave, lengths = waves()
    windows = Windows(np.array([1]), np.array([[0, 2]]), 2)
    one = embed(GivenInputs(model, wave, lengths, distorted=0.5 * wave.flip(0)), windows)
    two = embed(GivenInputs(model, 0.5 * wave.flip(0), lengths), windows)
    assert torch.equal(one, two)
    clean = embed(GivenInputs(model, wave, lengths, distorted=0 * wave), windows, wave="clean")
    alone = embed(
        GivenInputs(model, wave[1:2, :4000], lengths[1:2]),
        Windows(np.array([0]), windows.starts, 2),
    )
    torch.testing.assert_close(clean, alone)


def test_slices_of_features():
    features = torch.arange(2 * 10 * 3.0).reshape(2, 10, 3)
    windows = Windows(np.array([1, 0]), np.array([[0, 6], [2, 7]]), 4)
    found = slices(features, windows)
    assert found.shape == (2, 2, 4, 3)
    assert torch.equal(found[0, 1], features[1, 6:10])
    assert torch.equal(found[1, 0], features[0, 2:6])
    assert torch.equal(found[1, 1, -1], features[0, 9])  # past the end


def test_what_a_validation_adds_up():
    first, second = torch.tensor([1.0, 2.0, 9.0]), torch.tensor([6.0])
    assert mean_of(tally_mean(first, 2) + tally_mean(second, 1)) == 3
    assert mean_of(tally_mean(first, 0)) == 0
    assert mean_of(tally_short(torch.tensor([3, 4, 5, 9]), 5)) == 0.5
    signal = short_signal("temporal_gap")
    assert "--temporal-gap.segment-s (now {temporal_gap.segment_s})" in signal.advice


@pytest.mark.parametrize("layer", [0, 1, 2, -1])
def test_segments_at_a_layer(layer):
    """Their embeddings are of that layer's output, as `context` of a view is."""
    model = a_model("filterbank")
    wave, lengths = waves([2560])
    windows = Windows(np.array([0]), np.array([[0]]), 4)
    x = GivenInputs(model, wave, lengths).at_layer(layer)
    whole = model(wave, lengths, keep_hidden=True)
    hidden = torch.nn.functional.layer_norm(whole.hidden[layer], (16,))
    expected = whole.context if layer in (-1, 2) else hidden
    assert x.frames.tolist() == [4]
    torch.testing.assert_close(embed(x, windows)[0, 0], expected[0].mean(0))


@pytest.mark.parametrize("name", ["cbow", "skip_gram", "temporal_gap", "jigsaw"])
def test_a_task_over_segments_at_two_layers(name):
    model = a_model("filterbank")
    task = build_at_layers(replace(SMALL[name], layers=(1, -1)), model, Resources()).eval()
    result = task(GivenInputs(model, *waves(), task=task))
    low, top = (result.terms[key].total for key in (f"{name}_layer_1", name))
    assert not torch.equal(low, top)
    assert f"{name}/too_short_layer_1" in task.summarize(result.tallies)


def test_sums_are_not_counted_as_codes():
    """What a validation adds up for means is not drawn as the use of codes."""
    work = PretrainWork.__new__(PretrainWork)
    work._tallies = {"a/codes": torch.tensor([1, 2]), "a/chance": tally_mean(torch.ones(3), 3)}
    assert work.counts() == {"a/codes": [1, 2]}


def judged(config, **valid):
    """The verdict on a run of one task, whose numbers in validation are these."""
    name = config.name
    loss = valid.pop("loss")
    train = {f"loss/{name}": loss, "loss/total": loss}
    records = [{"step": 10 * (i + 1)} | train for i in range(30)]
    for step in (150, 300):
        named = {f"valid/{name}/{key}": value for key, value in valid.items()}
        records.append({"step": step, "valid/loss": loss, f"valid/{name}": loss} | named)
    return judge(records, {"optim": {"lr": 1e-3}, "tasks": {name: to_json(config)}}, config.signals)


@pytest.mark.parametrize("name", ["cbow", "skip_gram", "temporal_gap", "jigsaw"])
def test_the_doctor_says_that_utterances_are_too_short(name):
    """A loss of zero over nothing is not taken for a task that is solved."""
    config = TASKS[name]()
    short = judged(config, loss=0.0, chance=0.0, accuracy=0.0, error=0.0, too_short=1.0)
    assert short.name == "utterances too short"
    assert "100.0 % of the utterances in validation are too short" in short.findings[0].evidence[0]
    flag = f"--{name.replace('_', '-')}.segment-s (now {config.segment_s})"
    assert flag in short.findings[0].advice
    well = judged(config, loss=0.5, chance=1.0, accuracy=0.4, error=0.1, too_short=0.2)
    assert well.name == "healthy"
    idle = judged(config, loss=0.999, chance=1.0, accuracy=0.05, error=0.25, too_short=0.2)
    assert idle.name == "at chance"


def test_the_doctor_sees_that_embeddings_collapse():
    config = TASKS["temporal_coherence"]()
    same = judged(config, loss=1.0, chance=1.0, accuracy=0.0, spread=0.001, too_short=0.0)
    assert same.name == "embeddings collapse"
    assert "(now 0.1)" in same.findings[0].advice
    well = judged(config, loss=0.6, chance=1.0, accuracy=0.5, spread=0.8, too_short=0.0)
    assert well.name == "healthy"
