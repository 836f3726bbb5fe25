"""Reads a block's fields of view once each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..slides import PatchReader, Slide
from .plan import Block, Plan


@dataclass(frozen=True)
class Window:
    """Everything that is seen around a rectangle of targets.

    Attributes:
        row, column: its first target, counted from the block's.
        wanted: ``(rows, columns)`` bool: which of its targets are to be predicted.
        views: per field of view ``(3, h, w)`` uint8, all around the rectangle's centre.
        ends: ``(2, 2)`` bool: for rows and columns, whether the grid begins and whether it ends with the window's.
    """

    row: int
    column: int
    wanted: np.ndarray
    views: Sequence[np.ndarray]
    ends: np.ndarray


class BlockReader:
    """Reads windows whose pixels are those that :meth:`PatchReader.read` gives patch by patch.

    Args:
        reader: the fields of view.
        slide: the slide.
        plan: its grid.
        target_mpp: asked µm/px of the target.
        margins: pixels of each view read on every side of the targets; by default what a patch has.

    Attributes:
        steps: pixels of each view from one target to the next. None where that is not a whole number or a view is not
            centred: then neighbours share no pixels, and every window is a single patch.
    """

    def __init__(
        self,
        reader: PatchReader,
        slide: Slide,
        plan: Plan,
        target_mpp: float,
        margins: Sequence[int] | None = None,
    ) -> None:
        self.reader, self.slide, self.plan = reader, slide, plan
        ratios = [target_mpp / view.mpp for view in reader.fields_of_view]
        whole = all(_is_whole(plan.stride * ratio) and _is_whole(plan.target * ratio) for ratio in ratios)
        centred = all(view.anchor == "center" for view in reader.fields_of_view)
        self.steps = [round(plan.stride * ratio) for ratio in ratios] if whole and centred else None
        size = reader.fields_of_view[0].size
        extents = [round(plan.target * ratio) for ratio in ratios]
        self._sizes = [size] * len(ratios)
        if margins is not None:
            self._sizes = [extent + 2 * margin for extent, margin in zip(extents, margins, strict=True)]

    def read(self, block: Block, wanted: np.ndarray) -> list[Window]:
        """Windows that cover the wanted targets of a block, ``(rows, columns)`` bool: one, or one per target.

        Raises:
            SlideError: pixels needed cannot be decoded.
        """
        places = np.argwhere(wanted)
        if not len(places):
            return []
        if self.steps is None:
            return [self._patch(block, int(row), int(column)) for row, column in places]
        (row, column), (last_row, last_column) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
        rows, columns = last_row - row + 1, last_column - column + 1
        middle = self.plan.center(block.row + (row + last_row) / 2, block.column + (column + last_column) / 2)
        offset = self._aligned_offset(block)
        center = (middle[0] + offset[0], middle[1] + offset[1])
        views = [
            self.reader.read_view(
                self.slide, view, center, (size + (rows - 1) * step, size + (columns - 1) * step)
            ).transpose(2, 0, 1)
            for view, (size, step) in enumerate(zip(self._sizes, self.steps, strict=True))
        ]
        ends = self._ends(block, (row, column), (last_row, last_column))
        return [Window(row, column, wanted[row : last_row + 1, column : last_column + 1], views, ends)]

    def _patch(self, block: Block, row: int, column: int) -> Window:
        patch = self.reader.read(self.slide, self.plan.center(block.row + row, block.column + column))
        ends = self._ends(block, (row, column), (row, column))
        return Window(row, column, np.ones((1, 1), dtype=bool), np.split(patch, len(patch) // 3), ends)

    def _ends(self, block: Block, first: tuple[int, int], last: tuple[int, int]) -> np.ndarray:
        begins = [start + at == 0 for start, at in zip((block.row, block.column), first, strict=True)]
        last_on_grid = [start + at + 1 for start, at in zip((block.row, block.column), last, strict=True)]
        finishes = [end == count for end, count in zip(last_on_grid, self.plan.grid, strict=True)]
        return np.array([begins, finishes]).T

    def _aligned_offset(self, block: Block) -> tuple[float, float]:
        """How far a patch's centre moves to whole pixels of the finest view's level; the same for all patches."""
        center = self.plan.center(block.row, block.column)
        aligned = self.reader.align(self.slide, center)
        return aligned[0] - center[0], aligned[1] - center[1]


def _is_whole(value: float) -> bool:
    return round(value) > 0 and abs(value - round(value)) < 1e-6
