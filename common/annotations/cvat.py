"""CVAT's XML ("CVAT for images 1.1")."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import shapely
from shapely import affinity

from ..classes import ClassScheme
from .regions import AnnotatedRegion, AnnotationError, ClassNames, polygonal
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
        path: for messages.
        root: the document.
        scheme: the classes.
        class_map: label's name -> class's, or None.
        image: the slide's file name, which picks the image where the file has several.

    Returns:
        the regions in pixels of the annotated picture, and its height and width: annotations may have been made on a
        smaller picture of the slide.
    """
    chosen = _image(path, root, image)
    height, width = numbers(path, "its image", (chosen.get("height"), chosen.get("width")))
    names = ClassNames(path, scheme, class_map)
    shapes = sorted((e for e in chosen if e.tag in _AREAS), key=lambda e: int(e.get("z_order", "0") or 0))
    regions: list[AnnotatedRegion] = []
    passed_over = sum(element.tag in _WITHOUT_AREA for element in chosen)
    for shape in shapes:
        outline = polygonal(_outline(path, shape))
        if outline is None:
            passed_over += 1
        else:
            regions.append(AnnotatedRegion(names.label(shape.get("label", "")), outline))
    names.check()
    if passed_over:
        logger.warning("%s: %d objects without area are left unlabelled", path.name, passed_over)
    return regions, (int(height), int(width))


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


def _outline(path: Path, shape: ElementTree.Element) -> shapely.Geometry:
    what = f"a {shape.tag} labelled {shape.get('label')!r}"
    if shape.tag == "polygon":
        pairs = [point.split(",") for point in (shape.get("points") or "").split(";") if point]
        return ring([(x, y) for x, y in (numbers(path, what, pair) for pair in pairs)])
    if shape.tag == "mask":
        return _mask(path, shape, what)
    if shape.tag == "box":
        left, top, right, bottom = numbers(path, what, (shape.get(key) for key in ("xtl", "ytl", "xbr", "ybr")))
        outline = shapely.box(left, top, right, bottom)
    else:
        x, y, across, down = numbers(path, what, (shape.get(key) for key in ("cx", "cy", "rx", "ry")))
        outline = ellipse(x - across, y - down, x + across, y + down)
    # Clockwise on the screen, where y points down: positive in these coordinates.
    return affinity.rotate(outline, *numbers(path, what, (shape.get("rotation", "0"),)), origin="center")


def _mask(path: Path, shape: ElementTree.Element, what: str) -> shapely.Geometry:
    """Run lengths over a rectangle, row by row, starting with what is outside."""
    left, top, width, height = map(int, numbers(path, what, (shape.get(k) for k in ("left", "top", "width", "height"))))
    lengths = [int(n) for n in numbers(path, what, (shape.get("rle") or "").split(","))]
    if sum(lengths) != width * height or min(lengths) < 0:
        raise AnnotationError(path, f"{what} has {sum(lengths)} pixels in {width} x {height}", "Export it again")
    boxes = []
    start = 0
    for position, length in enumerate(lengths):
        stop = start + length
        while position % 2 and start < stop:
            row, column = divmod(start, width)
            end = min(stop, (row + 1) * width)
            boxes.append(shapely.box(left + column, top + row, left + column + end - start, top + row + 1))
            start = end
        start = stop
    return shapely.union_all(boxes)
