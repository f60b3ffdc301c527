"""The linear path: exact inverse, unit norms, and agreement with CDF 9/7 filters written out as convolutions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rdae.coding.pyramid_order import OPPONENT
from rdae.errors import ShapeError
from rdae.networks.block_corrector import SAMPLES
from rdae.networks.folded_wavelet import BlocksToPixels, FoldedSynthesis
from rdae.networks.shuffle import depth_to_space, space_to_depth
from rdae.networks.wavelet import opponent_to_rgb, rgb_to_opponent, wavelet_analysis, wavelet_synthesis

# Analysis filters of JPEG 2000's irreversible transform, low-pass gain 1 at frequency 0 (ISO/IEC 15444-1, table F.4)
LOW = np.array([0.602949018236360, 0.266864118442875, -0.078223266528990, -0.016864118442875, 0.026748757410810])
HIGH = np.array([1.115087052456994, -0.591271763114250, -0.057543526228500, 0.091271763114250])


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(
    levels=st.integers(1, 5), rows=st.integers(1, 4), columns=st.integers(1, 4), channels=st.integers(1, 3),
    seed=st.integers(0, 2**20),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_synthesis_inverts_analysis(levels, rows, columns, channels, seed):
    y = normal(seed, 2, channels, rows << levels, columns << levels)
    back = wavelet_synthesis(wavelet_analysis(y, levels))
    torch.testing.assert_close(back, y, rtol=0, atol=1e-12)


def test_analysis_inverts_synthesis():
    """Every pyramid is the pyramid of some image: no coefficient is wasted."""
    shapes = [(1, 3, 2, 3), (1, 9, 2, 3), (1, 9, 4, 6), (1, 9, 8, 12)]
    bands = [normal(seed, *shape) for seed, shape in enumerate(shapes)]
    for band, again in zip(bands, wavelet_analysis(wavelet_synthesis(bands), 3), strict=True):
        torch.testing.assert_close(again, band, rtol=0, atol=1e-12)


def test_shapes_are_those_of_the_docstring():
    low, *details = wavelet_analysis(normal(0, 2, 3, 64, 96), 5)
    assert low.shape == (2, 3, 2, 3)
    assert [d.shape for d in details] == [(2, 9, 64 >> level, 96 >> level) for level in (5, 4, 3, 2, 1)]


def extended(x: np.ndarray, reach: int) -> np.ndarray:
    """Whole-sample symmetric extension of the last axis, as often as it takes."""
    size = x.shape[-1]
    index = np.arange(-reach, size + reach) % (2 * size - 2)
    return x[..., np.minimum(index, 2 * size - 2 - index)]


def direct(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One level along the last axis by convolution: low-pass at even samples, high-pass at odd ones."""
    low_taps, high_taps = (np.concatenate([h[:0:-1], h]) for h in (LOW, HIGH))
    padded = np.lib.stride_tricks.sliding_window_view(extended(x, 4), 9, axis=-1)
    return padded[..., ::2, :] @ low_taps, padded[..., 1::2, 1:-1] @ high_taps


def filter_norm(taps: np.ndarray, repeats: int) -> float:
    """Norm of a synthesis function of the direct transform, `repeats` low-pass levels below it."""
    high_sign = np.where(np.arange(-4, 5) % 2, -1.0, 1.0)
    low_synthesis = np.concatenate([HIGH[:0:-1], HIGH]) * np.where(np.arange(-3, 4) % 2, -1.0, 1.0)  # at gain 2
    shape = taps if taps is not None else np.concatenate([LOW[:0:-1], LOW]) * high_sign
    for _ in range(repeats):
        up = np.zeros(2 * len(shape) - 1)
        up[::2] = shape
        shape = np.convolve(up, low_synthesis)
    return float(np.linalg.norm(shape))


def test_analysis_agrees_with_direct_convolution():
    levels, y = 3, normal(4, 2, 3, 40, 48)
    low = y.numpy()
    low_synthesis = np.concatenate([HIGH[:0:-1], HIGH]) * np.where(np.arange(-3, 4) % 2, -1.0, 1.0)
    for level in range(1, levels + 1):
        left, right = direct(low)
        (low, vertical), (horizontal, diagonal) = (
            tuple(part.swapaxes(-1, -2) for part in direct(half.swapaxes(-1, -2))) for half in (left, right)
        )
        low_norm, high_norm = filter_norm(low_synthesis, level - 1), filter_norm(None, level - 1)
        norms = np.array([high_norm * low_norm, low_norm * high_norm, high_norm * high_norm])
        expected = np.stack([horizontal, vertical, diagonal], 2) * norms[:, None, None]
        ours = wavelet_analysis(y, levels)[levels + 1 - level].unflatten(1, (3, 3))
        # constants are given to 15 digits and act on sums of a few dozen terms
        torch.testing.assert_close(ours, torch.from_numpy(expected), rtol=0, atol=1e-11)
    torch.testing.assert_close(wavelet_analysis(y, levels)[0], torch.from_numpy(low * low_norm**2), rtol=0, atol=1e-11)


@pytest.mark.parametrize("band", range(4))
def test_every_synthesis_function_has_unit_norm(band):
    """Away from the border, where functions are cut and mirrored."""
    levels, side = 3, 160
    zero = wavelet_analysis(torch.zeros(1, 1, side, side, dtype=torch.float64), levels)
    for channel in range(zero[band].shape[1]):
        impulse = [x.clone() for x in zero]
        centre = impulse[band].shape[-1] // 2
        impulse[band][0, channel, centre, centre] = 1.0
        assert wavelet_synthesis(impulse).norm().item() == pytest.approx(1.0, abs=1e-9)


def test_noise_of_rounding_keeps_its_energy():
    """The basis is not orthogonal, but white noise in all bands comes out with nearly the energy that went in."""
    zero = wavelet_analysis(torch.zeros(1, 3, 256, 256, dtype=torch.float64), 5)
    noise = [normal(k, *band.shape) for k, band in enumerate(zero)]
    energy = sum(x.square().sum() for x in noise)
    # Unit-norm functions: the expected energy in is that out, up to the functions at the border (some per cent of
    # them, with norms up to sqrt(2)) and the sampling error of 196,608 squared normals, sqrt(2 / n) = 0.3 %.
    assert float(wavelet_synthesis(noise).square().sum() / energy) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("levels", [1, 5])
def test_a_constant_image_has_no_details(levels):
    y = torch.full((1, 3, 64, 64), 0.7, dtype=torch.float64)
    low, *details = wavelet_analysis(y, levels)
    assert max(d.abs().max().item() for d in details) < 1e-12
    torch.testing.assert_close(low, low[..., :1, :1].expand_as(low), rtol=0, atol=1e-11)


def test_a_ramp_has_no_details_away_from_the_border():
    """Four vanishing moments: cubics vanish."""
    t = torch.arange(128, dtype=torch.float64) / 128
    y = (t**3 - t)[None, None, None, :].expand(1, 1, 128, 128)
    finest = wavelet_analysis(y, 1)[1]
    assert finest[..., 4:-4].abs().max().item() < 1e-12


def test_a_unit_divides_the_latents_and_is_undone():
    y, unit = normal(5, 2, 3, 64, 64), torch.tensor([0.1, 3.0], dtype=torch.float64)
    plain, scaled = wavelet_analysis(y, 2), wavelet_analysis(y, 2, unit)
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(a / unit[:, None, None, None], b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(wavelet_synthesis(scaled, unit), y, rtol=0, atol=1e-12)


STEPS = (1.0, 0.7, 1.3, 2.0)  # low band, then coarse to fine


def test_steps_divide_their_bands_and_are_undone():
    y, unit = normal(6, 2, 3, 64, 64), torch.tensor([0.1, 3.0], dtype=torch.float64)
    plain, stepped = wavelet_analysis(y, 3, unit), wavelet_analysis(y, 3, unit, STEPS)
    for a, b, step in zip(plain, stepped, STEPS, strict=True):
        torch.testing.assert_close(a / step, b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(wavelet_synthesis(stepped, unit, STEPS), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [(1.0, 1.0), (1.0, 1.0, 0.0, 1.0), (1.0, 1.0, float("nan"), 1.0)])
def test_steps_that_do_not_fit_are_refused(steps):
    with pytest.raises(ShapeError, match="need 4 positive steps"):
        wavelet_analysis(normal(6, 1, 3, 64, 64), 3, steps=steps)


def folded_pixels(low, details, unit, dtype=torch.float64, steps=None):
    blocks = FoldedSynthesis(len(details), dtype, steps)(low.to(dtype), [space_to_depth(d.to(dtype)) for d in details])
    nothing = torch.zeros(2 * SAMPLES, SAMPLES, dtype=dtype)
    return BlocksToPixels(dtype)(blocks, torch.zeros_like(blocks), nothing, unit.to(dtype))


def test_folded_synthesis_knows_steps():
    low, details = normal(0, 1, 3, 4, 4), [normal(k + 1, 1, 9, 4 << k, 4 << k) for k in range(3)]
    unit = torch.tensor([0.02], dtype=torch.float64)
    lifted = (opponent_to_rgb(wavelet_synthesis([low, *details], unit, STEPS)) + 0.5).clamp(0, 1)
    folded = folded_pixels(low, details, unit, steps=STEPS)
    torch.testing.assert_close(folded, lifted[0].permute(1, 2, 0), rtol=0, atol=1e-13)


def test_the_colour_rotation_is_orthonormal():
    matrix = np.array(OPPONENT)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-15)
    y = normal(6, 2, 3, 8, 8)
    torch.testing.assert_close(opponent_to_rgb(rgb_to_opponent(y)), y, rtol=0, atol=1e-14)
    torch.testing.assert_close(rgb_to_opponent(y).norm(), y.norm())


def test_grey_has_no_opponent_colours():
    grey = normal(7, 1, 1, 8, 8)
    luma, first, second = rgb_to_opponent(grey.expand(1, 3, 8, 8)).unbind(1)
    torch.testing.assert_close(luma, math.sqrt(3) * grey[:, 0])
    assert max(first.abs().max().item(), second.abs().max().item()) < 1e-15


@pytest.mark.parametrize("shape", [(1, 3, 33, 64), (1, 3, 64, 48), (1, 3, 0, 32), (3, 40, 40)])
def test_sides_that_do_not_divide_are_named(shape):
    with pytest.raises(ShapeError, match=r"multiples of 32.*Pad x first") as error:
        wavelet_analysis(torch.zeros(shape), 5)
    assert str(tuple(shape)) in str(error.value)


def test_folding_is_inverted_and_its_errors_name_the_cure():
    y = normal(8, 2, 9, 6, 10)
    folded = space_to_depth(y)
    torch.testing.assert_close(depth_to_space(folded), y, rtol=0, atol=0)
    for a1, a2 in np.ndindex(2, 2):  # the layout of the docstring
        torch.testing.assert_close(folded[:, 2 * a1 + a2 :: 4], y[..., a1::2, a2::2], rtol=0, atol=0)
    with pytest.raises(ShapeError, match="Pad x to even sides"):
        space_to_depth(y[..., :5])
    with pytest.raises(ShapeError, match="4 x the channels"):
        depth_to_space(y)


@pytest.mark.parametrize(("levels", "height", "width"), [(1, 2, 2), (1, 2, 6), (2, 4, 2), (3, 2, 4), (5, 2, 6)])
def test_folded_synthesis_is_the_lifting_to_float64_accuracy(levels, height, width):
    """Borders included, down to bands of two samples, where both mirror images meet."""
    low = normal(0, 1, 3, height, width)
    details = [normal(k + 1, 1, 9, height << k, width << k) for k in range(levels)]
    unit = torch.tensor([0.1], dtype=torch.float64)
    lifted = (opponent_to_rgb(wavelet_synthesis([low, *details], unit)) + 0.5).clamp(0, 1)
    folded = folded_pixels(low, details, unit)
    assert float(((lifted > 0) & (lifted < 1)).double().mean()) > 0.2
    torch.testing.assert_close(folded, lifted[0].permute(1, 2, 0), rtol=0, atol=1e-13)


def test_folded_synthesis_agrees_in_float32():
    low, details = normal(0, 1, 3, 4, 4), [normal(k + 1, 1, 9, 4 << k, 4 << k) for k in range(3)]
    unit = torch.tensor([0.05], dtype=torch.float64)
    exact = folded_pixels(low, details, unit)
    single = folded_pixels(low, details, unit, torch.float32)
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-6)  # 1/4000 of a grey level
