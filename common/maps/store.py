"""What a slide's blocks are collected in: arrays on disk."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import zarr


def checksum(pixels: np.ndarray, before: int = 0) -> int:
    """Return the CRC-32 of pixels, continued from another one."""
    return zlib.crc32(np.ascontiguousarray(pixels).data, before)


class MapStore:
    """A map of a slide on disk, in compressed chunks of one block each; what is not written is 0.

    Args:
        folder: where its chunks are.
        shape: height and width, after the number of planes if there are several.
        chunk: pixels a side of a block.
        keep: go on with what is there already.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], chunk: int, keep: bool = False) -> None:
        self.folder, self.chunk = folder, chunk
        self.shape: tuple[int, int] = (shape[-2], shape[-1])
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
            chunks = (*[1] * (len(shape) - 2), chunk, chunk)
            zarr.create_array(store=str(folder), shape=shape, chunks=chunks, dtype="uint8", fill_value=0)
        self.array = zarr.open_array(store=str(folder), mode="r+")

    def write(self, top: int, left: int, pixels: np.ndarray) -> None:
        """Put ``(height, width)`` or ``(planes, height, width)`` uint8 at a place."""
        height, width = pixels.shape[-2:]
        self.array[..., top : top + height, left : left + width] = pixels

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """uint8 of a rectangle inside."""
        return np.asarray(self.array[..., top : top + height, left : left + width])

    def checksum(self, top: int, left: int, height: int, width: int, before: int = 0) -> int | None:
        """Return the CRC-32 of a rectangle's pixels, continued from another one; None if they cannot be read."""
        try:
            return checksum(self.read(top, left, height, width), before)
        except Exception:  # whatever a decompressor makes of damaged bytes
            return None

    def written(self, top: int, left: int, height: int, width: int) -> bool:
        """Whether anything but 0 was ever written into a rectangle's blocks: of a slide that is nearly all glass,
        what is made of its map need look at few."""
        rows = range(top // self.chunk, (top + height - 1) // self.chunk + 1)
        columns = range(left // self.chunk, (left + width - 1) // self.chunk + 1)
        planes = [range(count) for count in self.array.shape[:-2]]
        # zarr stores no chunk of nothing but the fill value.
        keys = (self.array.metadata.encode_chunk_key(at) for at in product(*planes, rows, columns))
        return any((self.folder / key).exists() for key in keys)

    def bands(self, height: int) -> Iterator[np.ndarray]:
        """The map from the top in bands of ``height`` rows."""
        for top in range(0, self.shape[0], height):
            yield self.read(top, 0, min(height, self.shape[0] - top), self.shape[1])
