"""Repair the objects of an annotation file; leave out those that cannot be used, and name them in one warning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from .regions import AnnotationError, polygonal

logger = logging.getLogger(__name__)
_MOST_NAMED = 10
# Repairing an outline takes time and memory by its crossings: these take seconds, and no hand draws as many.
_MOST_CROSSINGS = 20_000
# Larger coordinates overflow in areas and crossings.
_LARGEST_COORDINATE = 1e100
# Pairs of segments that are tested to estimate an outline's crossings.
_PAIRS = 4_000_000


class UnusableObjectError(ValueError):
    """An object of an annotation file cannot be used; the message is the reason."""


class LeftOutObjects:
    """The objects of a file that cannot be used, collected for one warning.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[str] = []

    def add(self, place: str, reason: object) -> None:
        """Note an object that cannot be used."""
        self._found.append(f"{place} ({reason})")

    def outline(self, place: str, draw: Callable[[], shapely.Geometry]) -> Polygon | MultiPolygon | None:
        """Return the repaired area that ``draw`` returns; None, and note the object, if there is none."""
        try:
            return usable_area(draw())
        except UnusableObjectError as error:
            self.add(place, error)
        return None

    def report(self, usable: Sequence[object]) -> None:
        """Name the objects left out in one warning.

        Args:
            usable: the objects that were read from the file.

        Raises:
            AnnotationError: objects were left out and nothing is usable.
        """
        if not self._found:
            return
        if not usable:
            raise AnnotationError(
                self.path,
                f"nothing in it can be used: {some(self._found)}",
                "Correct these objects and export it again",
            )
        logger.warning(
            "%s: objects left out as they cannot be used (%d): %s. Correct them if they matter, and export again",
            self.path.name,
            len(self._found),
            some(self._found),
        )


def usable_area(geometry: shapely.Geometry) -> Polygon | MultiPolygon:
    """Return the areas of a geometry, with self-crossing outlines repaired and overlapping parts joined.

    Raises:
        UnusableObjectError: the geometry has no area, coordinates that are not finite, or more crossings than can be
            repaired.
    """
    if shapely.is_empty(geometry):
        raise UnusableObjectError("no outline of three points or more")
    coordinates = shapely.get_coordinates(geometry)
    if not np.isfinite(coordinates).all():
        raise UnusableObjectError("a coordinate that is not a number")
    if np.abs(coordinates).max() > _LARGEST_COORDINATE:
        raise UnusableObjectError("coordinates that are too large")
    # One by one: repairing them together would turn overlaps into holes.
    repaired = [_repaired(part) for part in shapely.get_parts(geometry)]
    parts = [part for one in repaired if one is not None for part in shapely.get_parts(one)]
    if not parts:
        raise UnusableObjectError("an outline without area")
    area = parts[0] if len(parts) == 1 else MultiPolygon(parts)
    joined = area if area.is_valid else polygonal(shapely.union_all(parts))
    if joined is None:
        raise UnusableObjectError("an outline without area")
    return joined


def _repaired(part: shapely.Geometry) -> Polygon | MultiPolygon | None:
    """Return a polygon repaired by the even-odd rule: a place is inside if rings surround it an odd number of times."""
    if not isinstance(part, Polygon) or part.is_valid:
        return polygonal(part)
    crossings = sum(_crossings(shapely.get_coordinates(ring)) for ring in (part.exterior, *part.interiors))
    if crossings > _MOST_CROSSINGS:
        raise UnusableObjectError(f"an outline that crosses itself about {crossings:.0e} times")
    try:
        # The same as shapely.make_valid, in seconds instead of minutes.
        lines = shapely.get_parts(shapely.unary_union(part.boundary))
        faces = shapely.get_parts(shapely.polygonize(lines))
    except shapely.errors.ShapelyError as error:
        raise UnusableObjectError(f"an outline that cannot be repaired, {error}") from error
    kept = faces[_odd(part, shapely.get_coordinates(shapely.point_on_surface(faces)))]
    return MultiPolygon(kept.tolist()) if len(kept) else None


def _odd(part: Polygon, points: np.ndarray) -> np.ndarray:
    """Return which points the rings of a polygon surround an odd number of times."""
    corners = [shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)]
    x0, y0 = np.concatenate([ring[:-1] for ring in corners]).T
    x1, y1 = np.concatenate([ring[1:] for ring in corners]).T
    inside = np.zeros(len(points), dtype=bool)
    at_once = max(1, _PAIRS // len(x0))
    for start in range(0, len(points), at_once):
        x, y = points[start : start + at_once].T[..., None]
        spans = (y0 > y) != (y1 > y)
        point, side = np.nonzero(spans)
        crossing = x0[side] + (y[point, 0] - y0[side]) * (x1[side] - x0[side]) / (y1[side] - y0[side])
        inside[start : start + at_once] = np.bincount(point[crossing > x[point, 0]], minlength=len(x)) % 2 == 1
    return inside


def _crossings(corners: np.ndarray) -> float:
    """Estimate how often a closed outline crosses itself, from a sample of its sides if it has many."""
    starts, ends = corners[:-1], corners[1:]
    sides = len(starts)
    # Crossings need pairs of sides: a short outline cannot have too many.
    if sides * sides / 2 <= _MOST_CROSSINGS:
        return 0.0
    chosen = np.random.default_rng(0).choice(sides, min(sides, max(1, _PAIRS // sides)), replace=False)
    met = sum(
        np.count_nonzero(
            (_side_of(starts[i], ends[i], starts) * _side_of(starts[i], ends[i], ends) < 0)
            & (_side_of(starts, ends, starts[i]) * _side_of(starts, ends, ends[i]) < 0)
        )
        for i in chosen
    )
    return met * sides / len(chosen) / 2


def _side_of(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the side of the line from ``start`` to ``end`` that a point lies on: -1, 0 (on the line) or 1."""
    along, to = end - start, point - start
    return np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])


def some(named: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(named) - _MOST_NAMED
    return ", ".join(named[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
