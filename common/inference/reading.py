"""Reads a block's fields of view once each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..maps.grid import Block, Plan
from ..slides import PatchReader, Slide


@dataclass(frozen=True)
class Window:
    """Everything that is seen around a rectangle of targets.

    Attributes:
        row, column: its first target, counted from the block's.
        wanted: ``(rows, columns)`` bool: which of its targets are to be predicted.
        views: per field of view ``(3, h, w)`` uint8, all around the rectangle's centre; of one that is anchored to
            tiles the tiles of all wanted targets, ``(T, 3, h, w)``.
        tiles: per field of view ``(rows, columns)``: which tile is which target's, -1 where it is not wanted; None for
            those that are not anchored to tiles.
        ends: ``(2, 2)`` bool: for rows and columns, whether the grid begins and whether it ends with the window's.
    """

    row: int
    column: int
    wanted: np.ndarray
    views: Sequence[np.ndarray]
    tiles: Sequence[np.ndarray | None]
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
        steps: pixels of each view from one target to the next; 0 for those anchored to tiles. None where that is not a
            whole number: then neighbours share no pixels, and every window is a single patch.
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
        centred = [view.anchor == "center" for view in reader.fields_of_view]
        whole = all(
            _is_whole(plan.stride * ratio) and _is_whole(plan.target * ratio)
            for ratio, moves in zip(ratios, centred, strict=True)
            if moves
        )
        steps = [round(plan.stride * ratio) if moves else 0 for ratio, moves in zip(ratios, centred, strict=True)]
        self.steps = steps if whole else None
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
        wanted = wanted[row : last_row + 1, column : last_column + 1]
        views: list[np.ndarray] = []
        tiles: list[np.ndarray | None] = []
        for view, (size, step) in enumerate(zip(self._sizes, self.steps, strict=True)):
            if self.reader.fields_of_view[view].anchor == "tile":
                pixels, which = self._tiles(view, (block.row + row, block.column + column), wanted)
            else:
                extent = (size + (rows - 1) * step, size + (columns - 1) * step)
                pixels, which = self.reader.read_view(self.slide, view, center, extent).transpose(2, 0, 1), None
            views.append(pixels)
            tiles.append(which)
        return [Window(row, column, wanted, views, tiles, self._ends(block, (row, column), (last_row, last_column)))]

    def _tiles(self, view: int, first: tuple[int, int], wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tiles of the wanted targets, of which the first is at a place on the grid, and whose each is."""
        numbers: dict[tuple[int, int], int] = {}
        which = np.full(wanted.shape, -1)
        for row, column in np.argwhere(wanted).tolist():
            center = self.reader.align(self.slide, self.plan.center(first[0] + row, first[1] + column))
            which[row, column] = numbers.setdefault(self.reader.tile(self.slide, view, center), len(numbers))
        pixels = [self.reader.read_tile(self.slide, view, tile).transpose(2, 0, 1) for tile in numbers]
        return np.stack(pixels), which

    def _patch(self, block: Block, row: int, column: int) -> Window:
        patch = self.reader.read(self.slide, self.plan.center(block.row + row, block.column + column))
        ends = self._ends(block, (row, column), (row, column))
        views = np.split(patch, len(patch) // 3)
        return Window(row, column, np.ones((1, 1), dtype=bool), views, [None] * len(views), ends)

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
