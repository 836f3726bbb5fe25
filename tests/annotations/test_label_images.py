"""Label images of every pixel type, with several channels and several pages, on a slide of 100 x 120 pixels."""

from __future__ import annotations

import json
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from common.annotations import AnnotationError, read_annotations
from common.data import SlideStore, load_datalist
from common.data.store import label_fingerprint
from common.slides import open_slide

CARCINOMA, BENIGN, STROMA = 1, 2, 4
TYPES = (
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
)


@pytest.fixture
def slide(tmp_path):
    Image.fromarray(np.full((100, 120, 3), 200, dtype=np.uint8)).save(tmp_path / "slide.png")
    return open_slide(tmp_path / "slide.png", mpp=0.5)


@pytest.fixture
def drawn():
    pixels = np.zeros((100, 120), dtype=np.uint8)
    pixels[10:40, 20:90] = CARCINOMA
    pixels[50:99, 3:7] = STROMA
    return pixels


def labels(path, scheme, slide, **arguments):
    return read_annotations(path, scheme, **arguments).label_map(slide, (50, 60), 0.5, (100, 120))


@pytest.mark.parametrize("layout", [{}, {"tile": (32, 48)}, {"compression": "zlib", "rowsperstrip": 7}])
@pytest.mark.parametrize("kind", TYPES)
def test_tiffs_of_every_pixel_type(tmp_path, slide, scheme, drawn, kind, layout):
    if kind == "bool" and layout.get("compression"):
        layout = {"rowsperstrip": 7}
    stored = drawn.astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", stored, metadata=None, **layout)
    expected = (drawn > 0).astype(np.uint8) if kind == "bool" else drawn
    source = read_annotations(tmp_path / "a.tif", scheme)
    assert np.array_equal(source.label_map(slide, (50, 60), 0.5, (100, 120)), expected)
    window = pickle.loads(pickle.dumps(source)).label_map(slide, (40, 50), 0.5, (37, 41))
    assert np.array_equal(window, expected[22:59, 30:71])


@pytest.mark.parametrize("kind", ["bool", "uint8", "uint16"])
def test_pngs_of_every_pixel_type(tmp_path, slide, scheme, drawn, kind):
    Image.fromarray(drawn.astype(kind)).save(tmp_path / "a.png")
    expected = (drawn > 0).astype(np.uint8) if kind == "bool" else drawn
    assert np.array_equal(labels(tmp_path / "a.png", scheme, slide), expected)


def png(path, rows, width, bits, colour):
    """Write a PNG of packed rows: Pillow writes none of these kinds."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def test_pngs_of_2_and_4_bits_are_read_as_stored(tmp_path, slide, scheme, drawn):
    png(tmp_path / "a.png", (drawn[:, ::2] << 4) | drawn[:, 1::2], 120, 4, 0)
    assert np.array_equal(labels(tmp_path / "a.png", scheme, slide), drawn)
    small = (drawn > 0).astype(np.uint8) * BENIGN
    packed = small.reshape(100, 30, 4) << np.array([6, 4, 2, 0], dtype=np.uint8)
    png(tmp_path / "b.png", np.bitwise_or.reduce(packed, axis=2), 120, 2, 0)
    assert np.array_equal(labels(tmp_path / "b.png", scheme, slide), small)


def test_pngs_of_16_bits_and_colours_are_refused(tmp_path, scheme, drawn):
    png(tmp_path / "a.png", np.repeat(drawn.astype(">u2")[..., None], 3, axis=2), 120, 16, 2)
    with pytest.raises(AnnotationError, match=r"a\.png: a PNG of 16 bits in several channels\. Save it as grey"):
        read_annotations(tmp_path / "a.png", scheme)


def test_values_beyond_a_byte_and_below_zero_are_mapped(tmp_path, slide, scheme, drawn):
    stored = np.select([drawn == CARCINOMA, drawn == STROMA], [70_000, -3], 0).astype(np.int32)
    tifffile.imwrite(tmp_path / "a.tif", stored)
    values = {"70000": "carcinoma", "-3": "stroma", 0: None}
    assert np.array_equal(labels(tmp_path / "a.tif", scheme, slide, label_values=values), drawn)
    tifffile.imwrite(tmp_path / "b.tif", stored.astype(np.float32))
    assert np.array_equal(labels(tmp_path / "b.tif", scheme, slide, label_values=values), drawn)
    with pytest.raises(AnnotationError, match=r"a\.tif.*no class: \[-3, 70000\].*label_values"):
        labels(tmp_path / "a.tif", scheme, slide)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e30])
def test_floats_that_are_no_whole_numbers_are_refused(tmp_path, slide, scheme, drawn, value):
    stored = drawn.astype(np.float64)
    stored[3, 4] = value
    tifffile.imwrite(tmp_path / "a.tif", stored)
    with pytest.raises(
        AnnotationError, match=r"a\.tif: pixel values that are not whole numbers: \[[0-9.einf+na]+\]\. Save"
    ):
        labels(tmp_path / "a.tif", scheme, slide)


def test_of_many_unknown_values_some_are_named(tmp_path, slide, scheme):
    tifffile.imwrite(tmp_path / "a.tif", np.arange(12_000, dtype=np.uint32).reshape(100, 120) + 1000)
    with pytest.raises(AnnotationError, match=r"\[1000, 1001, .*, 1009\] and 11990 more"):
        labels(tmp_path / "a.tif", scheme, slide)


@pytest.mark.parametrize("value", ["1.5", 1.5, "one", None, 300, -1])
def test_label_values_that_the_image_cannot_have_are_refused(tmp_path, scheme, drawn, value):
    Image.fromarray(drawn).save(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r"a\.png: label_values maps .*whole numbers"):
        read_annotations(tmp_path / "a.png", scheme, label_values={value: "stroma"})


# ---- Channels


def write(path, pixels):
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        colours = "rgb" if pixels.shape[2] > 2 else "minisblack"
        tifffile.imwrite(path, pixels, photometric=colours, planarconfig="contig", metadata=None)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize(("number", "colour"), list(enumerate(["red", "green", "blue"])))
def test_labels_in_one_of_several_channels(tmp_path, slide, scheme, drawn, name, number, colour):
    """PANDA has them in the red one."""
    channels = [np.zeros_like(drawn), np.full_like(drawn, 9), np.full_like(drawn, 77)]
    channels[number] = drawn
    write(tmp_path / name, np.dstack(channels))
    with pytest.raises(AnnotationError, match=rf'{name}: 3 channels that differ\. .*label_channel \(0, 1, … or "red"'):
        labels(tmp_path / name, scheme, slide)
    for channel in (number, str(number), colour, colour.upper()):
        assert np.array_equal(labels(tmp_path / name, scheme, slide, label_channel=channel), drawn)
    mapped = labels(tmp_path / name, scheme, slide, label_channel=colour, label_values={0: None, 1: "stroma", 4: None})
    assert np.array_equal(mapped, (drawn == CARCINOMA) * STROMA)


def test_planes_stored_apart_and_16_bit_channels(tmp_path, slide, scheme, drawn):
    planes = np.stack([drawn, drawn * 0 + 7, drawn * 0]).astype(np.uint16)
    for layout in ({}, {"tile": (32, 32)}):
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", **layout)
        assert np.array_equal(labels(tmp_path / "a.tif", scheme, slide, label_channel="red"), drawn)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_equal_channels_are_one_and_an_opaque_alpha_is_none(tmp_path, slide, scheme, drawn, name):
    opaque = np.full_like(drawn, 255)
    for channels in ([drawn] * 3, [drawn] * 3 + [opaque], [drawn, opaque]):
        write(tmp_path / name, np.dstack(channels))
        assert np.array_equal(labels(tmp_path / name, scheme, slide), drawn)
    write(tmp_path / name, np.dstack([drawn * 0] * 3 + [drawn]))
    with pytest.raises(AnnotationError, match="4 channels that differ"):
        labels(tmp_path / name, scheme, slide)
    assert np.array_equal(labels(tmp_path / name, scheme, slide, label_channel="alpha"), drawn)


@pytest.mark.parametrize("channel", [3, -1, "alpha", "redd", 1.0, True, ""])
def test_channels_that_an_image_does_not_have_are_refused(tmp_path, scheme, drawn, channel):
    write(tmp_path / "a.png", np.dstack([drawn] * 3))
    with pytest.raises(AnnotationError, match=r"a\.png: label_channel is .*3 channels\. Give a number from 0 to 2"):
        read_annotations(tmp_path / "a.png", scheme, label_channel=channel)


# ---- Pages


def two_pages(drawn, kind):
    """Stroma a page of its own, and carcinoma with a pixel that lies over it."""
    stroma = drawn == STROMA
    carcinoma = drawn == CARCINOMA
    carcinoma[60, 5] = True
    return np.stack([stroma, carcinoma]).astype(kind) * (1 if kind == "bool" else 255)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("name", ["plain.tif", "shaped.tif", "a.ome.tif", "imagej.tif", "pillow.tif"])
def test_pages_are_mapped_to_classes_or_refused(tmp_path, slide, scheme, drawn, name, kind):
    pages = two_pages(drawn, kind)
    path = tmp_path / name
    if name == "pillow.tif":
        Image.fromarray(pages[0]).save(path, save_all=True, append_images=[Image.fromarray(pages[1])])
    else:
        options = {"imagej": {"imagej": True}, "a": {"metadata": {"axes": "CYX"}}, "plain": {"metadata": None}}
        tifffile.imwrite(path, pages, **options.get(name.split(".")[0], {}))
    with pytest.raises(AnnotationError, match=rf"{name}: it has 2 pages of 120 x 100 pixels\. .*label_pages"):
        read_annotations(path, scheme, label_values={"0": None, "255": "stroma"})
    expected = drawn.copy()
    expected[60, 5] = CARCINOMA
    found = labels(path, scheme, slide, label_pages={"1": "carcinoma", "0": "stroma"})
    assert np.array_equal(found, expected)
    # What a page leaves out takes back what lies below it.
    expected[expected == CARCINOMA] = 0
    assert np.array_equal(labels(path, scheme, slide, label_pages={0: "stroma", 1: None}), expected)


@pytest.mark.parametrize(
    ("pages", "says"),
    [
        ({"0": "stroma"}, "says nothing of page 1"),
        ({"0": "stroma", "1": None, "2": None}, "maps '2'.*pages 0 to 1"),
        ({"0": "stroma", "one": None}, "maps 'one'"),
        ({"0": "stroma", "1": "tumour"}, "maps '1' to 'tumour': no class 'tumour'"),
    ],
)
def test_label_pages_that_do_not_fit_are_refused(tmp_path, scheme, drawn, pages, says):
    tifffile.imwrite(tmp_path / "a.tif", two_pages(drawn, "uint8"), metadata=None)
    with pytest.raises(AnnotationError, match=rf"a\.tif: label_pages {says}"):
        read_annotations(tmp_path / "a.tif", scheme, label_pages=pages)
    with pytest.raises(AnnotationError, match="both given"):
        read_annotations(tmp_path / "a.tif", scheme, label_pages={0: None, 1: None}, label_values={0: None})


def test_the_levels_of_a_pyramid_are_no_pages(tmp_path, slide, scheme, drawn):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for step in (1, 2, 4):
            file.write(drawn[::step, ::step].astype(np.int16), tile=(16, 16), metadata=None, subfiletype=int(step > 1))
    assert np.array_equal(labels(tmp_path / "a.tif", scheme, slide), drawn)


def test_pages_of_other_pixel_types_are_refused(tmp_path, scheme, drawn):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(drawn, metadata=None)
        file.write(drawn.astype(np.uint16), metadata=None)
    with pytest.raises(AnnotationError, match="page 1 has pixels of another kind"):
        read_annotations(tmp_path / "a.tif", scheme, label_pages={0: "stroma", 1: None})


# ---- Damage, and the way through a datalist


def test_damaged_label_tiffs_say_where(tmp_path, slide, scheme, drawn):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, drawn.astype(np.int32), tile=(32, 32), metadata=None, compression="zlib")
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[5]
    path.write_bytes(whole[:offset] + b"\0" * 40 + whole[offset + 40 :])
    with pytest.raises(AnnotationError, match=rf"a\.tif: page 0, tile 5 \(byte {offset}\) cannot be decoded"):
        labels(path, scheme, slide)
    for size in range(4, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(AnnotationError, match=r"a\.tif.*undamaged"):
            labels(path, scheme, slide)


def test_channels_and_pages_travel_in_a_datalist(tmp_path, slide, scheme, drawn):
    write(tmp_path / "red.png", np.dstack([drawn, drawn * 0, drawn * 0]))
    tifffile.imwrite(tmp_path / "pages.tif", two_pages(drawn, "uint8"), metadata=None)
    entry = {"image": "slide.png", "mpp": 0.5}
    entries = [
        {**entry, "label": "red.png", "label_channel": "red"},
        {**entry, "label": "pages.tif", "label_pages": {"0": None, "1": "carcinoma"}},
        {**entry, "label": "pages.tif", "label_pages": {"0": "stroma", "1": None}},
    ]
    (tmp_path / "d.json").write_text(json.dumps({"training": entries}))
    items = load_datalist(tmp_path / "d.json", "training")
    store = SlideStore(scheme)
    found = [store.labels(item).label_map(slide, (50, 60), 0.5, (100, 120)) for item in items]
    assert np.array_equal(found[0], drawn)
    assert np.unique(found[1]).tolist() == [0, CARCINOMA]
    assert np.unique(found[2]).tolist() == [0, STROMA]
    # Patch indices are kept by these.
    assert label_fingerprint(items[1]) != label_fingerprint(items[2])
    assert len(label_fingerprint({"label": items[1]["label"]})) == 6


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_bmps_are_read_as_the_png_is(tmp_path, slide, scheme, drawn, mode):
    image = Image.fromarray(drawn)
    if mode == "P":
        image = Image.fromarray(drawn, mode="P")
        image.putpalette([0, 0, 0, 250, 20, 30, 0, 90, 0, 7, 7, 7, 80, 160, 240])
    image.convert(mode).save(tmp_path / "a.bmp")
    assert np.array_equal(labels(tmp_path / "a.bmp", scheme, slide), drawn)
    content = (tmp_path / "a.bmp").read_bytes()
    (tmp_path / "a.bmp").write_bytes(content[: len(content) // 2])
    with pytest.raises(AnnotationError, match="Pillow cannot read it"):
        labels(tmp_path / "a.bmp", scheme, slide)


def test_a_bmp_of_one_bit_is_read(tmp_path, slide, scheme, drawn):
    Image.fromarray(drawn > 0).save(tmp_path / "a.bmp")
    found = labels(tmp_path / "a.bmp", scheme, slide, label_values={0: None, 1: "stroma"})
    assert np.array_equal(found, np.where(drawn > 0, STROMA, 0))


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG"])
def test_jpegs_are_no_label_images_and_the_reason_is_said(tmp_path, scheme, drawn, name):
    Image.fromarray(drawn).save(tmp_path / name, "JPEG")
    with pytest.raises(AnnotationError, match="a JPEG, whose compression changes the values of labels. Export.*PNG"):
        read_annotations(tmp_path / name, scheme)


@pytest.mark.parametrize(
    ("content", "name"), [("JPEG", "a.png"), ("JPEG", "a.bmp"), ("WEBP", "a.png"), ("JPEG2000", "a.png")]
)
def test_a_lossy_image_is_refused_by_its_content_whatever_its_name(tmp_path, scheme, drawn, content, name):
    Image.fromarray(drawn).save(tmp_path / name, content)
    with pytest.raises(AnnotationError, match=f"content is {content}, whose compression changes the values of labels"):
        read_annotations(tmp_path / name, scheme)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp"])
def test_a_tiff_of_lossy_tiles_is_refused(tmp_path, scheme, drawn, compression):
    pixels = np.repeat(drawn[..., None], 3, axis=2) if compression == "webp" else drawn
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), compression=compression)
    with pytest.raises(AnnotationError, match="page 0 is compressed as .*, which changes the values of labels"):
        read_annotations(tmp_path / "a.tif", scheme)
