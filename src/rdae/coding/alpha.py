"""The alpha channel of a file: a PNG of its own, exact."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, PngImagePlugin

from rdae.coding.container import Chunk, Contents, Tag
from rdae.errors import FormatError

__all__ = ["alpha_chunk", "alpha_of"]

OPTIMISED_MAX = 1 << 16  # pixels; searching for the smallest PNG of a larger one takes seconds for a few percent


def alpha_chunk(alpha: np.ndarray) -> Chunk:
    """The chunk of an alpha channel, `(H, W)` uint8 or uint16."""
    buffer = io.BytesIO()
    Image.fromarray(alpha).save(buffer, "PNG", optimize=alpha.size <= OPTIMISED_MAX)
    return Chunk(Tag.ALPHA, buffer.getvalue())


def alpha_of(contents: Contents, name: str) -> np.ndarray | None:
    """The alpha channel of a file, `(H, W)`; None if it has none.

    Raises:
        FormatError: there should be one and is none, or it is damaged; `name` is for messages.
    """
    header, data = contents.header, contents.find(Tag.ALPHA)
    if not header.alpha:
        return None
    if data is None:
        raise FormatError(f"{name} should hold an alpha channel but does not. The file is damaged: copy it again.")
    try:
        # not Image.open: Pillow's own limit on pixels is not ours, and the size is checked here before pixels are read
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as image:
            if image.size != (header.width, header.height):
                raise FormatError(f"{name}: the alpha channel is {image.size}, not the size of the image.")
            if image.mode not in (("I;16", "I") if header.deep else ("L",)):
                raise FormatError(f"{name}: the alpha channel is an image of mode {image.mode}. The file is damaged.")
            return np.asarray(image).astype(np.uint16 if header.deep else np.uint8)
    except (FormatError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise many classes for damage
        raise FormatError(f"{name}: the alpha channel cannot be decoded ({error}). The file is damaged.") from error
