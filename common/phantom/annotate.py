"""Partial annotations of a phantom by the paper's rule (Ho et al. 2021, section 2.1): whole components, thin
unlabelled seams."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from scipy import ndimage

from ..annotations import AnnotatedRegion
from ..outputs.polygons import label_polygons
from .noise import hashed
from .paint import Painter

# µm per pixel of the map that is outlined; outlines stay one pixel inside, which leaves seams of twice this.
_MPP = 4.0
_WINDOW = 4096
_SMOOTHING_UM = 3.0
# Components larger than this (mm²) are tissue that fills space; round parts of them are annotated.
_COMPONENT_MM2 = 0.12
_PART_RADIUS_UM = 130.0
_RING_UM = 60.0


def annotate(painter: Painter, height: int, width: int) -> Iterator[AnnotatedRegion]:
    """Outlines in level-0 pixels of a slide of ``height`` x ``width`` pixels; window by window, in bounded memory."""
    scale = _MPP / painter.mpp
    rows, columns = int(height / scale), int(width / scale)
    for top in range(0, rows, _WINDOW):
        for left in range(0, columns, _WINDOW):
            labels = painter.labels(top, left, min(_WINDOW, rows - top), min(_WINDOW, columns - left), _MPP)
            chosen = _choose(painter, labels, top, left)
            for label, polygons in label_polygons(chosen).items():
                for polygon in polygons:
                    smooth = shapely.simplify(polygon, _SMOOTHING_UM / _MPP)
                    if smooth.is_valid and not smooth.is_empty:
                        moved = shapely.transform(smooth, lambda xy, t=top, s=left: (xy + np.array([s, t])) * scale)
                        yield AnnotatedRegion(label, moved)


def _choose(painter: Painter, labels: np.ndarray, top: int, left: int) -> np.ndarray:
    recipe = painter.layout.recipe
    seed = int(hashed(painter.layout.seed, 0xA770, top, left) * 2**52)
    chosen = np.zeros_like(labels)
    filling = recipe.scheme.by_name(recipe.grounds[0].class_name).label
    shares = {recipe.scheme.by_name(name).label: share for name, share in recipe.annotated.items()}
    for label, share in shares.items():
        if label != filling:
            _annotate_components(chosen, labels, label, share * labels.size, seed)
    if filling in shares:
        _annotate_rings(chosen, labels, filling, shares[filling] * labels.size, seed)
    return chosen


def _annotate_components(chosen: np.ndarray, labels: np.ndarray, label: int, quota: float, seed: int) -> None:
    """Whole components in random order; of space-filling ones, round parts."""
    inside = _inner(labels == label)
    components, count = ndimage.label(labels == label)
    boxes = ndimage.find_objects(components)
    taken = 0
    for index in np.argsort(hashed(seed, label, np.arange(count))).tolist():
        if taken >= quota:
            return
        box = boxes[index]
        component = components[box] == index + 1
        if component.sum() * _MPP**2 / 1e6 > _COMPONENT_MM2:
            taken += _annotate_parts(chosen[box], component & inside[box], label, quota - taken, seed + index)
        else:
            part = component & inside[box]
            chosen[box][part] = label
            taken += int(part.sum())


def _annotate_parts(chosen: np.ndarray, inside: np.ndarray, label: int, quota: float, seed: int) -> int:
    radius = _PART_RADIUS_UM / _MPP
    places = np.argwhere(inside)
    taken = 0
    for draw in hashed(seed, label, np.arange(64)):
        if taken >= quota or not len(places):
            break
        y, x = places[int(draw * len(places))]
        y0, x0 = max(int(y - radius), 0), max(int(x - radius), 0)
        box = (slice(y0, int(y + radius) + 1), slice(x0, int(x + radius) + 1))
        grid = np.mgrid[box[0].start : y0 + inside[box].shape[0], box[1].start : x0 + inside[box].shape[1]]
        part = inside[box] & (np.hypot(grid[0] - y, grid[1] - x) <= radius) & (chosen[box] == 0)
        chosen[box][part] = label
        taken += int(part.sum())
    return taken


def _annotate_rings(chosen: np.ndarray, labels: np.ndarray, label: int, quota: float, seed: int) -> None:
    """The tissue around annotated structures, so that transitions are seen from both sides."""
    inside = _inner(labels == label)
    components, count = ndimage.label(chosen > 0)
    boxes = ndimage.find_objects(components)
    reach = round(_RING_UM / _MPP)
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    taken = 0
    for index in np.argsort(hashed(seed, label, np.arange(count))).tolist():
        if taken >= quota:
            return
        box = _grown(boxes[index], reach + 1, labels.shape)
        around = ndimage.binary_dilation(components[box] == index + 1, disc)
        part = around & inside[box] & (chosen[box] == 0)
        chosen[box][part] = label
        taken += int(part.sum())


def _inner(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_erosion(mask, np.ones((3, 3), dtype=bool), border_value=1)


def _grown(box: tuple[slice, ...], by: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(s.start - by, 0), min(s.stop + by, n)) for s, n in zip(box, shape, strict=True))
