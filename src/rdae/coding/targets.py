"""Reaching a wished size or quality by bisection over quality levels."""

from __future__ import annotations

from collections.abc import Callable

from rdae.errors import TargetError

__all__ = ["largest_within", "lowest_reaching", "smallest_from"]

LOOK_UP = 10  # levels; bytes of pictures of 32 x 32 pixels were never lower more than eight levels up


def largest_within(size: int, encode: Callable[[int], bytes], levels: int) -> tuple[int, bytes]:
    """The highest level whose bytes keep to `size`, and those bytes.

    Bytes rise with the level, but for a few bytes on tiny images; whatever is found keeps to the size.

    Raises:
        TargetError: level 0 is already larger.
    """
    best = encode(0)
    if len(best) > size:
        raise TargetError(
            f"This image needs at least {len(best)} bytes (quality 0), more than the {size} asked for. "
            "Make the image smaller, or drop its metadata."
        )
    low, high = 0, levels
    while high - low > 1:
        middle = (low + high) // 2
        data = encode(middle)
        if len(data) > size:
            high = middle
        else:
            low, best = middle, data
    return low, best


def lowest_reaching(psnr: float, attempt: Callable[[int], tuple[bytes, float]], levels: int) -> tuple[int, bytes]:
    """The lowest level whose PSNR in dB reaches `psnr`, and its bytes; `attempt` returns bytes and PSNR.

    Raises:
        TargetError: the highest level does not reach it.
    """
    low, high = -1, levels - 1
    best, reached = attempt(high)
    if reached < psnr:
        raise TargetError(f"The best quality reaches {reached:.2f} dB on this image, less than {psnr} dB.")
    while high - low > 1:
        middle = (low + high) // 2
        data, reached = attempt(middle)
        if reached < psnr:
            low = middle
        else:
            high, best = middle, data
    return high, best


def smallest_from(level: int, encode: Callable[[int], bytes], levels: int) -> tuple[int, bytes]:
    """The smallest file of `level` or one of the `LOOK_UP` levels above it, the best quality among equals.

    On tiny pictures a better quality may take a few bytes less. Whoever asked for the lower one then gets the better
    one, so that bytes never fall as the wished quality rises.
    """
    files = [(at, encode(at)) for at in range(level, min(level + LOOK_UP, levels - 1) + 1)]
    return min(files, key=lambda file: (len(file[1]), -file[0]))
