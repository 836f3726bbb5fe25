"""Read TIFF slides through tifffile and imagecodecs: SVS, generic and OME-TIFF pyramids, tile by tile."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import ClassVar

import numpy as np
from tifffile import PHOTOMETRIC

from ..errors import SlideError
from .alpha import Alpha, on_white
from .base import Backend
from .cache import TILES
from .tiff_structure import TiffStructure, grid_shape, planes_of, tile_shape
from .tiff_tile import TileError, decode_tile

_DAMAGED = "Get an undamaged copy of the file; these pixels cannot be recovered"
NAME_THE_ALPHA = "Mark the sample as alpha in the ExtraSamples tag, or save the file as RGB"
_identities = itertools.count()


def is_tiff(path: Path) -> bool:
    """Return whether a file starts like a TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TiffBackend(Backend):
    """A backend of tiled or striped 8-bit TIFF: RGB, grey or palette. Transparent pixels are blended with white."""

    name: ClassVar[str] = "tiff"

    def __init__(self, path: Path, series: int | None = None) -> None:
        self.path = path
        self._identity = next(_identities)
        structure = TiffStructure(path, series)
        if structure.unsupported is not None:
            structure.close()
            raise structure.unsupported
        self._file = structure.file
        self.pages = structure.pages
        self.level_shapes, self.properties = structure.level_shapes, structure.properties
        self.mpp, self.mpp_quote = structure.pixel_size.mpp, structure.pixel_size.quote
        self._alpha = structure.alpha
        self._colormaps = structure.colormaps

    def close(self) -> None:
        self._file.close()

    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        samples = self.read_samples(level, top, left, height, width)
        if self._alpha is None:
            return self._rgb(level, samples)
        colours, alpha = samples[..., :-1], samples[..., -1:]
        if self._alpha is Alpha.UNNAMED and alpha.min() < 255:
            raise SlideError(
                self.path,
                f"level {level}, rows {top}–{top + height}, columns {left}–{left + width}: its pixels have "
                f"{samples.shape[2]} samples and its header does not say what the last one is",
                NAME_THE_ALPHA,
            )
        return on_white(self._rgb(level, colours), alpha, self._alpha)

    def read_samples(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return the stored values of a rectangle, ``(height, width, samples)`` uint8; palette indices included."""
        page = self.pages[level]
        tile_height, tile_width = tile_shape(page)
        down, across = grid_shape(page)
        planes = planes_of(page)
        result = np.empty((height, width, page.samplesperpixel), dtype=np.uint8)
        for row in range(top // tile_height, (top + height - 1) // tile_height + 1):
            for column in range(left // tile_width, (left + width - 1) // tile_width + 1):
                tile_top, tile_left = row * tile_height, column * tile_width
                y0, x0 = max(top, tile_top), max(left, tile_left)
                y1 = min(top + height, tile_top + tile_height)
                x1 = min(left + width, tile_left + tile_width)
                for plane in range(planes):
                    tile = self._tile(level, (plane * down + row) * across + column)
                    samples = slice(None) if planes == 1 else slice(plane, plane + 1)
                    result[y0 - top : y1 - top, x0 - left : x1 - left, samples] = tile[
                        y0 - tile_top : y1 - tile_top, x0 - tile_left : x1 - tile_left
                    ]
        return result

    def tiles(self) -> list[tuple[int, int]]:
        """Return (level, index) of every tile."""
        return [(level, index) for level, page in enumerate(self.pages) for index in range(len(page.dataoffsets))]

    def tile_rectangle(self, level: int, index: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the part of a tile inside its level, in the level's pixels."""
        page = self.pages[level]
        tile_height, tile_width = tile_shape(page)
        rows, columns = grid_shape(page)
        down, across = divmod(index % (rows * columns), columns)
        top, left = down * tile_height, across * tile_width
        return top, left, min(tile_height, page.imagelength - top), min(tile_width, page.imagewidth - left)

    def _rgb(self, level: int, colours: np.ndarray) -> np.ndarray:
        colormap = self._colormaps[level]
        if colormap is not None:
            return colormap[colours[..., 0]]
        if colours.shape[2] == 1:
            grey = colours if self.pages[level].photometric != PHOTOMETRIC.MINISWHITE else 255 - colours
            return np.repeat(grey, 3, axis=2)
        return colours

    def _tile(self, level: int, index: int) -> np.ndarray:
        key = (self._identity, level, index)
        tile = TILES.get(key)
        if tile is None:
            tile = self._decode(level, index)
            TILES.put(key, tile)
        return tile

    def _decode(self, level: int, index: int) -> np.ndarray:
        page = self.pages[level]
        try:
            tile = decode_tile(self._file, page, index, f"level {level}")
        except TileError as error:
            remedy = _DAMAGED if error.damaged else "Check the drive it is on"
            raise SlideError(self.path, str(error), remedy) from error
        place = f"level {level}, tile {index}"
        needed = (*self.tile_rectangle(level, index)[2:], page.samplesperpixel // planes_of(page))
        if tile.dtype != np.uint8 or tile.shape[0] < needed[0] or tile.shape[1] < needed[1]:
            raise SlideError(self.path, f"{place} decodes to {tile.shape}, smaller than {needed}", _DAMAGED)
        if tile.shape[2] != needed[2]:
            raise SlideError(
                self.path, f"{place} decodes to {tile.shape[2]} samples per pixel, not {needed[2]}", _DAMAGED
            )
        return tile
