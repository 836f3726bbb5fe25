"""A slide's label map, read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..maps.grid import TileGrid
    from ..maps.store import MapStore

Rectangle = tuple[int, int, int, int]


def blocks(store: MapStore) -> Iterator[Rectangle]:
    """Yield top, left, height and width of each block of a map, row by row."""
    height, width = store.shape
    for top, left in product(range(0, height, store.chunk), range(0, width, store.chunk)):
        yield top, left, min(store.chunk, height - top), min(store.chunk, width - left)


class OnSlide:
    """The share of each pixel of a label map that lies on the slide: 1, or less at the lower and right edge.

    Args:
        shape: height and width of the map.
        grid: its tile grid on the slide; None counts every pixel as 1.
    """

    def __init__(self, shape: tuple[int, int], grid: TileGrid | None) -> None:
        self._down, self._across = (np.ones(side) for side in shape)
        if grid is not None:
            sides = zip(grid.slide_shape, grid.pixel, shape, strict=True)
            self._down, self._across = (np.clip(side / step - np.arange(count), 0, 1) for side, step, count in sides)

    def area(self, block: Rectangle) -> float:
        """Return the area of a block on the slide, in pixels."""
        rows, columns = self._parts(block)
        return float(rows.sum() * columns.sum())

    def counts(self, numbers: np.ndarray, block: Rectangle, least: int = 0) -> np.ndarray:
        """Return the area on the slide of each number in a block, in pixels.

        Args:
            numbers: ``(height, width)`` integers from 0.
            block: the block.
            least: least length of the result.
        """
        rows, columns = self._parts(block)
        # Only pixels at the edge need weights.
        weights = None if min(rows[-1], columns[-1]) == 1 else np.outer(rows, columns).ravel()
        return np.bincount(numbers.ravel(), weights, minlength=least).astype(np.float64)

    def _parts(self, block: Rectangle) -> tuple[np.ndarray, np.ndarray]:
        top, left, height, width = block
        return self._down[top : top + height], self._across[left : left + width]


def label_areas(store: MapStore, grid: TileGrid) -> np.ndarray:
    """Return the area of each label on the slide, ``(256,)``, in pixels of the map.

    Of a pixel that extends over the slide's edge, the part on the slide counts, as in polygons.

    Args:
        store: the label map.
        grid: its tile grid on the slide.
    """
    on_slide, areas = OnSlide(store.shape, grid), np.zeros(256)
    for block in blocks(store):
        if store.written(*block):
            areas += on_slide.counts(store.read(*block), block, 256)
        else:
            areas[0] += on_slide.area(block)
    return areas
