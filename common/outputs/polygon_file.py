"""A slide's polygons for people to view and edit, with a record of the regions that they leave out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..annotations import AnnotatedRegion, write_geojson
from ..classes import ClassScheme
from .blocks import label_areas
from .polygon_options import PolygonOptions
from .polygons import slide_polygons
from .sieve import Sieved, sieved

if TYPE_CHECKING:
    from ..maps.grid import TileGrid
    from ..maps.store import MapStore

_NOT_PREDICTED = "not predicted"


def write_polygons(
    path: str | Path,
    store: MapStore,
    grid: TileGrid,
    mpp: float,
    scheme: ClassScheme,
    options: PolygonOptions,
    corner: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:
    """Write a slide's label map as polygons that QuPath imports.

    Args:
        path: path of the GeoJSON file.
        store: the label map.
        grid: its tile grid on the slide.
        mpp: its µm per pixel.
        scheme: the classes.
        options: which regions are merged, simplified and left out, and the origin of coordinates.
        corner: row and column of that origin in level-0 pixels.

    Returns:
        The options (``min_area_um2``, ``simplify_um``, ``skipped``, ``origin``); the number of polygons ``written``;
        number and area of the small regions of each class, and of no class, that were ``merged`` into others; and the
        area of each class that is ``left_out``, that is, has no polygons.
    """
    skipped = options.skipped(scheme)
    level0 = mpp / (grid.pixel[0] * grid.pixel[1]) ** 0.5
    with _without_small_regions(store, grid, options.min_area / mpp**2) as sieved_map:
        regions = _Counted(slide_polygons(sieved_map.store, grid, options.simplify / level0, skipped.values()))
        write_geojson(path, regions, scheme, options.origin, corner)
        if sieved_map.empty:
            left_out = label_areas(store, grid)
            merged, pixels = np.zeros(256, dtype=np.int64), np.zeros(256)
        else:
            left_out = np.zeros(256)
            if skipped:
                labels = list(skipped.values())
                left_out[labels] = label_areas(sieved_map.store, grid)[labels]
            merged, pixels = sieved_map.regions, sieved_map.pixels
    square_mm = (mpp / 1000) ** 2
    named = {**{tissue_class.name: tissue_class.label for tissue_class in scheme.classes}, _NOT_PREDICTED: 0}
    return {
        "min_area_um2": options.min_area,
        "simplify_um": options.simplify,
        "skipped": list(skipped),
        "origin": options.origin,
        "written": regions.count,
        "merged": {
            name: {"regions": int(merged[label]), "area_mm2": round(float(pixels[label] * square_mm), 6)}
            for name, label in named.items()
        },
        "left_out": {
            name: {"area_mm2": round(float(left_out[label] * square_mm), 6)}
            for name, label in named.items()
            if label and left_out[label]
        },
    }


def _without_small_regions(store: MapStore, grid: TileGrid, min_pixels: float) -> AbstractContextManager[Sieved]:
    """Return the label map without regions of fewer pixels; the map itself if one pixel is enough."""
    if min_pixels > 1:
        return sieved(store, min_pixels, grid)
    return nullcontext(Sieved(store, np.zeros(256, dtype=np.int64), np.zeros(256), empty=False))


class _Counted:
    """An iterable of regions that counts them."""

    def __init__(self, regions: Iterable[AnnotatedRegion]) -> None:
        self.regions, self.count = regions, 0

    def __iter__(self) -> Iterator[AnnotatedRegion]:
        for region in self.regions:
            self.count += 1
            yield region
