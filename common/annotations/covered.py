"""Find objects that later ones cover completely, so that no part of them shows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from .objects import some
from .regions import AnnotatedRegion

logger = logging.getLogger(__name__)
# Vertices of an outline that are tested before the outline is compared with everything above it.
_VERTICES = 8
# Part of a covered outline's area that rounding may leave uncovered.
_ROUNDING = 1e-9


def covered_remark(regions: Sequence[AnnotatedRegion]) -> str:
    """Return a sentence that counts and names the objects that label nothing; empty if all show.

    See :func:`covered_regions`.
    """
    hidden = [regions[index].place or f"outline {index}" for index in covered_regions(regions)]
    if not hidden:
        return ""
    return (
        f"objects that label nothing since later ones cover them completely ({len(hidden)}): {some(hidden)}. Put large "
        "outlines before their details"
    )


def warn_of_covered(path: Path, regions: Sequence[AnnotatedRegion]) -> str:
    """Name the objects of which nothing shows, in one warning.

    Returns:
        :func:`covered_remark`.
    """
    remark = covered_remark(regions)
    if remark:
        logger.warning("%s: %s", path.name, remark)
    return remark


def covered_regions(regions: Sequence[AnnotatedRegion]) -> list[int]:
    """Return the indices of the regions that later ones of other labels cover completely."""
    outlines = np.array([region.outline for region in regions], dtype=object)
    labels = np.array([region.label for region in regions])
    if len(set(labels.tolist())) < 2:
        return []
    over, under = shapely.STRtree(outlines).query(outlines, predicate="covers")
    by_one = np.unique(under[_hides(labels, over, under)])
    rest = np.setdiff1d(np.arange(len(regions)), by_one)
    # Comparing an outline with all others takes long. Few have several points that all lie below others.
    rest = _below_at(shapely.point_on_surface(outlines[rest])[:, None], rest, outlines, labels)
    rest = _below_at(np.array([_vertices(o) for o in outlines[rest]]).reshape(-1, _VERTICES), rest, outlines, labels)
    by_several = [index for index in rest.tolist() if _is_covered(index, outlines, labels)]
    return sorted([*by_one.tolist(), *by_several])


def _hides(labels: np.ndarray, over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return (over > under) & (labels[over] != labels[under])


def _vertices(outline: shapely.Geometry) -> np.ndarray:
    corners = shapely.get_coordinates(outline)
    return shapely.points(corners[np.linspace(0, len(corners) - 1, _VERTICES).astype(int)])


def _below_at(points: np.ndarray, owners: np.ndarray, outlines: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return those of ``owners`` whose points (one row each) all lie in a region that hides them."""
    over, point = shapely.STRtree(points.ravel()).query(outlines, predicate="intersects")
    hidden = point[_hides(labels, over, owners[point // points.shape[1]])]
    below = np.zeros(points.size, dtype=bool)
    below[hidden] = True
    return owners[below.reshape(points.shape).all(axis=1)]


def _is_covered(index: int, outlines: np.ndarray, labels: np.ndarray) -> bool:
    outline = outlines[index]
    later = np.arange(index + 1, len(outlines))
    later = later[(labels[later] != labels[index]) & shapely.intersects(outline, outlines[later])]
    left = shapely.difference(outline, shapely.union_all(outlines[later]))
    return bool(left.area <= _ROUNDING * outline.area)
