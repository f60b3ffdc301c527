"""What figures are drawn with: matplotlib without its global state, or word of what to install."""

from __future__ import annotations

from rdae.errors import MissingExtraError

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon, Rectangle
    from matplotlib.text import Annotation
except ImportError as error:
    raise MissingExtraError(
        f"Figures need matplotlib ({error}). Install it with: pip install 'rdae[train,reports]'"
    ) from error

__all__ = ["Annotation", "Axes", "Figure", "Polygon", "Rectangle", "colormaps"]
