"""Superpixels of regions larger than a tile, and what is counted of them, on pictures whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.annotations import read_annotations
from common.phantom import BREAST
from common.slides import Slide, open_slide
from common.superpixels import (
    Region,
    Superpixels,
    SuperpixelSVM,
    majority_labels,
    segmentation,
    superpixel_features,
    superpixels,
)
from common.superpixels.features import BINS
from common.superpixels.region import Window
from tests.conftest import write_pyramid

RED, BLUE = (200, 60, 90), (60, 60, 160)


def slide_of(folder: Path, image: np.ndarray, mpp: float = 1.0) -> Slide:
    Image.fromarray(image.astype(np.uint8)).save(folder / "slide.png")
    return open_slide(folder / "slide.png", mpp=mpp)


def halves(height: int, width: int) -> np.ndarray:
    """Red on the left, blue on the right."""
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = RED, BLUE
    return image


def noisy(height: int, width: int) -> np.ndarray:
    random = np.random.default_rng(3)
    blobs = np.kron(random.integers(60, 230, (height // 20, width // 20, 3)), np.ones((20, 20, 1)))
    return blobs + random.normal(0, 6, blobs.shape)


def by_hand(region: Region, labels: list[list[int]]) -> Superpixels:
    found = Superpixels(region)
    found.labels[:] = labels
    found.count = int(np.max(labels)) + 1
    return found


def borders(labels: np.ndarray) -> np.ndarray:
    return np.concatenate([(labels[:-1] != labels[1:]).ravel(), (labels[:, :-1] != labels[:, 1:]).ravel()])


def test_every_pixel_is_of_one_superpixel_of_about_the_size_asked_for(tmp_path):
    region = Region(slide_of(tmp_path, noisy(300, 400)), 1.0)
    found = superpixels(region, area=100.0)
    assert found.labels.shape == (300, 400)
    assert set(np.unique(found.labels)) == set(range(found.count))
    assert found.count == pytest.approx(300 * 400 / 100, rel=0.15)
    assert found.pixels().sum() == 300 * 400


def test_superpixels_follow_edges(tmp_path):
    found = superpixels(Region(slide_of(tmp_path, halves(120, 160)), 1.0), area=100.0)
    left, right = np.unique(found.labels[:, :80]), np.unique(found.labels[:, 80:])
    assert not set(left) & set(right)


def test_tiles_leave_no_seams(tmp_path, monkeypatch):
    """As in one piece, but for what little the margins hide; contrast far away changes nothing."""
    image = noisy(400, 400)
    image[:200, :200] = 120 + (image[:200, :200] - 120) * 0.2
    region = Region(slide_of(tmp_path, image), 1.0)
    whole = np.asarray(superpixels(region, area=100.0).labels)
    monkeypatch.setattr(segmentation, "_TILE", 9)
    tiled = np.asarray(superpixels(region, area=100.0).labels)
    both = (borders(whole) & borders(tiled)).sum()
    assert both / borders(whole).sum() > 0.97
    # As many superpixels go on across the seams as across these lines of one piece.
    across = [(labels[:, :-1] == labels[:, 1:]).mean(axis=0)[89::90].mean() for labels in (tiled, whole)]
    assert across[0] == pytest.approx(across[1], abs=0.02)
    assert across[0] > 0.1


def test_a_region_is_a_rectangle_on_the_slides_own_lattice(tmp_path):
    image = noisy(200, 240)
    slide = slide_of(tmp_path, image, mpp=0.5)
    region = Region(slide, 1.0, (20, 40, 100, 120))
    assert (region.shape, region.start) == ((50, 60), (10, 20))
    window = next(region.tiles(1000))
    averaged = image.astype(np.uint8)[20:120, 40:160].reshape(50, 2, 60, 2, 3).mean(axis=(1, 3))
    assert np.abs(region.image(window) - averaged).max() <= 1
    # Of a rectangle that reaches beyond the slide, what is on it.
    over = Region(slide, 1.0, (180.0, -3.5, 60, 43.5))
    assert (over.shape, over.start) == ((10, 20), (90, 0))
    for wrong in ((200, 0, 10, 10), (-20, 0, 10, 10), (0, 0, 0, 5)):
        with pytest.raises(ValueError, match="region"):
            Region(slide, 1.0, wrong)
    with pytest.raises(ValueError, match="superpixels of 10 µm² have 10 pixels at 1 µm/px"):
        superpixels(region, area=10.0)


def test_neighbours_centroids_and_sizes(tmp_path):
    region = Region(slide_of(tmp_path, noisy(40, 60)[:3, :4]), 1.0)
    found = by_hand(region, [[0, 0, 1, 1], [0, 2, 1, 1], [3, 3, 3, 1]])
    assert found.neighbours().tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert found.pixels().tolist() == [3, 5, 1, 3]
    assert found.centroids()[2].tolist() == [1.5, 1.5]
    assert found.centroids()[3].tolist() == [2.5, 1.5]


def test_the_majority_of_labelled_pixels_names_a_superpixel(tmp_path):
    region = Region(slide_of(tmp_path, noisy(40, 60)[:2, :6]), 1.0)
    found = by_hand(region, [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]])
    Image.fromarray(np.array([[4, 4, 0, 0, 0, 0], [1, 4, 0, 2, 5, 3]], dtype=np.uint8)).save(tmp_path / "labels.png")
    labels = majority_labels(found, read_annotations(tmp_path / "labels.png", BREAST.scheme), 6)
    # Of the second three of four pixels are not labelled; of the last as many as are, one of each.
    assert labels.tolist() == [4, 0, 3]


def test_histograms_of_a_superpixel_and_of_the_circles_around_it(tmp_path):
    """Two flat colours: one bin of each histogram for the superpixel itself; in a circle across the border the share of
    the other colour is that of a circle's segment."""
    region = Region(slide_of(tmp_path, halves(200, 200)), 1.0)
    found = superpixels(region, area=100.0)
    features = superpixel_features(found, [40.0], progress=False)
    assert features.shape == (found.count, 2 * BINS)
    centroids = found.centroids()
    middle = (np.abs(centroids[:, 0] - 100) < 55) & (centroids[:, 1] < 100)
    inner = middle & (np.abs(centroids[:, 1] - 80) < 6)
    own = features[inner][:, :48].reshape(-1, 3, 16)
    assert (own.max(axis=2) == 1).all()
    for row, centroid in zip(features[inner], centroids[inner], strict=True):
        distance = 100 - centroid[1]
        segment = np.arccos(distance / 40) - distance / 40 * (1 - (distance / 40) ** 2) ** 0.5
        red, around = row[:16].argmax(), row[BINS : BINS + 16]
        assert 1 - around[red] == pytest.approx(segment / np.pi, abs=0.06)
    # All of a flat picture's points are as bright as their middle: the pattern of eight.
    flat = centroids[:, 1] < 80
    assert (features[flat][:, 48 + 8] == 1).all()
    assert (features[flat][:, 58 + 8] == 1).all()


def test_a_window_of_a_nearly_square_level_is_part_of_a_larger_one(tmp_path):
    """The coarser level has pixels of 2.0017 x 2 of the finer one's."""
    tall, wide = 2398, 24
    level = np.random.default_rng(0).integers(0, 256, (tall, wide, 3), dtype=np.uint8)
    finest = level.repeat(2, axis=0).repeat(2, axis=1)
    finest = np.concatenate([finest, finest[-4:]])
    path = write_pyramid(tmp_path / "a.tif", [finest, level], (0.5, 0.5), lossless=True)
    region = Region(open_slide(path), 1.0)
    whole = region.image(Window(0, 0, *region.shape))
    part = Window(2000, 4, 64, 16)
    assert np.array_equal(region.image(part), whole[part.slices])


def test_classes_weigh_alike_unless_asked_otherwise(scheme):
    """One overlapping feature, nine to one: unweighted, the SVM calls everything the larger class."""
    random = np.random.default_rng(3)
    labels = np.array([1] * 900 + [2] * 100)
    features = np.where(labels == 1, 0.0, 0.8)[:, None] + random.normal(size=(1000, 4))
    shares = {}
    for weight in (None, "balanced"):
        machine = SuperpixelSVM(scheme, kernel="linear", class_weight=weight)._pipeline(1000).fit(features, labels)
        shares[weight] = (machine.predict(features) == 2).mean()
    assert shares[None] < 0.1 < 0.15 < shares["balanced"]
    with pytest.raises(ValueError, match="class_weight must be null or \"balanced\", not 'heavy'"):
        SuperpixelSVM(scheme, class_weight="heavy")
