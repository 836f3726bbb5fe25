"""Specks and small holes go to what surrounds them, wherever blocks lie."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from common.annotations import read_annotations
from common.maps import MapStore, TileGrid
from common.outputs.blocks import label_areas
from common.outputs.polygon_file import write_polygons
from common.outputs.polygon_options import PolygonOptions
from common.outputs.sieve import sieved


def store_of(folder, labels: np.ndarray, block: int) -> MapStore:
    store = MapStore(folder / f"labels{block}", labels.shape, block)
    for top in range(0, labels.shape[0], block):
        for left in range(0, labels.shape[1], block):
            store.write(top, left, labels[top : top + block, left : left + block])
    return store


def result(store: MapStore, min_pixels: float, **options) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    with sieved(store, min_pixels, **options) as made:
        return made.store.read(0, 0, *store.shape), made.regions, made.pixels, made.empty


def expected(
    labels: np.ndarray, min_pixels: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of a whole image: rings of pixels around what is kept, the upper neighbour first."""
    small = np.zeros(labels.shape, dtype=bool)
    regions, pixels = np.zeros(256, dtype=int), np.zeros(256)
    parts = np.ones(labels.shape) if weights is None else weights
    for label in np.unique(labels):
        numbers, count = ndimage.label(labels == label)
        areas = np.bincount(numbers.ravel(), parts.ravel(), minlength=count + 1)
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
def test_the_result_does_not_depend_on_blocks(noisy, tmp_path, block, reach):
    wanted, regions, pixels = expected(noisy, 60)
    found = result(store_of(tmp_path, noisy, block), 60, reach=reach)
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
    found, regions, pixels, _ = result(store_of(tmp_path, labels, 10), 16)
    assert np.array_equal(found, np.where(labels == 3, 1, labels))
    assert regions[3] == 1
    assert pixels[3] == 8
    assert regions.sum() == 1


def test_holes_of_label_0_are_filled_and_large_ones_stay(tmp_path):
    labels = np.full((40, 40), 5, dtype=np.uint8)
    labels[3:5, 3:5] = 0
    labels[20:30, 20:30] = 0
    found, regions, pixels, _ = result(store_of(tmp_path, labels, 16), 50)
    assert (found[3:5, 3:5] == 5).all()
    assert (found[20:30, 20:30] == 0).all()
    assert (regions[0], pixels[0]) == (1, 4)


def test_a_speck_between_two_regions_is_divided_between_them(tmp_path):
    row = np.array([1] * 12 + [3] * 4 + [2] * 12, dtype=np.uint8)
    found = result(store_of(tmp_path, np.stack([row] * 3), 5), 13)[0]
    assert found.tolist() == [[1] * 14 + [2] * 14] * 3


def test_blocks_that_were_never_written_are_label_0_of_their_size(tmp_path):
    store = MapStore(tmp_path / "c", (64, 96), 32)
    store.write(0, 0, np.full((32, 32), 0, dtype=np.uint8))
    speck = np.zeros((32, 32), dtype=np.uint8)
    speck[30:, 30:] = 1
    store.write(0, 32, speck)
    found, regions, _, _ = result(store, 20)
    assert not found.any()
    assert regions.tolist() == [0, 1] + [0] * 254


def test_if_all_regions_are_small_none_is_kept(tmp_path):
    labels = (np.indices((20, 20)).sum(axis=0) % 2 + 1).astype(np.uint8)
    found, regions, pixels, empty = result(store_of(tmp_path, labels, 8), 2)
    assert empty
    assert not found.any()
    assert (regions[1], regions[2], pixels[1] + pixels[2]) == (200, 200, 400)


def test_its_folders_are_removed(noisy, tmp_path):
    store = store_of(tmp_path, noisy, 64)
    with pytest.raises(RuntimeError, match="stopped"), sieved(store, 60):
        raise RuntimeError("stopped")
    assert [path.name for path in tmp_path.iterdir()] == ["labels64"]
    assert np.array_equal(store.read(0, 0, *noisy.shape), noisy)


# Of the map's last row 0.37 of a pixel is on the slide, of its last column 0.61.
EDGE = TileGrid((round(149.37 * 100), round(209.61 * 100)), (100.0, 100.0), 30, 2)


def parts_on_slide(shape):
    """The part of each pixel on the slide."""
    parts = np.ones(shape)
    parts[-1] *= 0.37
    parts[:, -1] *= 0.61
    return parts


@pytest.mark.parametrize("block", [32, 100, 256])
def test_pixels_at_the_slides_edge_count_by_their_part_on_the_slide(noisy, tmp_path, block):
    assert EDGE.shape == noisy.shape
    labels = noisy.copy()
    # Sixty pixels along the edge are 22 of the slide, and sixty within it are sixty.
    labels[-1, :60], labels[100, 20:80] = 5, 5
    labels[-2, :61] = labels[99, 19:81] = labels[101, 19:81] = 4
    wanted, regions, pixels = expected(labels, 60, parts_on_slide(labels.shape))
    store = store_of(tmp_path, labels, block)
    found = result(store, 60, grid=EDGE)
    assert np.array_equal(found[0], wanted)
    assert np.array_equal(found[1], regions)
    assert found[2] == pytest.approx(pixels)
    assert not np.array_equal(wanted, expected(labels, 60)[0])


@pytest.mark.parametrize("min_area", [0.0, 60.0])
def test_areas_of_polygons_of_what_is_merged_and_of_classes_agree(noisy, scheme, tmp_path, min_area):
    store = store_of(tmp_path, noisy, 64)
    options = PolygonOptions(min_area=min_area, simplify=0, skip=[])
    said = write_polygons(tmp_path / "p.geojson", store, EDGE, 1.0, scheme, options)
    drawn = np.zeros(256)
    for region in read_annotations(tmp_path / "p.geojson", scheme).regions:
        drawn[region.label] += region.outline.area / 100**2
    before = label_areas(store, EDGE)
    weights = parts_on_slide(noisy.shape)
    assert before[:6] == pytest.approx([weights[noisy == label].sum() for label in range(6)])
    kept = expected(noisy, min_area, weights)[0] if min_area else noisy
    assert drawn[1:6] == pytest.approx([weights[kept == label].sum() for label in range(1, 6)], rel=1e-6)
    merged = {name: figures["area_mm2"] * 1e6 for name, figures in said["merged"].items()}
    wanted = expected(noisy, min_area, weights)[2] if min_area else np.zeros(256)
    assert [merged[tissue.name] for tissue in scheme.classes[:5]] == pytest.approx(wanted[1:6].tolist(), abs=1)
