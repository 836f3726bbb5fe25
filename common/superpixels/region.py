"""A rectangle of a slide at one µm/px, whose pixels and labels are read window by window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..annotations import LabelSource
from ..slides import FieldOfView, PatchReader, Slide


@dataclass(frozen=True)
class Window:
    """A rectangle in pixels of a region."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return the slices of the window in an array of the whole region."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class Region:
    """A region of interest of a slide, or the whole slide, on the pixel lattice of one µm/px.

    Args:
        slide: the slide.
        mpp: µm per pixel asked for; a level within 3 % of it is read without resampling.
        rectangle: ``[top, left, height, width]`` in level-0 pixels, clipped to the slide; None is the whole slide.

    Attributes:
        mpp: actual µm per pixel.
        start: row and column of the region's first pixel on the lattice, counted from the slide's top left corner.
        shape: height and width in pixels of ``mpp``.

    Raises:
        ValueError: the rectangle is malformed, or lies outside the slide.
        SlideError: the slide cannot be read at this µm/px.
    """

    def __init__(self, slide: Slide, mpp: float, rectangle: Sequence[float] | None = None) -> None:
        self._reader = PatchReader([FieldOfView(mpp, 1)], fill="symmetric")
        self.slide, self.mpp = slide, self._reader.effective_mpp(slide, mpp)
        self._pixel = slide.level0_pixels(self.mpp)
        if rectangle is None:
            rectangle = (0, 0, *slide.shape)
        if len(rectangle) != 4 or min(rectangle[2:]) <= 0:
            raise ValueError(f"{slide.path}: a region must be [top, left, height, width], not {list(rectangle)}")
        begins = [max(at, 0) for at in rectangle[:2]]
        ends = [min(at + side, n) for at, side, n in zip(rectangle[:2], rectangle[2:], slide.shape, strict=True)]
        if any(end <= begin for begin, end in zip(begins, ends, strict=True)):
            raise ValueError(f"{slide.path}: the region {list(rectangle)} is not within its {slide.shape} pixels")
        # Whole pixels of the lattice: windows consist of them.
        starts = [math.floor(at / step + 1e-6) for at, step in zip(begins, self._pixel, strict=True)]
        last = [math.ceil(end / step - 1e-6) for end, step in zip(ends, self._pixel, strict=True)]
        self.start = (starts[0], starts[1])
        self.shape = (last[0] - starts[0], last[1] - starts[1])

    def image(self, window: Window) -> np.ndarray:
        """Return the pixels of a window, ``(height, width, 3)`` uint8, mirrored beyond the slide."""
        return self._reader.read_view(self.slide, 0, self._center(window), (window.height, window.width))

    def labels(self, source: LabelSource, window: Window) -> np.ndarray:
        """Return the labels of a window, ``(height, width)`` uint8."""
        return source.label_map(self.slide, self._center(window), self.mpp, (window.height, window.width))

    def tiles(self, side: int) -> Iterator[Window]:
        """Yield windows of ``side`` pixels, edge to edge, row by row; smaller at the lower and right edges."""
        for top in range(0, self.shape[0], side):
            for left in range(0, self.shape[1], side):
                yield Window(top, left, min(side, self.shape[0] - top), min(side, self.shape[1] - left))

    def padded(self, window: Window, margin: int) -> Window:
        """Return the window with ``margin`` pixels on every side, clipped to the region."""
        top, left = max(window.top - margin, 0), max(window.left - margin, 0)
        bottom = min(window.top + window.height + margin, self.shape[0])
        right = min(window.left + window.width + margin, self.shape[1])
        return Window(top, left, bottom - top, right - left)

    def _center(self, window: Window) -> tuple[float, float]:
        row, column = window.top + window.height / 2, window.left + window.width / 2
        return (self.start[0] + row) * self._pixel[0], (self.start[1] + column) * self._pixel[1]
