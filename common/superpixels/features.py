"""Features of superpixels: histograms of colour and texture in the superpixel and in circles around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.color import rgb2hed, rgb2lab
from skimage.feature import local_binary_pattern
from tqdm import tqdm

from .region import Region, Window
from .segmentation import Superpixels

NEIGHBOURHOODS = (25.0, 50.0)
_TILE = 1024
# Lower and upper ends of L*, a*, b* in stained tissue; what lies beyond counts at the end.
_LAB = ((0.0, 100.0), (-20.0, 70.0), (-60.0, 30.0))
_LAB_BINS = 16
# Stain amounts at which the range ends; hardly a pixel of tissue has more.
_MOST_STAIN = (0.25, 0.12)
_LBP_POINTS, _LBP_RADIUS = 8, 1
# Uniform patterns by the number of brighter points, and one bin for all other patterns.
_LBP_BINS = _LBP_POINTS + 2
# Square cells to the radius of a circle, which is made of them.
_CELLS = 8
# Memory for counts; no other memory grows with the region.
_MOST_BYTES = 4 << 30

HISTOGRAMS = (_LAB_BINS,) * len(_LAB) + (_LBP_BINS,) * len(_MOST_STAIN)
BINS = sum(HISTOGRAMS)


def superpixel_features(
    found: Superpixels, neighbourhoods: Sequence[float] = NEIGHBOURHOODS, progress: bool = True
) -> np.ndarray:
    """Return histograms of L*, a*, b* and of local binary patterns on haematoxylin and eosin (separated by colour
    deconvolution, Ruifrok and Johnston 2001), each summing to 1.

    Args:
        found: superpixels of a region.
        neighbourhoods: radii in µm of circles around the centroids, for which the same histograms are made. The paper
            has two circles and does not say how wide they are.
        progress: show a progress bar.

    Returns:
        ``(count, (1 + len(neighbourhoods)) · 68)`` float32: histograms of the superpixel, then of each circle.

    Raises:
        ValueError: the region needs too much memory.
        SlideError: pixels of the region cannot be decoded.

    Source: Mehta et al. 2018, section 6.
    """
    radii = [radius / found.region.mpp for radius in neighbourhoods]
    cell = max(1, round(min(radii, default=1.0) / _CELLS))
    _check_size(found, cell, len(radii))
    own, cells = _counts(found, cell, progress)
    parts = [_shares(own)]
    if radii:
        # The sum over any run of cells of a row is a difference of these.
        sums = np.cumsum(cells, axis=1, out=cells)
        centroids = found.centroids() / cell
        parts += [_shares(_in_circles(sums, centroids, radius / cell)) for radius in radii]
    return np.concatenate(parts, axis=1)


def _counts(found: Superpixels, cell: int, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels per bin of every superpixel, ``(count, BINS)``, and of every cell, ``(rows, 1 + columns,
    BINS)``, whose first column is empty."""
    region = found.region
    own = np.zeros((found.count, BINS), dtype=np.float32)
    rows, columns = _cells(region, cell)
    cells = np.zeros((rows * (columns + 1), BINS), dtype=np.float32)
    # A tile consists of whole cells.
    tiles = list(region.tiles(max(_TILE // cell, 1) * cell))
    label = f"features of {region.slide.name}"
    for tile in tqdm(tiles, desc=label, unit="tile", delay=2, leave=False, disable=not progress):
        # Patterns at the tile's edge need the pixels beyond it, mirrored where the slide ends.
        edge = 2 * _LBP_RADIUS
        around = Window(tile.top - _LBP_RADIUS, tile.left - _LBP_RADIUS, tile.height + edge, tile.width + edge)
        inner = (slice(None), slice(_LBP_RADIUS, -_LBP_RADIUS), slice(_LBP_RADIUS, -_LBP_RADIUS))
        bins = pixel_bins(region.image(around))[inner]
        numbers = np.asarray(found.labels[tile.slices]).ravel()
        row, column = ((np.arange(n) + at) // cell for n, at in ((tile.height, tile.top), (tile.width, tile.left)))
        in_cells = (row[:, None] * (columns + 1) + 1 + column[None]).ravel()
        first = 0
        for channel, count in enumerate(HISTOGRAMS):
            here = bins[channel].ravel()
            for total, place in ((own, numbers), (cells, in_cells)):
                _add(total[:, first : first + count], place, here)
            first += count
    return own, cells.reshape(rows, columns + 1, BINS)


def _cells(region: Region, cell: int) -> tuple[int, int]:
    rows, columns = (-(-side // cell) for side in region.shape)
    return rows, columns


def _check_size(found: Superpixels, cell: int, circles: int) -> None:
    """Raise ValueError, before hours of work, if the counts need more memory than they may take."""
    rows, columns = _cells(found.region, cell)
    needed = 4 * BINS * (rows * (columns + 1) + (3 + 3 * circles) * found.count)
    if needed > _MOST_BYTES:
        raise ValueError(
            f"{found.region.slide.path}: features of {found.region.shape[0]} x {found.region.shape[1]} pixels need "
            f"{needed / 2**30:.1f} GiB. Name regions of interest, or choose a coarser µm/px"
        )


def pixel_bins(image: np.ndarray) -> np.ndarray:
    """Return the bin of every pixel in each histogram: ``(height, width, 3)`` uint8 -> ``(5, height, width)`` uint8."""
    lab, stains = rgb2lab(image), rgb2hed(image)
    bins = np.empty((len(HISTOGRAMS), *image.shape[:2]), dtype=np.uint8)
    for channel, (low, high) in enumerate(_LAB):
        share = (lab[..., channel] - low) / (high - low)
        bins[channel] = np.clip(share * _LAB_BINS, 0, _LAB_BINS - 1)
    for channel, most in enumerate(_MOST_STAIN):
        grey = np.clip(stains[..., channel] / most * 255, 0, 255).astype(np.uint8)
        bins[len(_LAB) + channel] = local_binary_pattern(grey, _LBP_POINTS, _LBP_RADIUS, "uniform")
    return bins


def _add(total: np.ndarray, place: np.ndarray, bins: np.ndarray) -> None:
    """Count pixels into ``total[place, bin]``, in which only the places of a tile are touched."""
    low, count = int(place.min()), total.shape[1]
    places = int(place.max()) - low + 1
    counted = np.bincount((place - low).astype(np.int64) * count + bins, minlength=places * count)
    total[low : low + places] += counted.reshape(places, count)


def _in_circles(sums: np.ndarray, centroids: np.ndarray, radius: float) -> np.ndarray:
    """Return the counts of the cells whose centres lie within ``radius`` cells of the cell of each centroid."""
    rows, columns = sums.shape[0], sums.shape[1] - 1
    row, column = centroids.astype(np.int64).T
    total = np.zeros((len(centroids), BINS), dtype=np.float32)
    reach = int(radius)
    for down in range(-reach, reach + 1):
        half = int((radius**2 - down**2) ** 0.5)
        at = row + down
        here = (at >= 0) & (at < rows)
        left = np.clip(column[here] - half, 0, columns)
        right = np.clip(column[here] + half + 1, 0, columns)
        total[here] += sums[at[here], right] - sums[at[here], left]
    return total


def _shares(counts: np.ndarray) -> np.ndarray:
    """Return each histogram divided by its sum."""
    result = np.empty(counts.shape, dtype=np.float32)
    first = 0
    for count in HISTOGRAMS:
        part = counts[:, first : first + count]
        result[:, first : first + count] = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
        first += count
    return result
