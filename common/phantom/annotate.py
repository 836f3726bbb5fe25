"""Annotate a phantom partially by the paper's rule (Ho et al. 2021, section 2.1): whole components with thin unlabelled
seams; and, for comparison, in the two ways that the paper advises against."""

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
# Components larger than this (mm²) are tissue that fills space, of which round parts are annotated.
_COMPONENT_MM2 = 0.12
_PART_RADIUS_UM = 130.0
_RING_UM = 60.0
# Pixels left unannotated along a component's border: seams between two are twice as wide.
_THIN, _WIDE = 1, 4
_FIELD_UM = 80.0

# Far more than fit, to end the search on a slide that lacks a class.
_MOST_FIELDS = 100_000

STYLES = ("whole", "spaced", "cropped")


def annotate(painter: Painter, height: int, width: int, style: str = "whole") -> Iterator[AnnotatedRegion]:
    """Yield outlines in level-0 pixels of a slide, window by window, in bounded memory.

    Args:
        painter: painter of the slide.
        height, width: size of the slide in pixels.
        style: ``"whole"``: whole components with thin seams; ``"spaced"``: whole components with seams of 32 µm; both
            label each class up to its share in the recipe. ``"cropped"``: everything in small square fields across the
            components' borders, as many pixels in all as ``"whole"``.

    Raises:
        ValueError: the style is unknown.
    """
    if style not in STYLES:
        raise ValueError(f"annotation style must be one of {', '.join(STYLES)}, not {style!r}")
    scale = _MPP / painter.mpp
    rows, columns = int(height / scale), int(width / scale)
    for top in range(0, rows, _WINDOW):
        for left in range(0, columns, _WINDOW):
            labels = painter.labels(top, left, min(_WINDOW, rows - top), min(_WINDOW, columns - left), _MPP)
            chosen = _choose(painter, labels, top, left, style)
            for label, polygons in label_polygons(chosen).items():
                for polygon in polygons:
                    smooth = shapely.simplify(polygon, _SMOOTHING_UM / _MPP)
                    if smooth.is_valid and not smooth.is_empty:
                        moved = shapely.transform(smooth, lambda xy, t=top, s=left: (xy + np.array([s, t])) * scale)
                        yield AnnotatedRegion(label, moved)


def _choose(painter: Painter, labels: np.ndarray, top: int, left: int, style: str) -> np.ndarray:
    recipe = painter.layout.recipe
    seed = int(hashed(painter.layout.seed, 0xA770, top, left) * 2**52)
    chosen = np.zeros_like(labels)
    filling = recipe.scheme.by_name(recipe.grounds[0].class_name).label
    quotas = {recipe.scheme.by_name(name).label: share * labels.size for name, share in recipe.annotated.items()}
    if style == "cropped":
        as_much = (_choose(painter, labels, top, left, "whole") > 0).sum()
        _annotate_fields(chosen, labels, quotas, float(as_much), seed)
        return chosen
    margin = _THIN if style == "whole" else _WIDE
    for label, quota in quotas.items():
        if label != filling:
            _annotate_components(chosen, labels, label, quota, seed, margin)
    if filling in quotas:
        _annotate_rings(chosen, labels, filling, quotas[filling], seed, margin)
    return chosen


def _annotate_fields(chosen: np.ndarray, labels: np.ndarray, quotas: dict[int, float], total: float, seed: int) -> None:
    """Annotate everything in squares whose centres lie on the border of a component, class by class in turn, until
    ``total`` pixels are labelled."""
    half = round(_FIELD_UM / _MPP / 2)
    borders = ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(labels, 3)
    inside = np.zeros_like(chosen)
    for label in quotas:
        inside[_inner(labels == label, _THIN)] = label
    places = {label: np.argwhere(borders & (labels == label)) for label in quotas}
    taken = np.zeros(256)
    for number in range(_MOST_FIELDS):
        open_labels = [label for label in quotas if taken[label] < quotas[label] and len(places[label])]
        if not open_labels or taken.sum() >= total:
            return
        label = open_labels[number % len(open_labels)]
        y, x = places[label][int(hashed(seed, label, number) * len(places[label]))]
        box = (slice(max(y - half, 0), y + half), slice(max(x - half, 0), x + half))
        new = np.where(chosen[box] == 0, inside[box], 0)
        taken += np.bincount(new.ravel(), minlength=256) * (np.arange(256) > 0)
        chosen[box] = inside[box]


def _annotate_components(
    chosen: np.ndarray, labels: np.ndarray, label: int, quota: float, seed: int, margin: int
) -> None:
    """Annotate whole components in random order, and round parts of components that fill space."""
    inside = _inner(labels == label, margin)
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


def _annotate_rings(chosen: np.ndarray, labels: np.ndarray, label: int, quota: float, seed: int, margin: int) -> None:
    """Annotate the tissue around annotated structures, so that transitions are labelled on both sides."""
    inside = _inner(labels == label, margin)
    components, count = ndimage.label(chosen > 0)
    boxes = ndimage.find_objects(components)
    reach = round(_RING_UM / _MPP) + margin
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


def _inner(mask: np.ndarray, margin: int) -> np.ndarray:
    return ndimage.binary_erosion(mask, np.ones((3, 3), dtype=bool), iterations=margin, border_value=1)


def _grown(box: tuple[slice, ...], by: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(s.start - by, 0), min(s.stop + by, n)) for s, n in zip(box, shape, strict=True))
