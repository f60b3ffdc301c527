"""Which of Pillow's formats the ending of a name stands for."""

from __future__ import annotations

from PIL import Image

__all__ = ["format_of"]


def format_of(ending: str) -> str | None:
    """Pillow's name, such as "PNG" for ".png", of a format whose reader and writer are then loaded; None for none."""
    Image.preinit()  # the common ones; to import all takes ten times as long
    if Image.EXTENSION.get(ending.lower()) not in Image.SAVE:
        Image.init()
    return Image.EXTENSION.get(ending.lower())
