"""The scanned part of a slide, and the origins that positions may count from."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from common.slides import Bounds, SlideError, open_slide
from common.slides.bounds import read_bounds
from tests.slides.test_scanner_formats import hamamatsu_ndpi, leica, mirax

SHAPE = (1000, 2000)


def properties(x="300", y="40", width="500", height="600"):
    return {f"openslide.bounds-{name}": said for name, said in locals().items() if said is not None}


def test_an_scn_names_its_view_as_bounds(tmp_path):
    path, *_ = leica(tmp_path, corner=(30, 50), canvas=(300, 400))
    with open_slide(path) as slide:
        assert slide.shape == (300, 400)
        assert slide.bounds == Bounds(top=30, left=50, height=256, width=256)
        assert slide.frame("bounds") == slide.bounds
        assert slide.frame("slide") == slide.frame() == (0, 0, 300, 400)
        assert pickle.loads(pickle.dumps(slide)).bounds == slide.bounds


def test_a_mirax_with_glass_that_was_not_scanned_has_bounds(tmp_path):
    path, *_ = mirax(tmp_path, first=(128, 64))
    with open_slide(path) as slide:
        assert slide.shape == (256, 256)
        assert slide.bounds == (128, 64, 128, 192)


def test_of_a_slide_without_bounds_both_origins_are_its_corner(tmp_path):
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", hamamatsu_ndpi(tmp_path)[0], mirax(tmp_path)[0]):
        with open_slide(path, mpp=0.5) as slide:
            assert slide.bounds is None
            assert slide.frame("bounds") == slide.frame("slide") == (0, 0, *slide.shape)


def test_an_scn_read_through_tiff_is_its_view_alone(tmp_path):
    path, *_ = leica(tmp_path, corner=(30, 50), canvas=(300, 400))
    with open_slide(path, "tiff") as slide:
        assert (slide.shape, slide.bounds) == ((256, 256), None)


def test_there_is_no_third_origin(tmp_path):
    with open_slide(leica(tmp_path)[0]) as slide, pytest.raises(ValueError, match="slide, bounds, not 'crop'"):
        slide.frame("crop")


def test_bounds_that_reach_over_the_edge_by_rounding_are_cut_there():
    assert read_bounds(properties(width="1702", height="961"), SHAPE) == (40, 300, 960, 1700)


@pytest.mark.parametrize(
    "said",
    [
        properties(x="2000", width="10"),
        properties(x="2000", width="2"),
        properties(x="2001", width="1"),
        properties(y="1000", height="1"),
        properties(x="-1"),
        properties(width="1703"),
        properties(width="0"),
        properties(height="-600"),
        properties(x="300.5"),
        properties(y="none"),
        properties(y=None),
        properties(x="9" * 400),
    ],
)
def test_bounds_that_cannot_be_are_quoted(said):
    with pytest.raises(ValueError, match=r"openslide\.bounds-x = '") as caught:
        read_bounds(said, SHAPE)
    assert len(str(caught.value)) < 400


def test_a_slide_with_damaged_bounds_is_read_and_refused_only_where_something_counts_from_them(tmp_path, monkeypatch):
    path, *_ = leica(tmp_path)
    with open_slide(path) as slide:
        damaged = {**slide.properties, "openslide.bounds-width": "0"}
    monkeypatch.setattr("openslide.OpenSlide.properties", damaged)
    with open_slide(path) as slide:
        assert slide.bounds is None
        assert slide.frame("slide") == (0, 0, 264, 264)
        assert slide.read((132, 132), 0.5, 64).shape == (64, 64, 3)
        with pytest.raises(SlideError, match=r"its bounds are impossible \(.*bounds-width = '0'.* origin: slide"):
            slide.frame("bounds")


def test_a_backend_that_reads_the_scanned_part_alone_says_that_origins_have_no_meaning(tmp_path, caplog):
    path, *_ = leica(tmp_path)
    with open_slide(path, backend="tiff", mpp=0.5) as slide:
        assert (slide.shape, slide.bounds) == ((256, 256), None)
        assert "backend tiff reads 256 x 256 of the slide's 264 x 264 pixels" in slide.remark
    assert "annotations count from the corner of these pixels, whatever their origin. Leave backend out" in caplog.text
    with open_slide(path) as slide:
        assert slide.remark == ""
