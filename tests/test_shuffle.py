"""Depth to space: the lecture's indexing, PyTorch's, and what a plain reshape does instead."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from rdae.errors import ShapeError
from rdae.networks.shuffle import depth_to_space, space_to_depth


def by_index(x: torch.Tensor) -> torch.Tensor:
    """`out[2x + a, 2y + b, c] = L'[x, y, 4c + 2a + b]`, element by element."""
    batch, channels, height, width = x.shape
    out = torch.empty(batch, channels // 4, 2 * height, 2 * width, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            for c in range(channels // 4):
                for a in (0, 1):
                    for b in (0, 1):
                        out[:, c, 2 * i + a, 2 * j + b] = x[:, 4 * c + 2 * a + b, i, j]
    return out


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 12, 3, 5), (1, 8, 4, 2)])
def test_depth_to_space_is_the_lectures_indexing_and_pixel_shuffle(shape):
    x = torch.arange(torch.Size(shape).numel()).reshape(shape).float()
    assert_close(depth_to_space(x), by_index(x), rtol=0, atol=0)
    assert_close(depth_to_space(x), torch.nn.PixelShuffle(2)(x), rtol=0, atol=0)
    assert_close(space_to_depth(depth_to_space(x)), x, rtol=0, atol=0)
    assert_close(space_to_depth(x.repeat(1, 1, 2, 2)), torch.nn.PixelUnshuffle(2)(x.repeat(1, 1, 2, 2)), rtol=0, atol=0)


def test_a_plain_reshape_is_something_else():
    # the lecture's array [x, y, i] of shape 2 x 2 x 4, number 10 * pixel + channel
    lecture = torch.tensor([[[10 * (2 * x + y) + i for i in range(4)] for y in range(2)] for x in range(2)])
    right = depth_to_space(lecture.permute(2, 0, 1)[None].float())[0, 0]
    assert right.tolist() == [[0, 1, 10, 11], [2, 3, 12, 13], [20, 21, 30, 31], [22, 23, 32, 33]]
    reshaped = lecture.reshape(4, 4)
    assert reshaped[0].tolist() == [0, 1, 2, 3]  # one pixel smeared along a row
    assert not torch.equal(right.long(), reshaped)


def test_a_single_pixel_cannot_tell_the_two_apart():
    lecture = torch.arange(4).reshape(1, 1, 4)
    assert torch.equal(depth_to_space(lecture.permute(2, 0, 1)[None].float())[0, 0].long(), lecture.reshape(2, 2))


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_channels_that_are_no_multiple_of_four_are_refused(channels):
    with pytest.raises(ShapeError, match=r"multiple of 4 channels.*4 x the channels you want"):
        depth_to_space(torch.zeros(1, channels, 2, 2))


def test_odd_sides_are_refused():
    with pytest.raises(ShapeError, match="Pad x to even sides"):
        space_to_depth(torch.zeros(1, 1, 3, 2))


def test_it_equals_a_transposed_convolution_of_kernel_and_stride_two():
    # four phases of a stride-2 transposed convolution are four channels of a 1 x 1 convolution
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 2, 2, 2, generator=generator, dtype=torch.float64)  # inputs, outputs, a, b
    pointwise = weight.permute(1, 2, 3, 0).reshape(8, 3, 1, 1)
    up = torch.nn.functional.conv_transpose2d(x, weight, stride=2)
    assert_close(depth_to_space(torch.nn.functional.conv2d(x, pointwise)), up)
