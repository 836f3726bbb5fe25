"""One suite over every backend."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.slides import FieldOfView, PatchReader, Slide, SlideError, open_slide
from tests.conftest import ramp, shown_coordinates, write_pyramid

SIZE = 48
BACKENDS = ("tiff", "openslide", "cucim", "image")
# Sizes of the levels.
PYRAMIDS = {"one level": [48], "2 and 4": [48, 24, 12], "3 and 6": [48, 16, 8], "2.4 and 4.8": [48, 20, 10]}


def make(folder: Path, backend: str, pyramid: str = "2 and 4", mpp: float = 0.5) -> Slide:
    levels = [ramp(side, SIZE) for side in PYRAMIDS[pyramid]]
    if backend == "image":
        Image.fromarray(levels[0]).save(folder / "ramp.png")
        return open_slide(folder / "ramp.png", mpp=mpp)
    return open_slide(write_pyramid(folder / "ramp.tif", levels, (mpp, mpp)), backend)


@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_centres_of_all_views_agree(tmp_path, backend, pyramid):
    views = [FieldOfView(0.5, 6), FieldOfView(1.0, 6), FieldOfView(2.0, 6)]
    slide = make(tmp_path, backend, pyramid)
    reader = PatchReader(views, snap=0)
    for center in np.random.default_rng(0).uniform(14, 34, (20, 2)):
        patch = reader.read(slide, tuple(center))
        for number, view in enumerate(views):
            shown = shown_coordinates(patch[3 * number : 3 * number + 3].transpose(1, 2, 0)).mean(axis=(0, 1))
            assert np.abs(shown - center).max() < 0.1 * view.mpp / slide.mpp, (view, center)


@pytest.mark.parametrize("mpp", [0.5, 0.515, 0.7, 1.0, 1.3, 2.0, 3.3])
@pytest.mark.parametrize("backend", BACKENDS)
def test_mpp_is_met_between_levels(tmp_path, backend, mpp):
    slide = make(tmp_path, backend, "2.4 and 4.8")
    shown = shown_coordinates(slide.read((24.2, 23.9), mpp, 6, level_tolerance=0))
    for axis in (0, 1):
        slope = np.polyfit(np.arange(6), shown[..., axis].mean(axis=1 - axis), 1)[0]
        assert slope == pytest.approx(mpp / 0.5, rel=0.05)


def test_a_level_within_three_percent_is_read_as_stored(tmp_path):
    slide = make(tmp_path, "tiff", mpp=0.4979)
    grid = slide.sampling_grid(0.5)
    assert (grid.level, grid.step, grid.mpp) == (0, (1.0, 1.0), 0.4979)
    assert np.array_equal(slide.read((24, 24), 0.5, 30), slide.read((24, 24), 0.4979, 30))
    actual = PatchReader([FieldOfView(0.5, 16), FieldOfView(1.0, 16), FieldOfView(2.0, 16)]).effective_views(slide)
    assert [view.mpp for view in actual] == pytest.approx([0.4979, 0.9958, 1.9916])
    assert slide.sampling_grid(0.5, level_tolerance=0).mpp == 0.5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("arguments", [{}, {"level_tolerance": 0}, {"resample": "decimate"}], ids=str)
def test_one_read_equals_many(tmp_path, backend, arguments):
    slide = make(tmp_path, backend, "2.4 and 4.8")
    for mpp in (0.4, 0.5, 0.9, 1.25, 2.0):
        step = slide.level0_pixels(mpp)[0]
        whole = slide.read((23.3, 26.9), mpp, 48, fill="reflect", **arguments)
        for row in range(3):
            for column in range(3):
                center = (23.3 + (row - 1) * 16 * step, 26.9 + (column - 1) * 16 * step)
                part = slide.read(center, mpp, 16, fill="reflect", **arguments)
                assert np.array_equal(part, whole[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]), mpp


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("fill", "mode"), [("reflect", "reflect"), ("symmetric", "symmetric"), ("white", 255), ("black", 0)]
)
def test_borders_and_reads_larger_than_the_slide(tmp_path, backend, fill, mode):
    slide = make(tmp_path, backend)
    inside = slide.read((24, 24), 0.5, SIZE)
    options = {"mode": mode} if isinstance(mode, str) else {"mode": "constant", "constant_values": mode}
    padded = np.pad(inside, ((100, 100), (100, 100), (0, 0)), **options)
    assert np.array_equal(slide.read((24, 24), 0.5, SIZE + 200, fill=fill), padded)
    assert np.array_equal(slide.read((0, 48), 0.5, 60, fill=fill), padded[70:130, 118:178])


def test_decimation_is_striding(tmp_path):
    slide = make(tmp_path, "tiff", "one level")
    center = (20, 24)
    patch = slide.read(center, 0.5, 32)
    reader = PatchReader([FieldOfView(0.5, 8), FieldOfView(1.0, 8), FieldOfView(2.0, 8)], resample="decimate")
    views = reader.read(slide, center).reshape(3, 3, 8, 8).transpose(0, 2, 3, 1)
    assert np.array_equal(views[0], patch[12:20, 12:20])
    assert np.array_equal(views[1], patch[::2, ::2][4:12, 4:12])
    assert np.array_equal(views[2], patch[::4, ::4])


def test_averaging_is_the_mean_of_the_covered_pixels(tmp_path):
    slide = make(tmp_path, "image", "one level")
    patch = slide.read((20, 22), 0.5, 32).astype(float)
    mean = patch.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    assert np.array_equal(slide.read((20, 22), 2.0, 8), np.floor(mean + 0.5))


@pytest.mark.parametrize("backend", ["tiff", "openslide"])
def test_pixels_that_are_not_square_become_square(tmp_path, backend):
    slide = open_slide(write_pyramid(tmp_path / "flat.tif", [ramp(SIZE, SIZE)], (0.5, 0.25)), backend)
    assert slide.mpp == pytest.approx(np.sqrt(0.125))
    shown = shown_coordinates(slide.read((24, 24), 1.0, 8))
    assert np.polyfit(np.arange(8), shown[..., 0].mean(axis=1), 1)[0] == pytest.approx(2, rel=0.02)
    assert np.polyfit(np.arange(8), shown[..., 1].mean(axis=0), 1)[0] == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("base", [0.25, 0.5])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_field_of_view_on_40x_and_20x_slides(tmp_path, backend, base):
    slide = make(tmp_path, backend, mpp=base)
    shown = shown_coordinates(slide.read((24, 24), 1.0, 10)).mean(axis=1)[:, 0]
    assert shown[-1] - shown[0] == pytest.approx(9 * 1.0 / base, abs=0.2)
    assert shown.mean() == pytest.approx(24, abs=0.1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_read_what_one_reads(tmp_path, backend):
    slide = make(tmp_path, backend)
    centres = [tuple(c) for c in np.random.default_rng(1).uniform(0, SIZE, (60, 2))]
    alone = [slide.read(c, 0.9, 40) for c in centres]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda c: slide.read(c, 0.9, 40), centres))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pickled_slide_opens_again(tmp_path, backend):
    slide = make(tmp_path, backend)
    again = pickle.loads(pickle.dumps(slide))
    assert again.backend == slide.backend
    assert np.array_equal(again.read((20, 20), 1.0, 30), slide.read((20, 20), 1.0, 30))


def test_finer_than_the_slide_warns_once_then_refuses(tmp_path, caplog):
    slide = make(tmp_path, "tiff")
    slide.read((24, 24), 0.25, 16)
    slide.read((24, 24), 0.3, 16)
    assert sum("interpolated" in record.message for record in caplog.records) == 1
    with pytest.raises(SlideError, match="more than twice as fine"):
        slide.read((24, 24), 0.2, 16)


def test_the_tile_anchor_is_the_enclosing_cell(tmp_path):
    slide = make(tmp_path, "tiff")
    reader = PatchReader([FieldOfView(0.5, 4), FieldOfView(2.0, 4, anchor="tile")])
    for center in ((17.0, 34.0), (24.0, 47.0)):
        tile = reader.read(slide, center)[3:].transpose(1, 2, 0)
        cell = [(c // 16 + 0.5) * 16 for c in center]
        assert np.array_equal(tile, slide.read((cell[0], cell[1]), 2.0, 4))


def test_backends_agree_on_a_real_slide(shared_data):
    for path in sorted((shared_data / "slides").glob("*.svs")):
        tiff, other = open_slide(path, "tiff"), open_slide(path, "openslide")
        assert tiff.mpp == other.mpp
        difference = np.abs(tiff.read((900, 900), 0.499, 600).astype(int) - other.read((900, 900), 0.499, 600))
        assert difference.max() <= 2
