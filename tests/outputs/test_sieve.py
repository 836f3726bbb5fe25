"""Specks and small holes go to what surrounds them, wherever blocks lie."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.maps import Canvas
from common.outputs.sieve import sieved


def canvas_of(folder, labels: np.ndarray, block: int) -> Canvas:
    canvas = Canvas(folder / f"labels{block}", labels.shape, block)
    for top in range(0, labels.shape[0], block):
        for left in range(0, labels.shape[1], block):
            canvas.write(top, left, labels[top : top + block, left : left + block])
    return canvas


def result(canvas: Canvas, min_pixels: float, **options) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    with sieved(canvas, min_pixels, **options) as made:
        return made.canvas.read(0, 0, *canvas.shape), made.regions, made.pixels, made.empty


def expected(labels: np.ndarray, min_pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of a whole image: rings of pixels around what is kept, the upper neighbour first."""
    small = np.zeros(labels.shape, dtype=bool)
    regions, pixels = np.zeros(256, dtype=int), np.zeros(256, dtype=int)
    for label in np.unique(labels):
        numbers, count = ndimage.label(labels == label)
        areas = np.bincount(numbers.ravel(), minlength=count + 1)
        areas[0] = labels.size
        small |= areas[numbers] < min_pixels
        regions[label], pixels[label] = (areas < min_pixels).sum(), areas[areas < min_pixels].sum()
    filled = np.where(small, -1, labels.astype(int))
    while (filled < 0).any():
        around = np.pad(filled, 1, constant_values=-1)
        before = filled
        for neighbour in (around[:-2, 1:-1], around[1:-1, :-2], around[1:-1, 2:], around[2:, 1:-1]):
            filled = np.where((before < 0) & (filled < 0), neighbour, filled)
    return filled.astype(np.uint8), regions, pixels


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    """Blobs of classes and label 0 under pixel noise, and a rectangle of nothing but noise, wider than labels spread in
    one pass."""
    random = np.random.default_rng(4)
    smooth = ndimage.gaussian_filter(random.normal(size=(150, 210)), 9)
    labels = np.digitize(smooth, np.quantile(smooth, [0.3, 0.5, 0.8]))
    noise = random.integers(0, 6, labels.shape)
    noisy = random.random(labels.shape) < 0.2
    noisy[40:110, 90:170] = True
    return np.where(noisy, noise, labels).astype(np.uint8)


@pytest.mark.parametrize(("block", "reach"), [(32, 128), (64, 7), (100, 128), (256, 128)])
def test_the_result_is_that_of_the_whole_map_wherever_blocks_lie(noisy, tmp_path, block, reach):
    wanted, regions, pixels = expected(noisy, 60)
    found = result(canvas_of(tmp_path, noisy, block), 60, reach=reach)
    assert pixels.sum() > 5000
    assert np.array_equal(found[0], wanted)
    assert np.array_equal(found[1], regions)
    assert np.array_equal(found[2], pixels)
    assert not found[3]


def test_a_region_counts_with_its_parts_in_other_blocks(tmp_path):
    labels = np.ones((30, 30), dtype=np.uint8)
    labels[8:12, 8:12] = 2
    labels[9:11, 18:22] = 3
    # Around a corner of blocks, through all four of them.
    labels[18:22, 18:22] = 4
    found, regions, pixels, _ = result(canvas_of(tmp_path, labels, 10), 16)
    assert np.array_equal(found, np.where(labels == 3, 1, labels))
    assert regions[3] == 1
    assert pixels[3] == 8
    assert regions.sum() == 1


def test_holes_of_label_0_are_filled_and_large_ones_stay(tmp_path):
    labels = np.full((40, 40), 5, dtype=np.uint8)
    labels[3:5, 3:5] = 0
    labels[20:30, 20:30] = 0
    found, regions, pixels, _ = result(canvas_of(tmp_path, labels, 16), 50)
    assert (found[3:5, 3:5] == 5).all()
    assert (found[20:30, 20:30] == 0).all()
    assert (regions[0], pixels[0]) == (1, 4)


def test_a_speck_between_two_regions_is_divided_between_them(tmp_path):
    row = np.array([1] * 12 + [3] * 4 + [2] * 12, dtype=np.uint8)
    found = result(canvas_of(tmp_path, np.stack([row] * 3), 5), 13)[0]
    assert found.tolist() == [[1] * 14 + [2] * 14] * 3


def test_blocks_that_were_never_written_are_label_0_of_their_size(tmp_path):
    canvas = Canvas(tmp_path / "c", (64, 96), 32)
    canvas.write(0, 0, np.full((32, 32), 0, dtype=np.uint8))
    speck = np.zeros((32, 32), dtype=np.uint8)
    speck[30:, 30:] = 1
    canvas.write(0, 32, speck)
    found, regions, _, _ = result(canvas, 20)
    assert not found.any()
    assert regions.tolist() == [0, 1] + [0] * 254


def test_of_nothing_but_small_regions_nothing_is_kept(tmp_path):
    labels = (np.indices((20, 20)).sum(axis=0) % 2 + 1).astype(np.uint8)
    found, regions, pixels, empty = result(canvas_of(tmp_path, labels, 8), 2)
    assert empty
    assert not found.any()
    assert (regions[1], regions[2], pixels[1] + pixels[2]) == (200, 200, 400)


def test_its_folders_are_removed(noisy, tmp_path):
    canvas = canvas_of(tmp_path, noisy, 64)
    with pytest.raises(RuntimeError, match="stopped"), sieved(canvas, 60):
        raise RuntimeError("stopped")
    assert [path.name for path in tmp_path.iterdir()] == ["labels64"]
    assert np.array_equal(canvas.read(0, 0, *noisy.shape), noisy)
