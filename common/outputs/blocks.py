"""A slide's label map, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..inference.canvas import Canvas

Rectangle = tuple[int, int, int, int]


def blocks(canvas: Canvas) -> Iterator[Rectangle]:
    """Yield top, left, height and width of a map's blocks, row by row."""
    height, width = canvas.shape
    for top, left in product(range(0, height, canvas.chunk), range(0, width, canvas.chunk)):
        yield top, left, min(canvas.chunk, height - top), min(canvas.chunk, width - left)


def label_counts(canvas: Canvas) -> np.ndarray:
    """Return the number of pixels of each label, ``(256,)``."""
    counts = np.zeros(256, dtype=np.int64)
    for block in blocks(canvas):
        if canvas.written(*block):
            counts += np.bincount(canvas.read(*block).ravel(), minlength=256)
        else:
            counts[0] += block[2] * block[3]
    return counts
