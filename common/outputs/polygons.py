"""Exact outlines of label maps as polygons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely import Polygon

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
    across, down = _boundaries(labels), _boundaries(labels.T).T
    lines = np.concatenate([_runs(across, down), _runs(down.T, across.T)[:, :, ::-1]])
    if not len(lines):
        return {}
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(lines)))
    points = shapely.get_coordinates(shapely.point_on_surface(faces))
    # A polygonised face may be a hole's inside, of another label or of none: look what lies there.
    values = labels[points[:, 1].astype(int), points[:, 0].astype(int)]
    result: dict[int, list[Polygon]] = {}
    for value, face in zip(values.tolist(), shapely.simplify(faces, 0), strict=True):
        if value:
            result.setdefault(value, []).append(face)
    return result


def slide_polygons(canvas: Canvas, plan: Plan) -> Iterator[AnnotatedRegion]:
    """Outlines of a whole slide's label map in level-0 pixels, made block by block; those cut by a block's border
    are joined."""
    height, width = canvas.shape
    cut: dict[int, list[Polygon]] = {}
    for top in range(0, height, canvas.chunk):
        for left in range(0, width, canvas.chunk):
            labels = canvas.read(top, left, min(canvas.chunk, height - top), min(canvas.chunk, width - left))
            bottom, right = top + labels.shape[0], left + labels.shape[1]
            for label, found in label_polygons(labels).items():
                polygons = shapely.transform(np.array(found), lambda xy, t=top, s=left: xy + np.array([s, t]))
                bounds = shapely.bounds(polygons)
                at_border = (bounds[:, :2] <= (left, top)).any(axis=1) | (bounds[:, 2:] >= (right, bottom)).any(axis=1)
                cut.setdefault(label, []).extend(polygons[at_border])
                yield from (AnnotatedRegion(label, polygon) for polygon in _level0(polygons[~at_border], plan))
    for label, polygons in sorted(cut.items()):
        yield from (AnnotatedRegion(label, polygon) for polygon in _level0(merge_touching(polygons), plan))


def _level0(polygons: np.ndarray, plan: Plan) -> np.ndarray:
    """Label map pixels to level-0 pixels; the last ones may reach over the slide's border and end there."""
    rows, columns = plan.slide_shape
    scale = np.array([plan.pixel[1], plan.pixel[0]])
    return shapely.transform(polygons, lambda xy: np.minimum(xy * scale, [columns, rows]))


def merge_touching(polygons: list[Polygon]) -> np.ndarray:
    """Join polygons of one label that share an edge, as those cut by a block's border do."""
    return shapely.simplify(shapely.get_parts(shapely.union_all(polygons)), 0)


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
