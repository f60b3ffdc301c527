"""An image as the codec sees it: pixels, and what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from rdae.coding.container import MAX_SIDE, Colour
from rdae.errors import ImageError

__all__ = ["Picture", "as_8_bit", "from_array", "to_array"]


@dataclass
class Picture:
    """An image as the codec sees it.

    Args:
        pixels: `(H, W, 1)` or `(H, W, 3)`, uint8 or uint16.
        alpha: `(H, W)` of the same type, or None.
        icc, exif, xmp: metadata as raw bytes; EXIF without the "Exif" prefix of JPEG.
        notes: what was lost or changed when the image was read, a phrase each: "converted from CMYK to RGB".
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def colour(self) -> int:
        """Colour type, see `container.Colour`."""
        colour = Colour.RGB if self.pixels.shape[2] == 3 else Colour.GREY
        return colour + (2 if self.alpha is not None else 0) + (Colour.DEEP if self.deep else 0)

    @property
    def deep(self) -> bool:
        """16 bits per channel."""
        return self.pixels.dtype == np.uint16

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]


def from_array(array: np.ndarray) -> Picture:
    """A picture from `(H, W)`, `(H, W, 1)`, `(H, W, 3)`, or with alpha `(H, W, 2)`, `(H, W, 4)`; uint8 or uint16.

    Raises:
        ImageError: another shape or type.
    """
    array = np.asarray(array)
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"An image array must be uint8 or uint16, not {array.dtype}. "
            "Scale floats to 0...255 and convert: (255 * x).round().astype('uint8')."
        )
    if array.ndim == 2:
        array = array[..., None]
    if 0 in array.shape or max(array.shape[:2], default=0) > MAX_SIDE:
        raise ImageError(
            f"An image needs 1 to {MAX_SIDE} rows and columns, but this one is {array.shape}. "
            "Cut larger ones into pieces."
        )
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise ImageError(
            f"An image array must be (H, W), (H, W, 3) or (H, W, 4), not {array.shape}. "
            "Move channels last with array.transpose(1, 2, 0)."
        )
    if array.shape[2] in (2, 4):
        return Picture(np.ascontiguousarray(array[..., :-1]), np.ascontiguousarray(array[..., -1]))
    return Picture(np.ascontiguousarray(array))


def to_array(picture: Picture) -> np.ndarray:
    """`(H, W)` for grey, `(H, W, 3)` for colour, one channel more with alpha."""
    if picture.alpha is not None:
        return np.concatenate([picture.pixels, picture.alpha[..., None]], 2)
    return picture.pixels[..., 0] if picture.pixels.shape[2] == 1 else picture.pixels


def as_8_bit(picture: Picture) -> Picture:
    """Pixels and alpha of 16 bits at the nearest of 256 levels."""
    alpha = None if picture.alpha is None else _to_8_bit(picture.alpha)
    return replace(picture, pixels=_to_8_bit(picture.pixels), alpha=alpha)


def _to_8_bit(x: np.ndarray) -> np.ndarray:
    return ((x.astype(np.uint32) + 128) // 257).astype(np.uint8)
