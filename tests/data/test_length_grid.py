"""Lengths that come back."""

import numpy as np
import pytest
import torch

from speechssl.data.batching import BatchPlan
from speechssl.data.dataset import PlannedBatches, Waves
from speechssl.data.distortion import light
from speechssl.data.length_grid import LengthGrid, length_grid
from tests.training.conftest import tone_utterances

GRID = LengthGrid(hop_samples=640, most_samples=30 * 16000, longest=249600)


@pytest.mark.parametrize(
    ("samples", "num", "padded"),
    [
        (1, 1, 640),
        (640, 1, 640),
        (641, 1, 1280),
        (16000, 9, 16000),  # 25 hops: each is a length of its own
        (32001, 9, 33280),  # 51 -> 52
        (64100, 3, 66560),  # 101 -> 104
        (160000, 1, 163840),  # 250 -> 256
        (159900, 3, 160000),  # three fill their 30 s
        (249000, 1, 249600),  # the longest crop
        (249600, 1, 249600),
        (250000, 1, 257280),  # beyond it, where nothing is cropped
        (160001, 3, 163840),  # more than the budget holds: the plan let them in
    ],
)
def test_lengths(samples, num, padded):
    assert GRID.fitting(samples, num) == padded


@pytest.mark.parametrize("hop", [160, 320, 640])
def test_padding_is_bounded_and_lengths_are_few(hop):
    grid = LengthGrid(hop, 10**9)
    lengths = np.arange(1, 16000 * 30, 37)
    padded = np.array([grid.fitting(int(n), 4) for n in lengths])
    assert (padded >= lengths).all()
    assert (np.diff(padded) >= 0).all()
    assert (padded - lengths <= np.maximum(0.04 * lengths, 0) + 2 * hop).all()
    long = lengths > 50 * hop
    assert (padded[long] / lengths[long] - 1).mean() < 0.03
    assert len(set(padded[long].tolist())) < 25 * np.log(16000 * 30 / (50 * hop)) + 26
    assert all(grid.fitting(int(n), 4) == n for n in padded)  # a length of the grid is its own


@pytest.mark.parametrize(
    ("use", "device", "is_on"),
    [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("on", "cpu", True),
        ("off", "cuda", False),
    ],
)
def test_when_it_is_on(use, device, is_on):
    found = length_grid(
        use, torch.device(device), sample_rate=16000, hop_samples=320, batch_s=30, max_crop_s=15.6
    )
    assert found == (LengthGrid(320, 480000, 249600) if is_on else None)


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(0)
    made = [
        tone_utterances(folder, 1, seed, int(generator.integers(2, 14)))[0] for seed in range(60)
    ]
    return Waves.open(made, folder / "cache", 16000, False)


def batches(waves, grid, **changes):
    plan = BatchPlan(waves.lengths_s(), batch_s=6.0, seed=0)
    data = PlannedBatches(waves, plan, seed=0, hop_samples=160, grid=grid, **changes)
    return [data[index] for index in range(plan.num_batches)]


@pytest.mark.parametrize("changes", [{}, {"distortion": light(), "twice": True}])
def test_a_padded_batch_has_the_same_utterances(waves, changes):
    one = batches(waves, None, **changes)
    two = batches(waves, LengthGrid(160, 6 * 16000, 249600), **changes)
    shapes = [{(*batch.clean.shape,) for batch in each} for each in (one, two)]
    assert len(shapes[1]) <= len(shapes[0])
    for before, after in zip(one, two, strict=True):
        width = before.clean.shape[1]
        assert after.ids == before.ids
        assert torch.equal(after.lengths, before.lengths)
        for name in ("clean", "distorted", *(["distorted2"] if changes else [])):
            a, b = getattr(before, name), getattr(after, name)
            assert torch.equal(b[:, :width], a)
            assert not b[:, width:].any()
            assert b.shape == after.clean.shape
        assert after.clean.numel() <= max(6 * 16000, before.clean.numel())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shapes_come_back(seed):
    """A third as many, for 2 % more padding."""
    samples = np.random.default_rng(seed).gamma(6, 0.8, 2000).clip(0.5, 15.6) * 16000
    plan = BatchPlan(samples / 16000, batch_s=30.0, seed=0)
    members = [plan.batch(index) for index in range(plan.num_batches)]
    before = [(len(own), int(samples[own].max())) for own in members]
    after = [(num, GRID.fitting(longest, num)) for num, longest in before]
    assert len(set(after)) < 0.34 * len(set(before))
    assert sum(a * b for a, b in after) < 1.02 * sum(a * b for a, b in before)
    assert max(a * b for a, b in after) <= 30 * 16000
