"""Masks: share, spans, no padding, at least one masked frame, and a function of the generator."""

import numpy as np
import pytest

from speechssl.model.masking import channel_mask, span_mask
from speechssl.rng import rng


def make(lengths, share=0.65, span=10, key=0, num_frames=None):
    return span_mask(
        lengths, num_frames or max(lengths), share=share, span=span, generator=rng(0, "mask", key)
    )


def runs(row: np.ndarray) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_the_published_mask_covers_49_percent():
    # arXiv:2006.11477, section 4.2, at their crops of 15.6 s
    mask = make([781] * 400)
    assert mask.mean() == pytest.approx(0.49, abs=0.01)


def test_a_huberts_share_covers_57_percent():
    assert make([781] * 400, share=0.8).mean() == pytest.approx(0.567, abs=0.012)


def test_the_number_of_spans_is_right_on_average():
    # spans of one frame: as many masked frames as spans
    mask = make([333] * 300, share=0.1, span=1)
    assert mask.sum(1).mean() == pytest.approx(33.3, abs=0.1)
    assert set(mask.sum(1)) == {33, 34}


@pytest.mark.parametrize("span", [1, 2, 5, 10])
def test_spans_are_whole(span):
    mask = make([100] * 50, share=0.3, span=span)
    assert min(n for row in mask for n in runs(row)) >= span


@pytest.mark.parametrize("span", [1, 3, 10, 1000])
@pytest.mark.parametrize("share", [0.0, 0.065, 0.65, 1.0])
def test_any_length_has_a_masked_frame_and_none_in_the_padding(span, share):
    lengths = list(range(1, 60))
    for key in range(5):
        mask = make(lengths, share=share, span=span, key=key, num_frames=64)
        assert mask.shape == (59, 64)
        assert mask.dtype == bool
        for row, length in zip(mask, lengths, strict=True):
            assert row[:length].any()
            assert not row[length:].any()


def test_a_short_utterance_keeps_unmasked_frames():
    lengths = [2, 3, 4, 5, 8, 9]
    for key in range(20):
        mask = make(lengths, key=key)
        for row, length in zip(mask, lengths, strict=True):
            assert not row[:length].all()


def test_an_empty_row_stays_empty():
    assert not make([0, 5])[0].any()


def test_utterances_keep_their_own_numbers_of_masked_frames():
    counts = make([500, 100], key=1).sum(1)
    assert counts[0] > 3 * counts[1]


def test_every_frame_can_be_masked():
    mask = make([30] * 500, share=0.3, span=5)
    share = mask.mean(0)
    assert share.min() > 0
    assert share[10:20].std() < 0.05  # no place is preferred away from the ends


def test_a_mask_is_a_function_of_its_generator():
    assert np.array_equal(make([80] * 4, key=3), make([80] * 4, key=3))
    assert not np.array_equal(make([80] * 4, key=3), make([80] * 4, key=4))


def test_channel_masks_have_their_share_and_span():
    mask = channel_mask(2000, 512, share=0.5, span=64, generator=rng(0, "channel"))
    assert mask.shape == (2000, 512)
    # four spans of 64 among 512, with overlaps
    assert 0.3 < mask.mean() < 0.5
    assert min(n for row in mask for n in runs(row)) == 64


def test_channel_masks_of_one_channel_follow_the_share():
    mask = channel_mask(400, 50, share=0.01, span=1, generator=rng(0, "channel"))
    assert mask.sum(1).mean() == pytest.approx(0.5, abs=0.1)
    assert (~mask.any(1)).any()  # some utterances have none


def test_a_channel_mask_wider_than_the_channels_hides_them_all_or_none():
    mask = channel_mask(50, 8, share=0.5, span=64, generator=rng(0, "channel"))
    assert set(mask.sum(1)) <= {0, 8}


def test_a_channel_mask_is_a_function_of_its_generator():
    one, two, other = (
        channel_mask(5, 80, share=0.4, span=4, generator=rng(0, key)) for key in ("a", "a", "b")
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_no_share_hides_no_channel():
    assert not channel_mask(50, 80, share=0.0, span=4, generator=rng(0, "a")).any()
