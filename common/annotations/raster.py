"""Find the pixels of a window that lie inside an outline."""

from __future__ import annotations

import numpy as np
import shapely

# Pixels by which a centre may lie outside and still count as on the outline: less than anyone can draw, more than
# rounding moves a corner between windows.
_ON_OUTLINE = 1e-6
# Consecutive sides of a ring that are handled together. Of a piece left or right of the window only its ends matter.
_SIDES = 64


class OutlineRaster:
    """An area, prepared for windows that show small parts of it.

    A pixel is inside if its centre is inside or on the outline, so a pixel that an outline halves is inside. The cost
    of a window depends on the number of sides near it, not on all of them.

    Args:
        outline: a polygon or multipolygon, ``(x, y)``.
    """

    def __init__(self, outline: shapely.Geometry) -> None:
        rings = shapely.get_rings(shapely.get_parts(outline))
        points, ring = shapely.get_coordinates(rings, return_index=True)
        same_ring = ring[:-1] == ring[1:]
        self._starts, self._ends = points[:-1][same_ring], points[1:][same_ring]
        first_of_ring = np.searchsorted(ring[:-1][same_ring], np.arange(len(rings)))
        in_ring = np.arange(len(self._starts)) - first_of_ring[ring[:-1][same_ring]]
        self._first = np.flatnonzero(in_ring % _SIDES == 0)
        self._count = np.diff(self._first, append=len(self._starts))
        self._low = np.minimum.reduceat(np.minimum(self._starts, self._ends), self._first)
        self._high = np.maximum.reduceat(np.maximum(self._starts, self._ends), self._first)

    def paint(self, labels: np.ndarray, label: int, origin: tuple[float, float], pixel: tuple[float, float]) -> None:
        """Set the pixels of a window that lie inside.

        Args:
            labels: the window.
            label: value that they are set to.
            origin: (y, x) of the window's upper left corner.
            pixel: height and width of its pixels.
        """
        scale, corner = np.array(pixel[::-1]), np.array(origin[::-1])
        # In pixels, where whole numbers are centres; columns, then rows.
        low, high = ((side - corner) / scale - 0.5 for side in (self._low, self._high))
        shape = np.array(labels.shape[::-1])
        first = np.clip(np.ceil(low.min(axis=0) - 1), 0, shape).astype(int)
        stop = np.clip(np.floor(high.max(axis=0) + 1) + 1, 0, shape).astype(int)
        if (first >= stop).any():
            return
        in_rows = (high[:, 1] >= first[1] - 1) & (low[:, 1] <= stop[1])
        outside = (high[:, 0] < first[0] - 1) | (low[:, 0] > stop[0])
        near, apart = self._sides_of(np.flatnonzero(in_rows & ~outside)), np.flatnonzero(in_rows & outside)
        starts = np.concatenate([self._starts[near], self._starts[self._first[apart]]])
        ends = np.concatenate([self._ends[near], self._ends[self._first[apart] + self._count[apart] - 1]])
        to_pixels = corner + (first + 0.5) * scale
        inside = _within((starts - to_pixels) / scale, (ends - to_pixels) / scale, *(stop - first)[::-1].tolist())
        labels[first[1] : stop[1], first[0] : stop[0]][inside] = label

    def _sides_of(self, pieces: np.ndarray) -> np.ndarray:
        """Return the indices of the sides of some pieces."""
        counts = self._count[pieces]
        before = np.cumsum(counts) - counts
        return np.arange(counts.sum()) + np.repeat(self._first[pieces] - before, counts)


def _within(starts: np.ndarray, ends: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a mask of the whole points ``(row, column)`` that closed lines of sides ``(x, y)`` surround or meet.

    Each row is scanned a little above and a little below its centres, as a side along a row has the area on one side.
    """
    tall = starts[:, 1] != ends[:, 1]
    starts, ends = starts[tall], ends[tall]
    slope = (ends[:, 0] - starts[:, 0]) / (ends[:, 1] - starts[:, 1])
    top, bottom = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    result = np.zeros((height, width), dtype=bool)
    for shift in (-_ON_OUTLINE, _ON_OUTLINE):
        first = np.clip(np.ceil(top - shift), 0, height).astype(int)
        counts = np.clip(np.ceil(bottom - shift), 0, height).astype(int) - first
        side = np.repeat(np.arange(len(starts)), counts)
        row = np.arange(len(side)) - np.repeat(np.cumsum(counts) - counts, counts) + first[side]
        across = starts[side, 0] + (row + shift - starts[side, 1]) * slope[side]
        result |= _between(row, np.clip(across, -1, width), height, width)
    return result


def _between(row: np.ndarray, across: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a mask of the points between an odd crossing of their row and the next one."""
    order = np.lexsort((across, row))
    row, across = row[order][::2], across[order]
    enter = np.clip(np.ceil(across[::2] - _ON_OUTLINE), 0, width).astype(int)
    leave = np.clip(np.floor(across[1::2] + _ON_OUTLINE) + 1, 0, width).astype(int)
    some = enter < leave
    edges = width + 1
    changes = np.bincount(row[some] * edges + enter[some], minlength=height * edges)
    changes -= np.bincount(row[some] * edges + leave[some], minlength=height * edges)
    return changes.reshape(height, edges).cumsum(axis=1)[:, :width] > 0
