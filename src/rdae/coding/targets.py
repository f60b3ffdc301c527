"""Reaching a wished size or quality by bisection over quality levels."""

from __future__ import annotations

from collections.abc import Callable

from rdae.errors import TargetError

__all__ = ["largest_within", "lowest_reaching", "smallest_from"]

SMALL = 1 << 13  # bytes; only files below may shrink, by a few words, as quality rises: 32-bit words, few symbols
LOOK_UP = 10  # levels; how far a smaller file may be
SLACK = 16  # bytes; no file above one this much larger than the smallest so far was smaller again


def largest_within(size: float, encode: Callable[[int], bytes], levels: int, *, beside: int = 0) -> tuple[int, bytes]:
    """The highest level whose bytes keep to `size`, and those bytes.

    Bytes rise with the level, but for a few words in small files: there levels above the one that bisection finds are
    tried too. Whatever is found keeps to the size.

    Args:
        size: bytes.
        encode: level to bytes.
        levels: their number.
        beside: bytes of the file that are the same at every level.

    Raises:
        TargetError: level 0 is already larger, and so are those above that might be smaller.
    """
    low, best = 0, encode(0)
    if len(best) > size:
        low, best = smallest_from(0, encode, levels, beside=beside)
    if len(best) > size:
        raise TargetError(
            f"This image needs at least {len(best)} bytes (quality 0), more than the {size:.0f} asked for. "
            "Make the image smaller, or drop its metadata."
        )
    high = levels
    while high - low > 1:
        middle = (low + high) // 2
        data = encode(middle)
        if len(data) > size:
            high = middle
        else:
            low, best = middle, data
    at = low + 1  # known to be too large
    while len(best) < SMALL + beside and at < min(low + LOOK_UP, levels - 1):
        at += 1
        data = encode(at)
        if len(data) <= size:
            low, best = at, data
        elif len(data) > size + SLACK:
            break
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


def smallest_from(level: int, encode: Callable[[int], bytes], levels: int, *, beside: int = 0) -> tuple[int, bytes]:
    """The smallest file of `level` or one of the `LOOK_UP` levels above it, the best quality among equals.

    In small files a better quality may take a few bytes less. Whoever asked for the lower one then gets the better
    one, so that bytes never fall as the wished quality rises. A file of `SMALL` bytes or more is taken as it is.

    Args:
        level: the lowest one wished for.
        encode: level to bytes.
        levels: their number.
        beside: bytes of the file that are the same at every level.
    """
    found, best = level, encode(level)
    if len(best) >= SMALL + beside:
        return found, best
    for at in range(level + 1, min(level + LOOK_UP, levels - 1) + 1):
        data = encode(at)
        if len(data) <= len(best):
            found, best = at, data
        elif len(data) > len(best) + SLACK:
            break
    return found, best
