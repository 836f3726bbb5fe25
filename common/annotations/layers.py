"""Read and write XML with layers of regions: Aperio ImageScope (``.xml``) and HALO (``.annotations``, ``.xml``)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import shapely
from shapely import Polygon

from ..classes import ClassScheme
from ..files import atomic_write
from .objects import LeftOutObjects
from .regions import AnnotatedRegion, ClassNames, class_of, polygonal, without_holes
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
    """Read areas.

    A region's class is the first name that the scheme or map knows: its text, the values of its own attributes, then
    the layer's name. A layer without a name is called by its description, else ``layer 1``, ``layer 2``, … by its id.
    Negative regions cut holes into the regions of their own layer. Arrows, rulers and the like are skipped, and a
    warning counts them. Unusable regions are left out, and one warning names them.
    """
    names = ClassNames(path, scheme, class_map)
    left_out = LeftOutObjects(path)
    regions: list[AnnotatedRegion] = []
    passed_over = 0
    for number, layer in enumerate(root.iter("Annotation"), start=1):
        name = _layer_name(layer, number)
        areas: list[tuple[str, str, shapely.Geometry]] = []
        holes: list[shapely.Geometry] = []
        for region in layer.iter("Region"):
            if region.get("Type", "0") not in _SHAPES:
                passed_over += 1
                continue
            hole = _is_hole(region)
            place = f"{'hole' if hole else 'region'} {region.get('Id', '')!r} of layer {name!r}"
            area = left_out.outline(place, partial(_area, region))
            if area is not None and hole:
                holes.append(area)
            elif area is not None:
                areas.append((names.first_known(own_names(region), name), place, area))
        cut = shapely.union_all(holes)
        for class_name, place, area in areas:
            rest = polygonal(area.difference(cut)) if holes else area
            if rest is not None:
                regions.append(AnnotatedRegion(names.label(class_name), rest, place))
    names.check()
    left_out.report(regions)
    if passed_over:
        logger.warning("%s: %d regions without area are left unlabelled", path.name, passed_over)
    return regions


def own_names(region: ElementTree.Element) -> list[str]:
    """Return a region's names: its text, then the values of its attributes. BACH's classes are in one or the other."""
    values = (attribute.get("Value") for attribute in region.findall("Attributes/Attribute"))
    return [name.strip() for name in (region.get("Text"), *values) if name and name.strip()]


def layer_names(root: ElementTree.Element) -> list[list[str]]:
    """Return the names of each region: its own, then its layer's."""
    return [
        [*own_names(region), _layer_name(layer, number)]
        for number, layer in enumerate(root.iter("Annotation"), start=1)
        for region in layer.iter("Region")
    ]


def area_names(root: ElementTree.Element) -> list[list[str]]:
    """Return the names of each labelled region: its own, then its layer's. Holes and what has no area are skipped."""
    return [
        [*own_names(region), _layer_name(layer, number)]
        for number, layer in enumerate(root.iter("Annotation"), start=1)
        for region in layer.iter("Region")
        if region.get("Type", "0") in _SHAPES and not _is_hole(region)
    ]


def _is_hole(region: ElementTree.Element) -> bool:
    return region.get("NegativeROA", "0") in ("1", "True", "true")


def write_imagescope_xml(
    path: str | Path,
    regions: Iterable[AnnotatedRegion],
    scheme: ClassScheme,
    mpp: float,
    names: Mapping[str, str] | None = None,
) -> None:
    """Write regions in Aperio ImageScope's XML: one layer, each region's class as its text.

    The format's holes belong to the whole layer, so outlines with holes are cut into pieces without.

    Args:
        path: the file.
        regions: regions in level-0 pixels.
        scheme: the classes.
        mpp: the slide's µm/px.
        names: class -> its name in the file, where that differs.
    """
    root = ElementTree.Element("Annotations", {"MicronsPerPixel": repr(float(mpp))})
    layer = ElementTree.SubElement(root, "Annotation", {"Id": "1", "Name": "", "Type": "4", "Visible": "1"})
    ElementTree.SubElement(layer, "Attributes")
    listed = ElementTree.SubElement(layer, "Regions")
    for region in regions:
        name = class_of(region, scheme).name
        for piece in without_holes(region.outline):
            attributes = {"Id": str(len(listed) + 1), "Type": "0", "Text": (names or {}).get(name, name)}
            drawn = ElementTree.SubElement(listed, "Region", {**attributes, "NegativeROA": "0"})
            vertices = ElementTree.SubElement(drawn, "Vertices")
            for x, y in shapely.get_coordinates(piece.exterior)[:-1]:
                ElementTree.SubElement(vertices, "Vertex", {"X": repr(float(x)), "Y": repr(float(y)), "Z": "0"})
    ElementTree.indent(root)
    with atomic_write(path) as partial:
        ElementTree.ElementTree(root).write(partial, encoding="utf-8", xml_declaration=True)


def _layer_name(layer: ElementTree.Element, number: int) -> str:
    described = (a.get("Value", "") for a in layer.findall("Attributes/Attribute") if a.get("Name") == "Description")
    candidates = (layer.get("Name", ""), next(described, ""))
    return next((text.strip() for text in candidates if text.strip()), f"layer {layer.get('Id') or number}")


def _area(region: ElementTree.Element) -> Polygon:
    vertices = [vertex for vertex in region.iter() if vertex.tag in ("Vertex", "V")]
    points = [(x, y) for x, y in (numbers((vertex.get("X"), vertex.get("Y"))) for vertex in vertices)]
    shape = _SHAPES[region.get("Type", "0")]
    if len(points) < 2:
        return Polygon()
    if shape == "ellipse":
        return ellipse(*bounds(points))
    if shape == "rectangle" and len(points) == 2:
        return shapely.box(*bounds(points))
    return ring(points)
