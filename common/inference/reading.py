"""Read every field of view of a block once, however many of its targets share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..maps.grid import Block, TileGrid
from ..slides import PatchReader, Slide


@dataclass(frozen=True)
class BlockInput:
    """The views around a rectangle of targets.

    Attributes:
        row, column: row and column of the first target in the block.
        mask: ``(rows, columns)`` bool: which targets to predict.
        views: per field of view ``(3, h, w)`` uint8 around the rectangle's centre; for a view that is anchored to
            tiles, the tiles of all selected targets, ``(T, 3, h, w)``.
        tiles: per field of view ``(rows, columns)``, the index of each target's tile, -1 if the target is not selected.
            None for a view that is not anchored to tiles.
        at_grid_edge: ``(2, 2)`` bool: for rows and columns, whether the grid begins and whether it ends with the
            rectangle.
    """

    row: int
    column: int
    mask: np.ndarray
    views: Sequence[np.ndarray]
    tiles: Sequence[np.ndarray | None]
    at_grid_edge: np.ndarray


class BlockReader:
    """Reader of blocks, whose pixels equal those that :meth:`PatchReader.read` reads patch by patch.

    Args:
        reader: the fields of view.
        slide: the slide.
        grid: its tile grid.
        target_mpp: µm/px of the target as configured.
        margins: pixels of each view to read on every side of the targets; by default those of a patch.

    Attributes:
        steps: pixels of each view from one target to the next; 0 for views anchored to tiles. None if that is not a
            whole number: neighbours then share no pixels, and every target is read as a patch of its own.
    """

    def __init__(
        self,
        reader: PatchReader,
        slide: Slide,
        grid: TileGrid,
        target_mpp: float,
        margins: Sequence[int] | None = None,
    ) -> None:
        self.reader, self.slide, self.grid = reader, slide, grid
        ratios = [target_mpp / view.mpp for view in reader.fields_of_view]
        centred = [view.anchor == "center" for view in reader.fields_of_view]
        whole = all(
            _is_whole(grid.stride * ratio) and _is_whole(grid.target * ratio)
            for ratio, moves in zip(ratios, centred, strict=True)
            if moves
        )
        steps = [round(grid.stride * ratio) if moves else 0 for ratio, moves in zip(ratios, centred, strict=True)]
        self.steps = steps if whole else None
        size = reader.fields_of_view[0].size
        extents = [round(grid.target * ratio) for ratio in ratios]
        self._sizes = [size] * len(ratios)
        if margins is not None:
            self._sizes = [extent + 2 * margin for extent, margin in zip(extents, margins, strict=True)]

    def read(self, block: Block, mask: np.ndarray) -> list[BlockInput]:
        """Return the inputs for a block's selected targets: one for all, or one per target.

        Args:
            block: the block.
            mask: ``(rows, columns)`` bool: which targets to predict.

        Raises:
            SlideError: pixels that are needed cannot be decoded.
        """
        places = np.argwhere(mask)
        if not len(places):
            return []
        if self.steps is None:
            return [self._patch(block, int(row), int(column)) for row, column in places]
        (row, column), (last_row, last_column) = places.min(axis=0).tolist(), places.max(axis=0).tolist()
        rows, columns = last_row - row + 1, last_column - column + 1
        middle = self.grid.center(block.row + (row + last_row) / 2, block.column + (column + last_column) / 2)
        offset = self._aligned_offset(block)
        center = (middle[0] + offset[0], middle[1] + offset[1])
        mask = mask[row : last_row + 1, column : last_column + 1]
        views: list[np.ndarray] = []
        tiles: list[np.ndarray | None] = []
        for view, (size, step) in enumerate(zip(self._sizes, self.steps, strict=True)):
            if self.reader.fields_of_view[view].anchor == "tile":
                pixels, which = self._tiles(view, (block.row + row, block.column + column), mask)
            else:
                extent = (size + (rows - 1) * step, size + (columns - 1) * step)
                pixels, which = self.reader.read_view(self.slide, view, center, extent).transpose(2, 0, 1), None
            views.append(pixels)
            tiles.append(which)
        return [
            BlockInput(
                row, column, mask, views, tiles, self._at_grid_edge(block, (row, column), (last_row, last_column))
            )
        ]

    def _tiles(self, view: int, first: tuple[int, int], mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the tiles of the selected targets, ``(T, 3, h, w)``, and the index of each target's tile.

        Args:
            view: index of the field of view.
            first: row and column on the grid of the mask's first target.
            mask: which targets are selected.
        """
        numbers: dict[tuple[int, int], int] = {}
        which = np.full(mask.shape, -1)
        for row, column in np.argwhere(mask).tolist():
            center = self.reader.align(self.slide, self.grid.center(first[0] + row, first[1] + column))
            which[row, column] = numbers.setdefault(self.reader.tile(self.slide, view, center), len(numbers))
        pixels = [self.reader.read_tile(self.slide, view, tile).transpose(2, 0, 1) for tile in numbers]
        return np.stack(pixels), which

    def _patch(self, block: Block, row: int, column: int) -> BlockInput:
        patch = self.reader.read(self.slide, self.grid.center(block.row + row, block.column + column))
        at_grid_edge = self._at_grid_edge(block, (row, column), (row, column))
        views = np.split(patch, len(patch) // 3)
        return BlockInput(row, column, np.ones((1, 1), dtype=bool), views, [None] * len(views), at_grid_edge)

    def _at_grid_edge(self, block: Block, first: tuple[int, int], last: tuple[int, int]) -> np.ndarray:
        begins = [start + at == 0 for start, at in zip((block.row, block.column), first, strict=True)]
        last_on_grid = [start + at + 1 for start, at in zip((block.row, block.column), last, strict=True)]
        finishes = [end == count for end, count in zip(last_on_grid, self.grid.grid, strict=True)]
        return np.array([begins, finishes]).T

    def _aligned_offset(self, block: Block) -> tuple[float, float]:
        """Return the shift, in level-0 pixels, of a patch's centre to whole pixels of the finest view's level; the same
        for all patches."""
        center = self.grid.center(block.row, block.column)
        aligned = self.reader.align(self.slide, center)
        return aligned[0] - center[0], aligned[1] - center[1]


def _is_whole(value: float) -> bool:
    return round(value) > 0 and abs(value - round(value)) < 1e-6
