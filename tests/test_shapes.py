"""Length arithmetic against torch's own convolutions; masks and padding."""

import numpy as np
import pytest
import torch
from torch import nn

from speechssl import shapes

WAV2VEC = ((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (2, 2), (10, 5), (2, 7)])
def test_a_convolution_has_the_length_that_is_computed(kernel, stride):
    conv = nn.Conv1d(1, 1, kernel, stride)
    for num in range(kernel, 40):
        frames = conv(torch.zeros(1, 1, num)).shape[2]
        assert shapes.conv_output_length(num, kernel, stride) == frames


def test_a_kernel_that_does_not_fit_gives_no_frame():
    assert [shapes.conv_output_length(n, 10, 5) for n in (0, 1, 9, 10)] == [0, 0, 0, 1]


def test_tensors_and_numbers_agree():
    lengths = torch.arange(60).view(3, 20)
    for kernel, stride in zip(*WAV2VEC, strict=True):
        out = shapes.conv_output_lengths(lengths, kernel, stride)
        expected = [shapes.conv_output_length(n, kernel, stride) for n in range(60)]
        assert out.dtype == torch.int64
        assert out.flatten().tolist() == expected


def test_the_receptive_field_of_wav2vec():
    assert shapes.receptive_field(*WAV2VEC) == (400, 320)
    assert shapes.receptive_field([], []) == (1, 1)
    with pytest.raises(ValueError, match="zip"):
        shapes.receptive_field([3, 3], [1])


@pytest.mark.parametrize("seed", range(5))
def test_the_receptive_field_is_the_least_input_of_a_frame(seed):
    generator = np.random.default_rng(seed)
    kernels, strides = generator.integers(1, 6, (2, 4)).tolist()
    field, hop = shapes.receptive_field(kernels, strides)

    def frames(num):
        for kernel, stride in zip(kernels, strides, strict=True):
            num = shapes.conv_output_length(num, kernel, stride)
        return num

    assert frames(field - 1) == 0
    assert [frames(field + k * hop) for k in range(4)] == [1, 2, 3, 4]
    assert frames(field + hop - 1) == 1


def test_masks():
    lengths = torch.tensor([0, 2, 4, 9])
    valid = shapes.length_mask(lengths, 4)
    assert valid.tolist() == [
        [False] * 4,
        [True, True, False, False],
        [True] * 4,
        [True] * 4,
    ]
    assert torch.equal(shapes.padding_mask(lengths, 4), ~valid)
    assert shapes.length_mask(lengths, 0).shape == (4, 0)


@pytest.mark.parametrize("extra", [(), (3,), (3, 2)])
def test_padding_becomes_zero_whatever_was_there(extra):
    values = torch.full((2, 5, *extra), float("nan"))
    values[0, :3] = 7
    out = shapes.zero_padding(values, torch.tensor([3, 0]))
    assert torch.equal(out[0, :3], values[0, :3])
    assert not out[0, 3:].any()
    assert not out[1].any()
    assert values[1].isnan().all()  # the input is left as it was


def test_zero_padding_has_no_gradient_in_the_padding():
    values = torch.ones(1, 4, requires_grad=True)
    shapes.zero_padding(values, torch.tensor([3])).sum().backward()
    assert values.grad.tolist() == [[1, 1, 1, 0]]


def test_waves_are_padded_at_the_end():
    waves = [np.arange(3, dtype=np.float32), np.ones(5, dtype=np.float64), np.zeros(0)]
    batch, lengths = shapes.pad_waves(waves)
    assert batch.dtype == torch.float32
    assert lengths.tolist() == [3, 5, 0]
    assert batch.tolist() == [[0, 1, 2, 0, 0], [1] * 5, [0] * 5]
    empty, none = shapes.pad_waves([])
    assert (empty.shape, none.shape) == ((0, 0), (0,))


def test_a_strided_wave_is_padded_too():
    batch, _ = shapes.pad_waves([np.arange(6, dtype=np.float32)[::-2]])
    assert batch.tolist() == [[5, 3, 1]]
