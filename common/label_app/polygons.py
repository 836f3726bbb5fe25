"""Polygons as MONAI Label hands them on: outlines without holes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import Polygon
from shapely.geometry import shape

from ..classes import ClassScheme


def annotation(geojson: Path, scheme: ClassScheme, min_area: float = 0.0) -> dict[str, Any]:
    """A ``prediction.geojson`` as MONAI Label's writers of ASAP, DSA and JSON take it.

    Args:
        geojson: polygons in level-0 pixels.
        scheme: the classes.
        min_area: smaller ones (level-0 pixels) are left out.

    Returns:
        ``elements`` (of each class its ``label`` and ``contours``, lists of ``[x, y]``), and ``labels``, their colours.
    """
    features = json.loads(geojson.read_text(encoding="utf-8"))["features"]
    contours: dict[str, list[list[list[float]]]] = {one.name: [] for one in scheme.classes}
    for feature in features:
        outline = shape(feature["geometry"])
        if outline.area < min_area:
            continue
        for part in shapely.get_parts(outline):
            found = contours[feature["properties"]["classification"]["name"]]
            found += [np.asarray(piece.exterior.coords)[:-1].tolist() for piece in without_holes(part)]
    return {
        "elements": [{"label": name, "contours": found} for name, found in contours.items() if found],
        "labels": {one.name: list(one.color) for one in scheme.classes},
    }


def without_holes(polygon: Polygon) -> Iterator[Polygon]:
    """Cut a polygon upright through its holes, until no piece has one: the formats know outlines only, and a hole
    left out would be tissue of that class."""
    if not polygon.interiors:
        yield polygon
        return
    middles = sorted((hole.bounds[0] + hole.bounds[2]) / 2 for hole in polygon.interiors)
    at = middles[len(middles) // 2]
    left, bottom, right, top = polygon.bounds
    for box in (shapely.box(left, bottom, at, top), shapely.box(at, bottom, right, top)):
        for piece in shapely.get_parts(polygon.intersection(box)):
            if isinstance(piece, Polygon) and piece.area > 0:
                yield from without_holes(piece)
