"""Pictures side by side, each under its title, over one legend."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from ..classes import ClassScheme
from .overlay import with_legend
from .scale_bar import font

_GAP = 8


def panels(pictures: Mapping[str, np.ndarray], scheme: ClassScheme, opacity: float = 1.0) -> Image.Image:
    """Return pictures in a row, each under its title, over one legend.

    Args:
        pictures: title -> ``(height, width, 3)`` uint8, all of one size.
        scheme: classes of the legend.
        opacity: opacity of the classes in the pictures, 0 to 1.
    """
    height, width = next(iter(pictures.values())).shape[:2]
    size = max(12, width // 28)
    letters = font(size)
    strip = int(1.8 * size)
    total = len(pictures) * (width + _GAP) - _GAP
    row = Image.new("RGB", (total, height + strip), "white")
    draw = ImageDraw.Draw(row)
    for number, (title, picture) in enumerate(pictures.items()):
        left = number * (width + _GAP)
        row.paste(Image.fromarray(picture), (left, strip))
        draw.text((left + 4, size // 4), title, fill="black", font=letters)
    return with_legend(np.asarray(row), scheme, opacity)
