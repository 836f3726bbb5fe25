"""Polygons for people: few, smooth, flush, and honest about what they leave out."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import shapely
from scipy import ndimage
from shapely.geometry import shape

from common.classes import ClassScheme
from common.maps import TileGrid
from common.outputs.polygon_file import write_polygons
from common.outputs.polygon_options import PolygonOptions
from common.outputs.polygons import label_polygons, slide_polygons
from tests.outputs.test_sieve import store_of

SCALES = [1.0, 2.004008016032064, 1 / 3]


@pytest.fixture(scope="module")
def random_map() -> np.ndarray:
    """Blobs of classes 0 to 5, ragged and with specks."""
    random = np.random.default_rng(7)
    smooth = ndimage.gaussian_filter(random.normal(size=(150, 210)), 7) + random.normal(size=(150, 210)) * 0.002
    return np.digitize(smooth, np.quantile(smooth, [0.12, 0.3, 0.5, 0.7, 0.9])).astype(np.uint8)


def by_hand() -> np.ndarray:
    """A diagonal border across blocks with a third class on one side of it, an island on a corner of four blocks, and a
    checkerboard of large squares."""
    rows, columns = np.indices((128, 128))
    labels = np.where(columns > rows, 1, 2)
    labels[(columns > rows) & (rows + columns > 128)] = 3
    labels[54:74, 54:74] = 4
    board = (rows // 10 + columns // 10) % 2 + 5
    return np.where((rows > 90) & (columns < 40), board, labels).astype(np.uint8)


def grid_of(labels: np.ndarray, scale: float) -> TileGrid:
    """The last pixels reach over the slide's border."""
    height, width = (math.floor((side - 0.4) * scale * 100) / 100 for side in labels.shape)
    return TileGrid((height, width), (scale, scale), 32, 2)


def written(path) -> list[tuple[str, shapely.Polygon]]:
    features = json.loads(path.read_text())["features"]
    return [(one["properties"]["classification"]["name"], shape(one["geometry"])) for one in features]


def check_flush(polygons: list[shapely.Polygon], holes: int) -> None:
    """Valid, interiors disjoint, and nothing between neighbours: together they have no holes but those of label 0."""
    assert shapely.is_valid(polygons).all()
    assert set(shapely.get_type_id(polygons)) == {3}
    tree = shapely.STRtree(polygons)
    one, other = tree.query(polygons, predicate="intersects")
    pairs = one < other
    assert pairs.sum() > 3
    geometries = np.array(polygons)
    apart = shapely.relate_pattern(geometries[one[pairs]], geometries[other[pairs]], "F********")
    assert apart.all()
    together = shapely.union_all(polygons)
    assert together.area == pytest.approx(shapely.area(polygons).sum(), rel=1e-9)
    assert int(shapely.get_num_interior_rings(shapely.get_parts(together)).sum()) == holes


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("block", "simplify"), [(40, 1.5), (64, 0.0), (64, 6.0), (128, 1.5)])
def test_neighbours_of_a_map_by_hand_stay_flush(tmp_path, scale, block, simplify):
    labels = by_hand()
    grid = grid_of(labels, scale)
    found = list(slide_polygons(store_of(tmp_path, labels, block), grid, simplify * scale))
    check_flush([region.outline for region in found], holes=0)
    height, width = grid.slide_shape
    total = sum(region.outline.area for region in found)
    assert total == pytest.approx(height * width, rel=1e-9)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("block", [64, 70])
def test_neighbours_of_a_random_map_stay_flush(tmp_path, random_map, scale, block):
    """Label 0 is not written: where it is, and only there, the polygons together have holes."""
    grid = grid_of(random_map, scale)
    found = list(slide_polygons(store_of(tmp_path, random_map, block), grid, 2 * scale))
    exact = label_polygons(random_map)
    assert {label: sum(region.label == label for region in found) for label in exact} == {
        label: len(polygons) for label, polygons in exact.items()
    }
    covered = shapely.union_all([one for polygons in exact.values() for one in polygons])
    holes = int(shapely.get_num_interior_rings(shapely.get_parts(covered)).sum())
    check_flush([region.outline for region in found], holes)
    points = sum(shapely.get_num_coordinates(region.outline) for region in found)
    assert points < 0.6 * sum(shapely.get_num_coordinates(polygons).sum() for polygons in exact.values())


def test_a_smooth_outline_is_kept_to_a_pixel_with_few_corners(tmp_path):
    rows, columns = np.indices((200, 200))
    disc = (np.hypot(rows - 99.5, columns - 99.5) < 80).astype(np.uint8)
    grid = TileGrid((400, 400), (2.0, 2.0), 64, 1)
    (region,) = slide_polygons(store_of(tmp_path, disc, 64), grid, 4.0)
    circle = shapely.Point(200, 200).buffer(160, quad_segs=64)
    assert region.outline.boundary.hausdorff_distance(circle.boundary) < 4
    assert shapely.get_num_coordinates(region.outline) < 150 < shapely.get_num_coordinates(label_polygons(disc)[1][0])


def test_exact_polygons_are_those_of_the_map(tmp_path, random_map, scheme):
    store, grid = store_of(tmp_path, random_map, 64), TileGrid(random_map.shape, (1.0, 1.0), 64, 1)
    said = write_polygons(tmp_path / "p.geojson", store, grid, 0.5, scheme, PolygonOptions.exact())
    found = written(tmp_path / "p.geojson")
    for tissue in scheme.classes[:5]:
        polygons = label_polygons(random_map)[tissue.label]
        mine = [outline for name, outline in found if name == tissue.name]
        assert len(mine) == len(polygons)
        assert shapely.union_all(mine).equals(shapely.union_all(polygons))
    assert said["written"] == len(found)
    assert said["left_out"] == {}
    assert all(figures["regions"] == 0 for figures in said["merged"].values())


def test_what_is_merged_and_left_out_is_recorded_in_mm2(tmp_path, scheme):
    """At 2 µm/px a pixel is 4 µm²: the speck of carcinoma has 36 µm², the hole 16, the square of stroma 400."""
    labels = np.full((100, 100), 3, dtype=np.uint8)
    labels[10:40, 10:40] = 6
    labels[20:23, 20:23] = 1
    labels[30:32, 30:32] = 0
    labels[60:70, 60:70] = 4
    grid = TileGrid((400, 400), (4.0, 4.0), 64, 1)
    options = PolygonOptions(min_area=100, simplify=0)
    said = write_polygons(tmp_path / "p.geojson", store_of(tmp_path, labels, 64), grid, 2.0, scheme, options)
    found = dict(written(tmp_path / "p.geojson"))
    assert set(found) == {"adipose", "stroma"}
    assert found["adipose"].equals(shapely.box(40, 40, 160, 160))
    assert found["stroma"].equals(shapely.box(240, 240, 280, 280))
    nothing = {"regions": 0, "area_mm2": 0.0}
    assert said == {
        "min_area_um2": 100.0,
        "simplify_um": 0.0,
        "skipped": ["background"],
        "origin": "slide",
        "written": 2,
        "merged": {
            **dict.fromkeys(scheme.names, nothing),
            "carcinoma": {"regions": 1, "area_mm2": 0.000036},
            "not predicted": {"regions": 1, "area_mm2": 0.000016},
        },
        "left_out": {"background": {"area_mm2": round((10000 - 900 - 100) * 4e-6, 6)}},
    }


def test_other_classes_can_be_skipped(tmp_path, scheme):
    labels = np.repeat(np.array([1, 3, 4], dtype=np.uint8), 20)[None].repeat(60, axis=0)
    grid = TileGrid((60, 60), (1.0, 1.0), 64, 1)
    options = PolygonOptions(skip=["carcinoma", "stroma"], min_area=0)
    said = write_polygons(tmp_path / "p.geojson", store_of(tmp_path, labels, 64), grid, 1.0, scheme, options)
    assert [name for name, _ in written(tmp_path / "p.geojson")] == ["background"]
    assert said["left_out"] == {"carcinoma": {"area_mm2": 0.0012}, "stroma": {"area_mm2": 0.0012}}


def test_if_all_regions_are_small_no_polygon_is_written_and_all_are_left_out(tmp_path, scheme):
    labels = (np.indices((20, 20)).sum(axis=0) % 2 + 1).astype(np.uint8)
    grid = TileGrid((20, 20), (1.0, 1.0), 64, 1)
    said = write_polygons(
        tmp_path / "p.geojson", store_of(tmp_path, labels, 8), grid, 1.0, scheme, PolygonOptions(min_area=5)
    )
    assert written(tmp_path / "p.geojson") == []
    assert said["written"] == 0
    assert said["left_out"] == {"carcinoma": {"area_mm2": 0.0002}, "benign epithelial": {"area_mm2": 0.0002}}
    assert not any(figures["regions"] for figures in said["merged"].values())


def test_simplified_areas_are_near_those_of_the_summary(tmp_path, random_map, scheme):
    """In level-0 pixels at 0.25 µm/px of a map at 0.5 µm/px."""
    grid = TileGrid((300, 420), (2.0, 2.0), 64, 1)
    options = PolygonOptions(min_area=20, simplify=1, skip=[])
    store = store_of(tmp_path, random_map, 70)
    said = write_polygons(tmp_path / "p.geojson", store, grid, 0.5, scheme, options)
    found = written(tmp_path / "p.geojson")
    check_flush([outline for _, outline in found], holes=sum(len(o.interiors) for o in _gaps(found)))
    assert sum(figures["regions"] for figures in said["merged"].values()) > 50
    for tissue in scheme.classes[:5]:
        pixels = int((random_map == tissue.label).sum())
        area = sum(outline.area for name, outline in found if name == tissue.name) / 4
        assert area == pytest.approx(pixels, rel=0.1)


def _gaps(found) -> list[shapely.Polygon]:
    return list(shapely.get_parts(shapely.union_all([outline for _, outline in found])))


def test_options_are_refused_with_what_they_may_be(scheme):
    for given, said in (
        ({"min_area": -1}, r"min_area must be a number of µm² from 0, not -1"),
        ({"simplify": float("nan")}, r"simplify must be a number of µm from 0, not nan"),
        ({"min_area": True}, r"min_area must be a number of µm² from 0, not True"),
        ({"simplify": "2 µm"}, r"simplify must be a number of µm from 0, not '2 µm'"),
        ({"min_size": 3}, r"no option min_size; there are min_area, simplify, skip, origin"),
        ({"skip": 3}, r"skip must be a list of class names, or null, not 3"),
        (7, r"polygons must be a mapping of min_area, simplify, skip, origin, not 7"),
    ):
        with pytest.raises(ValueError, match=said):
            PolygonOptions.from_config(given)
    with pytest.raises(ValueError, match=r"no class glass to skip; the scheme has carcinoma, benign epithelial"):
        PolygonOptions(skip=["glass", "stroma"]).skipped(scheme)


def test_by_default_the_skipped_class_has_no_polygons(scheme):
    assert PolygonOptions.from_config(None).skipped(scheme) == {"background": 3}
    assert PolygonOptions(skip=()).skipped(scheme) == {}
    assert PolygonOptions(skip="stroma").skipped(scheme) == {"stroma": 4}
    plain = ClassScheme([{"name": "a", "color": [0, 0, 0], "label": 1, "channel": 0}])
    assert PolygonOptions().skipped(plain) == {}
    assert PolygonOptions().settings(scheme)["skip"] == ["background"]
