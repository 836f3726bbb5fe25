"""CVAT's XML ("CVAT for images 1.1")."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import shapely
from shapely import Polygon, affinity

from ..classes import ClassScheme
from .objects import LeftOutObjects, UnusableObjectError
from .regions import AnnotatedRegion, AnnotationError, ClassNames
from .xml import ellipse, numbers, ring

logger = logging.getLogger(__name__)
_AREAS = ("polygon", "box", "ellipse", "mask")
_WITHOUT_AREA = ("polyline", "points", "tag", "cuboid", "skeleton")


def read_cvat(
    path: Path,
    root: ElementTree.Element,
    scheme: ClassScheme,
    class_map: Mapping[str, str | None] | None = None,
    image: str | None = None,
) -> tuple[list[AnnotatedRegion], tuple[int, int]]:
    """Read polygons, boxes, ellipses and masks of one image, lower ``z_order`` first.

    Args:
        path: the file, for messages.
        root: the document.
        scheme: the classes.
        class_map: label's name -> class's name, or None.
        image: the slide's file name, which picks the image where the file has several.

    Returns:
        the regions in pixels of the annotated picture, and that picture's height and width, since it may be a smaller
        picture of the slide.
    """
    chosen = _image(path, root, image)
    canvas = _canvas(path, chosen)
    names = ClassNames(path, scheme, class_map)
    left_out = LeftOutObjects(path)
    drawn: list[tuple[float, AnnotatedRegion]] = []
    for number, shape in enumerate(chosen):
        if shape.tag not in _AREAS:
            continue
        place = f"object {number}, a {shape.tag} labelled {shape.get('label', '')!r}"
        outline = left_out.outline(place, partial(_outline, shape))
        if outline is not None:
            drawn.append((_z_order(shape), AnnotatedRegion(names.label(shape.get("label", "")), outline, place)))
    names.check()
    regions = [region for _, region in sorted(drawn, key=lambda one: one[0])]
    left_out.report(regions)
    passed_over = sum(element.tag in _WITHOUT_AREA for element in chosen)
    if passed_over:
        logger.warning("%s: %d objects without area are left unlabelled", path.name, passed_over)
    return regions, canvas


def _canvas(path: Path, image: ElementTree.Element) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in numbers((image.get("height"), image.get("width"))))
    except UnusableObjectError:
        height = width = 0
    if min(height, width) < 1:
        size = f"{image.get('width')} x {image.get('height')}"
        raise AnnotationError(path, f"its image {image.get('name')!r} is of {size} pixels", "Export it again from CVAT")
    return height, width


def label_names(path: Path, root: ElementTree.Element, image: str | None = None) -> list[str]:
    """Return the label of each shape of one image that has an area; see :func:`read_cvat`."""
    return [shape.get("label", "") for shape in _image(path, root, image) if shape.tag in _AREAS]


def _image(path: Path, root: ElementTree.Element, name: str | None) -> ElementTree.Element:
    if root.find("track") is not None:
        raise AnnotationError(path, "a video export of CVAT", 'Export it as "CVAT for images 1.1"')
    images = list(root.iter("image"))
    if len(images) == 1:
        return images[0]
    stem = Path(name).stem if name else None
    fitting = [image for image in images if Path(image.get("name", "")).stem == stem]
    if len(fitting) != 1:
        listed = ", ".join(image.get("name", "") for image in images) or "none"
        raise AnnotationError(
            path,
            f"{len(fitting)} of its images are called {stem!r}; it has {listed}",
            "Name the slide's file as CVAT does",
        )
    return fitting[0]


def _outline(shape: ElementTree.Element) -> shapely.Geometry:
    _z_order(shape)
    if shape.tag == "polygon":
        pairs = [point.split(",") for point in (shape.get("points") or "").split(";") if point]
        if any(len(pair) != 2 for pair in pairs):
            raise UnusableObjectError("a point that is not a pair of numbers")
        return ring([(x, y) for x, y in map(numbers, pairs)])
    if shape.tag == "mask":
        return _mask(shape)
    if shape.tag == "box":
        left, top, right, bottom = numbers(shape.get(key) for key in ("xtl", "ytl", "xbr", "ybr"))
        outline = shapely.box(left, top, right, bottom)
    else:
        x, y, across, down = numbers(shape.get(key) for key in ("cx", "cy", "rx", "ry"))
        outline = ellipse(x - across, y - down, x + across, y + down)
    # Clockwise on the screen, where y points down: positive in these coordinates.
    return affinity.rotate(outline, *numbers((shape.get("rotation", "0"),)), origin="center")


def _z_order(shape: ElementTree.Element) -> float:
    """Return a shape's place in the stack: it lies above those of lower numbers."""
    return numbers((shape.get("z_order") or "0",))[0]


def _mask(shape: ElementTree.Element) -> shapely.Geometry:
    """Return the area that run lengths over a rectangle describe, row by row, the first run being outside."""
    left, top, width, height = (int(n) for n in numbers(shape.get(k) for k in ("left", "top", "width", "height")))
    lengths = [int(n) for n in numbers((shape.get("rle") or "").split(","))]
    if sum(lengths) != width * height or min(lengths) < 0 or width < 1:
        raise UnusableObjectError(f"{sum(lengths)} pixels in {width} x {height}")
    boxes = []
    start = 0
    for position, length in enumerate(lengths):
        if position % 2 and length:
            boxes.extend(_run(start, start + length, width))
        start += length
    return affinity.translate(shapely.union_all(boxes), left, top)


def _run(start: int, stop: int, width: int) -> list[Polygon]:
    """Return a run of pixels in rows of ``width`` as rectangles: its part of the first row, whole rows, the rest."""
    (top, left), (bottom, right) = divmod(start, width), divmod(stop, width)
    if top == bottom:
        return [shapely.box(left, top, right, top + 1)]
    rectangles = [(left, top, width, top + 1), (0, top + 1, width, bottom), (0, bottom, right, bottom + 1)]
    return [shapely.box(*one) for one in rectangles if one[0] < one[2] and one[1] < one[3]]
