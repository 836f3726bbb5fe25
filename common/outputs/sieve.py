"""Label maps without specks and small holes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from skimage import measure

from ..files import remove
from .blocks import OnSlide, Rectangle, blocks

if TYPE_CHECKING:
    from ..maps.grid import TileGrid
    from ..maps.store import MapStore

# Marks pixels of small regions that have no label yet; class labels end at 254.
_SMALL = 255
# Pixels by which labels spread per pass. A block is read with a margin of that width, so that no pixel sees a block's
# border.
_REACH = 128
_Place = tuple[int, int]


@dataclass(frozen=True)
class Sieved:
    """A label map without small regions.

    Attributes:
        store: the map.
        regions: number of small regions of each label, ``(256,)``.
        pixels: their area on the slide in pixels, ``(256,)``.
        empty: whether every region of the slide is small, so that there is none to merge them into. The map is then 0.
    """

    store: MapStore
    regions: np.ndarray
    pixels: np.ndarray
    empty: bool


@contextmanager
def sieved(store: MapStore, min_pixels: float, grid: TileGrid | None = None, reach: int = _REACH) -> Iterator[Sieved]:
    """Give each pixel of a small 4-connected region the label of the nearest region that is not small.

    The path to the nearest region runs over pixels of small regions only, from pixel to pixel across edges, so every
    region stays connected. Regions are measured over the whole slide, and the result does not depend on its blocks.
    Memory grows with the number of regions that touch borders of blocks, not with the slide.

    Args:
        store: the label map.
        min_pixels: regions of fewer pixels are small.
        grid: its tile grid on the slide: of pixels that extend over the slide's edge, the part on the slide counts, as
            in the areas of classes. None counts them whole.
        reach: pixels by which labels spread per pass over the blocks.

    Yields:
        A map of the same shape in a folder next to that of ``store``, which is removed when the context ends.
    """
    folders = [store.folder.with_name(f"{store.folder.name}.{name}") for name in ("sieved", "spread")]
    try:
        on_slide = OnSlide(store.shape, grid)
        regions, pixels, kept, empty = _measured(store, min_pixels, on_slide)
        result, following = (type(store)(folder, store.shape, store.chunk) for folder in folders)
        if not empty:
            _spread(result, _mark(store, min_pixels, on_slide, kept, result), following, min(reach, store.chunk))
        yield Sieved(result, regions, pixels, empty)
    finally:
        for folder in folders:
            remove(folder)


def _is_small(areas: np.ndarray, min_pixels: float) -> np.ndarray:
    # Sums of parts of pixels differ in the last bits between divisions into blocks.
    return areas < min_pixels * (1 - 1e-9)


def _numbered(store: MapStore, block: Rectangle, on_slide: OnSlide) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of each pixel's region in a block, from 0, and the regions' labels and areas within it."""
    if not store.written(*block):
        return np.zeros(block[2:], dtype=np.int32), np.zeros(1, dtype=np.uint8), np.array([on_slide.area(block)])
    labels = store.read(*block)
    numbers = measure.label(labels, background=-1, connectivity=1) - 1
    areas = on_slide.counts(numbers, block)
    values = np.empty(len(areas), dtype=np.uint8)
    values[numbers.ravel()] = labels.ravel()
    return numbers, values, areas


def _measured(
    store: MapStore, min_pixels: float, on_slide: OnSlide
) -> tuple[np.ndarray, np.ndarray, dict[_Place, np.ndarray], bool]:
    """Measure all regions over the whole slide.

    Returns:
        Number and area of the small regions of each label; for each block, the numbers of the regions at its border
        that are not small; and whether all regions are small.
    """
    regions, pixels, empty = np.zeros(256, dtype=np.int64), np.zeros(256), True
    cut = _CutRegions(store.shape[1])
    for block in blocks(store):
        numbers, labels, areas = _numbered(store, block, on_slide)
        small = _is_small(areas, min_pixels)
        empty = empty and bool(small.all())
        small[cut.take(block, numbers, labels, areas)] = False
        np.add.at(regions, labels[small], 1)
        np.add.at(pixels, labels[small], areas[small])
    labels, areas, kept = cut.joined(min_pixels)
    small = _is_small(areas, min_pixels)
    np.add.at(regions, labels[small], 1)
    np.add.at(pixels, labels[small], areas[small])
    return regions, pixels, kept, empty and bool(small.all())


class _CutRegions:
    """Pieces of regions that touch borders of blocks, and which of them touch each other.

    Args:
        width: width of the label map.
    """

    def __init__(self, width: int) -> None:
        self._count = 0
        self._numbers: dict[_Place, np.ndarray] = {}
        self._labels: list[np.ndarray] = []
        self._areas: list[np.ndarray] = []
        self._pairs = [np.empty((0, 2), dtype=np.int32)]
        # Piece and label of each pixel just above this row of blocks, below it, and left of this block.
        self._above, self._below = (np.full((2, width), -1) for _ in range(2))
        self._before = np.empty((2, 0), dtype=np.int64)

    def take(self, block: Rectangle, numbers: np.ndarray, labels: np.ndarray, areas: np.ndarray) -> np.ndarray:
        """Add a block; return the numbers of its regions that touch its border."""
        top, left, _, width = block
        if left == 0:
            self._above, self._below = self._below, np.full_like(self._below, -1)
        sides = [numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]]
        touching = np.unique(np.concatenate(sides))
        upper, lower, first, last = (
            np.stack([np.searchsorted(touching, side) + self._count, labels[side]]) for side in sides
        )
        if top > 0:
            self._pair(self._above[:, left : left + width], upper)
        if left > 0:
            self._pair(self._before, first)
        self._below[:, left : left + width], self._before = lower, last
        self._numbers[top, left] = touching.astype(np.int32)
        self._labels.append(labels[touching])
        self._areas.append(areas[touching])
        self._count += len(touching)
        return touching

    def joined(self, min_pixels: float) -> tuple[np.ndarray, np.ndarray, dict[_Place, np.ndarray]]:
        """Return label and area of each region over the whole slide and, for each block, the numbers of the regions
        that are not small."""
        pairs = np.concatenate(self._pairs)
        graph = sparse.coo_array((np.ones(len(pairs), dtype=bool), tuple(pairs.T)), shape=(self._count, self._count))
        count, region = sparse.csgraph.connected_components(graph, directed=False)
        areas, labels = np.zeros(count), np.empty(count, dtype=np.uint8)
        np.add.at(areas, region, np.concatenate(self._areas))
        labels[region] = np.concatenate(self._labels)
        kept, start = {}, 0
        for place, numbers in self._numbers.items():
            kept[place] = numbers[~_is_small(areas[region[start : start + len(numbers)]], min_pixels)]
            start += len(numbers)
        return labels, areas, kept

    def _pair(self, one: np.ndarray, other: np.ndarray) -> None:
        """Record pieces of one label whose pixels touch: they belong to one region."""
        same = one[1] == other[1]
        self._pairs.append(np.unique(np.stack([one[0][same], other[0][same]], axis=1), axis=0).astype(np.int32))


def _mark(
    store: MapStore, min_pixels: float, on_slide: OnSlide, kept: dict[_Place, np.ndarray], result: MapStore
) -> list[Rectangle]:
    """Write the map with the pixels of small regions marked. Return the blocks that have any."""
    marked = []
    for block in blocks(store):
        at_border = kept[block[:2]]
        if not store.written(*block) and len(at_border):
            continue
        numbers, labels, areas = _numbered(store, block, on_slide)
        small = _is_small(areas, min_pixels)
        small[at_border] = False
        labels[small] = _SMALL
        result.write(*block[:2], labels[numbers])
        if small.any():
            marked.append(block)
    return marked


def _spread(store: MapStore, marked: list[Rectangle], following: MapStore, reach: int) -> None:
    """Spread labels over marked pixels, ``reach`` pixels per pass, until none is left."""
    # Every block of a pass sees the map after the last pass, so the order of blocks makes no difference.
    changed = {block[:2] for block in marked}
    while marked:
        left, now = [], set()
        for block in marked:
            if not _near(block, changed, store.chunk):
                left.append(block)
                continue
            before, after = _grown(store, block, reach)
            open_before, open_after = (int((pixels == _SMALL).sum()) for pixels in (before, after))
            if open_after:
                left.append(block)
            if open_after < open_before:
                now.add(block[:2])
                following.write(*block[:2], after)
        for block in marked:
            if block[:2] in now:
                store.write(*block[:2], following.read(*block))
        marked, changed = left, now


def _near(block: Rectangle, places: set[_Place], chunk: int) -> bool:
    """Return whether a block or one of its eight neighbours is among ``places``."""
    steps = (-chunk, 0, chunk)
    return any((block[0] + down, block[1] + across) in places for down in steps for across in steps)


def _grown(store: MapStore, block: Rectangle, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a block before and after labels spread over it by ``reach`` pixels."""
    top, left, height, width = block
    first, start = max(0, top - reach), max(0, left - reach)
    bottom, end = min(store.shape[0], top + height + reach), min(store.shape[1], left + width + reach)
    window = store.read(first, start, bottom - first, end - start)
    core = (slice(top - first, top - first + height), slice(left - start, left - start + width))
    return window[core], spread(window, reach)[core]


def spread(labels: np.ndarray, steps: int) -> np.ndarray:
    """Spread labels over marked pixels (255), one pixel per step.

    Of several labels that reach a pixel in one step, the upper neighbour's wins, then the left, right and lower one's.
    """
    # -1 is neither a label nor marked, so nothing crosses from one border to the opposite one.
    padded = np.pad(labels.astype(np.int16), 1, constant_values=-1)
    flat, across = padded.ravel(), padded.shape[1]
    ways = (across, 1, -1, -across)
    marked = np.flatnonzero(flat == _SMALL)
    values = np.full(len(marked), _SMALL, dtype=np.int16)
    for way in reversed(ways):
        source = flat[marked - way]
        values = np.where((source >= 0) & (source != _SMALL), source, values)
    front = marked[values != _SMALL]
    flat[front] = values[values != _SMALL]
    for _ in range(steps - 1):
        if not len(front):
            break
        reached = []
        for way in ways:
            ahead = front + way
            free = flat[ahead] == _SMALL
            flat[ahead[free]] = flat[front[free]]
            reached.append(ahead[free])
        front = np.concatenate(reached)
    return padded[1:-1, 1:-1].astype(np.uint8)
