"""A slide's maps on disk, to which its blocks are written."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import zarr


def checksum(pixels: np.ndarray, before: int = 0) -> int:
    """Return the CRC-32 of pixels, continued from the CRC-32 ``before``."""
    return zlib.crc32(np.ascontiguousarray(pixels).data, before)


class MapStore:
    """A uint8 map of a slide on disk, in compressed chunks of one block each. Pixels that are not written are 0.

    Args:
        folder: folder of the chunks.
        shape: ``(height, width)``, or ``(planes, height, width)``.
        chunk: side of a block in pixels.
        keep: open the map that the folder holds; otherwise a new one replaces it.
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
        """Write ``(height, width)`` or ``(planes, height, width)`` uint8 with its corner at ``top``, ``left``."""
        height, width = pixels.shape[-2:]
        self.array[..., top : top + height, left : left + width] = pixels

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return the uint8 pixels of a rectangle within the map."""
        return np.asarray(self.array[..., top : top + height, left : left + width])

    def checksum(self, top: int, left: int, height: int, width: int, before: int = 0) -> int | None:
        """Return the CRC-32 of a rectangle's pixels, continued from ``before``; None if they cannot be read."""
        try:
            return checksum(self.read(top, left, height, width), before)
        except Exception:  # whatever a decompressor makes of damaged bytes
            return None

    def written(self, top: int, left: int, height: int, width: int) -> bool:
        """Return whether anything but 0 was ever written into a rectangle's blocks.

        Most slides are largely glass: outputs need not read the blocks of it.
        """
        rows = range(top // self.chunk, (top + height - 1) // self.chunk + 1)
        columns = range(left // self.chunk, (left + width - 1) // self.chunk + 1)
        planes = [range(count) for count in self.array.shape[:-2]]
        # zarr does not store chunks that hold only the fill value.
        keys = (self.array.metadata.encode_chunk_key(at) for at in product(*planes, rows, columns))
        return any((self.folder / key).exists() for key in keys)

    def bands(self, height: int) -> Iterator[np.ndarray]:
        """Yield the map from the top in bands of ``height`` rows."""
        for top in range(0, self.shape[0], height):
            yield self.read(top, 0, min(height, self.shape[0] - top), self.shape[1])
