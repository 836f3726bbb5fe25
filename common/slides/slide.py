"""One slide, whatever its format: any region at any µm/px."""

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
from .outside import FILLS, read_with_fill
from .resample import Axis, area_axis, combine, cubic_axis, quantise, stride_axis

logger = logging.getLogger(__name__)

MPP_RANGE = (0.05, 100.0)
RESAMPLINGS = ("area", "decimate")
# Levels whose two axes differ by less than this in µm/px count as square pixels.
_SQUARE = 1e-3
_FINEST_STEP = 0.5
_COPY_IT = "Copy it to where nothing else writes to it, and run the same command again"
_GIVE_MPP = 'Give the true value: --mpp 0.5 for one slide, "mpp": 0.5 in a datalist, mpp=0.5 in Python'
# Source bytes held at once while resampling; a larger read goes band by band.
_BAND_BYTES = 24 << 20


@dataclass(frozen=True)
class Level:
    """One level of the pyramid: ``shape`` (height, width), level-0 pixels per pixel and µm per pixel, each (row,
    column)."""

    shape: tuple[int, int]
    downsample: tuple[float, float]
    mpp: tuple[float, float]


@dataclass(frozen=True)
class Lattice:
    """How an asked µm/px is read: from which level, with how many of its pixels per output pixel (row, column),
    and the µm/px that results."""

    level: int
    step: tuple[float, float]
    mpp: float

    @property
    def as_stored(self) -> bool:
        return self.step == (1.0, 1.0)

    @property
    def interpolated(self) -> bool:
        """Whether there are more output pixels than the slide has, along either axis."""
        return min(self.step) < 1


def open_slide(
    path: str | Path, backend: str = "auto", mpp: float | str | None = None, series: int | str | None = None
) -> Slide:
    """Open a slide.

    Args:
        path: the file (for MIRAX and VMS the index file).
        backend: ``"tiff"``, ``"openslide"``, ``"cucim"``, ``"image"`` or ``"auto"``, which takes the fastest that is
            correct for the file and says which in the log.
        mpp: µm per level-0 pixel, in place of what the file says or where it says nothing; a number, or a text that is
            one.
        series: which image of a TIFF is the slide, by its number in the file, from 0; a number, or a text that is one.
            The default is the largest that has tiles and a pyramid; labels, macros and thumbnails are left out.

    Raises:
        SlideError: the file is missing or unreadable, several of its images may be the slide and ``series`` is not
            given, or its µm/px is missing or absurd and ``mpp`` is not given.

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
    """A slide open for reading, from several threads; pickles by opening again. Made by :func:`open_slide`.

    Attributes:
        shape: height and width at level 0, in pixels.
        mpp: µm per level-0 pixel; of pixels that are not square, the geometric mean of both axes.
        levels: the pyramid, finest first.
        backend: name of the library behind it.
        series: which image of the file was asked for; None: the one that is the slide.
        remark: warning about image data in the file that is not read, such as focal planes, or empty.
        files: its files as they were when it was opened.
    """

    def __init__(
        self, path: Path, backend: str = "auto", mpp: float | str | None = None, series: int | str | None = None
    ) -> None:
        self.path = path
        mpp = _given_mpp(path, mpp)
        series = self.series = _given_series(path, series)
        self._asked = {"backend": backend, "mpp": mpp, "series": series}
        # Before the file is opened: a change during that counts, too.
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
            logger.warning(
                "%s: read at the %g µm/px that were given; the file says %g", path.name, mpp, self._backend.mpp[0]
            )
        self._mpp_axes = _checked_mpp(path, axes, self._backend.mpp_quote if mpp is None else "")
        self.mpp = math.sqrt(self._mpp_axes[0] * self._mpp_axes[1])
        if abs(self._mpp_axes[0] / self._mpp_axes[1] - 1) <= _SQUARE:
            # A scanner's pixels are square; its two figures are measured. Resampling would cost more than it mends.
            self._mpp_axes = (self.mpp, self.mpp)
        self.levels = [self._level(shape) for shape in self._backend.level_shapes]
        self._warned_upsampling = False

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return slide_name(self.path)

    @property
    def properties(self) -> dict[str, str]:
        """What the file says about itself (vendor, scanner, objective, …), as far as the backend tells."""
        return self._backend.properties

    @property
    def bounds(self) -> Bounds | None:
        """The scanned part of the slide. None where the file does not say it, or says what cannot be."""
        return self._backend.bounds

    @property
    def bounds_quote(self) -> str:
        """Bounds in the file that cannot be; nothing where they can, or where there are none."""
        return self._backend.bounds_quote

    def frame(self, origin: str = "slide") -> Bounds:
        """Return the rectangle from whose top left corner positions with an origin count.

        Args:
            origin: ``"slide"`` or ``"bounds"``; of a slide without bounds both are the whole slide.

        Raises:
            ValueError: there is no such origin.
            SlideError: the bounds that the file says cannot be, so that their corner is not known.
        """
        check_origin(origin)
        if origin == "slide":
            return Bounds(0, 0, *self.shape)
        if self.bounds_quote:
            raise SlideError(
                self.path,
                f"its bounds cannot be ({self.bounds_quote}), and something counts from them",
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

    def pixel(self, mpp: float) -> tuple[float, float]:
        """Level-0 pixels (down, across) that a square pixel of ``mpp`` µm covers."""
        return mpp / self._mpp_axes[0], mpp / self._mpp_axes[1]

    def lattice(self, mpp: float, snap: float = 0.03) -> Lattice:
        """How ``mpp`` is read.

        A level within ``snap`` (as a share) of the asked µm/px is read as it is stored, as the papers did; otherwise
        the nearest finer level is resampled.

        Raises:
            SlideError: ``mpp`` is finer than half of the slide's own.
        """
        if not (math.isfinite(mpp) and mpp > 0):
            raise ValueError(f"mpp must be a positive number of micrometres per pixel, not {mpp}")
        stored = self._stored_level(mpp, snap)
        if stored is not None:
            level_mpp = self.levels[stored].mpp
            return Lattice(stored, (1.0, 1.0), math.sqrt(level_mpp[0] * level_mpp[1]))
        finer = [i for i, level in enumerate(self.levels) if max(level.mpp) <= mpp * (1 + 1e-9)]
        index = finer[-1] if finer else 0
        step = tuple(_whole_if_close(mpp / axis) for axis in self.levels[index].mpp)
        if min(step) < _FINEST_STEP * (1 - 1e-6):
            raise SlideError(
                self.path,
                f"{mpp:g} µm/px asked of a slide of {self.mpp:.4g} µm/px: more than twice as fine as its pixels",
                "Ask for a coarser magnification, or check the slide's mpp (mpp= overrides it)",
            )
        return Lattice(index, (step[0], step[1]), mpp)

    def read(
        self,
        center: tuple[float, float],
        mpp: float,
        size: int | tuple[int, int],
        *,
        fill: str = "white",
        resample: str = "area",
        snap: float = 0.03,
        level: int | None = None,
    ) -> np.ndarray:
        """Read a region around a centre.

        Args:
            center: ``(row, column)`` in level-0 pixels, continuous: pixel i covers [i, i + 1).
            mpp: µm per pixel of the result.
            size: pixels a side, or (height, width).
            fill: what lies outside the slide: ``"white"``, ``"black"``, ``"reflect"`` or ``"symmetric"``.
            resample: ``"area"`` averages the source pixels that an output pixel covers, ``"decimate"`` takes the
                first of them.
            snap: read a level within this share of ``mpp`` as it is stored, its nearest whole pixels; 0 always
                resamples, so that the centre is met to a fraction of a pixel.
            level: take the pixels from this level rather than from the coarsest one that is fine enough.

        Returns:
            ``(height, width, 3)`` uint8 RGB.

        Raises:
            SlideError: pixels needed for the region cannot be decoded.
        """
        if fill not in FILLS:
            raise ValueError(f"fill must be one of {', '.join(FILLS)}, not {fill!r}")
        if resample not in RESAMPLINGS:
            raise ValueError(f"resample must be one of {', '.join(RESAMPLINGS)}, not {resample!r}")
        height, width = (size, size) if isinstance(size, int) else size
        lattice = self.lattice(mpp, snap) if level is None else self._lattice_from(level, mpp)
        rows = partial(self._axis, lattice, 0, center[0], height, resample, snap)
        columns = self._axis(lattice, 1, center[1], width, resample, snap, 0, width)
        return self._read_bands(lattice, rows, columns, (height, width), fill)

    def _stored_level(self, mpp: float, snap: float) -> int | None:
        """The level closest to ``mpp`` within ``snap``. One equal to it up to rounding counts even with
        ``snap=0``: resampling at a step of 1 then only moves it by a fraction of a pixel."""
        tolerance = max(snap, 1e-6)
        distance = {
            i: max(abs(axis / mpp - 1) for axis in level.mpp)
            for i, level in enumerate(self.levels)
            if abs(level.mpp[0] / level.mpp[1] - 1) <= _SQUARE
        }
        best = min(distance, key=lambda i: distance[i], default=None)
        return best if best is not None and distance[best] <= tolerance else None

    def _lattice_from(self, level: int, mpp: float) -> Lattice:
        step = [_whole_if_close(mpp / axis) for axis in self.levels[level].mpp]
        return Lattice(level, (step[0], step[1]), mpp)

    def _axis(
        self, lattice: Lattice, axis: int, center: float, size: int, resample: str, snap: float, first: int, last: int
    ) -> Axis:
        """Source pixels and weights of output pixels ``[first, last)`` of ``size`` around ``center``."""
        step = lattice.step[axis]
        start = center / self.levels[lattice.level].downsample[axis] - size / 2 * step
        if lattice.as_stored and snap > 0:
            start = math.floor(float(quantise(start)) + 0.5)
        begin, count = start + first * step, last - first
        if step < 1:
            self._warn_upsampling(lattice.mpp)
            return cubic_axis(begin, step, count)
        return stride_axis(begin, step, count) if resample == "decimate" else area_axis(begin, step, count)

    def _read_bands(
        self, lattice: Lattice, rows: Callable[[int, int], Axis], columns: Axis, size: tuple[int, int], fill: str
    ) -> np.ndarray:
        height, width = size
        source_rows = max(1, _BAND_BYTES // (3 * max(1, columns.last - columns.first)))
        band = max(1, int(source_rows / lattice.step[0]))
        result = np.empty((height, width, 3), dtype=np.uint8)
        shape = self.levels[lattice.level].shape
        read_inside = partial(self._backend.read, lattice.level)
        for first in range(0, height, band):
            last = min(first + band, height)
            axis = rows(first, last)
            pixels = read_with_fill(
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
                "%s: %.4g µm/px asked of a slide of %.4g µm/px; pixels are interpolated (bicubic) and hold no more "
                "detail",
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
    """Log a warning, once per process however often its slide is opened."""
    if message:
        logger.warning("%s", message)


def slide_name(path: str | Path) -> str:
    """A slide's name: its file's, without the ending (of ``.ome.tif`` both parts)."""
    name = Path(path).name
    for ending in (".ome.tif", ".ome.tiff"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return Path(path).stem


def _downsample(full: int, part: int) -> float:
    """Scanners shrink by a whole number and cut or pad the last pixel: 46001 / 11500 is a shrink by 4, not by
    4.00009."""
    whole = round(full / part)
    return float(whole) if whole >= 1 and full // whole <= part <= -(-full // whole) else full / part


def _whole_if_close(step: float) -> float:
    return float(round(step)) if round(step) >= 1 and abs(step / round(step) - 1) < 1e-6 else step


def _agree(given: float, stored: tuple[float, float]) -> bool:
    return all(abs(given / axis - 1) < 0.01 for axis in stored if axis > 0)


def _given_mpp(path: Path, mpp: float | str | None) -> float | None:
    """Return a given µm/px as a number; tables and configs may hold it as text."""
    number = parse_number(mpp) if isinstance(mpp, str) else mpp
    if mpp is None or (isinstance(number, Real) and not isinstance(number, bool)):
        return None if number is None else float(number)
    raise SlideError(path, f"the mpp that was given, {mpp!r}, is no number", _GIVE_MPP)


def series_of(value: Any) -> int:
    """Return the number of an image in a file; tables and configs may hold it as text.

    Raises:
        ValueError: it is no whole number from 0 on.
    """
    text = value.strip() if isinstance(value, str) else ""
    number = int(text) if text.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 0:
        raise ValueError(f"the series {value!r} is no number of an image, counted from 0")
    return int(number)


def _given_series(path: Path, series: int | str | None) -> int | None:
    try:
        return None if series is None else series_of(series)
    except ValueError as error:
        raise SlideError(path, str(error), GIVE_SERIES) from error


def _checked_mpp(path: Path, axes: tuple[float, float] | None, quote: str) -> tuple[float, float]:
    said = f" ({quote})" if quote else ""
    if axes is None:
        raise SlideError(path, f"the file does not say how many micrometres a pixel is{said}", _GIVE_MPP)
    low, high = MPP_RANGE
    if not all(math.isfinite(axis) and low <= axis <= high for axis in axes):
        problem = f"a pixel of {axes[0]:g} x {axes[1]:g} µm is outside {low:g}–{high:g} µm{said}"
        raise SlideError(path, problem, _GIVE_MPP)
    return axes
