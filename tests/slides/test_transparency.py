"""Glass that was not scanned is stored as transparent, and reads as white whatever the file and the library."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from common.slides import SlideError, open_slide, tissue_mask

SIDE = 48
BACKENDS = ("tiff", "openslide", "image", "cucim")
DEFLATE = {"compression": "adobe_deflate"}
RGBA = {"photometric": "rgb", "extrasamples": ["unassalpha"], **DEFLATE}
GREY = {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": "contig", **DEFLATE}
SEPARATE = {"planarconfig": "separate"}
ASSOCIATED = {"extrasamples": ["assocalpha"]}
FLAVOURS = {
    "unassociated": RGBA,
    "associated": RGBA | ASSOCIATED,
    "planes apart": RGBA | SEPARATE,
    "planes apart, associated": RGBA | SEPARATE | ASSOCIATED,
    "BigTIFF": RGBA | {"bigtiff": True},
    "strips": RGBA | {"tile": None, "rowsperstrip": 7},
    "lzw, predictor": RGBA | {"compression": "lzw", "predictor": True},
    "jpeg 2000": RGBA | {"compression": "jpeg2000", "compressionargs": {"level": 0, "reversible": True}},
    "webp": RGBA | {"compression": "webp", "compressionargs": {"level": 100, "lossless": True}},
    "OME": RGBA | {"ome": True},
    "OME, associated": RGBA | ASSOCIATED | {"ome": True},
    "grey": GREY,
    "grey, associated": GREY | ASSOCIATED,
    "grey, planes apart": GREY | SEPARATE,
    "white is zero": GREY | {"photometric": "miniswhite"},
    "OME, grey": GREY | {"ome": True},
}
# What a library does not open at all, or would show wrongly, is refused.
REFUSED = {
    *(("cucim", flavour) for flavour in FLAVOURS),
    *(("openslide", flavour) for flavour in ("strips", "webp", "jpeg 2000")),
    *(("openslide", flavour) for flavour, options in FLAVOURS.items() if options["photometric"] != "rgb"),
}


def scene(side: int, alpha: tuple[int, ...]) -> np.ndarray:
    """Quarters of four colours and the given transparencies; what is transparent throughout is black below."""
    picture = np.zeros((side, side, 4), np.uint8)
    half = side // 2
    colours = [(200, 100, 150), (90, 40, 160), (250, 250, 250), (17, 230, 77)]
    for number, (colour, opacity) in enumerate(zip(colours, alpha, strict=True)):
        row, column = divmod(number, 2)
        place = picture[row * half : row * half + half, column * half : column * half + half]
        place[...] = (*colour, opacity) if opacity else 0
    return picture


def seen(picture: np.ndarray) -> np.ndarray:
    """Blend a picture with white."""
    share = picture[..., 3:] / 255.0
    return picture[..., :3] * share + 255 * (1 - share)


def write(path, picture, options):
    """Store two levels of a picture as one of the flavours; return what should be seen of each."""
    options = {"tile": (16, 16), "metadata": None, **options}
    bigtiff, ome = options.pop("bigtiff", False), options.pop("ome", False)
    levels = [picture, picture[::2, ::2]][: 1 if options["tile"] is None else 2]
    stored, expected = zip(*(_stored(level, options) for level in levels), strict=True)
    with tifffile.TiffWriter(path, bigtiff=bigtiff, ome=ome) as writer:
        for number, level in enumerate(stored):
            scale = 2e4 / 2**number
            extra = {"subifds": len(stored) - 1} if ome and number == 0 else {"subfiletype": int(number > 0)}
            if ome and number == 0:
                axes = "YXS" if level.ndim == 3 else "YX"
                extra["metadata"] = {"axes": axes, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            writer.write(level, resolution=(scale, scale), resolutionunit="CENTIMETER", **{**options, **extra})
    return expected


def _stored(picture: np.ndarray, options: dict) -> tuple[np.ndarray, np.ndarray]:
    if options["photometric"] != "rgb":
        picture = np.dstack([picture[..., :1]] * 3 + [picture[..., 3:]])
    colours, alpha = picture[..., :3].astype(float), picture[..., 3:]
    if options["extrasamples"] == ["assocalpha"]:
        colours = np.round(colours * alpha / 255)
    if options["photometric"] == "miniswhite":
        colours = 255 - colours
    if options["photometric"] != "rgb":
        colours = colours[..., :1]
    stored = np.dstack([colours.astype(np.uint8), alpha])
    separate = options.get("planarconfig") == "separate"
    return (np.ascontiguousarray(stored.transpose(2, 0, 1)) if separate else stored), seen(picture)


def read_levels(path, backend):
    with open_slide(path, backend, mpp=0.5) as slide:
        center = (slide.shape[0] / 2, slide.shape[1] / 2)
        return [slide.read(center, level.mpp[0], level.shape) for level in slide.levels]


@pytest.mark.parametrize("alpha", [(255, 0, 255, 0), (255, 255, 255, 255), (255, 0, 128, 40)], ids=str)
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_transparent_is_white_in_every_flavour_through_every_backend(tmp_path, backend, flavour, alpha):
    name = "a.ome.tif" if "OME" in flavour else "a.tif"
    expected = write(tmp_path / name, scene(SIDE, alpha), FLAVOURS[flavour])
    if (backend, flavour) in REFUSED:
        with pytest.raises(SlideError, match=r"(Use|Try).*(auto|tiff|another backend)"):
            read_levels(tmp_path / name, backend)
        return
    found = read_levels(tmp_path / name, backend)
    one_level = backend == "image" or (backend == "openslide" and "OME" in flavour)
    assert len(found) == (1 if one_level else len(expected))
    for level, shown in zip(found, expected, strict=False):
        assert np.abs(level - shown).max() <= 1
        assert (level[shown == 255] == 255).all()


@pytest.mark.parametrize("backend", ["tiff", "openslide", "image"])
def test_a_tiff_reads_as_the_png_of_the_same_pixels(tmp_path, backend):
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
    write(tmp_path / "a.tif", picture, RGBA)
    Image.fromarray(picture).save(tmp_path / "a.png")
    difference = np.abs(
        read_levels(tmp_path / "a.tif", backend)[0].astype(int) - read_levels(tmp_path / "a.png", "auto")[0]
    )
    assert difference.max() <= (2 if backend == "openslide" else 0)


@pytest.mark.parametrize(
    ("backend", "flavour"),
    [
        (backend, flavour)
        for backend in ("tiff", "openslide", "image")
        for flavour in ("unassociated", "associated", "planes apart", "grey")
        if (backend, flavour) not in REFUSED
    ],
)
def test_transparent_glass_is_no_tissue(tmp_path, backend, flavour):
    picture = np.full((304, 400, 4), (245, 245, 245, 255), np.uint8)
    picture[50:200, 50:150, :3] = (150, 60, 130)
    picture[:, 200:] = 0
    write(tmp_path / "a.tif", picture, FLAVOURS[flavour])
    mask = tissue_mask(open_slide(tmp_path / "a.tif", backend, mpp=0.5), mpp=2.0)
    assert not mask.any(0, 210, 304, 190)
    assert mask.share == pytest.approx(100 * 150 / (400 * 304), abs=0.01)


@pytest.mark.parametrize("backend", ["tiff", "openslide"])
def test_a_missing_tile_is_an_error_though_other_pixels_are_transparent(tmp_path, backend):
    write(tmp_path / "a.tif", scene(SIDE, (255, 0, 255, 0)), RGBA)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tag = file.pages[0].tags["TileByteCounts"]
        place, width = tag.valueoffset, 4 if tag.dtype == 4 else 2
    with (tmp_path / "a.tif").open("r+b") as file:
        file.seek(place + 8 * width)
        file.write(bytes(width))
    slide = open_slide(tmp_path / "a.tif", backend)
    assert (slide.read((8, 40), 0.5, 16) == 255).all()
    with pytest.raises(SlideError, match="missing from the file"):
        slide.read((40, 40), 0.5, 16)


@pytest.mark.parametrize("extrasamples", [["unspecified"], []], ids=["unspecified", "no tag"])
@pytest.mark.parametrize("backend", ["tiff", "openslide", "image"])
def test_a_fourth_sample_of_unknown_meaning_may_hold_nothing_but_255(tmp_path, backend, extrasamples):
    for name, opacity in (("opaque", 255), ("unknown", 100)):
        picture = scene(SIDE, (255, 255, 255, opacity))
        expected = write(tmp_path / f"{name}.tif", picture, RGBA | {"extrasamples": ["unspecified"]})
        if not extrasamples:
            _without_extra_samples(tmp_path / f"{name}.tif")
        if name == "opaque":
            assert np.array_equal(read_levels(tmp_path / "opaque.tif", backend)[0], expected[0])
    with pytest.raises(SlideError, match="does not say what.*ExtraSamples"):
        read_levels(tmp_path / "unknown.tif", backend)


def _without_extra_samples(path):
    """Turn each page's ExtraSamples tag into one that means nothing."""
    with tifffile.TiffFile(path) as file:
        places = [page.tags["ExtraSamples"].offset for page in file.pages]
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write((335).to_bytes(2, "little"))


@pytest.mark.parametrize("backend", ["auto", "tiff", "openslide"])
def test_more_samples_than_colours_and_one_are_refused(tmp_path, backend):
    picture = np.zeros((SIDE, SIDE, 5), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", picture, photometric="rgb", tile=(16, 16), extrasamples=["unassalpha", "unspecified"]
    )
    with pytest.raises(SlideError, match="5 samples of 8 bits, 2 more than its RGB colours"):
        open_slide(tmp_path / "a.tif", backend, mpp=0.5)


@pytest.mark.parametrize("backend", ["auto", "tiff", "openslide"])
def test_transparency_that_is_a_page_is_refused(tmp_path, backend):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        options = {"tile": (16, 16), "metadata": None}
        writer.write(scene(SIDE, (255,) * 4)[..., :3], photometric="rgb", **options)
        writer.write(np.ones((SIDE, SIDE), bool), photometric="mask", subfiletype=4, **options)
    with pytest.raises(SlideError, match="mask page"):
        open_slide(tmp_path / "a.tif", backend, mpp=0.5)
