"""Statements of files about the size of their pixels."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from common.slides import SlideError, open_slide
from common.slides.backends.pixel_size import unit_in_um
from tests.conftest import ramp

PIXELS = ramp(48, 48)
TILED = {"photometric": "rgb", "tile": (16, 16)}
CM = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
APERIO = "Aperio Image Library v11.2.1\r\n48x48 [0,0 48x48] (16x16) JPEG/RGB Q=30|Filename = x|"
# Half a micrometre in units of the SI and of the inch of 25.4 mm.
HALF_A_MICROMETRE = {
    "\u00b5m": 0.5, "\u03bcm": 0.5, "um": 0.5, "micron": 0.5, "microns": 0.5, "micrometer": 0.5, "Micrometre": 0.5,
    "nm": 500, "mm": 5e-4, "cm": 5e-5, "dm": 5e-6, "m": 5e-7, "dam": 5e-8, "hm": 5e-9, "km": 5e-10, "pm": 5e5,
    "fm": 5e8, "am": 5e11, "Mm": 5e-13, "\u00c5": 5e3, "\u212b": 5e3, "A\u030a": 5e3, "in": 1.968503937e-5,
    "inch": 1.968503937e-5, "thou": 1.968503937e-2, "mil": 1.968503937e-2, "ft": 1.640419948e-6, "yd": 5.46806649e-7,
    "li": 2.362204724e-4, "pt": 1.417322835e-3, "mi": 3.10685596e-10, "\u00c2\u00b5m": 0.5, "\\u00B5m": 0.5,
    "nanometers": 500, "Millimeter": 5e-4, "inches": 1.968503937e-5,
}  # fmt: skip


def ome(path, size, unit, **more):
    sizes = {f"PhysicalSize{axis}{kind}": value for axis in "XY" for kind, value in (("", size), ("Unit", unit))}
    tifffile.imwrite(path, PIXELS, **TILED, metadata={"axes": "YXS", **sizes, **more})
    return path


def svs(path, fields, **tags):
    tifffile.imwrite(path, PIXELS, **TILED, description=APERIO + fields, metadata=None, **tags)
    return path


@pytest.mark.parametrize(("unit", "length"), HALF_A_MICROMETRE.items())
def test_units_of_length(unit, length):
    assert length * unit_in_um(unit) == pytest.approx(0.5, rel=1e-8)


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "", "x", "MM", "furlong"])
def test_what_is_no_unit_of_length(unit):
    assert unit_in_um(unit) is None


@pytest.mark.parametrize("unit", ["\u00b5m", "\u03bcm", "nm", "\u00c5", "in", "mil", "dm"])
def test_ome_units(tmp_path, unit):
    path = ome(tmp_path / "a.ome.tif", HALF_A_MICROMETRE[unit], unit)
    assert open_slide(path).mpp == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("size", [0.5, None])
def test_an_ome_length_that_is_no_length_is_quoted(tmp_path, size):
    unit = "reference frame"
    path = ome(tmp_path / "a.ome.tif", 0.5, unit)
    with pytest.raises(SlideError, match=r"PhysicalSizeY=.0\.5. in 'reference frame'.*mpp=0\.5 in Python"):
        open_slide(path)
    path = ome(tmp_path / "b.ome.tif", 0.5, "m")
    with pytest.raises(SlideError, match=r"500000 x 500000 µm is outside.*PhysicalSizeY=.0\.5. in 'm'"):
        open_slide(path)


def test_ome_without_a_length_falls_back_on_the_resolution_tags(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", PIXELS, **TILED, **CM, metadata={"axes": "YXS"})
    assert open_slide(tmp_path / "a.ome.tif").mpp == 0.5


@pytest.mark.parametrize(
    ("unit", "pixels"),
    [("micron", 2), ("um", 2), ("\\u00B5m", 2), ("nm", 2e-3), ("mm", 2e3), ("cm", 2e4), ("inch", 50800)],
)
def test_imagej_units(tmp_path, unit, pixels):
    resolution = (round(pixels * 1000), 1000)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, imagej=True, resolution=(resolution, resolution), metadata={"unit": unit})
    assert open_slide(path).mpp == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("unit", ["pixel", "furlong"])
def test_an_imagej_unit_that_is_no_length_is_quoted(tmp_path, unit):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, imagej=True, resolution=(2000, 2000), metadata={"unit": unit})
    with pytest.raises(SlideError, match=f"unit={unit}.*mpp="):
        open_slide(tmp_path / "a.tif")


@pytest.mark.parametrize("backend", ["tiff", "openslide"])
@pytest.mark.parametrize(
    ("fields", "tags", "mpp"),
    [
        ("AppMag = 40|MPP = 0.2500", {}, 0.25),
        ("AppMag = 40|MPP = 0,2500", {}, 0.25),
        ("MPP = 0.2500", CM, 0.25),
        ("AppMag = 20", CM, 0.5),
        ("MPP = unknown", CM, 0.5),
    ],
)
def test_aperio(tmp_path, backend, fields, tags, mpp):
    assert open_slide(svs(tmp_path / "a.svs", fields, **tags), backend).mpp == pytest.approx(mpp)


@pytest.mark.parametrize("backend", ["tiff", "openslide"])
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("AppMag = 40", "AppMag = 40; scanners with that objective have about 0.25 µm"),
        ("MPP = unknown", "MPP = unknown"),
        ("MPP = 0.0", r"0 x 0 µm is outside.*MPP = 0\.0"),
    ],
)
def test_an_aperio_description_without_a_length_is_quoted(tmp_path, backend, fields, says):
    with pytest.raises(SlideError, match=f"{says}.*mpp=0.5 in Python"):
        open_slide(svs(tmp_path / "a.svs", fields), backend)


@pytest.mark.parametrize("backend", ["tiff", "openslide"])
@pytest.mark.parametrize(
    ("resolution", "unit", "says"),
    [
        ((300, 300), "INCH", r"300 x 300 pixels per inch, 84\.67 µm a pixel, which is a printer's"),
        ((2, 2), "NONE", "2 x 2 pixels per no unit of length"),
        ((0, 20000), "CENTIMETER", "20000 x nothing pixels per cm"),
    ],
)
def test_resolution_tags_that_say_no_length_are_quoted(tmp_path, backend, resolution, unit, says):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, **TILED, resolution=resolution, resolutionunit=unit, metadata=None)
    with pytest.raises(SlideError, match=f"{says}.*mpp="):
        open_slide(path, backend)


@pytest.mark.parametrize("given", ["0.5", "0,5", " 0.50 ", "5e-1", np.float32(0.5)])
def test_an_mpp_given_as_text_is_its_number(tmp_path, given):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    slide = pickle.loads(pickle.dumps(open_slide(tmp_path / "a.png", mpp=given)))
    assert slide.mpp == 0.5


@pytest.mark.parametrize("given", ["20x", "", "0.5 um", "nan", [0.5], True])
def test_an_mpp_that_is_no_number_is_one_line(tmp_path, given):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with pytest.raises(SlideError, match="is not a number.*--mpp 0.5") as caught:
        open_slide(tmp_path / "a.png", mpp=given)
    assert "\n" not in str(caught.value)
