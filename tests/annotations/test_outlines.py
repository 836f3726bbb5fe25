"""GeoJSON, ASAP XML and label images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from PIL import Image

from common.annotations import AnnotatedRegion, AnnotationError, read_annotations, write_asap_xml, write_geojson
from common.slides import open_slide

CARCINOMA, BENIGN, STROMA = 1, 2, 4


@pytest.fixture
def slide(tmp_path):
    Image.fromarray(np.full((100, 120, 3), 200, dtype=np.uint8)).save(tmp_path / "slide.png")
    return open_slide(tmp_path / "slide.png", mpp=0.5)


def geojson(path, *features):
    content = [
        {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}} if name else {}}
        for name, geometry in features
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": content}))
    return path


def square(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def test_later_objects_lie_over_earlier_ones_and_holes_show_what_is_below(tmp_path, slide, scheme):
    path = geojson(
        tmp_path / "a.geojson",
        ("stroma", {"type": "Polygon", "coordinates": [square(0, 0, 100, 80)]}),
        ("carcinoma", {"type": "Polygon", "coordinates": [square(10, 10, 60, 50), square(20, 20, 40, 40)]}),
        (None, {"type": "Polygon", "coordinates": [square(0, 0, 120, 100)]}),
        (
            "benign epithelial",
            {"type": "MultiPolygon", "coordinates": [[square(50, 30, 70, 46)], [square(80, 60, 90, 70)]]},
        ),
    )
    expected = np.zeros((100, 120), dtype=np.uint8)
    expected[0:80, 0:100] = STROMA
    expected[10:50, 10:60] = CARCINOMA
    expected[20:40, 20:40] = STROMA
    expected[30:46, 50:70] = expected[60:70, 80:90] = BENIGN
    labels = read_annotations(path, scheme)
    assert np.array_equal(labels.label_map(slide, (50, 60), 0.5, (100, 120)), expected)
    # At twice the µm/px, a pixel has the label at its centre, which is the corner shared by four level-0 pixels.
    assert np.array_equal(labels.label_map(slide, (50, 60), 1.0, (50, 60)), expected[1::2, 1::2])
    assert np.array_equal(labels.label_map(slide, (0, 0), 0.5, 40)[20:, 20:], expected[:20, :20])


def test_unknown_classes_are_listed_or_mapped(tmp_path, slide, scheme):
    box = {"type": "Polygon", "coordinates": [square(0, 0, 50, 50)]}
    hole = {"type": "Polygon", "coordinates": [square(10, 10, 20, 20)]}
    path = geojson(tmp_path / "a.geojson", ("Tumor", box), ("Ignore*", hole), ("Odd", box))
    with pytest.raises(AnnotationError, match=r"a\.geojson.*'Ignore\*' \(1 objects\), 'Odd'.*'Tumor'.*class_map"):
        read_annotations(path, scheme)
    labels = read_annotations(path, scheme, class_map={"Tumor": "carcinoma", "Ignore*": None, "Odd": "stroma"})
    assert (labels.label_map(slide, (50, 60), 0.5, (100, 120)) == STROMA).sum() == 2500
    path = geojson(tmp_path / "b.geojson", ("Tumor", box), ("Ignore*", hole))
    labels = read_annotations(path, scheme, class_map={"Tumor": "carcinoma", "Ignore*": None})
    assert (labels.label_map(slide, (50, 60), 0.5, (100, 120)) == CARCINOMA).sum() == 2400


def test_a_self_crossing_outline_is_repaired(tmp_path, slide, scheme):
    bow_tie = [[10, 10], [50, 50], [50, 10], [10, 50], [10, 10]]
    labels = read_annotations(
        geojson(tmp_path / "a.geojson", ("stroma", {"type": "Polygon", "coordinates": [bow_tie]})), scheme
    )
    assert (labels.label_map(slide, (50, 60), 0.5, (100, 120)) == STROMA).sum() == pytest.approx(800, abs=45)


ASAP = """<?xml version="1.0"?>
<ASAP_Annotations><Annotations>
<Annotation Name="1" Type="Polygon" PartOfGroup="duct" Color="#F4FA58"><Coordinates>
<Coordinate Order="2" X="60" Y="50"/><Coordinate Order="0" X="10" Y="10"/><Coordinate Order="1" X="60" Y="10"/>
<Coordinate Order="3" X="10" Y="50"/></Coordinates></Annotation>
<Annotation Name="2" Type="Rectangle" PartOfGroup="carcinoma" Color="#F4FA58"><Coordinates>
<Coordinate Order="0" X="20" Y="20"/><Coordinate Order="1" X="30" Y="20"/>
<Coordinate Order="2" X="30" Y="30"/><Coordinate Order="3" X="20" Y="30"/></Coordinates></Annotation>
<Annotation Name="3" Type="Dot" PartOfGroup="carcinoma"><Coordinates><Coordinate Order="0" X="1"
Y="1"/></Coordinates></Annotation> </Annotations><AnnotationGroups>
<Group Name="benign epithelial" PartOfGroup="None"/><Group Name="duct" PartOfGroup="benign epithelial"/>
<Group Name="carcinoma" PartOfGroup="None"/></AnnotationGroups></ASAP_Annotations>"""


def test_asap_polygons_rectangles_and_groups(tmp_path, slide, scheme):
    (tmp_path / "a.xml").write_text(ASAP)
    labels = read_annotations(tmp_path / "a.xml", scheme).label_map(slide, (50, 60), 0.5, (100, 120))
    expected = np.zeros((100, 120), dtype=np.uint8)
    expected[10:50, 10:60] = BENIGN
    expected[20:30, 20:30] = CARCINOMA
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize(("write", "name"), [(write_geojson, "a.geojson"), (write_asap_xml, "a.xml")])
def test_what_is_written_reads_the_same(tmp_path, slide, scheme, write, name):
    ring = shapely.Polygon(square(5, 5, 95, 85), [square(20, 20, 40, 40), square(60, 50, 80, 70)])
    regions = [AnnotatedRegion(STROMA, ring), AnnotatedRegion(BENIGN, shapely.box(62, 52, 70, 60))]
    write(tmp_path / name, regions, scheme)
    labels = read_annotations(tmp_path / name, scheme).label_map(slide, (50, 60), 0.5, (100, 120))
    expected = np.zeros((100, 120), dtype=np.uint8)
    expected[5:85, 5:95] = STROMA
    expected[20:40, 20:40] = expected[50:70, 60:80] = 0
    expected[52:60, 62:70] = BENIGN
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.geojson", "{", "not GeoJSON"),
        ("a.geojson", '{"a": 1}', "no GeoJSON features"),
        ("a.xml", "<a>", "not XML"),
        ("a.xml", "<a/>", "ASAP_Annotations"),
        ("a.svg", "", "unknown annotation format"),
        ("a.png", "", "cannot read"),
    ],
)
def test_unreadable_files_say_what_to_do(tmp_path, scheme, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(AnnotationError, match=says):
        read_annotations(tmp_path / name, scheme)


def test_a_label_image_at_another_scale(tmp_path, slide, scheme):
    values = np.zeros((50, 60), dtype=np.uint8)
    values[10:20, 10:30] = 1
    Image.fromarray(values).save(tmp_path / "a.png")
    labels = read_annotations(tmp_path / "a.png", scheme, label_values={0: "stroma", "1": "carcinoma"})
    found = labels.label_map(slide, (50, 60), 0.5, (120, 140))
    assert (found == 0).sum() == 120 * 140 - 100 * 120
    expected = np.full((100, 120), STROMA, dtype=np.uint8)
    expected[20:40, 20:60] = CARCINOMA
    assert np.array_equal(found[10:110, 10:130], expected)


def test_label_images_that_do_not_fit_are_refused(tmp_path, slide, scheme):
    Image.fromarray(np.full((50, 60), 9, dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r"no class: \[9\].*label_values"):
        read_annotations(tmp_path / "a.png", scheme).label_map(slide, (50, 60), 1.0, 20)
    Image.fromarray(np.zeros((50, 50), dtype=np.uint8)).save(tmp_path / "b.png")
    for values, says in (({"300": "stroma"}, "from 0 to 255"), ({"7": "tumour"}, "no class 'tumour'")):
        with pytest.raises(AnnotationError, match=rf"a\.png.*{says}"):
            read_annotations(tmp_path / "a.png", scheme, label_values=values)
    with pytest.raises(AnnotationError, match="at any scale"):
        read_annotations(tmp_path / "b.png", scheme).label_map(slide, (50, 60), 1.0, 20)


def test_a_region_of_no_class_is_not_written_as_another(scheme, tmp_path):
    region = AnnotatedRegion(0, shapely.box(0, 0, 5, 5))
    for write in (write_geojson, write_asap_xml):
        with pytest.raises(ValueError, match="label 0 is of no class"):
            write(tmp_path / "a.file", [region], scheme)
    assert not (tmp_path / "a.file").exists()


def test_a_piece_of_large_outlines_is_the_same_piece_of_the_whole(tmp_path, slide, scheme):
    """Outlines with holes, parts and many points, drawn at once and in windows that cut them anywhere."""
    rng = np.random.default_rng(4)
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    x, y = (40 + 9 * np.sin(7 * angle)) * np.cos(angle), (38 + 8 * np.cos(5 * angle)) * np.sin(angle)
    holed = (
        shapely.Polygon(np.stack([60 + x, 50 + y], axis=1))
        .buffer(0)
        .difference(shapely.Point(55, 48).buffer(13.3))
        .buffer(0)
    )
    parts = shapely.union_all([shapely.Point(*place).buffer(6.7) for place in rng.uniform(0, 100, (9, 2))])
    write_geojson(tmp_path / "a.geojson", [AnnotatedRegion(4, holed), AnnotatedRegion(2, parts)], scheme)
    labels = read_annotations(tmp_path / "a.geojson", scheme)
    whole = labels.label_map(slide, (50, 60), 0.5, (100, 120))
    assert {0, 2, 4} == set(np.unique(whole))
    for top, left, height, width in rng.integers((0, 0, 1, 1), (90, 110, 40, 40), (60, 4)).tolist():
        piece = labels.label_map(slide, (top + height / 2, left + width / 2), 0.5, (height, width))
        inside = whole[top : top + height, left : left + width]
        assert np.array_equal(piece[: inside.shape[0], : inside.shape[1]], inside)
