"""ASAP's XML, the format of CAMELYON and BACH."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import shapely

from ..classes import ClassScheme, hex_color
from ..files import atomic_write
from .objects import LeftOutObjects, UnusableObjectError
from .regions import AnnotatedRegion, ClassNames, class_of, without_holes
from .spline import closed_spline
from .xml import numbers, ring

logger = logging.getLogger(__name__)
_AREAS = ("Polygon", "Rectangle", "Spline")
_WITHOUT_AREA = ("Dot", "PointSet", "Measurement")


def read_asap_xml(
    path: Path,
    root: ElementTree.Element,
    scheme: ClassScheme,
    class_map: Mapping[str, str | None] | None = None,
    cut_out: Sequence[str] = (),
) -> list[AnnotatedRegion]:
    """Read polygons, rectangles and splines.

    The class is the group, or the nearest group above it that the scheme or map knows. Dots, measurements and
    annotations in no group (unless the map knows ``"None"``) are skipped, and one warning counts them. Unusable
    annotations are left out, and one warning names them. Outlines of the groups ``cut_out`` lie on top of all others,
    whatever their order in the file.
    """
    names = ClassNames(path, scheme, class_map)
    left_out = LeftOutObjects(path)
    parents = _parents(root)
    below: list[AnnotatedRegion] = []
    above: list[AnnotatedRegion] = []
    passed_over = 0
    for number, annotation in enumerate(root.iter("Annotation")):
        kind, group = annotation.get("Type", ""), annotation.get("PartOfGroup", "None")
        if kind in _WITHOUT_AREA or (group == "None" and not names.knows(group)):
            passed_over += 1
            continue
        place = f"annotation {number} {annotation.get('Name', '')!r}"
        outline = left_out.outline(place, partial(_outline, annotation))
        if outline is not None:
            known = _known_group(group, parents, names)
            (above if known in cut_out else below).append(AnnotatedRegion(names.label(known), outline, place))
    names.check()
    left_out.report([*below, *above])
    if passed_over:
        logger.warning("%s: %d annotations without group or area are left unlabelled", path.name, passed_over)
    return [*below, *above]


def write_asap_xml(path: str | Path, regions: Iterable[AnnotatedRegion], scheme: ClassScheme) -> None:
    """Write regions in ASAP's XML, one group per class.

    The format has no holes, so outlines with holes are cut into pieces without.
    """
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    number = 0
    for region in regions:
        tissue_class = class_of(region, scheme)
        for piece in without_holes(region.outline):
            attributes = {
                "Name": f"Annotation {number}",
                "Type": "Polygon",
                "PartOfGroup": tissue_class.name,
                "Color": hex_color(tissue_class.color),
            }
            coordinates = ElementTree.SubElement(
                ElementTree.SubElement(annotations, "Annotation", attributes), "Coordinates"
            )
            for order, (x, y) in enumerate(shapely.get_coordinates(piece.exterior)[:-1]):
                ElementTree.SubElement(
                    coordinates, "Coordinate", {"Order": str(order), "X": repr(float(x)), "Y": repr(float(y))}
                )
            number += 1
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for tissue_class in scheme.classes:
        group = ElementTree.SubElement(
            groups, "Group", {"Name": tissue_class.name, "PartOfGroup": "None", "Color": hex_color(tissue_class.color)}
        )
        ElementTree.SubElement(group, "Attributes")
    ElementTree.indent(root)
    with atomic_write(path) as partial:
        ElementTree.ElementTree(root).write(partial, encoding="utf-8", xml_declaration=True)


def _outline(annotation: ElementTree.Element) -> shapely.Geometry:
    kind = annotation.get("Type", "")
    if kind not in _AREAS:
        raise UnusableObjectError(f"type {kind!r}; polygons, rectangles and splines are read")
    points = sorted(tuple(numbers((c.get("Order"), c.get("X"), c.get("Y")))) for c in annotation.iter("Coordinate"))
    corners = [(x, y) for _, x, y in points]
    return ring(closed_spline(corners) if kind == "Spline" else corners)


def group_names(root: ElementTree.Element) -> list[list[str]]:
    """Return each annotation's group and the groups above it."""
    parents = _parents(root)
    return [_upwards(annotation.get("PartOfGroup", "None"), parents) for annotation in root.iter("Annotation")]


def named_groups(root: ElementTree.Element) -> list[list[str]]:
    """Return the group, and the groups above it, of each annotation that has an area."""
    parents = _parents(root)
    areas = (annotation for annotation in root.iter("Annotation") if annotation.get("Type", "") in _AREAS)
    return [_upwards(annotation.get("PartOfGroup", "None"), parents) for annotation in areas]


def _parents(root: ElementTree.Element) -> dict[str, str]:
    return {g.get("Name", ""): g.get("PartOfGroup", "None") for g in root.iter("Group")}


def _upwards(group: str, parents: Mapping[str, str]) -> list[str]:
    """Return a group and those above it, nearest first."""
    found = [group]
    while (above := parents.get(found[-1], "None")) != "None" and above not in found:
        found.append(above)
    return found


def _known_group(group: str, parents: Mapping[str, str], names: ClassNames) -> str:
    return next(filter(names.knows, _upwards(group, parents)), group)
