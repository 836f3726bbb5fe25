"""Convert polygons to MONAI Label's form, outlines without holes."""

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
    """Return a ``prediction.geojson`` in the form that MONAI Label's writers of ASAP, DSA and JSON take.

    Args:
        geojson: file of polygons in level-0 pixels.
        scheme: the classes.
        min_area: area in level-0 pixels below which polygons are left out.
        corner: ``(x, y)`` of the origin of the viewer's coordinates.

    Returns:
        ``elements`` (for each class its ``label`` and ``contours``, lists of ``[x, y]``), and ``labels``, the colours.
    """
    features = json.loads(geojson.read_text(encoding="utf-8"))["features"]
    contours: dict[str, list[list[list[float]]]] = {one.name: [] for one in scheme.classes}
    for feature in features:
        outline = shape(feature["geometry"])
        if outline.area < min_area:
            continue
        # The formats have outlines only: a dropped hole would become tissue of that class.
        pieces = [(np.asarray(piece.exterior.coords)[:-1] - corner).tolist() for piece in without_holes(outline)]
        contours[feature["properties"]["classification"]["name"]] += pieces
    return {
        "elements": [{"label": name, "contours": found} for name, found in contours.items() if found],
        "labels": {one.name: list(one.color) for one in scheme.classes},
    }
