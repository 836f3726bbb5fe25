"""Read slides through OpenSlide: NDPI, MIRAX, SCN, BIF, DICOM, VMS, Philips and others."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import openslide

from ..bounds import read_bounds
from ..errors import SlideError
from .alignment import aligned_start
from .alpha import Alpha, on_white
from .base import Backend
from .deflate import check_deflated_tiles
from .planes import EXPORT_ONE, dicom_planes, planes_remark
from .tiff import NAME_THE_ALPHA
from .tiff_structure import TiffStructure

_USE_TIFF = "Use backend='auto' or 'tiff'"


def detect_format(path: Path) -> str | None:
    """Return OpenSlide's name for a file's format, or None."""
    return openslide.OpenSlide.detect_format(path)


def canvas_remark(path: Path, backend: str, shape: tuple[int, int]) -> str:
    """Return a warning if another backend's level 0 is not the whole slide, as in a Leica SCN; otherwise nothing.

    Args:
        path: the slide.
        backend: name of the other backend.
        shape: height and width of its level 0.
    """
    if detect_format(path) in (None, "aperio", "generic-tiff"):
        return ""
    try:
        with openslide.OpenSlide(path) as slide:
            width, height = slide.dimensions
    except openslide.OpenSlideError:
        return ""
    if (height, width) == shape:
        return ""
    return (
        f"backend {backend} reads {shape[0]} x {shape[1]} of the slide's {height} x {width} pixels and no bounds, "
        "so that annotations count from the corner of these pixels, whatever their origin. Leave backend out, or give "
        "backend: openslide"
    )


class OpenSlideBackend(Backend):
    """A backend of any format that OpenSlide opens.

    Where a format leaves parts of the canvas without pixels, they get the file's background colour (white if it names
    none). A plain TIFF must have all its tiles: OpenSlide returns missing ones as transparent. It does the same with
    transparency that is stored with the pixels, which becomes white.
    """

    name: ClassVar[str] = "openslide"

    def __init__(self, path: Path, series: int | None = None) -> None:
        self.path = path
        self._structure: TiffStructure | None = None
        if detect_format(path) in ("aperio", "generic-tiff"):
            # OpenSlide trusts a header whose size does not fit its tiles, and would return pixels of other places.
            self._structure = TiffStructure(path, series)
            self._structure.close()
            if self._structure.alpha is not None and self._structure.pages[0].samplesperpixel == 2:
                # libtiff mistakes the two samples for one where a tile reaches over the border.
                raise SlideError(path, "OpenSlide misreads grey with transparency", _USE_TIFF)
            check_deflated_tiles(path)
        elif series:
            raise SlideError(path, f"OpenSlide shows one image of it, not series {series}", "Leave series out")
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            planes = dicom_planes(str(error))
            if planes is not None:
                raise SlideError(path, f"it has {planes} focal planes", EXPORT_ONE) from error
            raise SlideError(
                path, f"OpenSlide cannot open it ({error})", "Try another backend, or convert it"
            ) from error
        shapes = [(height, width) for width, height in self._slide.level_dimensions]
        # OpenSlide's number of each level, and the file's.
        self._levels = list(enumerate(range(len(shapes)))) if self._structure is None else self._shared_levels(shapes)
        self.level_shapes = [shapes[level] for level, _ in self._levels]
        self.properties = dict(self._slide.properties)
        self.remark = planes_remark(path, self.properties)
        self.mpp = self._read_mpp()
        try:
            self.bounds = read_bounds(self.properties, self.level_shapes[0])
        except ValueError as error:
            self.bounds_quote = str(error)
        color = self.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "ffffff")
        self._background = np.array([int(color[i : i + 2], 16) for i in (0, 2, 4)], dtype=np.float32)

    def close(self) -> None:
        self._slide.close()

    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        own_level, level_of_file = self._levels[level]
        down = self._slide.level_downsamples[own_level]
        row, skip_rows = aligned_start(top, down)
        column, skip_columns = aligned_start(left, down)
        size = (width + skip_columns, height + skip_rows)
        try:
            region = np.asarray(self._slide.read_region((column, row), own_level, size))
        except openslide.OpenSlideError as error:
            raise self._damaged(level, top, left, height, width, str(error)) from error
        region = region[skip_rows:, skip_columns:]
        colours, alpha = region[..., :3], region[..., 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(colours)
        if self._structure is None:
            share = alpha.astype(np.float32) / 255
            return np.round(colours * share + self._background * (1 - share)).astype(np.uint8)
        stored = self._structure.alpha
        if stored is None or self._structure.is_missing(level_of_file, top, left, height, width):
            raise self._damaged(level, top, left, height, width, "tiles are missing from the file")
        place = _place(level, top, left, height, width)
        if stored is Alpha.UNNAMED:
            problem = "its pixels have a sample after the colours and its header does not say what it is"
            raise SlideError(self.path, f"{place}: {problem}", NAME_THE_ALPHA)
        return on_white(colours, alpha)

    def _shared_levels(self, shapes: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return OpenSlide's and the file's number of each level that both take for the slide's."""
        assert self._structure is not None
        own = self._structure.level_shapes
        (height, width), (other_height, other_width) = own[0], shapes[0]
        if not self._structure.is_first or own[0] != shapes[0]:
            raise SlideError(
                self.path,
                f"OpenSlide shows an image of {other_width} x {other_height} pixels, but the slide is another one of "
                f"{width} x {height}",
                _USE_TIFF,
            )
        if any(shapes.count(shape) > 1 for shape in own):
            raise SlideError(self.path, "two images have the size of one level, and OpenSlide shows either", _USE_TIFF)
        return [(shapes.index(shape), number) for number, shape in enumerate(own) if shape in shapes]

    def _damaged(self, level: int, top: int, left: int, height: int, width: int, problem: str) -> SlideError:
        return SlideError(
            self.path,
            f"{_place(level, top, left, height, width)}: {problem}",
            "Get an undamaged copy of the file; these pixels cannot be recovered",
        )

    def _read_mpp(self) -> tuple[float, float] | None:
        if self._structure is not None:
            self.mpp_quote = self._structure.pixel_size.quote
            return self._structure.pixel_size.mpp
        row = self.properties.get(openslide.PROPERTY_NAME_MPP_Y)
        column = self.properties.get(openslide.PROPERTY_NAME_MPP_X)
        return None if row is None or column is None else (float(row), float(column))


def _place(level: int, top: int, left: int, height: int, width: int) -> str:
    return f"level {level}, rows {top}–{top + height}, columns {left}–{left + width}"
