"""The grid of targets over a slide, and the blocks in which it is worked through. Knows nothing of pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A rectangle of targets: its first row and column on the grid, and how many of each."""

    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Plan:
    """Targets of ``target`` pixels laid edge to edge from the slide's top left corner (Ho et al. 2021, section 2.6).

    Args:
        slide_shape: height and width in level-0 pixels.
        pixel: level-0 pixels (down, across) of one target pixel.
        target: pixels a side of a target.
        block: targets a side of a block.
    """

    slide_shape: tuple[int, int]
    pixel: tuple[float, float]
    target: int
    block: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the label map that covers the slide, in target pixels."""
        height, width = (math.ceil(side / step - 1e-6) for side, step in zip(self.slide_shape, self.pixel, strict=True))
        return height, width

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of targets."""
        height, width = self.shape
        return -(-height // self.target), -(-width // self.target)

    def blocks(self) -> Iterator[Block]:
        """All blocks, row by row."""
        rows, columns = self.grid
        for row in range(0, rows, self.block):
            for column in range(0, columns, self.block):
                yield Block(row, column, min(self.block, rows - row), min(self.block, columns - column))

    def center(self, row: float, column: float) -> tuple[float, float]:
        """Level-0 centre of the target at a place on the grid."""
        return (row + 0.5) * self.target * self.pixel[0], (column + 0.5) * self.target * self.pixel[1]

    def rectangle(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Top, left, height and width of a target in level-0 pixels."""
        height, width = self.target * self.pixel[0], self.target * self.pixel[1]
        return row * height, column * width, height, width
