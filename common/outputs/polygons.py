"""Exact outlines of label maps as polygons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely import Polygon
from skimage import measure

from ..annotations import AnnotatedRegion

if TYPE_CHECKING:
    from ..inference.canvas import Canvas
    from ..inference.plan import Plan


def label_polygons(labels: np.ndarray) -> dict[int, list[Polygon]]:
    """Outline every 4-connected region of one label.

    Args:
        labels: ``(height, width)`` uint8; 0 is not outlined.

    Returns:
        per label its polygons in ``(x, y)`` pixel corners, holes kept; together they cover the label's pixels exactly.
    """
    result: dict[int, list[Polygon]] = {}
    faces, places = _faces(labels)
    for value, face in zip(labels[places].tolist(), faces, strict=True):
        result.setdefault(value, []).append(face)
    return result


def slide_polygons(canvas: Canvas, plan: Plan) -> Iterator[AnnotatedRegion]:
    """Outlines of a whole slide's label map in level-0 pixels, made block by block; what a block's border cuts is
    joined as soon as the last of its pieces is there."""
    height, width = canvas.shape
    open_regions = _OpenRegions(width)
    for top in range(0, height, canvas.chunk):
        for left in range(0, width, canvas.chunk):
            size = (min(canvas.chunk, height - top), min(canvas.chunk, width - left))
            if not canvas.written(top, left, *size):
                open_regions.skip(size[0])
                continue
            labels = canvas.read(top, left, *size)
            for label, polygons in open_regions.take(labels, top, left):
                yield from (AnnotatedRegion(label, polygon) for polygon in _level0(polygons, plan))
        for label, polygon in open_regions.finished(top + canvas.chunk >= height):
            yield from (AnnotatedRegion(label, part) for part in _level0(polygon, plan))


class _OpenRegions:
    """Regions that blocks not looked at yet may add to.

    Args:
        width: of the label map.
    """

    def __init__(self, width: int) -> None:
        self._count = 0
        self._pieces: dict[int, list[Polygon]] = {}
        self._label: dict[int, int] = {}
        self._joined: dict[int, int] = {}
        # Region and label of every pixel just above this row of blocks, below it, and left of this block.
        self._above = np.zeros((2, width), dtype=np.int64)
        self._below = np.zeros((2, width), dtype=np.int64)
        self._before = np.zeros((2, 0), dtype=np.int64)

    def take(self, labels: np.ndarray, top: int, left: int) -> Iterator[tuple[int, np.ndarray]]:
        """Take in a block; gives, label by label, the polygons that lie inside it."""
        faces, places = _faces(labels)
        regions = measure.label(labels, background=0, connectivity=1).astype(np.int64)
        numbers = regions[places]
        moved = shapely.transform(faces, lambda xy: xy + np.array([left, top]))
        rim = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
        cut = np.isin(numbers, rim)
        for number, polygon, label in zip(numbers[cut], moved[cut], labels[places][cut], strict=True):
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
        inside, values = moved[~cut], labels[places][~cut]
        for label in np.unique(values):
            yield int(label), inside[values == label]

    def skip(self, height: int) -> None:
        """Pass over a block without a label."""
        self._before = np.zeros((2, height), dtype=np.int64)

    def finished(self, last: bool) -> Iterator[tuple[int, np.ndarray]]:
        """At the end of a row of blocks: the regions that do not reach into the next one, their pieces joined."""
        reaching = set() if last else {self._root(int(key)) for key in np.unique(self._below[0]) if key}
        for key in [key for key in self._pieces if key not in reaching]:
            yield self._label[key], merged(self._pieces.pop(key))
        self._above, self._below = self._below, np.zeros_like(self._below)
        kept = {key: self._root(key) for key in np.unique(self._above[0]).tolist() if key}
        self._joined = {**kept, **{root: root for root in kept.values()}}
        self._label = {root: self._label[root] for root in kept.values()}

    def _join(self, one: np.ndarray, other: np.ndarray) -> None:
        """Neighbouring pixels of one label belong to one region."""
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


def merged(pieces: list[Polygon]) -> np.ndarray:
    """Pieces that share edges, joined."""
    return shapely.simplify(shapely.get_parts(shapely.union_all(pieces)), 0)


def _faces(labels: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The polygon of every 4-connected region of one label but 0, and a pixel (row, column) inside each."""
    across, down = _boundaries(labels), _boundaries(labels.T).T
    lines = np.concatenate([_runs(across, down), _runs(down.T, across.T)[:, :, ::-1]])
    if not len(lines):
        return np.empty(0, dtype=object), (np.empty(0, dtype=int), np.empty(0, dtype=int))
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(lines)))
    points = shapely.get_coordinates(shapely.point_on_surface(faces))
    rows, columns = points[:, 1].astype(int), points[:, 0].astype(int)
    # A polygonised face may be a hole's inside, of no label: look what lies there.
    real = labels[rows, columns] > 0
    return shapely.simplify(faces[real], 0), (rows[real], columns[real])


def _level0(polygons: np.ndarray, plan: Plan) -> np.ndarray:
    """Label map pixels to level-0 pixels; the last ones may reach over the slide's border and end there."""
    rows, columns = plan.slide_shape
    scale = np.array([plan.pixel[1], plan.pixel[0]])
    return shapely.transform(polygons, lambda xy: np.minimum(xy * scale, [columns, rows]))


def _boundaries(labels: np.ndarray) -> np.ndarray:
    """``(height + 1, width)`` bool: whether the label changes across each horizontal pixel edge."""
    padded = np.pad(labels, ((1, 1), (0, 0)))
    return padded[1:] != padded[:-1]


def _runs(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Horizontal edges joined into lines that end where a vertical one meets them, ``(count, 2, 2)`` as ``(x, y)``
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
