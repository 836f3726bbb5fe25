"""QuPath's GeoJSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import shape

from ..classes import ClassScheme
from ..files import written_whole
from .regions import AnnotatedRegion, AnnotationError, ClassNames, class_of, polygonal

logger = logging.getLogger(__name__)
# Geometries that may have an area.
_AREAS = ("Polygon", "MultiPolygon", "GeometryCollection")


def read_geojson(
    path: Path, scheme: ClassScheme, class_map: Mapping[str, str | None] | None = None
) -> list[AnnotatedRegion]:
    """Read areas with a class; objects without class, points and lines are passed over with a warning that counts
    them."""
    names = ClassNames(path, scheme, class_map)
    regions: list[AnnotatedRegion] = []
    unclassified = shapeless = 0
    for number, feature in enumerate(_features(path)):
        name = _class_name(feature)
        if name is None:
            unclassified += 1
            continue
        try:
            outline = polygonal(shape(feature["geometry"]))
        except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
            raise AnnotationError(
                path, f"object {number} has no readable geometry ({error})", "Export it again"
            ) from error
        if outline is None:
            shapeless += 1
            continue
        regions.append(AnnotatedRegion(names.label(name), outline))
    names.check()
    if unclassified:
        logger.warning("%s: %d objects without class are left unlabelled", path.name, unclassified)
    if shapeless:
        logger.warning("%s: %d points or lines have no area and are left out", path.name, shapeless)
    return regions


def class_names(path: Path) -> list[str]:
    """Return the class of each object of a file that has one and an area."""
    found = []
    for feature in _features(path):
        name, geometry = _class_name(feature), feature["geometry"]
        if name is not None and isinstance(geometry, dict) and geometry.get("type") in _AREAS:
            found.append(name)
    return found


def write_geojson(path: str | Path, regions: Iterable[AnnotatedRegion], scheme: ClassScheme) -> None:
    """Write regions as a FeatureCollection that QuPath imports, classes with their colours; streamed and written
    whole."""
    with written_whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, region in enumerate(regions):
            file.write((",\n" if number else "\n") + _feature(region, scheme))
        file.write("\n]}\n")


def _feature(region: AnnotatedRegion, scheme: ClassScheme) -> str:
    tissue = class_of(region, scheme)
    classification = {"name": tissue.name, "color": list(tissue.color)}
    properties = json.dumps({"objectType": "annotation", "classification": classification})
    # An outline may have millions of points: GEOS writes them without a Python object for each.
    return f'{{"type": "Feature", "geometry": {shapely.to_geojson(region.outline)}, "properties": {properties}}}'


def _features(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnnotationError(path, f"not GeoJSON ({error})", "Export it again from QuPath") from error
    features = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(f, dict) and "geometry" in f for f in features):
        raise AnnotationError(path, "no GeoJSON features in it", "Export the annotations from QuPath as GeoJSON")
    return features


def _class_name(feature: dict[str, Any]) -> str | None:
    classification = (feature.get("properties") or {}).get("classification")
    if isinstance(classification, dict):
        if "names" in classification:
            return ": ".join(classification["names"])
        return classification.get("name")
    return classification
