"""Positions of viewers on slides with bounds."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from PIL import Image

from common.annotations import AnnotatedRegion, write_asap_xml, write_geojson
from common.data.store import SlideStore
from common.inference import InferenceOptions, WholeSlideInferer
from common.label_app.bundles import ServedBundle
from common.label_app.region import NotSegmentedError, annotated_region, viewer_origin, with_origin
from common.label_app.request_values import RequestError
from common.sharing.closure import needed_modules
from common.sharing.settings import SCRIPTS
from common.slides import FieldOfView, SlideError, open_slide
from tests.inference.test_engine import Blocky
from tests.slides.test_scanner_formats import leica

TOP, LEFT = 96, 32


@pytest.fixture
def slide(tmp_path):
    """400 x 512 pixels, of which 256 x 256 from row 96 and column 32 on were scanned: dark from row 64 and column 128
    of these on."""
    scan = np.full((256, 256, 3), 250, np.uint8)
    scan[64:, 128:] = 100
    return str(leica(tmp_path, [scan, scan[::2, ::2]], (TOP, LEFT), (400, 512))[0])


@pytest.fixture
def asked(slide, scheme, tmp_path):
    """Asks for a region of the slide, or of another: class -> the extents of its outlines."""

    def ask(values, origin=None, image=slide, written="slide"):
        exact = {"min_area": 0, "simplify": 0, "origin": written}
        views, options = [FieldOfView(0.5, 64)], InferenceOptions(block=3)
        outputs = ("prediction.geojson", "summary.json")
        inferer = WholeSlideInferer(views, views[0], scheme, tmp_path, outputs, options=options, polygons=exact)
        found = annotated_region(inferer, Blocky(), image, values, origin)["elements"]
        return {one["label"]: sorted(shapely.Polygon(c).bounds for c in one["contours"]) for one in found}

    return ask


def region(left, top, right, bottom):
    return {"location": [left, top], "size": [right - left, bottom - top]}


@pytest.mark.parametrize("written", ["slide", "bounds"])
def test_a_region_and_its_outlines_are_where_the_viewer_shows_them(written, asked):
    """Whatever the bundle's own polygons count from."""
    (dark,) = asked(region(160, 96, 200, 200), "bounds", written=written)
    assert asked(region(160, 96, 200, 200), "bounds", written=written) == {dark: [(160, 96, 200, 200)]}
    on_slide = region(LEFT + 160, TOP + 96, LEFT + 200, TOP + 200)
    assert asked(on_slide, "slide", written=written) == {dark: [(LEFT + 160, TOP + 96, LEFT + 200, TOP + 200)]}


def test_all_of_a_slide_is_answered_in_the_viewers_positions(asked):
    (dark,) = asked(region(160, 96, 200, 200), "bounds")
    for size in ({}, {"location": [0, 0], "size": [0, 0]}):
        assert (128, 64, 256, 256) in asked(size, "bounds")[dark]
        assert (LEFT + 128, TOP + 64, LEFT + 256, TOP + 256) in asked(size, "slide")[dark]


def test_a_request_says_the_origin_before_the_server(asked):
    (dark,) = asked(region(160, 96, 200, 200), "bounds")
    assert asked({**region(160, 96, 200, 200), "origin": "bounds"}, "slide") == {dark: [(160, 96, 200, 200)]}
    assert asked({**region(160, 96, 200, 200), "origin": "bounds"}) == {dark: [(160, 96, 200, 200)]}


def test_on_a_slide_with_bounds_nothing_is_guessed(asked, slide):
    with pytest.raises(RequestError, match=r"a\.scn has bounds \(from row 96, column 32\).* --origin bounds"):
        asked(region(160, 96, 200, 200))
    with open_slide(slide) as opened:
        assert [viewer_origin(opened, origin) for origin in ("slide", "bounds")] == ["slide", "bounds"]


def test_on_a_slide_without_bounds_nothing_need_be_said(asked, tmp_path):
    Image.fromarray(np.full((256, 256, 3), 100, np.uint8)).save(tmp_path / "plain.png")
    plain = str(tmp_path / "plain.png")
    values = {**region(64, 32, 128, 96), "mpp": 0.5}
    found = [asked(values, origin, plain) for origin in (None, "slide", "bounds")]
    assert found[0] == found[1] == found[2]
    assert list(found[0].values()) == [[(64, 32, 128, 96)]]
    with pytest.raises(SlideError, match="how many micrometres"):
        asked(region(64, 32, 128, 96), None, plain)


def test_why_a_region_cannot_be_segmented_is_said(asked, monkeypatch):
    monkeypatch.setattr(WholeSlideInferer, "segment_slide", lambda *_: (_ for _ in ()).throw(SlideError("a", "b", "c")))
    with pytest.raises(NotSegmentedError, match="b"):
        asked(region(160, 96, 200, 200), "bounds")


def test_annotations_of_a_viewer_are_trained_on_where_they_were_drawn(slide, scheme, tmp_path):
    write_asap_xml(tmp_path / "a.xml", [AnnotatedRegion(4, shapely.box(128, 64, 256, 256))], scheme)
    item = {"image": slide, "label": str(tmp_path / "a.xml")}
    entry = with_origin(item, "bounds")
    with open_slide(slide) as opened:
        labels = SlideStore(scheme).labels(entry).label_map(opened, (200, 256), opened.mpp, opened.shape)
    expected = np.zeros((400, 512), np.uint8)
    expected[TOP + 64 : TOP + 256, LEFT + 128 : LEFT + 256] = 4
    assert np.array_equal(labels, expected)
    assert with_origin(item, "slide")["origin"] == "slide"
    with pytest.raises(RequestError, match="has bounds"):
        with_origin(item, None)
    # A file that says its origin itself, as the script for QuPath exports it, needs none.
    write_geojson(tmp_path / "b.geojson", [AnnotatedRegion(4, shapely.box(0, 0, 9, 9))], scheme)
    own = {"image": slide, "label": str(tmp_path / "b.geojson")}
    for origin in (None, "bounds"):
        assert with_origin(own, origin) == own


def test_what_cannot_be_opened_is_for_training_to_say(tmp_path):
    item = {"image": str(tmp_path / "none.scn"), "label": str(tmp_path / "a.xml")}
    assert with_origin(item, None) == item


def test_a_bundle_exported_before_there_were_origins_is_known(tmp_path):
    bundle = ServedBundle("old", tmp_path, "bundle_0")
    assert not bundle.knows_origins
    (module,) = (one for one in needed_modules({"data.MultiMagnificationPatchDataset"}) if one.stem == "bounds")
    (tmp_path / SCRIPTS / module).parent.mkdir(parents=True)
    (tmp_path / SCRIPTS / module).touch()
    assert bundle.knows_origins
    # One that brings no code of its own runs this project's.
    assert ServedBundle("plain", tmp_path / "elsewhere", None).knows_origins
