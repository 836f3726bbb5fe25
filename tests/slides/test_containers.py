"""Layouts of pixels in files: each reads as the pixels of which it was made."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from common.slides import SlideError, open_slide
from tests.conftest import ramp

LEVELS = [ramp(side, 48) for side in (48, 24, 12)]
RESOLUTION = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
LOSSLESS = {
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "adobe_deflate"},
    "deflate, predictor": {"compression": "adobe_deflate", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "none": {},
    "jpeg 2000": {"compression": "jpeg2000", "compressionargs": {"level": 0, "reversible": True}},
    "webp": {"compression": "webp", "compressionargs": {"level": 100, "lossless": True}},
}


def write(path, levels=LEVELS, bigtiff=False, **options):
    options = {"photometric": "rgb", "tile": (16, 16), "metadata": None, **options}
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for number, level in enumerate(levels):
            down = levels[0].shape[0] / level.shape[0]
            resolution = (2e4 / down, 2e4 / down)
            writer.write(
                level, subfiletype=int(number > 0), resolution=resolution, resolutionunit="CENTIMETER", **options
            )
    return open_slide(path)


def assert_reads(slide, levels=LEVELS):
    assert [level.shape for level in slide.levels] == [level.shape[:2] for level in levels]
    for level in levels:
        mpp = slide.mpp * levels[0].shape[0] / level.shape[0]
        assert np.array_equal(slide.read((24, 24), mpp, level.shape[0]), level), mpp


@pytest.mark.parametrize("options", LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_tiles_in_every_compression(tmp_path, options):
    slide = write(tmp_path / "a.tif", **options)
    assert (slide.backend, slide.mpp) == ("tiff", pytest.approx(0.5))
    assert_reads(slide)


def test_bigtiff(tmp_path):
    slide = write(tmp_path / "a.tif", bigtiff=True, compression="adobe_deflate")
    assert tifffile.TiffFile(tmp_path / "a.tif").is_bigtiff
    assert_reads(slide)


@pytest.mark.parametrize("compression", [None, "lzw", "adobe_deflate"])
def test_strips_instead_of_tiles(tmp_path, compression):
    slide = write(tmp_path / "a.tif", LEVELS[:1], tile=None, rowsperstrip=7, compression=compression)
    assert_reads(slide, LEVELS[:1])


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_slides_are_shown_in_three_channels(tmp_path, photometric):
    grey = [level[..., 0] for level in LEVELS]
    stored = grey if photometric == "minisblack" else [255 - level for level in grey]
    slide = write(tmp_path / "a.tif", stored, photometric=photometric, compression="adobe_deflate")
    assert_reads(slide, [np.repeat(level[..., None], 3, axis=2) for level in grey])


def test_tiles_larger_than_the_slide(tmp_path):
    assert_reads(write(tmp_path / "a.tif", tile=(64, 64), compression="lzw"))


@pytest.mark.parametrize("compression", ["adobe_deflate", "jpeg2000"])
def test_ome_tiff_with_a_pyramid_in_subifds(tmp_path, compression):
    path = tmp_path / "a.ome.tif"
    options = {"photometric": "rgb", "tile": (16, 16), "compression": compression}
    if compression == "jpeg2000":
        options["compressionargs"] = {"level": 0, "reversible": True}
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(LEVELS[0], subifds=2, metadata={**metadata, "PhysicalSizeYUnit": "µm"}, **options)
        for level in LEVELS[1:]:
            writer.write(level, subfiletype=1, **options)
    slide = open_slide(path)
    assert (slide.backend, slide.mpp) == ("tiff", 0.25)
    assert_reads(slide)


def test_aperio_svs_in_jpeg_2000(tmp_path):
    """Level, thumbnail, smaller level, label, macro: only the levels count; µm/px from the description."""
    description = "Aperio Image Library v11.2.1\r\n48x48 [0,0 48x48] (16x16) J2K/KDU Q=70|AppMag = 20|MPP = 0.4990"
    tiled = {"photometric": "rgb", "tile": (16, 16), "metadata": None, "compression": 33005}
    tiled["compressionargs"] = {"level": 0, "reversible": True}
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        writer.write(LEVELS[0], description=description, **tiled)
        writer.write(LEVELS[1][:20], photometric="rgb", metadata=None, rowsperstrip=20)
        writer.write(LEVELS[2], description=description, subfiletype=0, **tiled)
        writer.write(np.full((10, 12, 3), 9, np.uint8), photometric="rgb", metadata=None, subfiletype=1)
    slide = open_slide(tmp_path / "a.svs")
    assert (slide.backend, slide.mpp) == ("tiff", 0.499)
    assert_reads(slide, [LEVELS[0], LEVELS[2]])


def test_what_tifffile_tiles_do_not_fit_goes_to_openslide(tmp_path):
    slide = write(tmp_path / "a.tif", [LEVELS[0].astype(np.uint16) * 257], compression="adobe_deflate")
    assert slide.backend == "openslide"
    assert np.array_equal(slide.read((24, 24), 0.5, 48), LEVELS[0])
    with pytest.raises(SlideError, match="16 bits"):
        open_slide(tmp_path / "a.tif", "tiff")


@pytest.mark.parametrize("backend", ["auto", "tiff", "openslide"])
@pytest.mark.parametrize("tile", [(16, 16), (32, 16), (64, 64)], ids=str)
def test_colour_planes_stored_apart(tmp_path, tile, backend):
    planes = [level.transpose(2, 0, 1) for level in LEVELS]
    options = {"photometric": "rgb", "planarconfig": "separate", "metadata": None, "tile": tile, "compression": "lzw"}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, level in enumerate(planes):
            writer.write(level, subfiletype=int(number > 0), **RESOLUTION, **options)
    slide = open_slide(tmp_path / "a.tif", backend)
    assert slide.backend == ("tiff" if backend == "auto" else backend)
    assert_reads(slide)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_of_16_bits_is_refused(tmp_path, photometric):
    """OpenSlide opens it, and shows other pixels where a tile reaches over the border."""
    with pytest.raises(SlideError, match="16 bits.*Convert"):
        write(tmp_path / "a.tif", [np.zeros((40, 40), np.uint16)], photometric=photometric)


def test_pixels_that_no_library_reads_are_refused_at_once(tmp_path):
    with pytest.raises(SlideError, match="pixels of float32.*Convert"):
        write(tmp_path / "a.tif", [LEVELS[0].astype(np.float32)])


def test_a_plain_image_named_like_a_slide_is_refused_with_a_remedy(tmp_path):
    Image.fromarray(LEVELS[0]).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.svs")
    with pytest.raises(SlideError, match="Convert it"):
        open_slide(tmp_path / "a.svs")


@pytest.mark.parametrize("compression", ["lzw", 33003])
def test_colours_that_are_not_decoded_to_rgb_go_to_openslide(tmp_path, compression):
    """Y, Cb and Cr of (200, 100, 150) by ITU-R BT.601."""
    stored = np.broadcast_to(np.uint8([136, 136, 174]), (48, 48, 3))
    options = {"photometric": "ycbcr", "tile": (16, 16), "metadata": None, "compression": "lzw"}
    if compression == 33003:
        options |= {"photometric": "rgb", "compression": 33003, "compressionargs": {"level": 0, "reversible": True}}
        options["description"] = (
            "Aperio Image Library v11.2.1\r\n48x48 [0,0 48x48] (16x16) J2K/YCC|AppMag = 20|MPP = 0.5"
        )
    tifffile.imwrite(tmp_path / "a.svs", np.ascontiguousarray(stored), subsampling=(1, 1), **options)
    slide = open_slide(tmp_path / "a.svs", mpp=0.5)
    assert slide.backend == "openslide"
    found = slide.read((24, 24), 0.5, 48).reshape(-1, 3).mean(axis=0)
    assert np.abs(found - (200, 100, 150)).max() < 3


def test_colours_that_no_library_converts_are_refused(tmp_path):
    with pytest.raises(SlideError, match="CIELAB.*Convert"):
        write(tmp_path / "a.tif", LEVELS[:1], photometric="cielab", compression="lzw")


def test_planes_stored_as_pages_are_refused(tmp_path):
    planes = np.stack([np.full((48, 48), value, np.uint8) for value in (200, 100, 150)])
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, ome=True, photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(SlideError, match="3 planes of 48 x 48.*interleaved"):
        open_slide(tmp_path / "a.ome.tif", mpp=0.5)
