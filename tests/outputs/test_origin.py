"""Polygons of slides with bounds count from the slide's corner, or on request as QuPath does."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from shapely.geometry import shape

from common.annotations import read_annotations
from common.inference import InferenceOptions, WholeSlideInferer
from common.outputs.polygon_options import PolygonOptions
from common.slides import FieldOfView, open_slide
from tests.inference.test_engine import Blocky
from tests.slides.test_scanner_formats import leica

TOP, LEFT = 96, 32
_SAID = "a.scn: polygons count from the slide's corner, QuPath from its bounds' (row 96, column 32)"


@pytest.fixture
def slide(tmp_path):
    """400 x 512 pixels, of which 256 x 256 from row 96 and column 32 on were scanned: dark from row 64 and column 128
    of these on."""
    scan = np.full((256, 256, 3), 250, np.uint8)
    scan[64:, 128:] = 100
    return leica(tmp_path, [scan, scan[::2, ::2]], (TOP, LEFT), (400, 512))[0]


def segmented(slide, folder, scheme, **polygons):
    views = [FieldOfView(0.5, 64)]
    exact = {"min_area": 0, "simplify": 0, **polygons}
    outputs = ("prediction.tif", "prediction.geojson", "summary.json")
    run = WholeSlideInferer(views, views[0], scheme, folder, outputs, options=InferenceOptions(block=3), polygons=exact)
    return run({"image": str(slide)}, Blocky())


def corners(path):
    found = [shape(one["geometry"]).bounds for one in json.loads(path.read_text())["features"]]
    return sorted(found)


def test_polygons_count_from_either_corner_and_are_read_by_their_origin(slide, scheme, tmp_path, caplog):
    maps = {}
    for origin in ("slide", "bounds"):
        with caplog.at_level(logging.INFO):
            caplog.clear()
            summary = segmented(slide, tmp_path / origin, scheme, origin=origin)
        assert summary["polygons"]["origin"] == origin
        assert (_SAID in caplog.text) == (origin == "slide")
        path = tmp_path / origin / "a" / "prediction.geojson"
        assert json.loads(path.read_text())["multimag"] == {"origin": origin}
        with open_slide(slide) as opened:
            maps[origin] = read_annotations(path, scheme).label_map(opened, (200, 256), opened.mpp, opened.shape)
    # The dark part, in Blocky's squares of 16 pixels.
    dark = (LEFT + 128, TOP + 64, LEFT + 256, TOP + 256)
    assert dark in corners(tmp_path / "slide" / "a" / "prediction.geojson")
    assert (128, 64, 256, 256) in corners(tmp_path / "bounds" / "a" / "prediction.geojson")
    assert np.array_equal(maps["slide"], maps["bounds"])
    assert len(np.unique(maps["slide"][TOP + 64 : TOP + 256, LEFT + 128 : LEFT + 256])) == 1
    prediction = "a/prediction.tif"
    assert (tmp_path / "slide" / prediction).read_bytes() == (tmp_path / "bounds" / prediction).read_bytes()


def test_impossible_bounds_are_refused_before_the_slide_is_segmented(slide, scheme, tmp_path, monkeypatch):
    with open_slide(slide) as opened:
        damaged = {**opened.properties, "openslide.bounds-height": "4000"}
    monkeypatch.setattr("openslide.OpenSlide.properties", damaged)
    monkeypatch.setattr("common.inference.inferer.Segmenter.segment", None)
    assert "its bounds are impossible" in segmented(slide, tmp_path / "a", scheme, origin="bounds")["error"]
    monkeypatch.undo()
    monkeypatch.setattr("openslide.OpenSlide.properties", damaged)
    assert "error" not in segmented(slide, tmp_path / "b", scheme)


def test_the_origin_is_an_option_of_polygons_that_earlier_runs_had_as_well(scheme):
    assert PolygonOptions.from_config({"origin": "bounds"}).settings(scheme)["origin"] == "bounds"
    # What was written before there was this option resumes.
    assert "origin" not in PolygonOptions().settings(scheme)
    with pytest.raises(ValueError, match="polygons: origin must be one of slide, bounds, not 'qupath'"):
        PolygonOptions.from_config({"origin": "qupath"})
