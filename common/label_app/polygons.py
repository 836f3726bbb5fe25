"""Polygons as MONAI Label hands them on: outlines without holes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry import shape

from ..annotations.regions import without_holes
from ..classes import ClassScheme


def annotation(
    geojson: Path, scheme: ClassScheme, min_area: float = 0.0, corner: tuple[float, float] = (0.0, 0.0)
) -> dict[str, Any]:
    """A ``prediction.geojson`` as MONAI Label's writers of ASAP, DSA and JSON take it.

    Args:
        geojson: polygons in level-0 pixels.
        scheme: the classes.
        min_area: smaller ones (level-0 pixels) are left out.
        corner: ``(x, y)`` from which the viewer counts.

    Returns:
        ``elements`` (of each class its ``label`` and ``contours``, lists of ``[x, y]``), and ``labels``, their colours.
    """
    features = json.loads(geojson.read_text(encoding="utf-8"))["features"]
    contours: dict[str, list[list[list[float]]]] = {one.name: [] for one in scheme.classes}
    for feature in features:
        outline = shape(feature["geometry"])
        if outline.area < min_area:
            continue
        # The formats know outlines only: a hole left out would be tissue of that class.
        pieces = [(np.asarray(piece.exterior.coords)[:-1] - corner).tolist() for piece in without_holes(outline)]
        contours[feature["properties"]["classification"]["name"]] += pieces
    return {
        "elements": [{"label": name, "contours": found} for name, found in contours.items() if found],
        "labels": {one.name: list(one.color) for one in scheme.classes},
    }
