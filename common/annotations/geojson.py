"""Read and write QuPath's GeoJSON."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from ..classes import ClassScheme
from ..files import atomic_write
from ..slides import check_origin
from .objects import LeftOutObjects, UnusableObjectError
from .regions import AnnotatedRegion, AnnotationError, ClassNames, class_of

logger = logging.getLogger(__name__)
# Member of a FeatureCollection that GeoJSON permits and other programs ignore.
_MEMBER = "multimag"
# Files parsed inside :func:`parsed_once`, by path.
_parsed: ContextVar[dict[Path, Any] | None] = ContextVar("parsed", default=None)
_WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")


def read_geojson(
    path: Path, scheme: ClassScheme, class_map: Mapping[str, str | None] | None = None
) -> tuple[list[AnnotatedRegion], str | None]:
    """Read areas with a class.

    Objects without class, points and lines are skipped, and a warning counts them. Unusable objects are left out, and
    one warning names them.

    Returns:
        the regions, and the origin that the file states; None if it states none.

    Raises:
        AnnotationError: the file is no GeoJSON, has unknown classes, or nothing that can be used.
    """
    names = ClassNames(path, scheme, class_map)
    left_out = LeftOutObjects(path)
    regions: list[AnnotatedRegion] = []
    unclassified = shapeless = 0
    content = _content(path)
    for number, feature in enumerate(_features(path, content)):
        place = _place(number, feature)
        try:
            name = _class_name(feature)
            polygons = None if name is None else list(_polygons(feature.get("geometry")))
        except UnusableObjectError as error:
            left_out.add(place, error)
            continue
        if name is None:
            unclassified += 1
        elif not polygons:
            shapeless += 1
        elif (outline := left_out.outline(place, partial(_area, polygons))) is not None:
            regions.append(AnnotatedRegion(names.label(name), outline, place))
    names.check()
    left_out.report(regions)
    if unclassified:
        logger.warning("%s: %d objects without class are left unlabelled", path.name, unclassified)
    if shapeless:
        logger.warning("%s: %d points or lines have no area and are left out", path.name, shapeless)
    return regions, _stated_origin(path, content)


def stated_origin(path: str | Path) -> str | None:
    """Return the origin that a file states: those of :func:`write_geojson` do, QuPath's do not.

    Raises:
        AnnotationError: the file is no GeoJSON, or states an unknown origin.
    """
    return _stated_origin(Path(path), _content(Path(path)))


def _stated_origin(path: Path, content: Any) -> str | None:
    member = content.get(_MEMBER) if isinstance(content, dict) else None
    if not isinstance(member, dict) or "origin" not in member:
        return None
    try:
        check_origin(member["origin"])
    except ValueError as error:
        raise AnnotationError(path, f'its "{_MEMBER}": {error}', "Write it again") from None
    return member["origin"]


def class_names(path: Path) -> list[str]:
    """Return the classes of the objects that have both a class and an area, one each."""
    found = []
    for feature in _features(path, _content(path)):
        try:
            name = _class_name(feature)
            has_area = name is not None and any(_polygons(feature.get("geometry")))
        except UnusableObjectError:
            continue
        if name is not None and has_area:
            found.append(name)
    return found


def write_geojson(
    path: str | Path,
    regions: Iterable[AnnotatedRegion],
    scheme: ClassScheme,
    origin: str = "slide",
    corner: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write regions as a FeatureCollection that QuPath imports, classes with their colours.

    The regions are streamed, and the file appears only when it is complete.

    Args:
        path: the file.
        regions: regions in level-0 pixels.
        scheme: the classes.
        origin: ``"slide"`` or ``"bounds"``, as the file states it.
        corner: the origin's row and column on the slide.
    """
    move = partial(_moved, corner=(corner[1], corner[0]))
    with atomic_write(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(f'{{"type": "FeatureCollection", "{_MEMBER}": {{"origin": "{origin}"}}, "features": [')
        for number, region in enumerate(regions):
            file.write((",\n" if number else "\n") + _feature(move(region), scheme))
        file.write("\n]}\n")


def _moved(region: AnnotatedRegion, corner: tuple[float, float]) -> AnnotatedRegion:
    """Return a region in coordinates relative to a corner ``(x, y)``."""
    return replace(region, outline=shapely.transform(region.outline, lambda xy: xy - corner)) if any(corner) else region


def _feature(region: AnnotatedRegion, scheme: ClassScheme) -> str:
    tissue_class = class_of(region, scheme)
    classification = {"name": tissue_class.name, "color": list(tissue_class.color)}
    properties = json.dumps({"objectType": "annotation", "classification": classification})
    # An outline may have millions of points: GEOS writes them without a Python object for each.
    return f'{{"type": "Feature", "geometry": {shapely.to_geojson(region.outline)}, "properties": {properties}}}'


@contextmanager
def parsed_once() -> Iterator[None]:
    """Parse each GeoJSON file at most once inside the block, however often this thread reads it.

    The files' contents stay in memory until the block ends, so read few files in it.
    """
    token = _parsed.set({})
    try:
        yield
    finally:
        _parsed.reset(token)


def _content(path: Path) -> Any:
    known = _parsed.get()
    if known is None:
        return _parse(path)
    if path not in known:
        known[path] = _parse(path)
    return known[path]


def _parse(path: Path) -> Any:
    try:
        # Of bytes, json tells UTF-8, with or without a byte order mark, from UTF-16 and UTF-32.
        return json.loads(_stored(path))
    except UnicodeDecodeError as error:
        raise AnnotationError(path, f"not GeoJSON ({error})", "Save it as UTF-8, or export it again") from error
    except RecursionError as error:
        raise AnnotationError(path, "not GeoJSON (lists within lists without end)", "Export it again") from error
    except ValueError as error:
        raise AnnotationError(path, f"not GeoJSON ({error})", "Export it again from QuPath") from error


def _features(path: Path, content: Any) -> list[Any]:
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list) or (features and not any(_is_feature(feature) for feature in features)):
        raise AnnotationError(path, "no GeoJSON features in it", "Export the annotations from QuPath as GeoJSON")
    return features


def _stored(path: Path) -> bytes:
    """Return a file's content, unpacked if it is called ``.gz``."""
    stored = path.read_bytes()
    if path.suffix.lower() != ".gz":
        return stored
    try:
        return gzip.decompress(stored)
    except (OSError, EOFError, zlib.error) as error:
        raise AnnotationError(path, f"cannot be unpacked ({error})", "Get an undamaged copy of the file") from error


def _is_feature(feature: Any) -> bool:
    return isinstance(feature, dict) and "geometry" in feature


def _place(number: int, feature: Any) -> str:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    return f"object {number} {name!r}" if isinstance(name, str) and name else f"object {number}"


def _class_name(feature: Any) -> str | None:
    """Return the class of an object, None if it has none.

    Raises:
        UnusableObjectError: the object is no GeoJSON feature, or its class is not text.
    """
    if not _is_feature(feature):
        raise UnusableObjectError("no GeoJSON feature")
    properties = feature.get("properties") or {}
    if not isinstance(properties, dict):
        raise UnusableObjectError("its properties are not a mapping")
    classification = properties.get("classification")
    if isinstance(classification, dict):
        classification = classification.get("names") or classification.get("name")
    if classification is None or classification == []:
        return None
    parts = classification if isinstance(classification, list) else [classification]
    if not all(isinstance(part, str) for part in parts):
        raise UnusableObjectError("its class is not text")
    return ": ".join(parts)


def _polygons(geometry: Any) -> Iterator[Any]:
    """Yield the rings of each polygon of a geometry, and nothing for points and lines.

    Raises:
        UnusableObjectError: there is no geometry, or not one of GeoJSON's types.
    """
    waiting = [geometry]
    # Collections may be nested deeper than function calls can.
    while waiting:
        current = waiting.pop()
        if not isinstance(current, dict) or not current:
            raise UnusableObjectError("no geometry")
        kind = current.get("type")
        inner = current.get("geometries" if kind == "GeometryCollection" else "coordinates")
        if kind == "Polygon":
            yield inner
        elif kind == "MultiPolygon" and isinstance(inner, list):
            yield from inner or [[]]
        elif kind == "GeometryCollection" and inner and isinstance(inner, list):
            waiting.extend(reversed(inner))
        elif kind not in _WITHOUT_AREA:
            raise UnusableObjectError("an empty geometry, or not one of GeoJSON's types")


def _area(polygons: Iterable[Any]) -> MultiPolygon:
    return MultiPolygon([polygon for polygon in map(_polygon, polygons) if not polygon.is_empty])


def _polygon(rings: Any) -> Polygon:
    if not isinstance(rings, list):
        raise UnusableObjectError("an outline that is not a list of points")
    shell, *holes = [_corners(ring) for ring in rings or [[]]]
    # A hole of two points takes nothing away.
    return Polygon(shell, [hole for hole in holes if len(hole) >= 3]) if len(shell) >= 3 else Polygon()


def _corners(ring: Any) -> np.ndarray:
    """Return the points of a ring, ``(n, 2)``, without the closing one."""
    try:
        points = np.asarray(ring, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnusableObjectError("a coordinate that is not a number") from error
    if not points.size:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] < 2:
        raise UnusableObjectError("an outline that is not a list of points")
    if not np.isfinite(points).all():
        raise UnusableObjectError("a coordinate that is not a number")
    points = points[:, :2]
    return points[:-1] if np.array_equal(points[0], points[-1]) else points
