"""XML of layers of regions: Aperio ImageScope (``.xml``) and HALO (``.annotations``, ``.xml``)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import shapely
from shapely import Polygon

from ..classes import ClassScheme
from .regions import AnnotatedRegion, ClassNames, polygonal
from .xml import bounds, ellipse, numbers, ring

logger = logging.getLogger(__name__)
# ImageScope writes numbers (pen, rectangle, ellipse), HALO words; arrows, rulers, counters and pins have no area.
_SHAPES = {
    "0": "outline",
    "Polygon": "outline",
    "Freehand": "outline",
    "1": "rectangle",
    "Rectangle": "rectangle",
    "2": "ellipse",
    "Ellipse": "ellipse",
}


def read_layers(
    path: Path, root: ElementTree.Element, scheme: ClassScheme, class_map: Mapping[str, str | None] | None = None
) -> list[AnnotatedRegion]:
    """Read areas; the class is the region's text where the scheme or map knows it, else the layer's name.

    A layer without a name is called by its description, else ``layer 1``, ``layer 2``, … by its id. Negative regions
    cut holes into their own layer's regions. What has no area is passed over with a warning that counts it.
    """
    names = ClassNames(path, scheme, class_map)
    regions: list[AnnotatedRegion] = []
    passed_over = 0
    for number, layer in enumerate(root.iter("Annotation"), start=1):
        name = _layer_name(layer, number)
        areas: list[tuple[str, shapely.Geometry]] = []
        holes: list[shapely.Geometry] = []
        for region in layer.iter("Region"):
            area = polygonal(_area(path, region, name))
            if area is None:
                passed_over += 1
            elif region.get("NegativeROA", "0") in ("1", "True", "true"):
                holes.append(area)
            else:
                text = (region.get("Text") or "").strip()
                areas.append((text if names.knows(text) else name, area))
        cut = shapely.union_all(holes)
        for class_name, area in areas:
            rest = polygonal(area.difference(cut)) if holes else polygonal(area)
            if rest is not None:
                regions.append(AnnotatedRegion(names.label(class_name), rest))
    names.check()
    if passed_over:
        logger.warning("%s: %d regions without area are left unlabelled", path.name, passed_over)
    return regions


def _layer_name(layer: ElementTree.Element, number: int) -> str:
    described = (a.get("Value", "") for a in layer.iter("Attribute") if a.get("Name") == "Description")
    candidates = (layer.get("Name", ""), next(described, ""))
    return next((text.strip() for text in candidates if text.strip()), f"layer {layer.get('Id') or number}")


def _area(path: Path, region: ElementTree.Element, layer: str) -> Polygon:
    what = f"region {region.get('Id', '')!r} of layer {layer!r}"
    points = []
    for vertex in region.iter():
        if vertex.tag in ("Vertex", "V"):
            x, y = numbers(path, what, (vertex.get("X"), vertex.get("Y")))
            points.append((x, y))
    shape = _SHAPES.get(region.get("Type", "0"))
    if shape is None or len(points) < 2:
        return Polygon()
    if shape == "ellipse":
        return ellipse(*bounds(points))
    if shape == "rectangle" and len(points) == 2:
        return shapely.box(*bounds(points))
    return ring(points)
