"""Read several fields of view around one centre."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .slide import Slide

ANCHORS = ("center", "tile")
# A relative difference from a square pixel that adds up to less than 1e-6 pixels over the largest slide.
_SAME = 1e-11


@dataclass(frozen=True)
class FieldOfView:
    """A square of ``size`` pixels at ``mpp`` µm/px.

    Args:
        mpp: µm/px.
        size: side in pixels.
        anchor: ``"center"``: the square is centred on the target; ``"tile"``: it is the tile with the target's centre,
            in a grid of such squares from the slide's top left corner.
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
    def from_config(cls, value: FieldOfView | Mapping[str, Any]) -> FieldOfView:
        """Return the value itself if it is a field of view; otherwise build one from a config's mapping."""
        return value if isinstance(value, FieldOfView) else cls(**value)

    @property
    def extent(self) -> float:
        """Return the side in µm."""
        return self.mpp * self.size


class PatchReader:
    """A reader of several fields of view around one centre, stacked.

    The finest view decides the sampling grid. A level within ``snap`` of its µm/px, with exactly square pixels, is read
    without resampling, and the other views keep their ratios to the level's own µm/px. All views share the centre of
    the finest view's whole pixels.

    Args:
        fields_of_view: finest first, all of one size in pixels.
        fill: pixels outside the slide: ``"white"``, ``"black"``, ``"reflect"`` or ``"symmetric"``.
        resample: ``"area"``, or ``"decimate"``: every view takes pixels of the finest view's level by striding.
        snap: ``level_tolerance`` of :meth:`Slide.read`.

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
        self.fields_of_view = tuple(FieldOfView.from_config(view) for view in fields_of_view)
        if not self.fields_of_view:
            raise ValueError("a patch needs at least one field of view")
        if len({view.size for view in self.fields_of_view}) > 1:
            raise ValueError("all fields of view of a patch have the same size in pixels, as they are stacked")
        if [view.mpp for view in self.fields_of_view] != sorted(view.mpp for view in self.fields_of_view):
            raise ValueError("give the fields of view finest first")
        self.fill, self.resample, self.snap = fill, resample, snap

    def effective_mpp(self, slide: Slide, mpp: float) -> float:
        """Return the µm/px at which ``mpp`` is read on a slide, scaled like the finest view."""
        finest = self.fields_of_view[0].mpp
        return mpp * slide.sampling_grid(finest, self._tolerance_on(slide)).mpp / finest

    def effective_views(self, slide: Slide) -> tuple[FieldOfView, ...]:
        """Return the fields of view with the µm/px at which a slide is read."""
        return tuple(replace(view, mpp=self.effective_mpp(slide, view.mpp)) for view in self.fields_of_view)

    def interpolates(self, slide: Slide) -> bool:
        """Return whether the finest view has more pixels than the slide."""
        return slide.sampling_grid(self.fields_of_view[0].mpp, self._tolerance_on(slide)).interpolated

    def read(self, slide: Slide, center: tuple[float, float]) -> np.ndarray:
        """Return the stacked views, ``(3·S, H, W)`` uint8, finest first.

        Raises:
            SlideError: a needed pixel cannot be decoded.
        """
        views = self.effective_views(slide)
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
        """Return row and column of the tile with ``center``, in the grid of a view that is anchored to tiles."""
        height, width = self._cell(slide, index)
        return math.floor(center[0] / height + 1e-6), math.floor(center[1] / width + 1e-6)

    def shares_tile(self, slide: Slide, one: Sequence[float], other: Sequence[float]) -> bool:
        """Return whether two centres share a tile in any view that is anchored to tiles."""
        return any(
            self.tile(slide, index, (one[0], one[1])) == self.tile(slide, index, (other[0], other[1]))
            for index, view in enumerate(self.fields_of_view)
            if view.anchor == "tile"
        )

    def read_tile(self, slide: Slide, index: int, tile: tuple[int, int]) -> np.ndarray:
        """Return a tile's pixels, ``(size, size, 3)`` uint8."""
        height, width = self._cell(slide, index)
        center = ((tile[0] + 0.5) * height, (tile[1] + 0.5) * width)
        return self.read_view(slide, index, center, self.fields_of_view[index].size)

    def read_view(
        self, slide: Slide, index: int, center: tuple[float, float], size: int | tuple[int, int]
    ) -> np.ndarray:
        """Return one view's pixels over any ``size`` around ``center``, on the sampling grid of :meth:`read`.

        Returns:
            ``(height, width, 3)`` uint8.
        """
        view, tolerance = self.effective_views(slide)[index], self._tolerance_on(slide)
        if index == 0:
            return slide.read(center, view.mpp, size, fill=self.fill, resample=self.resample, level_tolerance=tolerance)
        level = (
            slide.sampling_grid(self.fields_of_view[0].mpp, tolerance).level if self.resample == "decimate" else None
        )
        return slide.read(
            center, view.mpp, size, fill=self.fill, resample=self.resample, level_tolerance=0, level=level
        )

    def align(self, slide: Slide, center: tuple[float, float]) -> tuple[float, float]:
        """Return the centre of the finest view after it moved to whole pixels of its level.

        Labels are read around the same centre.
        """
        tolerance = self._tolerance_on(slide)
        grid = slide.sampling_grid(self.fields_of_view[0].mpp, tolerance)
        if tolerance == 0 or not grid.as_stored:
            return center
        down, half = slide.levels[grid.level].downsample, self.fields_of_view[0].size / 2
        start = [math.floor(center[axis] / down[axis] - half + 0.5 + 1e-6) for axis in (0, 1)]
        return (start[0] + half) * down[0], (start[1] + half) * down[1]

    def _tolerance_on(self, slide: Slide) -> float:
        """Return ``snap``, or 0 where the level to be read without resampling has pixels that are only nearly square.

        Label maps and the coarser views have square pixels. Stored pixels of 0.4672 x 0.4668 µm drift from them by one
        pixel in 2,300 along each axis. Each patch would move to whole pixels by a different fraction, so that patches
        cut from one large read would differ from patches read one by one.
        """
        grid = slide.sampling_grid(self.fields_of_view[0].mpp, self.snap)
        if not grid.as_stored:
            return self.snap
        pixel, down = slide.level0_pixels(grid.mpp), slide.levels[grid.level].downsample
        square = all(abs(asked / stored - 1) < _SAME for asked, stored in zip(pixel, down, strict=True))
        return self.snap if square else 0.0

    def _cell(self, slide: Slide, index: int) -> tuple[float, float]:
        """Return height and width of a view in level-0 pixels."""
        return slide.level0_pixels(self.effective_views(slide)[index].extent)
