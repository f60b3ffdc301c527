"""Distortions: one number per example, a sum over its elements, never a mean.

A distortion is added to a rate in nats per example; a mean would tie that trade to the size of the image.
Any callable `(y, y_hat) -> (batch,)` can take their place.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rdae.coding.fidelity import MS_SSIM_SIDE
from rdae.errors import ShapeError

__all__ = ["Distortion", "absolute_error", "ms_ssim", "ms_ssim_distortion", "psnr", "squared_error"]

Distortion = Callable[[Tensor, Tensor], Tensor]

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, WINDOW_SIGMA = 11, 1.5


def _same_shape(y: Tensor, y_hat: Tensor) -> None:
    if y.shape != y_hat.shape:  # (n, 1) against (n,) would broadcast without a word
        raise ShapeError(
            f"y is {tuple(y.shape)} but y_hat is {tuple(y_hat.shape)}. Crop or reshape y_hat to the shape of y first."
        )


def squared_error(y: Tensor, y_hat: Tensor) -> Tensor:
    """Squared error of each example, `sum_i (y_i - y_hat_i)**2`; often called L2.

    Args:
        y: data, `(batch, *event)`, in any unit u.
        y_hat: reconstruction, same shape and unit.

    Returns:
        `(batch,)`, in u**2: no root, no mean.
    """
    _same_shape(y, y_hat)
    return (y - y_hat).square().flatten(1).sum(1)


def absolute_error(y: Tensor, y_hat: Tensor) -> Tensor:
    """Absolute error of each example, `sum_i |y_i - y_hat_i|` (L1); shapes as in `squared_error`, in u."""
    _same_shape(y, y_hat)
    return (y - y_hat).abs().flatten(1).sum(1)


def psnr(y: Tensor, y_hat: Tensor, peak: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio of each example in dB, `10 log10(peak**2 / mse)`; inf where equal.

    `peak` is the largest value that y can take: 1 for the pictures that networks see, 255 for levels of 8 bits.
    """
    mse = squared_error(y, y_hat) / y[0].numel()
    return 10 * torch.log10(peak**2 / mse)


def _gaussian_window(like: Tensor) -> Tensor:
    at = torch.arange(WINDOW, dtype=like.dtype, device=like.device) - WINDOW // 2
    window = torch.exp(-(at**2) / (2 * WINDOW_SIGMA**2))
    return window / window.sum()


def _blur(x: Tensor, window: Tensor) -> Tensor:
    channels = x.shape[1]
    x = F.conv2d(x, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def ms_ssim(y: Tensor, y_hat: Tensor, peak: float = 1.0) -> Tensor:
    """Multi-scale structural similarity of each example, mean over channels (Wang, Simoncelli & Bovik 2003).

    Args:
        y: `(batch, channels, height, width)`, values in [0, peak]; the shorter side at least 161.
        y_hat: same shape.
        peak: largest value; 1 for the pictures that networks see, 255 for levels of 8 bits.

    Returns:
        `(batch,)`, at most 1.

    Raises:
        ShapeError: shapes differ, or five scales do not fit into the image.
    """
    _same_shape(y, y_hat)
    if y.ndim != 4 or min(y.shape[-2:]) < MS_SSIM_SIDE:
        raise ShapeError(
            f"MS-SSIM needs (batch, channels, height, width) with sides of at least {MS_SSIM_SIDE}, "
            f"but y is {tuple(y.shape)}. Use squared_error for smaller images."
        )
    with torch.autocast(y.device.type, enabled=False):  # variances are small differences of squares
        return _ms_ssim(_whole(y), _whole(y_hat), peak)


def _whole(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _ms_ssim(y: Tensor, y_hat: Tensor, peak: float) -> Tensor:
    window = _gaussian_window(y)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    product = y.new_ones(())
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        mean, mean_hat = _blur(y, window), _blur(y_hat, window)
        variance = _blur(y * y, window) - mean**2
        variance_hat = _blur(y_hat * y_hat, window) - mean_hat**2
        covariance = _blur(y * y_hat, window) - mean * mean_hat
        structure = (2 * covariance + c2) / (variance + variance_hat + c2)
        if scale == len(MS_SSIM_WEIGHTS) - 1:
            structure = structure * (2 * mean * mean_hat + c1) / (mean**2 + mean_hat**2 + c1)
        # a negative structure term has no real power; such images are as different as the measure can say
        product = product * structure.mean((2, 3)).clamp_min(1e-6) ** weight
        if scale < len(MS_SSIM_WEIGHTS) - 1:
            pad = [side % 2 for side in y.shape[-2:]]
            y, y_hat = (F.avg_pool2d(x, 2, padding=pad) for x in (y, y_hat))
    return product.mean(1)


def ms_ssim_distortion(y: Tensor, y_hat: Tensor, peak: float = 1.0) -> Tensor:
    """`elements * (1 - MS-SSIM)` of each example: grows with the image, as a rate does; unit-less.

    As a model's distortion it takes pictures in [0, 1] with sides of at least 161, and lam counts nats per element.
    """
    return (1 - ms_ssim(y, y_hat, peak)) * y[0].numel()
