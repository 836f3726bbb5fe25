"""The tile grid over a slide, and the blocks in which it is processed. Reads no pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A rectangle of the label map, and the targets of the grid that overlap it.

    Attributes:
        top, left, height, width: the rectangle in target pixels.
        row, column: position on the grid of the first target.
        rows, columns: number of targets down and across.
    """

    top: int
    left: int
    height: int
    width: int
    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True)
class TileGrid:
    """Square targets at a regular stride from the slide's top left corner; edge to edge in the paper (Ho et al. 2021,
    section 2.6).

    Args:
        slide_shape: height and width of the slide in level-0 pixels.
        pixel: height and width of a target pixel in level-0 pixels.
        target: side of a target in pixels.
        block: side of a block in targets, edge to edge.
        stride: pixels from one target to the next; ``target`` by default, less where targets overlap.

    Raises:
        ValueError: the stride is not between 1 and ``target``.
    """

    slide_shape: tuple[int, int]
    pixel: tuple[float, float]
    target: int
    block: int
    stride: int = 0

    def __post_init__(self) -> None:
        if self.stride == 0:
            object.__setattr__(self, "stride", self.target)
        if not 0 < self.stride <= self.target:
            raise ValueError(f"the stride must be 1 to {self.target} pixels, a target's side, not {self.stride}")

    @property
    def shape(self) -> tuple[int, int]:
        """Return height and width of the label map that covers the slide, in target pixels."""
        height, width = (math.ceil(side / step - 1e-6) for side, step in zip(self.slide_shape, self.pixel, strict=True))
        return height, width

    @property
    def covered(self) -> tuple[int, int]:
        """Return height and width of the part of the label map whose pixels lie wholly on the slide.

        The pixels beyond it extend over the slide's lower or right edge. There the network sees a mixture of slide and
        fill, which it may take for another class, so they are not predicted.
        """
        height, width = (
            math.floor(side / step + 1e-6) for side, step in zip(self.slide_shape, self.pixel, strict=True)
        )
        return height, width

    @property
    def grid(self) -> tuple[int, int]:
        """Return the number of rows and columns of targets."""
        height, width = (max(1, -(-(side - self.target) // self.stride) + 1) for side in self.shape)
        return height, width

    @property
    def chunk(self) -> int:
        """Return the side of a block in pixels."""
        return self.block * self.target

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks, row by row."""
        rows, columns = self.grid
        for top in range(0, self.shape[0], self.chunk):
            height = min(self.chunk, self.shape[0] - top)
            row, last_row = self._overlapping(top, height, rows)
            for left in range(0, self.shape[1], self.chunk):
                width = min(self.chunk, self.shape[1] - left)
                column, last_column = self._overlapping(left, width, columns)
                yield Block(top, left, height, width, row, column, last_row - row + 1, last_column - column + 1)

    def _overlapping(self, start: int, size: int, count: int) -> tuple[int, int]:
        """Return the first and last of ``count`` targets along one axis that overlap ``[start, start + size)``."""
        return max(0, (start - self.target) // self.stride + 1), min(count - 1, (start + size - 1) // self.stride)

    def center(self, row: float, column: float) -> tuple[float, float]:
        """Return row and column, in level-0 pixels, of the centre of the target at a position on the grid."""
        half = self.target / 2
        return (row * self.stride + half) * self.pixel[0], (column * self.stride + half) * self.pixel[1]

    def rectangle(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Return top, left, height and width of a target in level-0 pixels."""
        down, across = self.pixel
        return row * self.stride * down, column * self.stride * across, self.target * down, self.target * across
