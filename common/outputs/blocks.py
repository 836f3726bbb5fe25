"""A slide's label map, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..maps.grid import Plan
    from ..maps.store import Canvas

Rectangle = tuple[int, int, int, int]


def blocks(canvas: Canvas) -> Iterator[Rectangle]:
    """Yield top, left, height and width of a map's blocks, row by row."""
    height, width = canvas.shape
    for top, left in product(range(0, height, canvas.chunk), range(0, width, canvas.chunk)):
        yield top, left, min(canvas.chunk, height - top), min(canvas.chunk, width - left)


def label_areas(canvas: Canvas, plan: Plan) -> np.ndarray:
    """Return the area of each label on the slide, ``(256,)``, in pixels of the map.

    Of a pixel that reaches over the slide's edge the part on the slide counts, as in polygons.

    Args:
        canvas: the label map.
        plan: its lattice on the slide.
    """
    sides = zip(plan.slide_shape, plan.pixel, canvas.shape, strict=True)
    down, across = (np.clip(side / step - np.arange(count), 0, 1) for side, step, count in sides)
    areas = np.zeros(256)
    for block in blocks(canvas):
        top, left, height, width = block
        rows, columns = down[top : top + height], across[left : left + width]
        if not canvas.written(*block):
            areas[0] += rows.sum() * columns.sum()
            continue
        labels = canvas.read(*block)
        # Weights are needed only at the edge.
        weights = None if min(rows[-1], columns[-1]) == 1 else np.outer(rows, columns).ravel()
        areas += np.bincount(labels.ravel(), weights, minlength=256)
    return areas
