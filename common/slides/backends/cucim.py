"""Read JPEG-tiled TIFF slides through cuCIM, on request."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tifffile import COMPRESSION
from tqdm import tqdm

from ..errors import SlideError, UnsupportedLayoutError
from .alignment import aligned_start
from .base import Backend
from .tiff import TiffBackend

_checked: set[tuple[str, int, int, int | None]] = set()
_lock = threading.Lock()
# Mean difference over a tile, in grey levels, that sound JPEG decoders may have by their arithmetic.
_DECODERS_DIFFER = 1.5


class CucimBackend(Backend):
    """A backend of cuCIM that catches its silent failures.

    cuCIM 26.10 returns black or garbage pixels for damaged tiles and for sound ones of some OME-TIFFs, crashes on some
    Deflate TIFFs and misreads the µm/px of SVS. So it reads only RGB JPEG tiles, sizes and µm/px come from tifffile,
    and before the first use of a file in a process both libraries decode every tile once and are compared.
    """

    name: ClassVar[str] = "cucim"

    def __init__(self, path: Path, series: int | None = None) -> None:
        self.path, self._series = path, series
        structure = TiffBackend(path, series)
        try:
            for page in structure.pages:
                if page.compression != COMPRESSION.JPEG or not page.is_tiled or page.samplesperpixel != 3:
                    raise UnsupportedLayoutError(
                        path, "cuCIM reads only RGB JPEG tiles reliably", "Use backend='auto' or 'tiff'"
                    )
            self.level_shapes, self.properties = structure.level_shapes, structure.properties
            self.mpp, self.mpp_quote = structure.mpp, structure.mpp_quote
            self._slide = _cu_image(path)
            sizes = [(height, width) for width, height in self._slide.resolutions["level_dimensions"]]
            if sizes != self.level_shapes:
                raise UnsupportedLayoutError(
                    path, f"cuCIM sees levels {sizes}, the file has {self.level_shapes}", "Use backend='auto' or 'tiff'"
                )
            self._check_once(structure)
        finally:
            structure.close()

    def close(self) -> None:
        self._slide.close()

    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        down = self._slide.resolutions["level_downsamples"][level]
        row, skip_rows = aligned_start(top, down)
        column, skip_columns = aligned_start(left, down)
        size = (width + skip_columns, height + skip_rows)
        region = np.asarray(self._slide.read_region(location=(column, row), size=size, level=level))
        return np.ascontiguousarray(region[skip_rows:, skip_columns:, :3])

    def _check_once(self, structure: TiffBackend) -> None:
        status = self.path.stat()
        identity = (str(self.path.resolve()), status.st_size, status.st_mtime_ns, self._series)
        with _lock:
            if identity in _checked:
                return
            tiles = tqdm(structure.tiles(), desc=f"checking {self.path.name}", unit="tile", delay=3, leave=False)
            for level, index in tiles:
                rectangle = structure.tile_rectangle(level, index)
                right = structure.read(level, *rectangle).astype(np.int16)
                if np.abs(self.read(level, *rectangle) - right).mean() > _DECODERS_DIFFER:
                    raise UnsupportedLayoutError(
                        self.path, f"cuCIM decodes level {level}, tile {index} wrongly", "Use backend='auto' or 'tiff'"
                    )
            _checked.add(identity)


def _cu_image(path: Path) -> Any:
    try:
        from cucim import CuImage  # type: ignore[attr-defined]
    except ImportError as error:
        raise SlideError(
            path,
            "cuCIM is not installed",
            "Install the extra, pip install 'multimag[cucim]' (Linux only), or use backend='auto'",
        ) from error
    try:
        return CuImage(str(path))
    except RuntimeError as error:
        raise SlideError(path, f"cuCIM cannot open it ({error})", "Use backend='auto'") from error
