"""Random GeoJSON: labels are those of shapely's exact areas, or the file is refused as the case says."""

from __future__ import annotations

import functools
import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image

from common.annotations import AnnotationError, read_annotations
from common.slides import Slide, open_slide

HEIGHT, WIDTH, MPP = 80, 100, 0.5
# Names in a file -> what they stand for, given as class_map; None takes back what lies below.
CLASS_MAP = {"Tumor": "carcinoma", "Ignore*": None, "stroma: loose": "stroma", "Nécrose": "necrotic"}
PLAIN_NAMES = ("carcinoma", "benign epithelial", "stroma", "adipose")
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
CONTAINERS = ("collection", "collection", "collection", "list", "feature", "geometry")
SECONDS = 5.0
# Of a pixel: how far a centre must lie from all outlines for its label to be beyond doubt.
CLEAR = 1e-3
# Square pixels that rounding leaves of what has no area.
DUST = 1e-9


@dataclass
class Object:
    """One object of a file: its feature, and what of it counts.

    Attributes:
        feature: the JSON.
        area: the reference; None of an object that cannot be used.
        name: its class, None without.
    """

    feature: Any
    area: shapely.Geometry | None
    name: str | None

    @property
    def outlined(self) -> bool:
        """Return whether it has an area; lines have none, which is no fault."""
        return self.area is None or "Polygon" in json.dumps(self.feature)


@dataclass
class Case:
    """One random file."""

    container: str
    encoding: str
    packed: bool
    objects: list[Object] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Return whether it must be refused: it has no feature, an unknown class, or nothing usable."""
        named = [one for one in self.objects if one.name is not None and one.outlined]
        drawn = [one for one in named if one.area is not None and not one.area.is_empty]
        unknown = any(one.name == "Unheard of" for one in drawn)
        # A list of nothing is a file without objects.
        bare = self.container == "geometry" and self.objects[0].feature["geometry"] != []
        return bare or (self.container != "geometry" and (unknown or bool(named and not drawn)))


# ---- Geometry


def ring(rng: np.random.Generator) -> np.ndarray:
    """Random points: blobs and rectangles, lines that cross themselves, and what has no area."""
    kind = str(rng.choice(["blob", "blob", "blob", "box", "crossing", "crossing", "spiked", "flat", "few", "far"]))
    center = rng.uniform((-20, -20), (WIDTH + 20, HEIGHT + 20))
    if kind == "box":
        (left, top), (wide, high) = center, rng.uniform(1, 60, 2)
        return np.array([(left, top), (left + wide, top), (left + wide, top + high), (left, top + high)])
    if kind == "crossing":
        return center + rng.uniform(-25, 25, (rng.integers(4, 13), 2))
    if kind == "flat":
        return center.round() + np.outer(rng.integers(-9, 10, rng.integers(2, 6)), (3, 2))
    if kind == "few":
        return center + rng.uniform(-9, 9, (rng.integers(0, 3), 2))
    angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 40)))
    points = center + rng.uniform(2, 40) * rng.uniform(0.6, 1, (len(angle), 1)) * np.stack(
        [np.cos(angle), np.sin(angle)], axis=1
    )
    if kind == "far":
        points[rng.integers(len(points))] += rng.choice([-1, 1], 2) * 10 ** rng.uniform(3, 9, 2)
    if kind == "spiked":
        # There and back, and points that stand there several times.
        at = int(rng.integers(len(points)))
        points = np.insert(points, at, [points[at], center, points[at]], axis=0)
        points = np.repeat(points, rng.integers(1, 3, len(points)), axis=0)
    return points[:: int(rng.choice([-1, 1]))]


def polygon(rng: np.random.Generator) -> tuple[list, shapely.Geometry]:
    """Coordinates of a polygon as a file may have them, and the area: an odd number of its rings surround it."""
    rings = [ring(rng)]
    for _ in range(int(rng.choice([0, 0, 1, 3]))):
        hole = ring(rng)
        middle = rings[0].mean(axis=0) if len(rings[0]) else 0
        rings.append(middle + (hole - middle) * rng.uniform(0.05, 0.4) if rng.random() < 0.7 else hole)
    style = rng.choice(["whole", "hundredths", "full"])
    written, area = [], shapely.Polygon()
    for number, points in enumerate(rings):
        points = points if style == "full" else points.round(0 if style == "whole" else 2)
        corners = points.astype(int).tolist() if style == "whole" else points.tolist()
        if number == 0 and len(np.unique(points, axis=0)) < 3:
            # Without an outline, its holes are nothing.
            return [[*corners, *corners[:1]]], shapely.Polygon()
        area = polygons(area.symmetric_difference(surrounded(points)))
        closed = bool(rng.random() < 0.7)
        solid = [[*corner, 0] for corner in corners] if rng.random() < 0.1 else corners
        written.append([*solid, *solid[:1]] if closed else solid)
    return written, area


def surrounded(points: np.ndarray) -> shapely.Geometry:
    """Return what a closed line surrounds an odd number of times: the triangles of a fan, each taken from and added to
    the others."""
    if len(points) < 3:
        return shapely.Polygon()
    plain = shapely.Polygon(points)
    if plain.is_valid:
        return plain
    fan = [shapely.Polygon([points[0], *points[i : i + 2]]) for i in range(1, len(points) - 1)]
    return functools.reduce(shapely.symmetric_difference, [one for one in fan if one.area > 0], shapely.Polygon())


def polygons(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return the areas of a geometry, without points and lines where others only touch."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.union_all(parts[shapely.area(parts) > DUST])


def geometry(rng: np.random.Generator, depth: int = 0) -> tuple[Any, shapely.Geometry | None]:
    """A geometry of GeoJSON and its area, None if no reader can know it."""
    kind = str(rng.choice(["Polygon", "Polygon", "Polygon", "MultiPolygon", "GeometryCollection", "line", "broken"]))
    if kind == "GeometryCollection" and depth < 4:
        inner = [geometry(rng, depth + 1) for _ in range(rng.integers(1, 4))]
        areas = [area for _, area in inner]
        known = None if any(area is None for area in areas) else polygons(shapely.union_all(areas))
        return {"type": "GeometryCollection", "geometries": [one for one, _ in inner]}, known
    if kind == "MultiPolygon":
        parts = [polygon(rng) for _ in range(rng.integers(1, 5))]
        return {"type": kind, "coordinates": [part for part, _ in parts]}, polygons(
            shapely.union_all([a for _, a in parts])
        )
    if kind == "line":
        points = rng.uniform(0, HEIGHT, (3, 2)).tolist()
        return {"type": "LineString", "coordinates": points}, shapely.Polygon()
    written, area = polygon(rng)
    if kind == "broken" and rng.random() < 0.7:
        return broken(rng, written), None
    return {"type": "Polygon", "coordinates": written}, area


def broken(rng: np.random.Generator, written: list) -> Any:
    """Return what is no geometry, though nearly."""
    number = {"type": "Polygon", "coordinates": [[[1, 1], [50, float("nan")], [9, 30]]]}
    text = {"type": "Polygon", "coordinates": [[[1, 1], ["fifty", 2], [9, 30]]]}
    huge = {"type": "Polygon", "coordinates": [[[1, 1], [1e300, 2], [9, 1e300]]]}
    endless = {"type": "Polygon", "coordinates": [[[1, 1], [10**400, 2], [9, 30]]]}
    deep = {"type": "Polygon", "coordinates": [[[[1, 1], [50, 2], [9, 30]]]]}
    others = [None, {}, [], "POLYGON", {"type": "Circle", "coordinates": [1, 1]}, {"coordinates": written}]
    choices = [number, text, huge, endless, deep, {"type": "Polygon", "coordinates": {}}, *others]
    return choices[int(rng.integers(len(choices)))]


# ---- Features and files


def named(rng: np.random.Generator) -> tuple[dict, str | None]:
    """Properties of a feature, and the class that they name."""
    name = str(rng.choice([*PLAIN_NAMES, *PLAIN_NAMES, *CLASS_MAP])) if rng.random() < 0.995 else "Unheard of"
    way = rng.choice(["name", "name", "names", "text", "list", "both", "null", "nothing", "class"])
    said: dict[str, Any] = {
        "name": {"name": name, "color": [1, 2, 3]},
        "names": {"names": name.split(": ")},
        "text": name,
        "list": name.split(": "),
        "both": {"name": name, "names": [], "colorRGB": -1},
        "null": None,
    }
    if way in said:
        return {"objectType": "annotation", "classification": said[way]}, None if way == "null" else name
    return ({"class": name} if way == "class" else {}), None


def draw(rng: np.random.Generator) -> Case:
    """One random file."""
    case = Case(str(rng.choice(CONTAINERS)), str(rng.choice(ENCODINGS)), bool(rng.random() < 0.2))
    for _ in range(1 if case.container in ("feature", "geometry") else int(rng.integers(0, 9))):
        shape, area = geometry(rng)
        properties, name = named(rng)
        feature = {"type": "Feature", "geometry": shape, "properties": properties, "id": f"µ{rng.integers(99)}"}
        case.objects.append(Object({str(key): feature[key] for key in rng.permutation(list(feature))}, area, name))
    return case


def write(case: Case, path: Path) -> None:
    """Write a case."""
    features = [one.feature for one in case.objects]
    content: Any = {"type": "FeatureCollection", "features": features}
    if case.container == "list":
        content = features
    elif case.container in ("feature", "geometry"):
        content = features[0] if case.container == "feature" else features[0]["geometry"]
    stored = json.dumps(content, ensure_ascii=False).encode(case.encoding)
    path.write_bytes(gzip.compress(stored) if case.packed else stored)


# ---- Labels


def reference(case: Case, scheme: Any) -> list[tuple[int, shapely.Geometry]]:
    """Label and area of what is drawn, first to last; label 0 takes back."""
    drawn = []
    for one in case.objects:
        if one.name is not None and one.area is not None and not one.area.is_empty:
            name = CLASS_MAP.get(one.name, one.name)
            drawn.append((0 if name is None else scheme.by_name(name).label, one.area))
    return drawn


def windows(rng: np.random.Generator) -> Iterator[tuple[tuple[float, float], float, tuple[int, int]]]:
    """Centres, µm/px and sizes of windows, most of them partly outside the slide."""
    for _ in range(4):
        size = tuple(rng.integers(1, 60, 2).tolist())
        center = rng.uniform((-10, -10), (HEIGHT + 10, WIDTH + 10)).tolist()
        center = center if rng.random() < 0.5 else np.round(center).tolist()
        yield (center[0], center[1]), float(rng.choice([0.25, 0.5, 0.5, 0.73, 1.0, 2.0, 4.0])), (size[0], size[1])


def compare(drawn: list[tuple[int, shapely.Geometry]], found: np.ndarray, top: float, left: float, step: float) -> Any:
    """Compare labels with areas.

    Returns:
        how many labels of pixels with a clear centre differ, how many pixels outlines cross, and how many of these
        have another label than most of their area.
    """
    rows, columns = (np.arange(side) for side in found.shape)
    x, y = np.meshgrid(left + columns * step, top + rows * step)
    centers = shapely.points(x + step / 2, y + step / 2)
    boxes = shapely.box(x, y, x + step, y + step)
    window = shapely.box(left - step, top - step, left + step * (1 + len(columns)), top + step * (1 + len(rows)))
    expected = np.zeros(found.shape, dtype=int)
    clear, crossed = np.ones(found.shape, dtype=bool), np.zeros(found.shape, dtype=bool)
    shares = np.zeros((9, *found.shape))
    shares[0] = 1
    for label, area in drawn:
        if not area.intersects(window):
            continue
        # Numbers of this size are not exact to a thousandth of a pixel.
        rounding = 1e-14 * np.abs(shapely.get_coordinates(area)).max()
        edges = shapely.intersection(area.boundary, window)
        clear &= ~(shapely.distance(edges, centers) <= CLEAR * step + rounding)
        expected[shapely.intersects(area, centers)] = label
        crossed |= shapely.intersects(edges, boxes)
    # From the last to the first: each has what those over it leave.
    over = shapely.Polygon()
    for label, area in reversed(drawn):
        visible = shapely.difference(polygons(shapely.intersection(area, window)), over)
        part = np.where(crossed, shapely.area(shapely.intersection(visible, boxes)), 0) / step**2
        shares[0] -= part
        shares[label] += part
        over = polygons(shapely.union(over, visible))
    other = crossed & (np.take_along_axis(shares, found[None].astype(int), axis=0)[0] < shares.max(axis=0) - 1e-6)
    return np.array([(clear & (found != expected)).sum(), crossed.sum(), other.sum()])


def check(numbers: range, folder: Path, slide: Slide, scheme: Any) -> tuple[int, int, float]:
    """Read every case; return how many were read, how many refused, and the share of crossed pixels that have another
    label than most of their area."""
    read = refused = 0
    pixels = np.zeros(3, dtype=int)
    for number in numbers:
        rng = np.random.default_rng(number)
        case = draw(rng)
        path = folder / (f"{number}.geojson.gz" if case.packed else f"{number}.geojson")
        write(case, path)
        begun = time.process_time()
        try:
            labels = read_annotations(path, scheme, CLASS_MAP)
        except AnnotationError:
            labels = None
        assert time.process_time() - begun < SECONDS, number
        assert (labels is None) == case.refused, (number, case)
        if labels is None:
            refused += 1
            continue
        drawn = reference(case, scheme)
        for center, mpp, size in windows(rng):
            begun = time.process_time()
            found = labels.label_map(slide, center, mpp, size)
            assert time.process_time() - begun < SECONDS, number
            step = mpp / MPP
            top, left = center[0] - size[0] / 2 * step, center[1] - size[1] / 2 * step
            differing = compare(drawn, found, top, left, step)
            assert differing[0] == 0, (number, center, mpp, size, case)
            pixels += differing
        read += 1
    return read, refused, pixels[2] / pixels[1]


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Slide:
    path = tmp_path_factory.mktemp("slide") / "slide.png"
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8)).save(path)
    return open_slide(path, mpp=MPP)


def test_forty_random_geojson_files(tmp_path, slide, scheme):
    read, _, differing = check(range(40), tmp_path, slide, scheme)
    assert read > 25
    assert differing < 0.06


@pytest.mark.all
@pytest.mark.parametrize("first", range(40, 1040, 250))
def test_a_thousand_random_geojson_files(tmp_path, slide, scheme, first):
    read, refused, differing = check(range(first, first + 250), tmp_path, slide, scheme)
    # Not everything may be refused, nor everything read.
    assert read > 150
    assert refused > 10
    assert differing < 0.06
