"""Annotations that count from a slide's bounds: every format, on a slide whose bounds are not its corner."""

from __future__ import annotations

import json

import numpy as np
import pytest
import shapely
from PIL import Image

from common.annotations import (
    AnnotatedRegion,
    AnnotationError,
    read_annotations,
    write_asap_xml,
    write_geojson,
    write_imagescope_xml,
)
from common.data.store import SlideStore, label_fingerprint
from common.slides import open_slide
from tests.slides.test_scanner_formats import gradient, leica

STROMA = 4
TOP, LEFT = 30, 50
# On the scanned part: rows 40 to 80, columns 16 to 96.
OUTLINE = shapely.box(16, 40, 96, 80)
EXPECTED = np.zeros((300, 400), np.uint8)
EXPECTED[TOP + 40 : TOP + 80, LEFT + 16 : LEFT + 96] = STROMA
FROM_CORNER = np.zeros((300, 400), np.uint8)
FROM_CORNER[40:80, 16:96] = STROMA


@pytest.fixture
def slide(tmp_path):
    """300 x 400 pixels, of which 256 x 256 from row 30 and column 50 on were scanned."""
    path, *_ = leica(tmp_path, [gradient(side) for side in (256, 128)], (TOP, LEFT), (300, 400))
    with open_slide(path) as opened:
        yield opened


def qupath(path, scheme):
    ring = [list(corner) for corner in OUTLINE.exterior.coords]
    properties = {"objectType": "annotation", "classification": {"name": "stroma"}}
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))


def asap(path, scheme):
    write_asap_xml(path, [AnnotatedRegion(STROMA, OUTLINE)], scheme)


def imagescope(path, scheme):
    write_imagescope_xml(path, [AnnotatedRegion(STROMA, OUTLINE)], scheme, 0.5)


def cvat(path, scheme):
    """Drawn on a picture of half the size of what was scanned."""
    points = ";".join(f"{x / 2},{y / 2}" for x, y in OUTLINE.exterior.coords)
    path.write_text(
        '<annotations><image name="a.png" width="128" height="128">'
        f'<polygon label="stroma" points="{points}" z_order="0"/></image></annotations>'
    )


def label_image(path, scheme):
    """Of half the size of what was scanned."""
    labels = np.zeros((128, 128), np.uint8)
    labels[20:40, 8:48] = STROMA
    Image.fromarray(labels).save(path)


FORMATS = [
    (qupath, "a.geojson"),
    (asap, "a.xml"),
    (imagescope, "a.xml"),
    (imagescope, "a.annotations"),
    (cvat, "a.xml"),
    (label_image, "a.png"),
    (label_image, "a.tif"),
]


def whole(source, slide):
    return source.label_map(slide, (slide.shape[0] / 2, slide.shape[1] / 2), slide.mpp, slide.shape)


@pytest.mark.parametrize(("write", "name"), FORMATS)
def test_what_counts_from_the_bounds_lies_on_what_was_scanned(write, name, slide, scheme, tmp_path):
    write(tmp_path / name, scheme)
    source = read_annotations(tmp_path / name, scheme, origin="bounds")
    assert np.array_equal(whole(source, slide), EXPECTED)
    # A piece is the same piece of the whole, also at twice the µm/px.
    piece = source.label_map(slide, (80, 100), slide.mpp, (60, 70))
    assert np.array_equal(piece, EXPECTED[50:110, 65:135])
    assert np.array_equal(source.label_map(slide, (150, 200), 2 * slide.mpp, (150, 200)), EXPECTED[1::2, 1::2])
    assert source.touches(slide, TOP + 70, LEFT + 90, 20, 20)
    if write is not label_image:
        assert not source.touches(slide, 0, 0, TOP + 39, LEFT + 15)
        assert source.share_outside(slide) == 0


@pytest.mark.parametrize("write", [qupath, asap, imagescope])
def test_without_an_origin_positions_count_from_the_slides_corner(write, slide, scheme, tmp_path):
    name = "a.geojson" if write is qupath else "a.xml"
    write(tmp_path / name, scheme)
    for origin in (None, "slide"):
        assert np.array_equal(whole(read_annotations(tmp_path / name, scheme, origin=origin), slide), FROM_CORNER)


@pytest.mark.parametrize("write", [cvat, label_image])
def test_a_picture_of_the_bounds_is_no_picture_of_the_slide(write, slide, scheme, tmp_path):
    name = "a.xml" if write is cvat else "a.png"
    write(tmp_path / name, scheme)
    with pytest.raises(AnnotationError, match="128 x 128 pixels are not the slide's 300 x 400.*origin: bounds"):
        whole(read_annotations(tmp_path / name, scheme), slide)


def test_on_a_slide_without_bounds_both_origins_are_the_same(scheme, tmp_path):
    Image.fromarray(np.full((300, 400, 3), 200, np.uint8)).save(tmp_path / "slide.png")
    qupath(tmp_path / "a.geojson", scheme)
    with open_slide(tmp_path / "slide.png", mpp=0.5) as slide:
        for origin in ("slide", "bounds"):
            assert np.array_equal(
                whole(read_annotations(tmp_path / "a.geojson", scheme, origin=origin), slide), FROM_CORNER
            )


def test_how_much_lies_outside_is_told_from_where_it_counts(slide, scheme, tmp_path):
    # A quarter of it, 20 of 80 columns, is right of the slide if it counts from the bounds.
    write_geojson(tmp_path / "a.geojson", [AnnotatedRegion(STROMA, shapely.box(290, 0, 370, 10))], scheme, "bounds")
    assert read_annotations(tmp_path / "a.geojson", scheme).share_outside(slide) == pytest.approx(0.25)


@pytest.mark.parametrize("origin", ["slide", "bounds"])
def test_a_file_of_ours_says_its_origin_and_comes_back(origin, slide, scheme, tmp_path):
    corner = slide.frame(origin)[:2]
    placed = AnnotatedRegion(STROMA, shapely.affinity.translate(OUTLINE, LEFT, TOP))
    write_geojson(tmp_path / "a.geojson", [placed], scheme, origin, corner)
    written = json.loads((tmp_path / "a.geojson").read_text())
    xs = [x for x, _ in written["features"][0]["geometry"]["coordinates"][0]]
    assert min(xs) == (LEFT + 16 if origin == "slide" else 16)
    for given in (None, origin):
        assert np.array_equal(whole(read_annotations(tmp_path / "a.geojson", scheme, origin=given), slide), EXPECTED)
    other = "bounds" if origin == "slide" else "slide"
    with pytest.raises(AnnotationError, match=f"counts from the {origin}, but is to be read from the {other}"):
        read_annotations(tmp_path / "a.geojson", scheme, origin=other)


def test_origins_that_there_are_not_are_refused(scheme, tmp_path):
    qupath(tmp_path / "a.geojson", scheme)
    with pytest.raises(AnnotationError, match="its origin is given as 'crop'. Give slide or bounds"):
        read_annotations(tmp_path / "a.geojson", scheme, origin="crop")
    content = json.loads((tmp_path / "a.geojson").read_text())
    for said in ("crop", ["slide"], None):
        (tmp_path / "b.geojson").write_text(json.dumps({**content, "multimag": {"origin": said}}))
        with pytest.raises(AnnotationError, match="origin must be one of slide, bounds"):
            read_annotations(tmp_path / "b.geojson", scheme)
    # Other programs may say other things there.
    for member in ("slide", {"version": 2}, None):
        (tmp_path / "b.geojson").write_text(json.dumps({**content, "multimag": member}))
        assert read_annotations(tmp_path / "b.geojson", scheme).origin == "slide"


def test_an_entry_says_where_its_label_counts_from_and_regions_count_from_the_slide(slide, scheme, tmp_path):
    qupath(tmp_path / "a.geojson", scheme)
    item = {"image": str(slide.path), "label": str(tmp_path / "a.geojson"), "origin": "bounds"}
    store = SlideStore(scheme)
    assert np.array_equal(whole(store.labels(item), slide), EXPECTED)
    assert np.array_equal(whole(store.labels({**item, "origin": "slide"}), slide), FROM_CORNER)
    plain = {**item, "origin": None}
    assert label_fingerprint(item) != label_fingerprint(plain) == label_fingerprint({**plain, "mpp": 0.5})
    region = [TOP + 60, LEFT + 16, 20, 80]
    lower = np.where(np.arange(300)[:, None] >= TOP + 60, EXPECTED, 0)
    assert np.array_equal(whole(store.labels({**item, "regions": [region]}), slide), lower)
