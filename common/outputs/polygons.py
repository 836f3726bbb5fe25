"""Exact outlines of label maps as polygons."""

from __future__ import annotations

import numpy as np
import shapely
from shapely import Polygon


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


def merge_touching(polygons: list[Polygon]) -> list[Polygon]:
    """Join polygons of one label that share an edge, as those cut by a block seam do."""
    merged = shapely.get_parts(shapely.coverage_union_all(polygons))
    return list(shapely.simplify(merged, 0))


def _boundaries(labels: np.ndarray) -> np.ndarray:
    """``(height + 1, width)`` bool: whether the label changes across each horizontal pixel edge."""
    padded = np.pad(labels, ((1, 1), (0, 0)))
    return padded[1:] != padded[:-1]


def _runs(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Horizontal edges joined into lines that end where a vertical one meets them, ``(count, 2, 2)`` as ``(x, y)`` pairs."""
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
