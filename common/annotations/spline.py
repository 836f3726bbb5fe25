"""Draw smooth outlines through clicked points."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_POINTS_PER_SEGMENT = 16


def closed_spline(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points along the closed centripetal Catmull–Rom spline through ``points``, the curve that ASAP draws.

    Source: Barry and Goldman 1988 (recursive evaluation); knots are spaced by the square root of the distance.
    """
    distinct = [p for i, p in enumerate(points) if p != points[i - 1] or len(points) == 1]
    if len(distinct) < 3:
        return distinct
    corners = np.asarray(distinct)
    outline = [
        _segment(*(corners[(i + offset) % len(corners)] for offset in (-1, 0, 1, 2))) for i in range(len(corners))
    ]
    return [(float(x), float(y)) for x, y in np.concatenate(outline)]


def _segment(before: np.ndarray, start: np.ndarray, end: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the points from ``start`` up to, not including, ``end``."""
    points = (before, start, end, after)
    knots = [0.0]
    for one, two in pairwise(points):
        knots.append(knots[-1] + float(np.hypot(*(two - one))) ** 0.5)
    t = np.linspace(knots[1], knots[2], _POINTS_PER_SEGMENT, endpoint=False)[:, None]

    def between(a: np.ndarray, b: np.ndarray, first: int, last: int) -> np.ndarray:
        return ((knots[last] - t) * a + (t - knots[first]) * b) / (knots[last] - knots[first])

    lines = [between(points[i], points[i + 1], i, i + 1) for i in range(3)]
    parabolas = [between(lines[i], lines[i + 1], i, i + 2) for i in range(2)]
    return between(parabolas[0], parabolas[1], 1, 2)
