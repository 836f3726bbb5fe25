"""A rectangle of a slide at one µm/px, read and labelled window by window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..annotations import LabelSource
from ..slides import FieldOfView, PatchReader, Slide


@dataclass(frozen=True)
class Window:
    """A rectangle within a region, in its pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """For arrays of the whole region."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class Region:
    """A region of interest of a slide, or all of it, on the lattice of one µm/px.

    Args:
        slide: the slide.
        mpp: µm per pixel asked for; a level within 3 % of it is read as it is stored.
        rectangle: ``[top, left, height, width]`` in level-0 pixels, of which the part on the slide is meant; None: all
            of the slide.

    Attributes:
        mpp: µm per pixel.
        start: row and column of its first pixel on that lattice, counted from the slide's top left corner.
        shape: height and width in pixels of ``mpp``.

    Raises:
        ValueError: nothing of the rectangle is on the slide, or it is none.
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
        # Whole pixels of the lattice, as windows of it are read.
        starts = [math.floor(at / step + 1e-6) for at, step in zip(begins, self._pixel, strict=True)]
        last = [math.ceil(end / step - 1e-6) for end, step in zip(ends, self._pixel, strict=True)]
        self.start = (starts[0], starts[1])
        self.shape = (last[0] - starts[0], last[1] - starts[1])

    def image(self, window: Window) -> np.ndarray:
        """``(height, width, 3)`` uint8, mirrored beyond the slide."""
        return self._reader.read_view(self.slide, 0, self._center(window), (window.height, window.width))

    def labels(self, source: LabelSource, window: Window) -> np.ndarray:
        """``(height, width)`` uint8."""
        return source.label_map(self.slide, self._center(window), self.mpp, (window.height, window.width))

    def tiles(self, side: int) -> Iterator[Window]:
        """Windows of ``side`` pixels, edge to edge, row by row; smaller at the lower and right ends."""
        for top in range(0, self.shape[0], side):
            for left in range(0, self.shape[1], side):
                yield Window(top, left, min(side, self.shape[0] - top), min(side, self.shape[1] - left))

    def grown(self, window: Window, by: int) -> Window:
        """The window and ``by`` pixels around it, as far as the region goes."""
        top, left = max(window.top - by, 0), max(window.left - by, 0)
        bottom = min(window.top + window.height + by, self.shape[0])
        right = min(window.left + window.width + by, self.shape[1])
        return Window(top, left, bottom - top, right - left)

    def _center(self, window: Window) -> tuple[float, float]:
        row, column = window.top + window.height / 2, window.left + window.width / 2
        return (self.start[0] + row) * self._pixel[0], (self.start[1] + column) * self._pixel[1]
