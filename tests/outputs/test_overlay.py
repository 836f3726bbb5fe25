"""The slide with its classes, a legend and a scale bar."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from common.classes import ClassScheme
from common.maps import MapStore, TileGrid
from common.outputs.overlay import blend, letter_size, overview, wrapped, write_overlay
from common.outputs.panels import panels
from common.outputs.pyramid import write_image_pyramid, write_label_pyramid
from common.outputs.scale_bar import bar_length, bar_text, draw_scale_bar, font
from common.reports.html.slides import _layers
from common.slides import open_slide

GREY = 180


@pytest.fixture
def overlay(scheme, tmp_path):
    """Draw a grey slide of 400 x 600 pixels at 1 µm/px: the left third carcinoma, the middle background."""
    image = np.full((400, 600, 3), GREY, dtype=np.uint8)
    write_image_pyramid(tmp_path / "s.tif", (image[top : top + 256] for top in (0, 256)), (400, 600), 1.0)
    store = MapStore(tmp_path / "c.zarr", (400, 600), 1024)
    labels = np.zeros((400, 600), dtype=np.uint8)
    labels[:, :200], labels[:, 200:400] = 1, 3
    store.write(0, 0, labels)

    def draw(of: ClassScheme = scheme, caption: str | None = None) -> np.ndarray:
        path = tmp_path / "overlay.png"
        write_overlay(
            path, open_slide(tmp_path / "s.tif"), store, TileGrid((400, 600), (1.0, 1.0), 1024, 1), of, caption
        )
        return np.asarray(Image.open(path)).astype(int)

    return draw


def test_the_slide_shows_through_the_skipped_class(overlay, scheme):
    picture = overlay()
    red = np.round(np.array(scheme.by_name("carcinoma").color) * 0.45 + GREY * 0.55)
    assert np.abs(picture[:300, :195] - red).max() <= 3
    assert np.abs(picture[:300, 205:] - GREY).max() <= 3


def test_without_a_skipped_class_all_are_coloured(overlay, scheme):
    picture = overlay(ClassScheme(scheme.classes, unnamed_channels=[0]))
    yellow = np.round(np.array(scheme.by_name("background").color) * 0.45 + GREY * 0.55)
    assert np.abs(picture[:300, 205:395] - yellow).max() <= 3


def test_the_legend_has_the_colours_as_drawn_on_white(overlay, scheme):
    legend = {tuple(color) for color in overlay()[400:].reshape(-1, 3).tolist()}
    for tissue in scheme.classes:
        drawn = tuple(np.round(255 + (np.array(tissue.color) - 255) * 0.45).astype(int).tolist())
        assert (drawn in legend) == (tissue.name != "background"), tissue.name
        assert tissue.color not in legend


def test_a_caption_is_wrapped_below_the_legend(overlay):
    plain = overlay()
    text = "These weights have only ever seen painted slides and say nothing of real tissue. " * 2
    picture = overlay(caption=text)
    size = letter_size(600)
    assert np.array_equal(picture[: len(plain)], plain)
    below = picture[len(plain) :]
    lines = wrapped(text, font(max(12, round(0.85 * size))), 600 - 1.2 * size)
    assert len(lines) > 1
    assert " ".join(lines) == text.strip()
    assert len(below) >= 12 * len(lines)
    assert below.min() < 100
    assert below[:, -5:].min() == 255


@pytest.mark.parametrize(
    ("um", "length", "text"),
    [(221.6, 200, "200 µm"), (80, 100, "100 µm"), (900, 1000, "1 mm"), (3600, 5000, "5 mm"), (1.3, 1, "1 µm")],
)
def test_a_bar_is_1_2_or_5_of_its_unit(um, length, text):
    assert bar_length(um) == pytest.approx(length)
    assert bar_text(bar_length(um)) == text


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_the_bar_is_as_long_as_it_says_on_any_background(ground):
    """1,000 pixels at 2 µm/px: a fifth is 400 µm, the nearest round length 500 µm, 250 pixels."""
    picture = Image.new("RGB", (1000, 600), (ground, ground, ground))
    draw_scale_bar(picture, 2.0, 20)
    pixels = np.asarray(picture)[..., 0].astype(int)
    row = pixels[600 - 20 - 2]
    start = 1000 - 20 - 250
    assert (row[start : start + 250] == 0).all()
    assert (row[start - 2 : start] == 255).all()
    assert (row[start + 250 : start + 252] == 255).all()
    assert (pixels[:500] == ground).all()
    assert (pixels[:, : start - 10] == ground).all()


def test_a_legend_wider_than_its_picture_is_not_cut(scheme):
    picture = np.zeros((20, 40, 3), dtype=np.uint8)
    drawn = np.asarray(panels({"a": picture}, scheme))
    assert drawn.shape[1] > 120
    assert (drawn[:, -2:] == 255).all()


def test_labels_can_be_left_clear(scheme):
    tissue = np.full((1, 4, 3), 100, dtype=np.uint8)
    labels = np.array([[0, 1, 3, 4]], dtype=np.uint8)
    mixed = blend(tissue, labels, scheme, 0.5, clear=[3])
    assert (mixed[0, [0, 2]] == 100).all()
    assert mixed[0, 1].tolist() == [160, 70, 70]
    assert mixed[0, 3].tolist() == [80, 135, 90]


def test_the_overlay_and_the_page_show_the_slide_at_the_pixels_of_its_map(tmp_path, scheme):
    """Also where the map's last row and column extend over the slide's edge."""
    path = tmp_path / "s.png"
    image = np.random.default_rng(0).integers(0, 256, (65, 97, 3), dtype=np.uint8)
    Image.fromarray(image).save(path)
    with open_slide(path, mpp=0.5) as slide:
        grid = TileGrid(slide.shape, slide.level0_pixels(1.0), 64, 1)
        store = MapStore(tmp_path / "labels", grid.shape, grid.chunk)
        shown = overview(slide, store, grid, 100).tissue
    assert shown.shape == (33, 49, 3)
    averaged = image[:64, :96].reshape(32, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(shown[:32, :48] - averaged).max() <= 1
    write_label_pyramid(tmp_path / "prediction.tif", store.bands(512), store.shape, 1.0, scheme)
    summary = {"settings": {"slide": {"bytes": path.stat().st_size}}, "label_map": {"shape": [33, 49], "mpp": 1.0}}
    tissue, _ = _layers(tmp_path / "prediction.tif", {"image": str(path), "mpp": 0.5}, summary, 100)
    assert np.array_equal(tissue, shown)
