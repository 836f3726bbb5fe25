"""A TIFF holds many images; the slide is the scan among them, or nothing is shown."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from common.slides import SlideError, open_slide
from tests.conftest import ramp

SCAN = ramp(48, 48).repeat(4, 0).repeat(4, 1)
LEVELS = [SCAN, SCAN[::2, ::2], SCAN[::4, ::4]]
MACRO = np.full((40, 30, 3), 150, np.uint8)
TILED = {"photometric": "rgb", "tile": (16, 16), "metadata": None, "compression": "adobe_deflate"}
STRIPED = {"photometric": "rgb", "rowsperstrip": 8, "metadata": None}
CM = {"resolutionunit": "CENTIMETER"}
PLAIN_BACKENDS = ("auto", "tiff", "openslide")


def whole(slide):
    return slide.read((slide.shape[0] / 2, slide.shape[1] / 2), slide.mpp, slide.shape)


def through_openslide(path):
    """OpenSlide knows nothing of macros that are first; what it shows must be the scan."""
    try:
        return whole(open_slide(path, "openslide", mpp=0.5)).tobytes()
    except SlideError:
        return None


def pages(path, *written):
    with tifffile.TiffWriter(path) as writer:
        for pixels, options in written:
            writer.write(pixels, **options)
    return path


def pyramid(levels=LEVELS, marked=True):
    return [(level, TILED | {"subfiletype": int(marked and number > 0)}) for number, level in enumerate(levels)]


def ome(path, *images):
    """Images as (pixels, name, µm/px or None, tiled, levels in SubIFDs)."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        for pixels, name, mpp, tiled, smaller in images:
            sizes = {} if mpp is None else {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
            options = dict(TILED if tiled else STRIPED)
            writer.write(pixels, subifds=smaller, **options | {"metadata": {"Name": name, "axes": "YXS", **sizes}})
            for number in range(1, smaller + 1):
                writer.write(pixels[:: 2**number, :: 2**number], subfiletype=1, **options)
    return path


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize(
    "first",
    [
        (MACRO, STRIPED),
        (MACRO, TILED),
        (SCAN[::4, ::4], STRIPED | {"subfiletype": 1}),
        (SCAN[::4, ::4], TILED),
        (SCAN[::4, ::4], STRIPED),
        (np.full((300, 300, 3), 150, np.uint8), STRIPED | {"description": "macro"}),
        (np.full((300, 300, 3), 150, np.uint8), TILED | {"description": "Label image"}),
    ],
    ids=["macro", "tiled macro", "thumbnail", "tiled thumbnail", "unmarked thumbnail", "large macro", "tiled label"],
)
def test_the_scan_is_found_behind_what_is_first(tmp_path, first, marked):
    path = pages(tmp_path / "a.tif", first, *pyramid(marked=marked))
    for backend in ("auto", "tiff", "image"):
        assert np.array_equal(whole(open_slide(path, backend, mpp=0.5)), SCAN)
    assert [level.shape for level in open_slide(path, mpp=0.5).levels] == [(192, 192), (96, 96), (48, 48)]
    assert through_openslide(path) in (None, SCAN.tobytes())


@pytest.mark.parametrize("mpp", [16.0, None])
@pytest.mark.parametrize("tiled", [True, False])
def test_an_ome_macro_is_no_slide_and_gives_no_mpp(tmp_path, tiled, mpp):
    path = ome(tmp_path / "a.ome.tif", (MACRO, "macro", mpp, tiled, 0), (SCAN, "scan", 0.25, True, 2))
    slide = open_slide(path)
    assert (slide.mpp, len(slide.levels)) == (0.25, 3)
    assert np.array_equal(whole(slide), SCAN)


def test_an_ome_label_of_the_scans_shape_is_no_level(tmp_path):
    label = np.full((24, 24, 3), 7, np.uint8)
    path = ome(tmp_path / "a.ome.tif", (SCAN, "scan", 0.25, True, 1), (label, "Image 2", 8.0, True, 0))
    assert [level.shape for level in open_slide(path).levels] == [(192, 192), (96, 96)]


def test_two_ome_scans_of_one_size_are_two_images(tmp_path):
    path = ome(tmp_path / "a.ome.tif", (SCAN, "left", 0.25, True, 1), (255 - SCAN, "right", 0.25, True, 1))
    with pytest.raises(SlideError, match="0 'left'.*1 'right'"):
        open_slide(path)
    for backend in ("auto", "tiff", "image"):
        assert np.array_equal(whole(open_slide(path, backend, mpp=0.25, series=1)), 255 - SCAN)
    with pytest.raises(SlideError, match="the slide is another one.*tiff"):
        open_slide(path, "openslide", series=1)


def test_levels_that_older_ome_writers_list_as_images(tmp_path):
    images = [(level, f"level {n}", 0.25 * 2**n, True, 0) for n, level in enumerate(LEVELS)]
    slide = open_slide(ome(tmp_path / "a.ome.tif", *images))
    assert [level.shape for level in slide.levels] == [(192, 192), (96, 96), (48, 48)]


def test_two_scans_are_named_and_one_can_be_chosen(tmp_path):
    other = SCAN[:144, ::-1]
    path = ome(tmp_path / "a.ome.tif", (SCAN, "left", 0.25, True, 1), (other, "right", 0.5, True, 1))
    assert np.array_equal(whole(open_slide(path)), SCAN)
    path = ome(tmp_path / "b.ome.tif", (SCAN, "left", 0.25, True, 1), (other, "right", 0.26, True, 1))
    with pytest.raises(SlideError, match=r"0 'left' \(192 x 192 pixels\), 1 'right' \(192 x 144 pixels\).*series="):
        open_slide(path)
    slide = pickle.loads(pickle.dumps(open_slide(path, series=1)))
    assert (slide.shape, slide.mpp) == ((144, 192), 0.26)
    assert np.array_equal(whole(slide), other)
    assert np.array_equal(whole(open_slide(path, series="0")), SCAN)
    with pytest.raises(SlideError, match="no image 2.*'right'"):
        open_slide(path, series=2)
    with pytest.raises(SlideError, match="not the number of an image"):
        open_slide(path, series="right")


@pytest.mark.parametrize("backend", PLAIN_BACKENDS)
def test_pictures_without_tiles_or_pyramid_are_ambiguous(tmp_path, backend):
    path = pages(tmp_path / "a.tif", (SCAN, STRIPED), (MACRO, STRIPED))
    with pytest.raises(SlideError, match=r"0 \(192 x 192 pixels\), 1 \(30 x 40 pixels\)|OpenSlide cannot open"):
        open_slide(path, backend, mpp=0.5)


def test_a_plain_image_has_one_series(tmp_path):
    Image.fromarray(SCAN).save(tmp_path / "a.png")
    assert open_slide(tmp_path / "a.png", mpp=0.5, series=0).shape == (192, 192)
    with pytest.raises(SlideError, match="one image, not series 1"):
        open_slide(tmp_path / "a.png", mpp=0.5, series=1)


def test_openslide_shows_the_slide_or_nothing(tmp_path):
    path = pages(tmp_path / "a.tif", (SCAN[::4, ::4], TILED), *pyramid())
    with pytest.raises(SlideError, match="OpenSlide shows an image of 96 x 96 pixels.* 192 x 192.*tiff"):
        open_slide(path, "openslide", mpp=0.5)


def test_a_marked_page_of_another_shape_is_no_level(tmp_path):
    label = (np.full((32, 100, 3), 7, np.uint8), TILED | {"subfiletype": 1})
    path = pages(tmp_path / "a.tif", *pyramid(LEVELS[:2]), label)
    assert through_openslide(path) in (None, SCAN.tobytes())
    for backend in ("auto", "tiff"):
        assert [level.shape for level in open_slide(path, backend, mpp=0.5).levels] == [(192, 192), (96, 96)]


@pytest.mark.parametrize("marked", [True, False])
def test_a_picture_called_label_keeps_its_own_levels(tmp_path, marked):
    (base, options), *smaller = pyramid(marked=marked)
    path = pages(tmp_path / "a.tif", (base, options | {"description": "Label map of case 7"}), *smaller)
    assert [level.shape for level in open_slide(path, mpp=0.5).levels] == [(192, 192), (96, 96), (48, 48)]


def test_levels_may_be_followed_by_pictures_of_their_size(tmp_path):
    path = pages(
        tmp_path / "a.tif",
        *pyramid(),
        (SCAN[::2, ::2], TILED | {"subfiletype": 1}),
        (SCAN, STRIPED | {"subfiletype": 1}),
        (255 - SCAN, TILED | {"subfiletype": 1}),
    )
    with pytest.raises(SlideError, match="OpenSlide shows either.*tiff"):
        open_slide(path, "openslide", mpp=0.5)
    for backend in ("auto", "tiff"):
        slide = open_slide(path, backend, mpp=0.5)
        assert [level.shape for level in slide.levels] == [(192, 192), (96, 96), (48, 48)]
        assert np.array_equal(whole(slide), SCAN)


GREY = SCAN[..., 0]


def channels_as_pages(path):
    grey = TILED | {"photometric": "minisblack"}
    return pages(path, *((GREY, grey) for _ in range(4)))


def qptiff(path):
    """PerkinElmer: all channels of a level, a thumbnail, all channels of the next level."""
    grey = TILED | {"photometric": "minisblack"}

    def named(kind):
        return {"description": f"<PerkinElmer-QPI-ImageDescription><ImageType>{kind}</ImageType></PerkinElmer-QPI-"
                "ImageDescription>"}  # fmt: skip

    full = [(GREY, grey | named("FullResolution"))] * 3
    smaller = [(GREY[::2, ::2], grey | named("ReducedResolution") | {"subfiletype": 1})] * 3
    return pages(path, *full, (SCAN[::4, ::4], STRIPED | named("Thumbnail")), *smaller)


def focal_planes(path):
    return pages(path, *pyramid(LEVELS[:2]), (SCAN, TILED), (SCAN[::2, ::2], TILED | {"subfiletype": 1}))


def plain_pages(path):
    tifffile.imwrite(path, np.stack([SCAN, SCAN]), photometric="rgb", metadata=None)
    return path


def pillow_pages(path):
    Image.fromarray(SCAN).save(path, save_all=True, append_images=[Image.fromarray(SCAN)])
    return path


def shaped_pages(path):
    tifffile.imwrite(path, np.stack([SCAN, SCAN]), photometric="rgb", tile=(16, 16))
    return path


def shaped_in_one_page(path):
    tifffile.imwrite(path, np.stack([SCAN, SCAN]), photometric="rgb", truncate=True)
    return path


def imagej_in_one_page(path):
    tifffile.imwrite(path, np.stack([SCAN, SCAN]), imagej=True, truncate=True)
    return path


def planes_in_subifds(path):
    return pages(path, (SCAN, TILED | {"subifds": 2}), (SCAN, TILED), (SCAN[::2, ::2], TILED | {"subfiletype": 1}))


def volume(path):
    tifffile.imwrite(path, np.stack([SCAN] * 16), photometric="rgb", volumetric=True, tile=(16, 16, 16), metadata=None)
    return path


def ome_channels_elsewhere(path):
    """The XML names three channels, of which this file holds one."""
    path = path.with_suffix(".ome.tif")
    tifffile.imwrite(path, GREY, photometric="minisblack", tile=(16, 16), metadata={"axes": "YX"})
    content = path.read_bytes()
    assert content.count(b'SizeC="1"') == 1
    path.write_bytes(content.replace(b'SizeC="1"', b'SizeC="3"'))
    return path


@pytest.mark.parametrize("backend", PLAIN_BACKENDS)
@pytest.mark.parametrize(
    "make",
    [
        channels_as_pages,
        qptiff,
        focal_planes,
        plain_pages,
        pillow_pages,
        shaped_pages,
        shaped_in_one_page,
        imagej_in_one_page,
        planes_in_subifds,
        volume,
        ome_channels_elsewhere,
    ],
)
def test_channels_and_planes_are_refused_whoever_wrote_them(tmp_path, make, backend):
    path = make(tmp_path / "a.tif")
    with pytest.raises(SlideError, match=r"planes.*Export one|OpenSlide cannot open"):
        open_slide(path, backend, mpp=0.5)
    with pytest.raises(SlideError, match=r"planes.*Export one"):
        open_slide(path, mpp=0.5, series=0)


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(SCAN), Image.fromarray(255 - SCAN)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(SlideError, match="2 pictures"):
        open_slide(tmp_path / "a.png", mpp=0.5)


def test_a_tiff_named_like_a_plain_image_is_read_as_a_tiff(tmp_path):
    path = pages(tmp_path / "a.tif", (MACRO, STRIPED), *pyramid()).rename(tmp_path / "a.png")
    slide = open_slide(path, mpp=0.5)
    assert slide.backend == "tiff"
    assert np.array_equal(whole(slide), SCAN)


def test_a_brightfield_qptiff_is_read(tmp_path):
    path = pages(
        tmp_path / "a.tif",
        (SCAN, TILED),
        (SCAN[::4, ::4], STRIPED),
        *((level, TILED | {"subfiletype": 1}) for level in LEVELS[1:]),
        (MACRO, STRIPED),
        (MACRO[:20], STRIPED),
    )
    slide = open_slide(path, mpp=0.5)
    assert [level.shape for level in slide.levels] == [(192, 192), (96, 96), (48, 48)]
    assert np.array_equal(whole(slide), SCAN)
