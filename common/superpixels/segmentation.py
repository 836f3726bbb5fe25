"""SLIC superpixels of regions of any size, tile by tile."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import slic
from skimage.util import img_as_float32
from tqdm import tqdm

from .region import Region, Window

AREA_UM2 = 187.5
# Side and margin of a tile in steps of the grid of seeds, so that neighbouring tiles have the same seeds.
_TILE, _MARGIN = 36, 4
_BAND_PIXELS = 1 << 20


class Superpixels:
    """The superpixels of a region.

    Attributes:
        labels: ``(H, W)`` int32 on disk: the number of each pixel's superpixel, from 0.
        count: number of superpixels.
        region: the region.
    """

    def __init__(self, region: Region) -> None:
        self.region = region
        self._folder = Path(tempfile.mkdtemp(prefix="superpixels-"))
        weakref.finalize(self, rmtree, self._folder, ignore_errors=True)
        self.labels = np.memmap(self._folder / "labels", dtype=np.int32, mode="w+", shape=region.shape)
        self.labels[:] = -1
        self.count = 0

    def pixels(self) -> np.ndarray:
        """Return the number of pixels of each superpixel, ``(count,)`` int64."""
        total = np.zeros(self.count, dtype=np.int64)
        for band in self._bands():
            total += np.bincount(band.ravel(), minlength=self.count)
        return total

    def centroids(self) -> np.ndarray:
        """Return row and column of each centroid in the region's pixels, ``(count, 2)``. The centre of pixel i is at
        i + 0.5."""
        total = np.zeros((self.count, 2))
        top = 0
        for band in self._bands():
            row, column = np.mgrid[top : top + band.shape[0], : band.shape[1]] + 0.5
            for axis, at in enumerate((row, column)):
                total[:, axis] += np.bincount(band.ravel(), at.ravel(), minlength=self.count)
            top += band.shape[0]
        return total / self.pixels()[:, None]

    def neighbours(self) -> np.ndarray:
        """Return the pairs of superpixels that touch along a pixel edge, ``(pairs, 2)`` int64; each pair once, its
        smaller number first."""
        found = [np.zeros((0, 2), dtype=np.int64)]
        last: np.ndarray | None = None
        for band in self._bands():
            rows = band if last is None else np.concatenate([last, band])
            for first, second in ((rows[:-1], rows[1:]), (band[:, :-1], band[:, 1:])):
                differ = first != second
                pairs = np.stack([first[differ], second[differ]], axis=1).astype(np.int64)
                found.append(np.unique(np.sort(pairs, axis=1), axis=0))
            last = band[-1:]
        return np.unique(np.concatenate(found), axis=0)

    def _bands(self) -> Iterator[np.ndarray]:
        height = max(1, _BAND_PIXELS // self.labels.shape[1])
        for top in range(0, self.labels.shape[0], height):
            yield np.asarray(self.labels[top : top + height])


def superpixels(
    region: Region, area: float = AREA_UM2, compactness: float = 10.0, iterations: int = 10, progress: bool = True
) -> Superpixels:
    """Divide a region into superpixels by SLIC (Achanta et al. 2012) in L*a*b*, in memory that does not grow with it.

    The region is processed in tiles with margins, from seeds that neighbouring tiles share. A superpixel belongs to the
    tile in which its centroid lies, wherever its pixels are, so none is cut at a seam. A pixel that two tiles claim
    goes to the first tile; a pixel that none claims goes to the nearest superpixel.

    Args:
        region: the region.
        area: area of a superpixel in µm². The paper's 3,000 pixels at 40x (0.25 µm/px) are 187.5 µm².
        compactness: see :func:`skimage.segmentation.slic`.
        iterations: number of iterations of the clustering.
        progress: show a progress bar.

    Raises:
        ValueError: a superpixel would have fewer than 16 pixels.
        SlideError: pixels of the region cannot be decoded.

    Source: Mehta et al. 2018, section 6.
    """
    step = round((area / region.mpp**2) ** 0.5)
    if step < 4:
        raise ValueError(
            f"superpixels of {area:g} µm² have {area / region.mpp**2:.0f} pixels at {region.mpp:g} µm/px. "
            "Ask for larger ones, or for a finer µm/px"
        )
    found = Superpixels(region)
    tiles = list(region.tiles(_TILE * step))
    name = region.slide.name
    for tile in tqdm(tiles, desc=f"superpixels of {name}", unit="tile", delay=2, leave=False, disable=not progress):
        window = region.padded(tile, _MARGIN * step)
        found.count += _claim(found, tile, window, _slic(region.image(window), step, compactness, iterations))
    for tile in tiles:
        _fill(found, tile, region.padded(tile, _MARGIN * step))
    return found


def _slic(image: np.ndarray, step: int, compactness: float, iterations: int) -> np.ndarray:
    """Return the number of each pixel's superpixel in a tile, ``(h, w)`` from 0."""
    lab = rgb2lab(img_as_float32(image))
    # scikit-image scales its input to 0..1 by its extremes, which differ from tile to tile. Undone by the compactness,
    # so that the ratio of colour to distance is the same everywhere. Without any contrast, distance alone decides.
    spread = float(np.ptp(lab)) or 1.0
    # With the count rounded down, scikit-image places its seeds a step apart, the first at half a step.
    count = image.shape[0] * image.shape[1] // step**2
    if count < 2:
        return np.zeros(image.shape[:2], dtype=np.int64)
    return slic(lab, count, compactness / spread, iterations, convert2lab=False, start_label=0)


def _claim(found: Superpixels, tile: Window, window: Window, segments: np.ndarray) -> int:
    """Assign free pixels to those segments whose centroids lie in the tile. Return the number of these segments."""
    sizes = np.maximum(np.bincount(segments.ravel()), 1)
    inside = np.ones(len(sizes), dtype=bool)
    spans = ((window.top, tile.top, tile.height), (window.left, tile.left, tile.width))
    for at, (start, first, side) in zip(np.indices(segments.shape), spans, strict=True):
        centre = np.bincount(segments.ravel(), at.ravel()) / sizes + 0.5 + start
        inside &= (first <= centre) & (centre < first + side)
    place = found.labels[window.slices]
    taken = inside[segments] & (place < 0)
    own, numbers = np.unique(segments[taken], return_inverse=True)
    place[taken] = numbers + found.count
    return len(own)


def _fill(found: Superpixels, tile: Window, window: Window) -> None:
    """Assign the free pixels of a tile to the nearest superpixel."""
    around = np.asarray(found.labels[window.slices])
    if (around >= 0).all():
        return
    nearest = ndimage.distance_transform_edt(around < 0, return_distances=False, return_indices=True)
    filled = around[tuple(nearest)]
    top, left = tile.top - window.top, tile.left - window.left
    found.labels[tile.slices] = filled[top : top + tile.height, left : left + tile.width]
