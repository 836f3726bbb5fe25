"""Objects that cannot be used among good ones, and files of which nothing can be used."""

from __future__ import annotations

import gzip
import json
import time

import numpy as np
import pytest
import shapely
from PIL import Image

from common.annotations import AnnotationError, outline_names, read_annotations
from common.annotations.covered import covered_regions
from common.annotations.regions import AnnotatedRegion
from common.slides import open_slide

CARCINOMA, BENIGN, STROMA = 1, 2, 4
SQUARE = [[10, 10], [50, 10], [50, 40], [10, 40], [10, 10]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE]}


@pytest.fixture
def slide(tmp_path):
    Image.fromarray(np.full((100, 120, 3), 200, dtype=np.uint8)).save(tmp_path / "slide.png")
    return open_slide(tmp_path / "slide.png", mpp=0.5)


@pytest.fixture
def square():
    drawn = np.zeros((100, 120), dtype=np.uint8)
    drawn[10:40, 10:50] = STROMA
    return drawn


def labels(path, scheme, slide, **arguments):
    return read_annotations(path, scheme, **arguments).label_map(slide, (50, 60), 0.5, (100, 120))


def feature(geometry=POLYGON, classification="stroma", **properties):
    properties |= {"classification": {"name": classification} if isinstance(classification, str) else classification}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def geojson(path, *features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def polygon(*points):
    return {"type": "Polygon", "coordinates": [points]}


def collection(*geometries):
    return {"type": "GeometryCollection", "geometries": geometries}


def star(points):
    """An outline through random points, which crosses itself about points² / 8 times."""
    return np.random.default_rng(3).uniform(0, 100, (points, 2)).tolist()


UNUSABLE = {
    "no geometry": [feature(None), feature({}), feature([]), feature(collection(None))],
    "an empty geometry": [feature(collection()), feature({"type": "Circle", "coordinates": [1, 2]}), feature({"a": 1})],
    "no outline of three points": [
        feature(polygon()),
        feature(polygon([5, 5], [5, 5])),
        feature({"type": "Polygon", "coordinates": []}),
    ],
    "without area": [feature(polygon([1, 1], [5, 5], [9, 9]))],
    "not a list of points": [
        feature({"type": "Polygon", "coordinates": 5}),
        feature(polygon(5, 6)),
        feature({"type": "MultiPolygon", "coordinates": [7]}),
    ],
    "not a number": [
        feature(polygon([1, 1], [None, 5], [9, 2])),
        feature(polygon([1, 1], ["x", 5], [9, 2])),
        feature(polygon([1, 1], [10**400, 5], [9, 2])),
        feature(polygon([1, 1], [float("nan"), 5], [9, 2])),
        feature(polygon([1, 1], [2], [9, 2])),
    ],
    "too large": [
        feature(polygon([1, 1], [1e300, 5], [9, 1e300])),
        feature(polygon([1, 1], [1e300, 5], [1e300, 9], [9, 1e300])),
        feature(polygon([1, 1], [-1e200, 5], [9, 5], [9, 1], [1, 9])),
    ],
    "its class is not text": [
        feature(classification={"names": [1, 2]}),
        feature(classification=5),
        feature(classification={"name": {"a": 1}}),
        feature(classification={"name": ["a", ["b"]]}),
    ],
    "its properties are not a mapping": [{"geometry": POLYGON, "properties": [1]}],
    "no GeoJSON feature": ["stroma", None, 3, [feature()], {"type": "Feature"}],
}


# Of NumPy: files that other tests left open are closed at any time, and warned of then.
@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("reason", UNUSABLE)
def test_an_unusable_geojson_object_is_named_and_costs_no_other(tmp_path, slide, scheme, square, caplog, reason):
    for bad in UNUSABLE[reason]:
        caplog.clear()
        path = geojson(tmp_path / "a.geojson", feature(), bad)
        assert np.array_equal(labels(path, scheme, slide), square)
        [line] = caplog.messages
        assert "a.geojson" in line
        assert "(1): object 1 (" in line
        assert reason in line
        assert [name.fallback for name in outline_names(path)] == ["stroma"]


def test_a_geojson_file_of_unusable_objects_is_refused(tmp_path, scheme):
    for bad in [bad for kind in UNUSABLE.values() for bad in kind]:
        path = geojson(tmp_path / "a.geojson", bad, bad)
        with pytest.raises(AnnotationError, match=r"a\.geojson: (nothing.*object 0 \(|no GeoJSON features).*xport"):
            read_annotations(path, scheme)


def test_unusable_objects_are_counted_in_one_warning_that_names_ten(tmp_path, slide, scheme, square, caplog):
    bad = [feature(None, name=f"nest {i}") for i in range(25)]
    assert np.array_equal(labels(geojson(tmp_path / "a.geojson", *bad, feature()), scheme, slide), square)
    [line] = caplog.messages
    assert "(25): object 0 'nest 0' (no geometry), object 1 'nest 1'" in line
    assert "object 9 'nest 9' (no geometry) and 15 more" in line


def test_a_file_without_objects_or_with_none_that_has_a_class_labels_nothing(tmp_path, slide, scheme):
    assert not labels(geojson(tmp_path / "a.geojson"), scheme, slide).any()
    assert not labels(geojson(tmp_path / "b.geojson", feature(classification={"names": []})), scheme, slide).any()
    assert not labels(
        geojson(tmp_path / "c.geojson", feature({"type": "Point", "coordinates": [1, 2]})), scheme, slide
    ).any()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_geojson_of_any_unicode_encoding(tmp_path, slide, scheme, square, encoding):
    text = json.dumps({"features": [feature(classification="Nécrose")]}, ensure_ascii=False)
    (tmp_path / "a.geojson").write_bytes(text.encode(encoding))
    assert np.array_equal(labels(tmp_path / "a.geojson", scheme, slide, class_map={"Nécrose": "stroma"}), square)
    (tmp_path / "b.geojson").write_bytes(text.encode("cp1252"))
    with pytest.raises(AnnotationError, match=r"b\.geojson.*UTF-8"):
        read_annotations(tmp_path / "b.geojson", scheme)


def test_packed_geojson(tmp_path, slide, scheme, square):
    packed = gzip.compress(json.dumps({"features": [feature()]}).encode())
    (tmp_path / "a.GeoJSON.gz").write_bytes(packed)
    assert np.array_equal(labels(tmp_path / "a.GeoJSON.gz", scheme, slide), square)
    assert [name.fallback for name in outline_names(tmp_path / "a.GeoJSON.gz")] == ["stroma"]
    for number, damaged in enumerate((packed[:-20], b"no gzip", packed[:30] + b"xxxx" + packed[34:])):
        path = tmp_path / f"{number}.geojson.gz"
        path.write_bytes(damaged)
        with pytest.raises(AnnotationError, match=rf"{number}\.geojson\.gz.*unpacked"):
            read_annotations(path, scheme)


def test_collections_within_collections(tmp_path, slide, scheme, square):
    far = {"type": "Point", "coordinates": [90, 90]}
    nested = collection(far, collection(collection({"type": "MultiPolygon", "coordinates": [[SQUARE]]}), far))
    assert np.array_equal(labels(geojson(tmp_path / "a.geojson", feature(nested)), scheme, slide), square)
    for _ in range(400):
        nested = collection(nested)
    assert np.array_equal(labels(geojson(tmp_path / "a.geojson", feature(nested)), scheme, slide), square)


def test_parts_that_overlap_are_joined(tmp_path, slide, scheme, square):
    inner = [[20, 20], [50, 20], [50, 40], [20, 40]]
    parts = {"type": "MultiPolygon", "coordinates": [[SQUARE], [inner], []]}
    assert np.array_equal(labels(geojson(tmp_path / "a.geojson", feature(parts)), scheme, slide), square)
    two = collection(POLYGON, polygon(*inner))
    assert np.array_equal(labels(geojson(tmp_path / "a.geojson", feature(two)), scheme, slide), square)


def test_a_hole_of_two_points_takes_nothing_away(tmp_path, slide, scheme, square):
    holed = {"type": "Polygon", "coordinates": [SQUARE, [[20, 20], [30, 30], [20, 20]], []]}
    assert np.array_equal(labels(geojson(tmp_path / "a.geojson", feature(holed)), scheme, slide), square)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"features":', "}"), ('{"features": [', "]}")])
def test_endless_nesting_is_refused(tmp_path, scheme, opening, closing):
    depth = 100_000
    (tmp_path / "a.geojson").write_text(opening * depth + closing * depth)
    for read in (lambda path: read_annotations(path, scheme), outline_names):
        with pytest.raises(AnnotationError, match=r"a\.geojson: not GeoJSON \(lists within lists"):
            read(tmp_path / "a.geojson")


def test_endless_nesting_of_xml_is_refused(tmp_path, scheme):
    (tmp_path / "a.xml").write_text("<a>" * 100_000 + "</a>" * 100_000)
    with pytest.raises(AnnotationError, match=r"a\.xml: its root is <a>"):
        read_annotations(tmp_path / "a.xml", scheme)


def test_an_outline_that_crosses_itself_a_million_times_is_left_out_at_once(tmp_path, slide, scheme, square, caplog):
    path = geojson(tmp_path / "a.geojson", feature(), feature(polygon(*star(20_000))))
    before = time.process_time()
    assert np.array_equal(labels(path, scheme, slide), square)
    assert time.process_time() - before < 10
    assert "object 1 (an outline that crosses itself about" in caplog.text


def test_an_outline_that_crosses_itself_a_thousand_times_is_repaired(tmp_path, slide, scheme):
    """A pixel is inside where a line from it to the outside meets the outline an odd number of times."""
    corners = np.array(star(100))
    found = labels(geojson(tmp_path / "a.geojson", feature(polygon(*corners.tolist()))), scheme, slide)
    rows, columns = np.mgrid[:100, :120] + 0.5
    inside = np.zeros(found.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        across = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
        inside ^= ((y0 > rows) != (y1 > rows)) & (columns < across)
    assert np.array_equal(found == STROMA, inside)


# ---- XML


def asap(*annotations):
    return f"<ASAP_Annotations><Annotations>{''.join(annotations)}</Annotations></ASAP_Annotations>"


def asap_polygon(*points, kind="Polygon"):
    corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(points))
    return f'<Annotation Name="n" Type="{kind}" PartOfGroup="stroma"><Coordinates>{corners}</Coordinates></Annotation>'


def layers(*regions):
    return f'<Annotations><Annotation Name="stroma"><Regions>{"".join(regions)}</Regions></Annotation></Annotations>'


def layer_region(*points, attributes='Id="n"'):
    corners = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in points)
    return f"<Region {attributes}><Vertices>{corners}</Vertices></Region>"


def cvat(*shapes):
    return f'<annotations><image name="a" width="120" height="100">{"".join(shapes)}</image></annotations>'


def cvat_polygon(*points, more=""):
    return f'<polygon label="stroma" points="{";".join(f"{x},{y}" for x, y in points)}" {more}/>'


def cvat_mask(**attributes):
    given = {"left": 1, "top": 1, "width": 2, "height": 2, "rle": "1,3"} | attributes
    return f'<mask label="stroma" {" ".join(f"{key}={str(value)!r}" for key, value in given.items())}/>'


@pytest.mark.parametrize(
    ("file", "good", "bad", "says"),
    [
        (asap, asap_polygon, asap_polygon(), r"annotation 1 'n' \(no outline"),
        (asap, asap_polygon, asap_polygon((1, 1), (5, 5)), r"annotation 1 'n' \(no outline"),
        (asap, asap_polygon, asap_polygon((1, 1), (5, "x"), (9, 2)), r"annotation 1 'n' \(.*not a number"),
        (asap, asap_polygon, asap_polygon((1, 1), (5, "nan"), (9, 2)), r"annotation 1 'n' \(.*not a number"),
        (asap, asap_polygon, asap_polygon((1, 1), (5, 1), (9, 2), kind="Lasso"), r"annotation 1 'n' \(type 'Lasso'"),
        (asap, asap_polygon, asap_polygon((1, 1), (1, 1), (1, 1), kind="Spline"), r"annotation 1 'n' \(no outline"),
        (layers, layer_region, layer_region(), r"region 'n' of layer 'stroma' \(no outline"),
        (layers, layer_region, layer_region((1, 1), (5, 5), (9, 9)), r"region 'n' of layer 'stroma' \(.*without area"),
        (layers, layer_region, layer_region((1, 1), (5, ""), (9, 2)), r"region 'n' of layer 'stroma' \(.*not a number"),
        (layers, layer_region, layer_region(attributes='NegativeROA="1"'), r"hole '' of layer 'stroma' \(no outline"),
        (cvat, cvat_polygon, cvat_polygon((1, 1), (5, 5)), r"object 1, a polygon labelled 'stroma' \(no outline"),
        (cvat, cvat_polygon, cvat_polygon((1, 1), (5, "five"), (9, 2)), r"object 1, a polygon .*\(.*not a number"),
        (cvat, cvat_polygon, cvat_polygon((1, 1), (5, "5,5"), (9, 2)), r"object 1, a polygon .*not a pair of numbers"),
        (cvat, cvat_polygon, cvat_polygon((1, 1), (5, 1), (9, 2), more='z_order="up"'), r"object 1, .*not a number"),
        (cvat, cvat_polygon, '<box label="stroma" xtl="1"/>', r"object 1, a box labelled 'stroma' \(.*not a number"),
        (cvat, cvat_polygon, cvat_mask(rle="1,2"), r"object 1, a mask .*3 pixels in 2 x 2"),
        (cvat, cvat_polygon, cvat_mask(rle="1,x"), r"object 1, a mask .*not a number"),
        (cvat, cvat_polygon, cvat_mask(width=0, height=0, rle="0"), r"object 1, a mask .*0 pixels in 0 x 0"),
        (cvat, cvat_polygon, cvat_mask(rle="4,0"), r"object 1, a mask .*no outline"),
    ],
)
def test_an_unusable_xml_object_is_named_and_costs_no_other(
    tmp_path, slide, scheme, square, caplog, file, good, bad, says
):
    path = tmp_path / "a.xml"
    path.write_text(file(good(*SQUARE[:4]), bad))
    assert np.array_equal(labels(path, scheme, slide), square)
    assert len(caplog.messages) == 1
    assert caplog.text.count("a.xml") == 1
    caplog.clear()
    path.write_text(file(bad.replace("n'", "m'"), bad))
    with pytest.raises(AnnotationError, match=says.replace(" 1", " [01]") + ".*again"):
        read_annotations(path, scheme)


def test_runs_of_a_cvat_mask_span_rows_and_are_read_at_once_however_long(tmp_path, slide, scheme):
    runs = [3, 4, 5, 20, 1, 2, 7, 8]
    width, height = 10, 5
    path = tmp_path / "a.xml"
    path.write_text(cvat(cvat_mask(left=7, top=9, width=width, height=height, rle=",".join(map(str, runs)))))
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    expected = np.zeros((100, 120), dtype=np.uint8)
    expected[9 : 9 + height, 7 : 7 + width] = flat.reshape(height, width) * STROMA
    assert np.array_equal(labels(path, scheme, slide), expected)
    path.write_text(cvat(cvat_mask(left=0, top=0, width=10**9, height=10**9, rle=f"0,{10**18}")))
    assert (labels(path, scheme, slide) == STROMA).all()


# ---- Objects below others


def test_an_object_that_later_ones_cover_wholly_is_named(tmp_path, slide, scheme, caplog):
    detail = feature(polygon([20, 20], [30, 20], [30, 30], [20, 30]), "carcinoma", name="duct")
    path = geojson(tmp_path / "a.geojson", detail, feature())
    read_annotations(path, scheme)
    assert (
        "label nothing since later ones cover them completely (1): object 0 'duct'. Put large outlines before"
        in caplog.text
    )
    caplog.clear()
    path = geojson(tmp_path / "a.geojson", feature(), detail, feature(classification="benign epithelial"))
    read_annotations(path, scheme)
    assert "(2): object 0, object 1 'duct'" in caplog.text
    caplog.clear()
    read_annotations(geojson(tmp_path / "a.geojson", feature(), detail), scheme)
    assert not caplog.messages


def test_several_later_outlines_can_cover_one_together():
    left, right, gap = shapely.box(0, 0, 50, 90), shapely.box(50, 0, 99, 90), shapely.box(50, 0, 99, 49)
    small, across = shapely.box(10, 10, 20, 20), shapely.box(40, 40, 60, 60)

    def hidden(*regions):
        return covered_regions([AnnotatedRegion(label, outline) for label, outline in regions])

    assert hidden((1, small), (1, across), (2, left), (4, right)) == [0, 1]
    assert hidden((1, small), (1, across), (2, left), (4, gap)) == [0]
    # Of one class, nothing is lost.
    assert hidden((2, small), (2, across), (2, left), (2, right)) == []
    assert hidden((2, left), (4, right), (1, small), (1, across)) == []
    assert hidden() == []


def test_which_of_random_outlines_are_covered_agrees_with_their_differences():
    rng = np.random.default_rng(5)
    for _ in range(30):
        regions = [
            AnnotatedRegion(int(label), shapely.Point(x, y).buffer(radius))
            for label, x, y, radius in zip(
                rng.integers(1, 4, 40), *rng.uniform(0, 30, (2, 40)), rng.uniform(1, 12, 40), strict=True
            )
        ]
        expected = [
            i
            for i, one in enumerate(regions)
            if one.outline.difference(
                shapely.union_all([r.outline for r in regions[i + 1 :] if r.label != one.label])
            ).area
            < 1e-9
        ]
        assert covered_regions(regions) == expected
