"""Slides through OpenSlide: NDPI, MIRAX, SCN, BIF, DICOM, VMS, Philips and others."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
import openslide

from ..errors import SlideError, UnsupportedLayoutError
from .alignment import aligned_start
from .base import Backend
from .deflate import check_deflated_tiles
from .tiff import TiffBackend


def detect_format(path: Path) -> str | None:
    """OpenSlide's name for the file's format, or None."""
    return openslide.OpenSlide.detect_format(path)


class OpenSlideBackend(Backend):
    """Any format that OpenSlide opens. Where a format leaves parts of the canvas without pixels, they are the
    file's own background colour (white where it names none)."""

    name: ClassVar[str] = "openslide"

    def __init__(self, path: Path) -> None:
        self.path = path
        vendor = detect_format(path)
        # In plain TIFF files every tile must be there; OpenSlide shows absent ones as transparent.
        self._complete = vendor in ("aperio", "generic-tiff")
        if self._complete:
            # OpenSlide believes a header whose size does not fit its tiles, and would return pixels from elsewhere.
            with suppress(UnsupportedLayoutError):
                TiffBackend(path).close()
            check_deflated_tiles(path)
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise SlideError(
                path, f"OpenSlide cannot open it ({error})", "Try another backend, or convert it"
            ) from error
        self.level_shapes = [(height, width) for width, height in self._slide.level_dimensions]
        self.properties = dict(self._slide.properties)
        self.mpp = self._read_mpp()
        color = self.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "ffffff")
        self._background = np.array([int(color[i : i + 2], 16) for i in (0, 2, 4)], dtype=np.float32)

    def close(self) -> None:
        self._slide.close()

    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        down = self._slide.level_downsamples[level]
        row, skip_rows = aligned_start(top, down)
        column, skip_columns = aligned_start(left, down)
        size = (width + skip_columns, height + skip_rows)
        try:
            region = np.asarray(self._slide.read_region((column, row), level, size))
        except openslide.OpenSlideError as error:
            raise self._damaged(level, top, left, height, width, str(error)) from error
        region = region[skip_rows:, skip_columns:]
        alpha = region[..., 3:]
        if alpha.min() == 255:
            return np.ascontiguousarray(region[..., :3])
        if self._complete:
            raise self._damaged(level, top, left, height, width, "tiles are missing from the file")
        share = alpha.astype(np.float32) / 255
        return np.round(region[..., :3] * share + self._background * (1 - share)).astype(np.uint8)

    def _damaged(self, level: int, top: int, left: int, height: int, width: int, problem: str) -> SlideError:
        return SlideError(
            self.path,
            f"level {level}, rows {top}–{top + height}, columns {left}–{left + width}: {problem}",
            "Get an undamaged copy of the file; these pixels cannot be recovered",
        )

    def _read_mpp(self) -> tuple[float, float] | None:
        row = self.properties.get(openslide.PROPERTY_NAME_MPP_Y)
        column = self.properties.get(openslide.PROPERTY_NAME_MPP_X)
        return None if row is None or column is None else (float(row), float(column))
