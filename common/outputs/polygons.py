"""Outlines of label maps as polygons."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely import Polygon
from skimage import measure

from ..annotations import AnnotatedRegion
from .blocks import blocks

if TYPE_CHECKING:
    from ..maps.grid import TileGrid
    from ..maps.store import MapStore

# Decimals of level-0 pixels in simplified outlines; exact ones keep the pixels' own corners.
_DECIMALS = 2
_Places = tuple[np.ndarray, np.ndarray]


def label_polygons(labels: np.ndarray) -> dict[int, list[Polygon]]:
    """Outline every 4-connected region of one label.

    Args:
        labels: ``(height, width)`` uint8; 0 is not outlined.

    Returns:
        label -> its polygons, with their holes, in ``(x, y)`` pixel corners. Together they cover the label's pixels
        exactly.
    """
    result: dict[int, list[Polygon]] = {}
    faces, places = _faces(labels)
    for value, face in zip(labels[places].tolist(), shapely.simplify(faces, 0), strict=True):
        result.setdefault(value, []).append(face)
    return result


def slide_polygons(
    store: MapStore, grid: TileGrid, simplify: float = 0.0, skip: Collection[int] = ()
) -> Iterator[AnnotatedRegion]:
    """Outline a whole slide's label map, block by block.

    A region that is cut by a block's border is joined as soon as its last piece is outlined. Neighbours stay flush when
    they are simplified: all regions of a block, those of label 0 included, are simplified together, and the block's
    border is not simplified.

    Args:
        store: the label map.
        grid: its tile grid on the slide.
        simplify: length in level-0 pixels; a corner is removed if its triangle with its neighbours is smaller than the
            square of it. 0 keeps the pixels' outlines.
        skip: labels besides 0 that are not outlined.

    Yields:
        Every 4-connected region, in level-0 pixels.
    """
    outlined = np.arange(256, dtype=np.uint8)
    outlined[list(skip)] = 0
    open_regions = _OpenRegions(store.shape[1], grid, simplify)
    for block in blocks(store):
        top, left, height, width = block
        if store.written(*block):
            yield from open_regions.take(outlined[store.read(*block)], top, left)
        else:
            open_regions.skip(height)
        if left + width == store.shape[1]:
            yield from open_regions.finished(top + height == store.shape[0])


class _OpenRegions:
    """Regions that later blocks may still add to.

    Args:
        width: width of the label map.
        grid: its tile grid on the slide.
        simplify: see :func:`slide_polygons`.
    """

    def __init__(self, width: int, grid: TileGrid, simplify: float) -> None:
        self._grid, self._simplify = grid, simplify
        self._count = 0
        self._pieces: dict[int, list[Polygon]] = {}
        self._label: dict[int, int] = {}
        self._joined: dict[int, int] = {}
        # Region and label of every pixel just above this row of blocks, below it, and left of this block.
        self._above = np.zeros((2, width), dtype=np.int64)
        self._below = np.zeros((2, width), dtype=np.int64)
        self._before = np.zeros((2, 0), dtype=np.int64)

    def take(self, labels: np.ndarray, top: int, left: int) -> Iterator[AnnotatedRegion]:
        """Add a block; yield, label by label, the regions that lie inside it."""
        faces, places = _outlined(labels, _level0(top, left, self._grid), self._simplify)
        regions = measure.label(labels, background=0, connectivity=1).astype(np.int64)
        numbers = regions[places]
        rim = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
        cut = np.isin(numbers, rim)
        for number, polygon, label in zip(numbers[cut], faces[cut], labels[places][cut], strict=True):
            key = int(self._count + number)
            self._pieces[key], self._label[key], self._joined[key] = [polygon], int(label), key
        regions[regions > 0] += self._count
        self._count = max(self._count, int(regions.max(initial=0)))
        here = np.stack([regions, labels])
        right = left + labels.shape[1]
        if left > 0:
            self._join(self._before, here[:, :, 0])
        self._join(self._above[:, left:right], here[:, 0])
        self._before, self._below[:, left:right] = here[:, :, -1], here[:, -1]
        inside, values = faces[~cut], labels[places][~cut]
        for label in np.unique(values):
            yield from (AnnotatedRegion(int(label), polygon) for polygon in inside[values == label])

    def skip(self, height: int) -> None:
        """Pass over a block without a label."""
        self._before = np.zeros((2, height), dtype=np.int64)

    def finished(self, last: bool) -> Iterator[AnnotatedRegion]:
        """Yield, at the end of a row of blocks, the regions that do not reach into the next row, their pieces joined.

        Args:
            last: whether it is the last row.
        """
        reaching = set() if last else {self._root(int(key)) for key in np.unique(self._below[0]) if key}
        for key in [key for key in self._pieces if key not in reaching]:
            for polygon in _joined(self._pieces.pop(key), exact=self._simplify == 0):
                yield AnnotatedRegion(self._label[key], polygon)
        self._above, self._below = self._below, np.zeros_like(self._below)
        kept = {key: self._root(key) for key in np.unique(self._above[0]).tolist() if key}
        self._joined = {**kept, **{root: root for root in kept.values()}}
        self._label = {root: self._label[root] for root in kept.values()}

    def _join(self, one: np.ndarray, other: np.ndarray) -> None:
        """Join the regions of neighbouring pixels that have one label."""
        same = (one[1] == other[1]) & (one[1] > 0)
        for first, second in np.unique(np.stack([one[0][same], other[0][same]]), axis=1).T.tolist():
            kept, gone = self._root(first), self._root(second)
            if kept != gone:
                self._joined[gone] = kept
                self._pieces[kept] += self._pieces.pop(gone)

    def _root(self, key: int) -> int:
        while self._joined[key] != key:
            key = self._joined[key]
        return key


def _joined(pieces: list[Polygon], exact: bool) -> np.ndarray:
    """Join pieces that share edges. Unless ``exact``, corners on straight lines are kept: a neighbour may have them,
    too."""
    parts = shapely.get_parts(shapely.union_all(pieces))
    return shapely.simplify(parts, 0) if exact else parts


def _outlined(labels: np.ndarray, place: Callable, simplify: float) -> tuple[np.ndarray, _Places]:
    """Return the polygon of every 4-connected region of one label but 0, in level-0 pixels, and a pixel (row, column)
    inside each. ``place`` maps pixel corners to level-0 pixels."""
    if simplify == 0:
        faces, places = _faces(labels)
        return shapely.transform(shapely.simplify(faces, 0), place), places
    # All faces, those of label 0 included, are one coverage, whose edges have the same corners on both sides.
    faces, (rows, columns) = _faces(labels.astype(np.int16) + 1)
    # Rounded before they are simplified, so that nothing moves a corner over a line afterwards.
    placed = shapely.transform(faces, lambda xy: np.round(place(xy), _DECIMALS))
    simplified = shapely.coverage_simplify(placed, simplify, simplify_boundary=False)
    real = labels[rows, columns] > 0
    return simplified[real], (rows[real], columns[real])


def _faces(labels: np.ndarray) -> tuple[np.ndarray, _Places]:
    """Return the polygon of every 4-connected region of one label but 0, with a corner wherever regions meet, and a
    pixel (row, column) inside each."""
    across, down = _boundaries(labels), _boundaries(labels.T).T
    lines = np.concatenate([_runs(across, down), _runs(down.T, across.T)[:, :, ::-1]])
    if not len(lines):
        return np.empty(0, dtype=object), (np.empty(0, dtype=int), np.empty(0, dtype=int))
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(lines)))
    points = shapely.get_coordinates(shapely.point_on_surface(faces))
    rows, columns = points[:, 1].astype(int), points[:, 0].astype(int)
    # A polygonised face may be a hole without a label: look at the pixel there.
    real = labels[rows, columns] > 0
    return faces[real], (rows[real], columns[real])


def _level0(top: int, left: int, grid: TileGrid) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that maps a block's pixel corners to level-0 pixels, clipped to the slide."""
    rows, columns = grid.slide_shape
    scale = np.array([grid.pixel[1], grid.pixel[0]])
    return lambda xy: np.minimum((xy + np.array([left, top])) * scale, [columns, rows])


def _boundaries(labels: np.ndarray) -> np.ndarray:
    """Return whether the label changes across each horizontal pixel edge, ``(height + 1, width)`` bool."""
    padded = np.pad(labels, ((1, 1), (0, 0)))
    return padded[1:] != padded[:-1]


def _runs(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Join horizontal edges into lines that end where a vertical edge meets them, ``(count, 2, 2)`` as ``(x, y)``
    pairs."""
    meets = np.zeros((across.shape[0], across.shape[1] + 1), dtype=bool)
    meets[:-1] |= down
    meets[1:] |= down
    y, x = np.nonzero(across)
    if not len(x):
        return np.empty((0, 2, 2))
    starts = np.ones(len(x), dtype=bool)
    starts[1:] = (y[1:] != y[:-1]) | (x[1:] != x[:-1] + 1) | meets[y[1:], x[1:]]
    first = np.nonzero(starts)[0]
    last = np.append(first[1:], len(x)) - 1
    ends = np.stack([np.stack([x[first], y[first]], axis=1), np.stack([x[last] + 1, y[first]], axis=1)], axis=1)
    return ends.astype(np.float64)
