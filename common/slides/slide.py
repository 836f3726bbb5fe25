"""Read any region of a slide at any µm/px, whatever its format."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from .backends import GIVE_SERIES, Backend, open_backend
from .bounds import Bounds, check_origin
from .decimals import parse_number
from .errors import SlideChangedError, SlideError
from .files import SlideFiles
from .padding import PAD_MODES, read_padded
from .resample import Axis, area_axis, combine, cubic_axis, quantise, stride_axis

logger = logging.getLogger(__name__)

MPP_RANGE = (0.05, 100.0)
RESAMPLINGS = ("area", "decimate")
# Levels whose two axes differ by less than this in µm/px count as square pixels.
_SQUARE = 1e-3
_FINEST_STEP = 0.5
_COPY_IT = "Copy it to where nothing else writes to it, and run the same command again"
_GIVE_MPP = 'Give the true value: --mpp 0.5 for one slide, "mpp": 0.5 in a datalist, mpp=0.5 in Python'
# Source bytes in memory at once while resampling; a larger read is done in bands.
_BAND_BYTES = 24 << 20


@dataclass(frozen=True)
class Level:
    """One level of the pyramid.

    Attributes:
        shape: height and width in pixels.
        downsample: level-0 pixels per pixel of the level, as (row, column).
        mpp: µm/px as (row, column).
    """

    shape: tuple[int, int]
    downsample: tuple[float, float]
    mpp: tuple[float, float]


@dataclass(frozen=True)
class SamplingGrid:
    """The pixels from which a requested µm/px is read.

    Attributes:
        level: level that is read.
        step: pixels of that level per output pixel, as (row, column).
        mpp: µm/px of the output.
    """

    level: int
    step: tuple[float, float]
    mpp: float

    @property
    def as_stored(self) -> bool:
        """Return whether output pixels are the level's own."""
        return self.step == (1.0, 1.0)

    @property
    def interpolated(self) -> bool:
        """Return whether the output has more pixels than the level along either axis."""
        return min(self.step) < 1


def open_slide(
    path: str | Path, backend: str = "auto", mpp: float | str | None = None, series: int | str | None = None
) -> Slide:
    """Open a slide.

    Args:
        path: the file (for MIRAX and VMS the index file).
        backend: ``"tiff"``, ``"openslide"``, ``"cucim"``, ``"image"`` or ``"auto"``, which takes the fastest one that
            reads the file correctly and logs its name.
        mpp: µm per level-0 pixel, instead of the file's own value; a number, or text that holds one.
        series: number of the image of a TIFF that is the slide, from 0; a number, or text that holds one. The default
            is the largest image with tiles and a pyramid; labels, macros and thumbnails are left out.

    Raises:
        SlideError: the file is missing or unreadable; or several of its images may be the slide and ``series`` is not
            given; or its µm/px is missing or absurd and ``mpp`` is not given.

    Example:
        >>> from common.slides import open_slide
        >>> with open_slide("slide.tif") as slide:
        ...     slide.shape, slide.mpp
        ...     slide.read(center=(384, 384), mpp=2.0, size=256).shape
        ((768, 768), 1.0)
        (256, 256, 3)
    """
    return Slide(Path(path), backend, mpp, series)


class Slide:
    """A slide that is open for reading. Several threads may read it. Unpickling opens the file again.

    Open one with :func:`open_slide`.

    Attributes:
        shape: height and width at level 0, in pixels.
        mpp: µm per level-0 pixel; the geometric mean of both axes where pixels are not square.
        levels: the pyramid, finest first.
        backend: name of the library that reads it.
        series: number of the image that was requested; None for the default one.
        remark: warning about image data in the file that is not read, such as focal planes; may be empty.
        files: state of its files when it was opened.
    """

    def __init__(
        self, path: Path, backend: str = "auto", mpp: float | str | None = None, series: int | str | None = None
    ) -> None:
        self.path = path
        mpp = _given_mpp(path, mpp)
        series = self.series = _given_series(path, series)
        self._asked = {"backend": backend, "mpp": mpp, "series": series}
        # Recorded before the file is opened, so that a change meanwhile is noticed.
        self.files = SlideFiles(path)
        self._backend: Backend = open_backend(path, backend, series)
        if backend == "auto":
            logger.info("%s: read through %s", path.name, self._backend.name)
        self.remark = self._backend.remark
        _warn_once(f"{path.name}: {self.remark}" if self.remark else "")
        self.backend = self._backend.name
        self.shape: tuple[int, int] = self._backend.level_shapes[0]
        axes = (mpp, mpp) if mpp is not None else self._backend.mpp
        if mpp is not None and self._backend.mpp is not None and not _agree(mpp, self._backend.mpp):
            logger.warning("%s: read at the given %g µm/px; the file says %g", path.name, mpp, self._backend.mpp[0])
        self._mpp_axes = _checked_mpp(path, axes, self._backend.mpp_quote if mpp is None else "")
        self.mpp = math.sqrt(self._mpp_axes[0] * self._mpp_axes[1])
        if abs(self._mpp_axes[0] / self._mpp_axes[1] - 1) <= _SQUARE:
            # A scanner's pixels are square, and its two values are measurements. Resampling would do more harm.
            self._mpp_axes = (self.mpp, self.mpp)
        self.levels = [self._level(shape) for shape in self._backend.level_shapes]
        self._warned_upsampling = False

    @property
    def name(self) -> str:
        """Return the file's name without its suffix."""
        return slide_name(self.path)

    @property
    def properties(self) -> dict[str, str]:
        """Return the file's metadata (vendor, scanner, objective, …), as far as the backend offers it."""
        return self._backend.properties

    @property
    def bounds(self) -> Bounds | None:
        """Return the scanned part of the slide; None where the file names none, or an impossible one."""
        return self._backend.bounds

    @property
    def bounds_quote(self) -> str:
        """Return the file's impossible bounds, quoted; empty where they are possible or there are none."""
        return self._backend.bounds_quote

    def frame(self, origin: str = "slide") -> Bounds:
        """Return the rectangle from whose top left corner positions with an origin count.

        Args:
            origin: ``"slide"`` or ``"bounds"``; both are the whole slide where it has no bounds.

        Raises:
            ValueError: unknown origin.
            SlideError: the bounds in the file are impossible, so that their corner is not known.
        """
        check_origin(origin)
        if origin == "slide":
            return Bounds(0, 0, *self.shape)
        if self.bounds_quote:
            raise SlideError(
                self.path,
                f"its bounds are impossible ({self.bounds_quote}), and positions count from them",
                "Give origin: slide, and outlines that count from the slide's corner",
            )
        return self.bounds or Bounds(0, 0, *self.shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, **self._asked}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"Slide({self.path.name!r}, {self.shape[0]} x {self.shape[1]} at {self.mpp:.4g} µm/px, {self.backend})"

    def close(self) -> None:
        """Give the file back; reading afterwards is an error."""
        self._backend.close()

    def change(self) -> SlideChangedError | None:
        """Return an error if the slide's files are no longer those that were opened."""
        change = self.files.change()
        return None if change is None else SlideChangedError(self.path, change, _COPY_IT)

    def check_unchanged(self) -> None:
        """Raise :class:`SlideChangedError` if the slide's files are no longer those that were opened."""
        change = self.change()
        if change is not None:
            raise change

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def level0_pixels(self, mpp: float) -> tuple[float, float]:
        """Return the height and width in level-0 pixels of a square pixel of ``mpp`` µm."""
        return mpp / self._mpp_axes[0], mpp / self._mpp_axes[1]

    def sampling_grid(self, mpp: float, level_tolerance: float = 0.03) -> SamplingGrid:
        """Return the level and step with which ``mpp`` is read.

        A level within ``level_tolerance`` of ``mpp`` (a share of it) is read without resampling, as in the papers;
        otherwise the nearest finer level is resampled.

        Raises:
            SlideError: ``mpp`` is less than half of the slide's own.
        """
        if not (math.isfinite(mpp) and mpp > 0):
            raise ValueError(f"mpp must be a positive number of micrometres per pixel, not {mpp}")
        stored = self._stored_level(mpp, level_tolerance)
        if stored is not None:
            level_mpp = self.levels[stored].mpp
            return SamplingGrid(stored, (1.0, 1.0), math.sqrt(level_mpp[0] * level_mpp[1]))
        finer = [i for i, level in enumerate(self.levels) if max(level.mpp) <= mpp * (1 + 1e-9)]
        index = finer[-1] if finer else 0
        step = tuple(_whole_if_close(mpp / axis) for axis in self.levels[index].mpp)
        if min(step) < _FINEST_STEP * (1 - 1e-6):
            raise SlideError(
                self.path,
                f"{mpp:g} µm/px requested from a slide of {self.mpp:.4g} µm/px: more than twice as fine as its pixels",
                "Ask for a coarser magnification, or check the slide's mpp (mpp= overrides it)",
            )
        return SamplingGrid(index, (step[0], step[1]), mpp)

    def read(
        self,
        center: tuple[float, float],
        mpp: float,
        size: int | tuple[int, int],
        *,
        fill: str = "white",
        resample: str = "area",
        level_tolerance: float = 0.03,
        level: int | None = None,
    ) -> np.ndarray:
        """Read a region around a centre.

        Args:
            center: ``(row, column)`` in level-0 pixels, continuous: pixel i covers [i, i + 1).
            mpp: µm/px of the result.
            size: side of a square in pixels, or (height, width).
            fill: pixels outside the slide: ``"white"``, ``"black"``, ``"reflect"`` or ``"symmetric"``.
            resample: ``"area"`` averages the source pixels that an output pixel covers, ``"decimate"`` takes the
                first of them.
            level_tolerance: a level within this share of ``mpp`` is read without resampling, at the nearest whole
                pixel; 0 always resamples, so that the centre is exact to a fraction of a pixel.
            level: level to read, instead of the coarsest one that is fine enough.

        Returns:
            ``(height, width, 3)`` uint8 RGB.

        Raises:
            SlideError: pixels needed for the region cannot be decoded.
        """
        if fill not in PAD_MODES:
            raise ValueError(f"fill must be one of {', '.join(PAD_MODES)}, not {fill!r}")
        if resample not in RESAMPLINGS:
            raise ValueError(f"resample must be one of {', '.join(RESAMPLINGS)}, not {resample!r}")
        height, width = (size, size) if isinstance(size, int) else size
        grid = self.sampling_grid(mpp, level_tolerance) if level is None else self._sampling_grid_of(level, mpp)
        rows = partial(self._axis, grid, 0, center[0], height, resample, level_tolerance)
        columns = self._axis(grid, 1, center[1], width, resample, level_tolerance, 0, width)
        return self._read_bands(grid, rows, columns, (height, width), fill)

    def _stored_level(self, mpp: float, level_tolerance: float) -> int | None:
        """Return the level closest to ``mpp`` within ``level_tolerance``, or None.

        A level equal to ``mpp`` up to rounding counts even with ``level_tolerance=0``: resampling at a step of 1 then
        only moves it by a fraction of a pixel.
        """
        tolerance = max(level_tolerance, 1e-6)
        distance = {
            i: max(abs(axis / mpp - 1) for axis in level.mpp)
            for i, level in enumerate(self.levels)
            if abs(level.mpp[0] / level.mpp[1] - 1) <= _SQUARE
        }
        best = min(distance, key=lambda i: distance[i], default=None)
        return best if best is not None and distance[best] <= tolerance else None

    def _sampling_grid_of(self, level: int, mpp: float) -> SamplingGrid:
        step = [_whole_if_close(mpp / axis) for axis in self.levels[level].mpp]
        return SamplingGrid(level, (step[0], step[1]), mpp)

    def _axis(
        self,
        grid: SamplingGrid,
        axis: int,
        center: float,
        size: int,
        resample: str,
        level_tolerance: float,
        first: int,
        last: int,
    ) -> Axis:
        """Return source pixels and weights of output pixels ``[first, last)`` of ``size`` around ``center``."""
        step = grid.step[axis]
        start = center / self.levels[grid.level].downsample[axis] - size / 2 * step
        if grid.as_stored and level_tolerance > 0:
            start = math.floor(float(quantise(start)) + 0.5)
        begin, count = start + first * step, last - first
        if step < 1:
            self._warn_upsampling(grid.mpp)
            return cubic_axis(begin, step, count)
        return stride_axis(begin, step, count) if resample == "decimate" else area_axis(begin, step, count)

    def _read_bands(
        self, grid: SamplingGrid, rows: Callable[[int, int], Axis], columns: Axis, size: tuple[int, int], fill: str
    ) -> np.ndarray:
        height, width = size
        source_rows = max(1, _BAND_BYTES // (3 * max(1, columns.last - columns.first)))
        band = max(1, int(source_rows / grid.step[0]))
        result = np.empty((height, width, 3), dtype=np.uint8)
        shape = self.levels[grid.level].shape
        read_inside = partial(self._backend.read, grid.level)
        for first in range(0, height, band):
            last = min(first + band, height)
            axis = rows(first, last)
            pixels = read_padded(
                read_inside,
                shape,
                axis.first,
                columns.first,
                axis.last - axis.first,
                columns.last - columns.first,
                fill,
            )
            result[first:last] = combine(pixels, axis, columns)
        return result

    def _warn_upsampling(self, mpp: float) -> None:
        if not self._warned_upsampling:
            self._warned_upsampling = True
            logger.warning(
                "%s: %.4g µm/px requested from a slide of %.4g µm/px; pixels are interpolated (bicubic) and hold no "
                "more detail",
                self.path.name,
                mpp,
                self.mpp,
            )

    def _level(self, shape: tuple[int, int]) -> Level:
        down = [_downsample(full, part) for full, part in zip(self.shape, shape, strict=True)]
        if not all(float(d).is_integer() for d in down):
            down = [full / part for full, part in zip(self.shape, shape, strict=True)]
        mpp = (self._mpp_axes[0] * down[0], self._mpp_axes[1] * down[1])
        return Level(shape, (down[0], down[1]), mpp)


@cache
def _warn_once(message: str) -> None:
    """Log a warning once per process, however often its slide is opened."""
    if message:
        logger.warning("%s", message)


def slide_name(path: str | Path) -> str:
    """Return the file's name without its suffix, or both suffixes of ``.ome.tif``."""
    name = Path(path).name
    for ending in (".ome.tif", ".ome.tiff"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(path).stem


def _downsample(full: int, part: int) -> float:
    """Return the downsample of a level along one axis.

    Scanners shrink by a whole number and cut or pad the last pixel: 46001 / 11500 is a downsample of 4, not 4.00009.
    """
    whole = round(full / part)
    return float(whole) if whole >= 1 and full // whole <= part <= -(-full // whole) else full / part


def _whole_if_close(step: float) -> float:
    return float(round(step)) if round(step) >= 1 and abs(step / round(step) - 1) < 1e-6 else step


def _agree(given: float, stored: tuple[float, float]) -> bool:
    return all(abs(given / axis - 1) < 0.01 for axis in stored if axis > 0)


def _given_mpp(path: Path, mpp: float | str | None) -> float | None:
    """Return the user's µm/px as a number; tables and configs may hold it as text."""
    number = parse_number(mpp) if isinstance(mpp, str) else mpp
    if mpp is None or (isinstance(number, Real) and not isinstance(number, bool)):
        return None if number is None else float(number)
    raise SlideError(path, f"the given mpp, {mpp!r}, is not a number", _GIVE_MPP)


def parse_series(value: Any) -> int:
    """Return the number of an image in a file; tables and configs may hold it as text.

    Raises:
        ValueError: it is not a whole number from 0 on.
    """
    text = value.strip() if isinstance(value, str) else ""
    number = int(text) if text.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 0:
        raise ValueError(f"the series {value!r} is not the number of an image, counted from 0")
    return int(number)


def _given_series(path: Path, series: int | str | None) -> int | None:
    try:
        return None if series is None else parse_series(series)
    except ValueError as error:
        raise SlideError(path, str(error), GIVE_SERIES) from error


def _checked_mpp(path: Path, axes: tuple[float, float] | None, quote: str) -> tuple[float, float]:
    statement = f" ({quote})" if quote else ""
    if axes is None:
        raise SlideError(path, f"the file does not say how many micrometres a pixel is{statement}", _GIVE_MPP)
    low, high = MPP_RANGE
    if not all(math.isfinite(axis) and low <= axis <= high for axis in axes):
        problem = f"a pixel of {axes[0]:g} x {axes[1]:g} µm is outside {low:g}–{high:g} µm{statement}"
        raise SlideError(path, problem, _GIVE_MPP)
    return axes
