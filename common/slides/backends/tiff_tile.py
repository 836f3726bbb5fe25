"""Decode one tile of a TIFF page of a slide or a label image, and name every fault."""

from __future__ import annotations

import os

import numpy as np
import tifffile
from tifffile import COMPRESSION

from ..jpeg import jpeg_damage


class TileError(ValueError):
    """A tile that cannot be read.

    Attributes:
        damaged: True if the file is damaged, False if its drive cannot be read.
    """

    def __init__(self, problem: str, damaged: bool = True) -> None:
        super().__init__(problem)
        self.damaged = damaged


def decode_tile(file: tifffile.TiffFile, page: tifffile.TiffPage, index: int, name: str) -> np.ndarray:
    """Return a tile's stored values, ``(height, width, samples)``. Several threads may call this.

    Args:
        file: the open file.
        page: the tile's page.
        index: the tile's number in its page.
        name: name of the page, for errors.

    Raises:
        TileError: the tile is missing, cut short or damaged.
    """
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    place = f"{name}, tile {index} (byte {offset})"
    if offset == 0 or count == 0:
        raise TileError(f"{place} is missing from the file")
    try:
        data = os.pread(file.filehandle.fileno(), count, offset)
    except OSError as error:
        raise TileError(f"{place} cannot be read ({error})", damaged=False) from error
    if len(data) != count:
        raise TileError(f"{place}: the file ends {count - len(data)} bytes early")
    damage = jpeg_damage(data, page.jpegtables) if page.compression == COMPRESSION.JPEG else None
    if damage is not None:
        raise TileError(f"{place}: {damage}")
    try:
        segment = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
    except Exception as error:  # every codec has exceptions of its own, without a common base
        raise TileError(f"{place} cannot be decoded ({error})") from error
    if segment is None:
        raise TileError(f"{place} is empty")
    return segment[0]
