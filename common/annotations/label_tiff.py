"""Read the stored values of a TIFF's pages, of every pixel type, tile by tile."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tifffile import COMPRESSION, PLANARCONFIG

from ..slides.backends.cache import TILES
from ..slides.backends.tiff_tile import TileError, decode_tile
from .regions import AnnotationError

_DAMAGED = "Get an undamaged copy of the file"
_KINDS = "buif"
# Some of these can be lossless, but their pixels do not show it.
_LOSSY = ("JPEG", "JP2000", "WEBP")
_identities = itertools.count()


def lossy_error(path: Path, what: str) -> AnnotationError:
    """Return the error of a label image whose compression changes labels.

    Args:
        path: the image.
        what: the subject of the sentence: the part of the image, and its compression.
    """
    return AnnotationError(path, f"{what} changes the values of labels", "Export the labels as PNG, or TIFF with LZW")


class LabelTiff:
    """The stored values of a tiled or striped TIFF: its first page, and those of the same size.

    Attributes:
        shape: height and width.
        pages: number of pages of that size; smaller ones are pyramid levels.
        channels: values per pixel.
        dtype: type of the values.

    Args:
        path: the file.

    Raises:
        AnnotationError: the file is damaged, or its values are not numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = next(_identities)
        try:
            self._file = tifffile.TiffFile(path)
        except Exception as error:  # tifffile fails on damaged tags in many ways
            raise AnnotationError(path, f"not a readable TIFF ({error})", _DAMAGED) from error
        try:
            first = self._file.pages[0].aspage()
            self.shape = (int(first.imagelength), int(first.imagewidth))
            pages = [page.aspage() for page in self._file.pages]
            self._pages = [page for page in pages if (page.imagelength, page.imagewidth) == self.shape]
            self.pages, self.channels = len(self._pages), int(first.samplesperpixel)
            # None, which stands for no known type, is refused page by page.
            self.dtype: np.dtype = first.dtype  # type: ignore[assignment]
            for number, page in enumerate(self._pages):
                self._check(page, number)
            self._check_places()
            self._check_stack(pages)
        except AnnotationError:
            self._file.close()
            raise
        except Exception as error:  # a damaged tag may hold a value of any type
            self._file.close()
            raise AnnotationError(path, f"its header contradicts itself ({error})", _DAMAGED) from error

    def read(self, number: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return the values of a rectangle of a page, ``(height, width, channels)``.

        Raises:
            AnnotationError: a tile is missing or damaged.
        """
        page = self._pages[number]
        tall, wide = _tile_shape(page)
        across = -(-self.shape[1] // wide)
        result = np.empty((height, width, self.channels), dtype=self.dtype)
        for row in range(top // tall, (top + height - 1) // tall + 1):
            for column in range(left // wide, (left + width - 1) // wide + 1):
                tile = self._tile(number, row * across + column)
                y0, x0 = max(top, row * tall), max(left, column * wide)
                y1, x1 = min(top + height, (row + 1) * tall), min(left + width, (column + 1) * wide)
                inside = tile[y0 - row * tall : y1 - row * tall, x0 - column * wide : x1 - column * wide]
                result[y0 - top : y1 - top, x0 - left : x1 - left] = inside
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def _check(self, page: tifffile.TiffPage, number: int) -> None:
        compression = COMPRESSION(page.compression).name
        if any(lossy in compression for lossy in _LOSSY):
            raise lossy_error(self.path, f"page {number} is compressed as {compression}, which")
        if page.dtype is None or page.dtype.kind not in _KINDS:
            raise AnnotationError(
                self.path,
                f"page {number} has pixels of {page.bitspersample} bits that are not numbers",
                "Save it as 8- or 16-bit grey",
            )
        if (page.dtype, page.samplesperpixel) != (self.dtype, self.channels):
            raise AnnotationError(
                self.path, f"page {number} has pixels of another kind than page 0", "Save its pages in one pixel type"
            )
        tall, wide = _tile_shape(page)
        expected = -(-self.shape[0] // tall) * -(-self.shape[1] // wide) * _planes(page)
        if page.imagedepth != 1 or not expected == len(page.dataoffsets) == len(page.databytecounts):
            raise AnnotationError(
                self.path,
                f"the header of page {number} says {self.shape[1]} x {self.shape[0]} pixels in {expected} tiles, but "
                f"the file lists {len(page.dataoffsets)}",
                _DAMAGED,
            )

    def _check_places(self) -> None:
        """Refuse two tiles that share bytes, unless both are the same bytes."""
        places = np.concatenate([np.stack([p.dataoffsets, p.databytecounts], axis=1) for p in self._pages])
        places = np.unique(places[(places > 0).all(axis=1)].astype(np.int64), axis=0)
        overlaps = np.flatnonzero(places[:-1].sum(axis=1) > places[1:, 0])
        if len(overlaps):
            one, two = places[overlaps[0]], places[overlaps[0] + 1]
            raise AnnotationError(
                self.path, f"two tiles share bytes ({one[0]}+{one[1]} and {two[0]}+{two[1]})", _DAMAGED
            )

    def _check_stack(self, pages: list[tifffile.TiffPage]) -> None:
        """Refuse an ImageJ stack: it stores many planes behind the header of one page."""
        listed = (self._file.imagej_metadata or {}).get("images", 1) if self._file.is_imagej else 1
        if listed > len(pages):
            raise AnnotationError(
                self.path, f"an ImageJ stack of {listed} planes with one page", "Save one plane, or a page for each"
            )

    def _tile(self, number: int, index: int) -> np.ndarray:
        """Return a tile's values, ``(height, width, channels)``."""
        key = ("labels", self._identity, number, index)
        tile = TILES.get(key)
        if tile is None:
            page = self._pages[number]
            planes = _planes(page)
            apart = len(page.dataoffsets) // planes
            parts = [self._decode(number, plane * apart + index) for plane in range(planes)]
            tile = parts[0] if planes == 1 else np.concatenate(parts, axis=2)
            TILES.put(key, tile)
        return tile

    def _decode(self, number: int, index: int) -> np.ndarray:
        page = self._pages[number]
        try:
            tile = decode_tile(self._file, page, index, f"page {number}")
        except TileError as error:
            remedy = _DAMAGED if error.damaged else "Check the drive it is on"
            raise AnnotationError(self.path, str(error), remedy) from error
        tall, wide = _tile_shape(page)
        column, row = index % -(-self.shape[1] // wide), index // -(-self.shape[1] // wide)
        row %= -(-self.shape[0] // tall)
        needed = (min(tall, self.shape[0] - row * tall), min(wide, self.shape[1] - column * wide))
        if tile.shape[0] < needed[0] or tile.shape[1] < needed[1]:
            problem = f"page {number}, tile {index} decodes to less than {needed} pixels"
            raise AnnotationError(self.path, problem, _DAMAGED)
        return tile


def _planes(page: tifffile.TiffPage) -> int:
    """Return how many planes hold the channels: 1 unless each channel is stored separately."""
    return page.samplesperpixel if page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 1 else 1


def _tile_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth
