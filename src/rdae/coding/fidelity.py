"""How near a decoded image is to the original: PSNR, MS-SSIM and GMSD of arrays, without PyTorch."""

from __future__ import annotations

import numpy as np

from rdae.errors import ShapeError

__all__ = ["MS_SSIM_SIDE", "gmsd", "ms_ssim", "psnr", "psnr_luma_chroma"]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
MS_SSIM_SIDE = (WINDOW - 1) * 2 ** (len(WEIGHTS) - 1) + 1  # pixels along the shorter side that its scales need
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
GRADIENT_FLOOR = 170.0  # squared levels out of 255; smaller gradients count as none


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
    if min(a.shape[:2]) < MS_SSIM_SIDE:
        raise ShapeError(f"MS-SSIM needs sides of at least {MS_SSIM_SIDE}, but the image is {a.shape[:2]}.")
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


def gmsd(a: np.ndarray, b: np.ndarray) -> float:
    """Gradient magnitude similarity deviation (Xue, Zhang, Mou & Bovik 2014): 0 for equal images, more is worse.

    Luma is halved by means of 2 x 2 pixels; `m` is the magnitude of its gradient (Prewitt, weights of a third). The
    similarity of each place is `(2 m_a m_b + c) / (m_a^2 + m_b^2 + c)`, c = 170, and the measure is its standard
    deviation over the image: an image damaged in places is worse than one damaged a little everywhere. As the authors'
    code has it, the image is black beyond its border; unlike there, luma is not rounded.

    Args:
        a, b: `(H, W)`, `(H, W, 1)` or `(H, W, 3)`, uint8 or uint16, sides of at least 3.
    """
    _same(a, b)
    if min(a.shape[:2]) < 3 or np.atleast_3d(a).shape[2] not in (1, 3):
        raise ShapeError(f"GMSD needs (H, W) or (H, W, 3) with sides of at least 3, but the images are {a.shape}.")
    m_a, m_b = (_gradient(_halve(_luma(z) * (255 / _peak(a)), front=False)[0]) for z in (a, b))
    similarity = (2 * m_a * m_b + GRADIENT_FLOOR) / (m_a**2 + m_b**2 + GRADIENT_FLOOR)
    return float(similarity.std(ddof=1))


def _luma(a: np.ndarray) -> np.ndarray:
    """`(1, H, W)`."""
    planes = np.atleast_3d(a).astype(np.float64)
    return (planes @ np.array(LUMA) if planes.shape[2] == 3 else planes[..., 0])[None]


def _gradient(x: np.ndarray) -> np.ndarray:
    """Its magnitude at each pixel, by Prewitt's filters; zero beyond the border."""
    x = np.pad(x, 1)
    across = (x[:, :-2] - x[:, 2:]) / 3
    down = (x[:-2] - x[2:]) / 3
    return np.hypot(across[:-2] + across[1:-1] + across[2:], down[:, :-2] + down[:, 1:-1] + down[:, 2:])


def _same(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise ShapeError(f"The images are {a.shape} and {b.shape}. Compare images of one size and kind.")


def _blur(x: np.ndarray) -> np.ndarray:
    at = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-(at**2) / (2 * SIGMA**2))
    window /= window.sum()
    return _along(_along(x, window, 1), window, 2)


def _along(x: np.ndarray, window: np.ndarray, axis: int) -> np.ndarray:
    """Correlation with a symmetric window of odd length along one axis, without padding."""
    size, middle = x.shape[axis] - len(window) + 1, len(window) // 2
    at = [np.s_[:, k : k + size] if axis == 1 else np.s_[:, :, k : k + size] for k in range(len(window))]
    total = window[middle] * x[at[middle]]
    pair = np.empty_like(total)
    for k in range(middle):
        np.add(x[at[k]], x[at[-1 - k]], out=pair)
        pair *= window[k]
        total += pair
    return total


def _halve(x: np.ndarray, *, front: bool = True) -> np.ndarray:
    """Mean of 2 x 2 blocks; an odd side is padded with a zero, in front as common implementations of MS-SSIM do."""
    x = np.pad(x, ((0, 0), *((side % 2, 0) if front else (0, side % 2) for side in x.shape[1:])))
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
