"""Several fields of view around one centre."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .slide import Slide

ANCHORS = ("center", "tile")
# Relative difference of a level's pixel from a square one that adds up to less than 1e-6 pixels over the largest slide.
_SAME = 1e-11


@dataclass(frozen=True)
class FieldOfView:
    """A square of ``size`` pixels at ``mpp`` µm/px.

    Args:
        mpp: micrometres per pixel.
        size: pixels a side.
        anchor: ``"center"``: around the target's centre; ``"tile"``: the cell, with the target's centre in it, of a
            grid laid from the slide's top left corner in steps of the field itself.
    """

    mpp: float
    size: int
    anchor: str = "center"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mpp) and self.mpp > 0 and self.size > 0):
            raise ValueError(
                f"a field of view needs a positive mpp and size, not {self.mpp} µm/px and {self.size} pixels"
            )
        if self.anchor not in ANCHORS:
            raise ValueError(f"anchor must be one of {', '.join(ANCHORS)}, not {self.anchor!r}")

    @classmethod
    def of(cls, value: FieldOfView | Mapping[str, Any]) -> FieldOfView:
        """From itself, or from a mapping as configs hold them."""
        return value if isinstance(value, FieldOfView) else cls(**value)

    @property
    def extent(self) -> float:
        """Micrometres a side."""
        return self.mpp * self.size


class PatchReader:
    """Reads the fields of view around a centre, stacked.

    The finest view decides the lattice: where a level within ``snap`` of its µm/px exists, and its pixels are exactly
    square, it is read as stored and the other views keep their ratios to the level's own µm/px. All share the centre of
    the finest view's whole pixels.

    Args:
        fields_of_view: finest first, all of one size in pixels.
        fill: what lies outside the slide: ``"white"``, ``"black"``, ``"reflect"``, ``"symmetric"``.
        resample: ``"area"``, or ``"decimate"``: every view takes pixels of the finest view's level by striding.
        snap: see :meth:`Slide.read`.

    Example:
        >>> from common.slides import PatchReader, open_slide
        >>> reader = PatchReader([{"mpp": 1.0, "size": 256}, {"mpp": 4.0, "size": 256}])
        >>> with open_slide("slide.tif") as slide:
        ...     reader.read(slide, center=(384, 384)).shape
        (6, 256, 256)
    """

    def __init__(
        self,
        fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
        fill: str = "white",
        resample: str = "area",
        snap: float = 0.03,
    ) -> None:
        self.fields_of_view = tuple(FieldOfView.of(view) for view in fields_of_view)
        if not self.fields_of_view:
            raise ValueError("a patch needs at least one field of view")
        if len({view.size for view in self.fields_of_view}) > 1:
            raise ValueError("all fields of view of a patch have the same size in pixels, as they are stacked")
        if [view.mpp for view in self.fields_of_view] != sorted(view.mpp for view in self.fields_of_view):
            raise ValueError("give the fields of view finest first")
        self.fill, self.resample, self.snap = fill, resample, snap

    def actual_mpp(self, slide: Slide, mpp: float) -> float:
        """The µm/px at which this slide is read where ``mpp`` is asked, as the finest view's lattice has it."""
        finest = self.fields_of_view[0].mpp
        return mpp * slide.lattice(finest, self._snap_on(slide)).mpp / finest

    def actual(self, slide: Slide) -> tuple[FieldOfView, ...]:
        """The fields of view with the µm/px at which this slide is read."""
        return tuple(replace(view, mpp=self.actual_mpp(slide, view.mpp)) for view in self.fields_of_view)

    def interpolates(self, slide: Slide) -> bool:
        """Return whether the finest view has more pixels than the slide."""
        return slide.lattice(self.fields_of_view[0].mpp, self._snap_on(slide)).interpolated

    def read(self, slide: Slide, center: tuple[float, float]) -> np.ndarray:
        """``(3·S, H, W)`` uint8, finest view first.

        Raises:
            SlideError: pixels needed cannot be decoded.
        """
        views = self.actual(slide)
        size = views[0].size
        center = self.align(slide, center)
        patch = [
            self.read_view(slide, index, center, size)
            if view.anchor == "center"
            else self.read_tile(slide, index, self.tile(slide, index, center))
            for index, view in enumerate(views)
        ]
        return np.concatenate([view.transpose(2, 0, 1) for view in patch])

    def tile(self, slide: Slide, index: int, center: tuple[float, float]) -> tuple[int, int]:
        """Row and column, in the grid of a view that is anchored to tiles, of the one around ``center``."""
        height, width = self._cell(slide, index)
        return math.floor(center[0] / height + 1e-6), math.floor(center[1] / width + 1e-6)

    def shares_tile(self, slide: Slide, one: Sequence[float], other: Sequence[float]) -> bool:
        """Whether two centres see the same tile in any view that is anchored to tiles."""
        return any(
            self.tile(slide, index, (one[0], one[1])) == self.tile(slide, index, (other[0], other[1]))
            for index, view in enumerate(self.fields_of_view)
            if view.anchor == "tile"
        )

    def read_tile(self, slide: Slide, index: int, tile: tuple[int, int]) -> np.ndarray:
        """A tile's pixels: ``(size, size, 3)``."""
        height, width = self._cell(slide, index)
        center = ((tile[0] + 0.5) * height, (tile[1] + 0.5) * width)
        return self.read_view(slide, index, center, self.fields_of_view[index].size)

    def read_view(
        self, slide: Slide, index: int, center: tuple[float, float], size: int | tuple[int, int]
    ) -> np.ndarray:
        """One view's pixels over any ``size`` around ``center``: ``(height, width, 3)``, on the lattice of
        :meth:`read`."""
        view, snap = self.actual(slide)[index], self._snap_on(slide)
        if index == 0:
            return slide.read(center, view.mpp, size, fill=self.fill, resample=self.resample, snap=snap)
        level = slide.lattice(self.fields_of_view[0].mpp, snap).level if self.resample == "decimate" else None
        return slide.read(center, view.mpp, size, fill=self.fill, resample=self.resample, snap=0, level=level)

    def align(self, slide: Slide, center: tuple[float, float]) -> tuple[float, float]:
        """The centre that the finest view has once it is moved to whole pixels of its level; labels are taken around
        it too."""
        snap = self._snap_on(slide)
        lattice = slide.lattice(self.fields_of_view[0].mpp, snap)
        if snap == 0 or not lattice.as_stored:
            return center
        down, half = slide.levels[lattice.level].downsample, self.fields_of_view[0].size / 2
        start = [math.floor(center[axis] / down[axis] - half + 0.5 + 1e-6) for axis in (0, 1)]
        return (start[0] + half) * down[0], (start[1] + half) * down[1]

    def _snap_on(self, slide: Slide) -> float:
        """Return ``snap``, or 0 where the pixels of the level that would be read as stored are only nearly square.

        Label maps and the coarser views have square pixels. Stored pixels of 0.4672 x 0.4668 µm drift from them by one
        in 2,300 along each axis. Each patch would be moved to whole pixels by another part of one, so that patches cut
        from one large read would differ from patches read one by one.
        """
        lattice = slide.lattice(self.fields_of_view[0].mpp, self.snap)
        if not lattice.as_stored:
            return self.snap
        pixel, down = slide.pixel(lattice.mpp), slide.levels[lattice.level].downsample
        square = all(abs(asked / stored - 1) < _SAME for asked, stored in zip(pixel, down, strict=True))
        return self.snap if square else 0.0

    def _cell(self, slide: Slide, index: int) -> tuple[float, float]:
        """Height and width of a view in level-0 pixels."""
        return slide.pixel(self.actual(slide)[index].extent)
