"""Reads a block's fields of view once each and cuts its patches from them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..slides import PatchReader, Slide
from .plan import Block, Plan


class BlockReader:
    """Gives the patches of a block exactly as :meth:`PatchReader.read` gives them one by one.

    Args:
        reader: the fields of view.
        slide: the slide.
        plan: its grid.
        target_mpp: asked µm/px of the target.
    """

    def __init__(self, reader: PatchReader, slide: Slide, plan: Plan, target_mpp: float) -> None:
        self.reader, self.slide, self.plan = reader, slide, plan
        steps = [plan.target * target_mpp / view.mpp for view in reader.fields_of_view]
        whole = all(abs(step - round(step)) < 1e-6 and round(step) > 0 for step in steps)
        centred = all(view.anchor == "center" for view in reader.fields_of_view)
        # Where neighbouring patches are not whole pixels of every view apart, they share no pixels and are read one
        # by one.
        self._steps = [round(step) for step in steps] if whole and centred else None

    def read(self, block: Block, wanted: Iterable[tuple[int, int]]) -> np.ndarray:
        """Patches of the wanted targets (row, column within the block): ``(count, 3·S, H, W)`` uint8.

        Raises:
            SlideError: pixels needed cannot be decoded.
        """
        places = list(wanted)
        if self._steps is None or len(places) == 1:
            centres = [self.plan.center(block.row + row, block.column + column) for row, column in places]
            return np.stack([self.reader.read(self.slide, center) for center in centres])
        size = self.reader.fields_of_view[0].size
        patches = np.empty((len(places), 3 * len(self._steps), size, size), dtype=np.uint8)
        first, last = np.min(places, axis=0), np.max(places, axis=0)
        rows, columns = last - first + 1
        middle = self.plan.center(block.row + (first[0] + last[0]) / 2, block.column + (first[1] + last[1]) / 2)
        offset = self._aligned_offset(block)
        for view, step in enumerate(self._steps):
            region_size = (size + (int(rows) - 1) * step, size + (int(columns) - 1) * step)
            center = (middle[0] + offset[0], middle[1] + offset[1])
            region = self.reader.read_view(self.slide, view, center, region_size).transpose(2, 0, 1)
            for number, (row, column) in enumerate(places):
                top, left = (row - first[0]) * step, (column - first[1]) * step
                patches[number, 3 * view : 3 * view + 3] = region[:, top : top + size, left : left + size]
        return patches

    def _aligned_offset(self, block: Block) -> tuple[float, float]:
        """How far a patch's centre moves to whole pixels of the finest view's level; the same for all patches."""
        center = self.plan.center(block.row, block.column)
        aligned = self.reader.align(self.slide, center)
        return aligned[0] - center[0], aligned[1] - center[1]
