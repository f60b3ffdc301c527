"""Distortions: closed cases, minimisers, and MS-SSIM against a second implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from rdae.coding import fidelity
from rdae.distortions import absolute_error, ms_ssim, ms_ssim_distortion, psnr, squared_error
from rdae.errors import ShapeError

# pytorch_msssim 1.0.0 on `pair(height, width, sigma)`, data_range 255
REFERENCE = {
    (161, 161, 20.0): 0.9159284754031036,
    (200, 177, 8.0): 0.9819751434225003,
    (256, 192, 50.0): 0.7204440751653495,
}


def pair(height: int, width: int, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Waves, an edge and grain, and the same with noise of deviation sigma, `(1, 3, H, W)` float64 in [0, 255]."""
    rng = np.random.default_rng(11)
    row, column = np.mgrid[:height, :width]
    waves = [128 + 60 * np.sin(row / (5 + 4 * c)) * np.cos(column / (9 - 2 * c)) for c in range(3)]
    clean = np.stack(waves) + 40 * (row > column) + rng.normal(0, 6, size=(3, height, width))
    y, y_hat = (np.clip(x, 0, 255)[None] for x in (clean, clean + rng.normal(0, sigma, size=clean.shape)))
    return torch.from_numpy(y), torch.from_numpy(y_hat)


@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 5, 4)])
def test_squared_and_absolute_error_are_sums_per_example(shape):
    rng = np.random.default_rng(0)
    y, y_hat = rng.normal(size=shape), rng.normal(size=shape)
    axes = tuple(range(1, len(shape)))
    assert_close(squared_error(*map(torch.from_numpy, (y, y_hat))), torch.from_numpy(((y - y_hat) ** 2).sum(axes)))
    assert_close(absolute_error(*map(torch.from_numpy, (y, y_hat))), torch.from_numpy(np.abs(y - y_hat).sum(axes)))


def test_by_hand():
    y, y_hat = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 0.0, 6.0]])
    assert squared_error(y, y_hat).tolist() == [13.0]  # no root, no mean
    assert absolute_error(y, y_hat).tolist() == [5.0]


def test_the_best_constant_is_the_mean_for_squares_and_the_median_for_magnitudes():
    y = torch.tensor([0.0, 1.0, 1.5, 4.0, 20.0], dtype=torch.float64)
    candidates = torch.linspace(-1, 21, 22001, dtype=torch.float64)[:, None]
    for distortion, best in ((squared_error, y.mean()), (absolute_error, y.median())):
        total = distortion(y.expand(len(candidates), -1), candidates.expand(-1, len(y)))
        assert abs(float(candidates[total.argmin()]) - float(best)) <= 5e-4 + 1e-9


@pytest.mark.parametrize("distortion", [squared_error, absolute_error, psnr, ms_ssim])
def test_shapes_must_be_equal(distortion):
    with pytest.raises(ShapeError, match="Crop or reshape y_hat"):
        distortion(torch.zeros(3, 1), torch.zeros(3))


def test_psnr_of_known_errors():
    y = torch.zeros(3, 3, 4, 4, dtype=torch.float64)
    y_hat = y + torch.tensor([0.0, 1.0, 25.5], dtype=torch.float64)[:, None, None, None]
    decibels = psnr(y, y_hat, peak=255)
    assert decibels[0] == math.inf
    assert_close(decibels[1:], torch.tensor([20 * math.log10(255), 20.0], dtype=torch.float64))
    assert_close(psnr(y / 255, y_hat / 255)[1:], decibels[1:])  # of what networks see


def test_identical_images_have_ms_ssim_one():
    y, _ = pair(176, 180, 1.0)
    assert_close(ms_ssim(y, y), torch.ones(1, dtype=torch.float64))
    assert_close(ms_ssim_distortion(y, y), torch.zeros(1, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("height", "width", "sigma"), list(REFERENCE))
def test_ms_ssim_equals_the_reference_values(height, width, sigma):
    y, y_hat = pair(height, width, sigma)
    value = float(ms_ssim(y, y_hat, peak=255))
    assert abs(value - REFERENCE[height, width, sigma]) < 1e-6
    assert_close(ms_ssim_distortion(y, y_hat, peak=255), torch.tensor([(1 - value) * y.numel()], dtype=torch.float64))


def test_ms_ssim_equals_another_implementation():
    other = pytest.importorskip("pytorch_msssim")
    for height, width, sigma in REFERENCE:
        y, y_hat = pair(height, width, sigma)
        assert_close(
            ms_ssim(y, y_hat, peak=255), other.ms_ssim(y, y_hat, data_range=255, size_average=False), rtol=0, atol=1e-6
        )


def test_ms_ssim_does_not_depend_on_the_unit():
    y, y_hat = pair(161, 200, 12.0)
    assert_close(ms_ssim(y / 255, y_hat / 255), ms_ssim(y, y_hat, peak=255))


def test_ms_ssim_keeps_its_precision_under_autocast():
    torch.manual_seed(11)
    y = torch.rand(1, 3, 176, 176)
    y_hat = y + 0.05 * torch.randn_like(y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = ms_ssim(y, y_hat)
    assert torch.equal(mixed, ms_ssim(y, y_hat))


def test_images_too_small_for_five_scales_are_refused():
    with pytest.raises(ShapeError, match="Use squared_error for smaller images"):
        ms_ssim(torch.zeros(1, 3, 160, 300), torch.zeros(1, 3, 160, 300))


def test_the_distortion_of_ms_ssim_has_a_gradient():
    y, y_hat = (x / 255 for x in pair(161, 161, 20.0))
    y_hat.requires_grad_()
    ms_ssim_distortion(y, y_hat).sum().backward()
    assert torch.isfinite(y_hat.grad).all()
    assert y_hat.grad.abs().sum() > 0


def levels(height: int, width: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """`pair` as pictures, `(H, W, 3)` uint8, the second one brighter: the luminance term shall have a say."""
    y, y_hat = (np.moveaxis(x[0].numpy(), 0, 2) for x in pair(height, width, sigma))
    return y.round().astype(np.uint8), (0.8 * y_hat + 40).round().astype(np.uint8)


def of_pictures(a: np.ndarray, b: np.ndarray) -> float:
    """MS-SSIM by PyTorch, of values in [0, 1]."""
    return float(ms_ssim(*(torch.from_numpy(x).permute(2, 0, 1)[None].double() / 255 for x in (a, b))))


@pytest.mark.parametrize(("height", "width"), [(161, 161), (176, 192), (163, 203), (199, 170)])
def test_ms_ssim_without_pytorch_is_the_same(height, width):
    """Both in float64, sums in another order: 1e-12 is thousands of roundings. Sides are even, or odd at some scale."""
    a, b = levels(height, width, 30.0)
    assert abs(fidelity.ms_ssim(a, b) - of_pictures(a, b)) < 1e-12
    deep = [x.astype(np.uint16) * 257 for x in (a, b)]
    assert abs(fidelity.ms_ssim(*deep) - of_pictures(a, b)) < 1e-12


@pytest.mark.parametrize("scale", range(4))
def test_the_comparison_would_see_two_weights_exchanged(scale, monkeypatch):
    a, b = levels(163, 203, 30.0)
    changed = list(fidelity.WEIGHTS)
    changed[scale], changed[scale + 1] = changed[scale + 1], changed[scale]
    monkeypatch.setattr(fidelity, "WEIGHTS", tuple(changed))
    assert abs(fidelity.ms_ssim(a, b) - of_pictures(a, b)) > 1e-4
