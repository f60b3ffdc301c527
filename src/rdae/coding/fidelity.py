"""How near a decoded image is to the original: PSNR and MS-SSIM of arrays, without PyTorch."""

from __future__ import annotations

import numpy as np

from rdae.errors import ShapeError

__all__ = ["ms_ssim", "psnr", "psnr_luma_chroma"]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all elements; the peak is that of the type, uint8 or uint16."""
    _same(a, b)
    return _decibels(a.astype(np.float64) - b, _peak(a))


def psnr_luma_chroma(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """PSNR in dB of luma, and of both chroma planes pooled: two figures for a picture, as the lecture prints them.

    Full-range Y'CbCr of ITU-R BT.601, as in JPEG files: `Y = 0.299 R + 0.587 G + 0.114 B`, `Cb = (B - Y) / 1.772`,
    `Cr = (R - Y) / 1.402`, not rounded and at full resolution; the chroma figure takes the mean squared error over
    Cb and Cr together. The lecture on rate-distortion autoencoders does not say which two measures it used: luma and
    chroma to our knowledge, and how it pooled them it does not say either.

    Args:
        a, b: `(H, W, 3)` RGB, uint8 or uint16; the peak is that of the type.

    Raises:
        ShapeError: the images differ in shape or have no three channels.
    """
    _same(a, b)
    if a.ndim != 3 or a.shape[2] != 3:
        raise ShapeError(f"Luma and chroma need (H, W, 3), but the images are {a.shape}. Use psnr for grey ones.")
    error = a.astype(np.float64) - b  # the transform is linear: that of the errors is the error of the transforms
    red, _, blue = LUMA
    luma = error @ np.array(LUMA)
    chroma = [(error[..., 2] - luma) / (2 - 2 * blue), (error[..., 0] - luma) / (2 - 2 * red)]
    return _decibels(luma, _peak(a)), _decibels(np.stack(chroma), _peak(a))


def _peak(a: np.ndarray) -> float:
    return 65535.0 if a.dtype == np.uint16 else 255.0


def _decibels(error: np.ndarray, peak: float) -> float:
    mean = np.square(error).mean()
    return float("inf") if mean == 0 else float(10 * np.log10(peak**2 / mean))


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Multi-scale structural similarity, mean over channels (Wang, Simoncelli & Bovik 2003).

    Args:
        a, b: `(H, W)` or `(H, W, C)`, uint8 or uint16, sides of at least 161.
    """
    _same(a, b)
    if min(a.shape[:2]) < (WINDOW - 1) * 16 + 1:
        raise ShapeError(f"MS-SSIM needs sides of at least {(WINDOW - 1) * 16 + 1}, but the image is {a.shape[:2]}.")
    peak = _peak(a)
    x, y = (np.moveaxis(np.atleast_3d(z).astype(np.float64), 2, 0) for z in (a, b))
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    product = np.ones(x.shape[0])
    for scale, weight in enumerate(WEIGHTS):
        mean_x, mean_y = _blur(x), _blur(y)
        variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
        term = (2 * (_blur(x * y) - mean_x * mean_y) + c2) / (variances + c2)
        last = scale == len(WEIGHTS) - 1
        if last:
            term = term * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        product *= np.maximum(term.mean((1, 2)), 1e-6) ** weight
        if not last:
            x, y = _halve(x), _halve(y)
    return float(product.mean())


def _same(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ShapeError(f"The images are {a.shape} and {b.shape}. Compare images of one size and kind.")


def _blur(x: np.ndarray) -> np.ndarray:
    at = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-(at**2) / (2 * SIGMA**2))
    window /= window.sum()
    height, width = x.shape[1] - WINDOW + 1, x.shape[2] - WINDOW + 1
    rows = sum(w * x[:, k : k + height] for k, w in enumerate(window))
    return sum(w * rows[:, :, k : k + width] for k, w in enumerate(window))


def _halve(x: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2 blocks; an odd side is padded with zeros in front, as the common implementations do."""
    x = np.pad(x, ((0, 0), (x.shape[1] % 2, x.shape[1] % 2), (x.shape[2] % 2, x.shape[2] % 2)))
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    x = x[:, :height, :width]
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
