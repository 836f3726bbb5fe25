"""Pictures of many slides on one page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..classes import ClassScheme
from .overlay import with_legend, wrapped
from .scale_bar import font

_CELL = 480
_GAP = 14
_FONT = 15
_LINE = 20
_LINES = 6


def contact_sheet(
    pictures: Sequence[tuple[np.ndarray | None, Sequence[str]]],
    scheme: ClassScheme,
    columns: int = 4,
    opacity: float = 1.0,
) -> Image.Image:
    """Return pictures in a grid, each with lines of text below, over one legend.

    Args:
        pictures: ``(h, w, 3)`` uint8 of at most 480 pixels per side, or None for a slide that cannot be read, with its
            lines of text. Lines that begin with "!" are red.
        scheme: classes of the legend.
        columns: number of pictures per row.
        opacity: opacity of the classes in the pictures, 0 to 1.
    """
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    height = _CELL + _LINES * _LINE + _GAP
    sheet = Image.new("RGB", (columns * (_CELL + _GAP) + _GAP, rows * height + _GAP), "white")
    draw, letters = ImageDraw.Draw(sheet), font(_FONT)
    for number, (picture, lines) in enumerate(pictures):
        left, top = _GAP + number % columns * (_CELL + _GAP), _GAP + number // columns * height
        draw.rectangle((left - 1, top - 1, left + _CELL, top + _CELL), outline="lightgrey")
        if picture is None:
            draw.text((left + 12, top + _CELL // 2), "cannot be read", fill="red", font=letters)
        else:
            across, down = (_CELL - side for side in (picture.shape[1], picture.shape[0]))
            sheet.paste(Image.fromarray(picture), (left + across // 2, top + down // 2))
        pieces = [(part, text.startswith("!")) for text in lines for part in wrapped(text, letters, _CELL)]
        for line, (text, red) in enumerate(pieces[:_LINES]):
            draw.text((left, top + _CELL + 3 + line * _LINE), text, fill="red" if red else "black", font=letters)
    return with_legend(np.asarray(sheet), scheme, opacity)
