"""What may be asked of a codec for one image: a quality, or a target that the best quality is sought for."""

from __future__ import annotations

import math
from numbers import Real

from rdae.errors import TargetError

__all__ = ["check_wishes"]


def check_wishes(
    quality: float | None = None, bpp: float | None = None, psnr: float | None = None, size: float | None = None
) -> None:
    """Refuses wishes that no image could be given: two at once, or one out of range; arguments as for `compress`.

    Raises:
        TargetError: says which, and what to give instead.
    """
    wishes = {"quality": quality, "bpp": bpp, "psnr": psnr, "size": size}
    given = {name: value for name, value in wishes.items() if value is not None}
    if len(given) > 1:
        raise TargetError(f"{' and '.join(given)} were both asked for. Give only one of quality, bpp, psnr and size.")
    for name, value in given.items():
        if not isinstance(value, Real) or not abs(value) < math.inf:  # NaN is refused too, a large integer is not
            raise TargetError(f"{name} is {value!r}. Give a finite number.")
        if name == "quality" and not 0 <= value <= 100:
            raise TargetError(f"Quality {value} is out of range. Use a number from 0 (smallest) to 100 (best).")
        if name in ("bpp", "size") and not value > 0:
            raise TargetError(f"{name} is {value}, but every file takes some bytes. Give a positive number.")
