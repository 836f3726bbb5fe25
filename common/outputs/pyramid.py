"""Tiled TIFF pyramids, streamed. Every level is a plain page with its µm/px in the resolution tags.

Plain pages, not SubIFDs: OpenSlide shows only one level of a pyramid of SubIFDs.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from ..classes import ClassScheme
from ..files import PARTIAL, atomic_write

TILE = 512
# The last level fits on a screen.
_SMALLEST = 1024


def write_label_pyramid(
    path: str | Path, rows: Iterable[np.ndarray], shape: tuple[int, int], mpp: float, scheme: ClassScheme
) -> None:
    """Write a label map as an 8-bit palette pyramid with the class names in its description.

    Args:
        path: path of the file, which is written atomically.
        rows: the label map in bands ``(TILE, width)`` uint8 from the top; the last may be lower.
        shape: height and width of the map.
        mpp: µm per pixel.
        scheme: names and colours of the classes.
    """
    description = {"classes": {str(c.label): c.name for c in scheme.classes}, "0": "unlabelled or not predicted"}
    options = {
        "photometric": "palette",
        "colormap": (scheme.palette().T.astype(np.uint16) * 257),
        "compression": "adobe_deflate",
        "predictor": False,
    }
    bands = (band[..., None] for band in rows)
    _write(path, bands, (*shape, 1), mpp, _every_other, options, json.dumps(description), _deflated)


def write_grey_pyramid(
    path: str | Path, rows: Iterable[np.ndarray], shape: tuple[int, int], mpp: float, description: str
) -> None:
    """Write an 8-bit map as a greyscale pyramid.

    Args:
        path: path of the file, which is written atomically.
        rows: the map in bands ``(TILE, width)`` uint8 from the top.
        shape: height and width of the map.
        mpp: µm per pixel.
        description: the file's ImageDescription.
    """
    options = {"photometric": "minisblack", "compression": "adobe_deflate", "predictor": True}
    bands = (band[..., None] for band in rows)
    _write(path, bands, (*shape, 1), mpp, _mean_of_four, options, description, _differences)


def write_image_pyramid(
    path: str | Path,
    rows: Iterable[np.ndarray],
    shape: tuple[int, int],
    mpp: float,
    quality: int = 90,
    description: str = "",
) -> None:
    """Write an RGB slide as a JPEG pyramid.

    Args:
        path: path of the file, which is written atomically.
        rows: the image in bands ``(TILE, width, 3)`` uint8 from the top.
        shape: height and width of the image.
        mpp: µm per pixel.
        quality: JPEG quality of the tiles, 1 to 100.
        description: the file's ImageDescription.
    """
    # tifffile stores RGB in the JPEG codec as YCbCr with halved chroma, as scanners do.
    options = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": quality}}
    _write(path, rows, (*shape, 3), mpp, _mean_of_four, options, description)


def _write(
    path: str | Path,
    rows: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    mpp: float,
    shrink: Callable[[np.ndarray], np.ndarray],
    options: dict[str, Any],
    description: str,
    encode: Callable[[np.ndarray], bytes] | None = None,
) -> None:
    """Write all levels, each half the size of the one before.

    ``shrink`` halves a band; ``encode`` encodes a tile as ``options`` declare, which tifffile does by default.
    """
    with ExitStack() as stack:
        partial = stack.enter_context(atomic_write(path))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=partial.parent, prefix=PARTIAL)))
        bigtiff = shape[0] * shape[1] * shape[2] > 2**31
        writer = stack.enter_context(tifffile.TiffWriter(partial, bigtiff=bigtiff))
        level = 0
        while True:
            last = max(shape[:2]) <= _SMALLEST or min(shape[:2]) < 2
            spill = None if last else folder / f"level{level + 1}"
            tiles = _tiles(rows, spill, shrink, shape[2])
            writer.write(
                tiles if encode is None else _encoded(tiles, encode),
                shape=shape if shape[2] > 1 else shape[:2],
                dtype=np.uint8,
                tile=(TILE, TILE),
                subfiletype=0 if level == 0 else 1,
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                description=description if level == 0 else None,
                metadata=None,
                **options,
            )
            if spill is None:
                return
            shape = (shape[0] // 2, shape[1] // 2, shape[2])
            mpp *= 2
            level += 1
            rows = _spilled(spill, shape)


def _tiles(
    rows: Iterable[np.ndarray], spill: Path | None, shrink: Callable[[np.ndarray], np.ndarray], channels: int
) -> Iterator[np.ndarray]:
    """Yield the tiles of a level in file order, and write its half-size copy to ``spill``."""
    with ExitStack() as stack:
        file = stack.enter_context(spill.open("wb")) if spill else None
        for band in rows:
            # Where most of a slide is glass, most of a map is 0.
            blank = not band.any()
            if file is not None:
                height, width = band.shape[0] // 2, band.shape[1] // 2
                if blank:
                    # A gap in a file takes no space on disk and reads as 0.
                    file.truncate(file.seek(height * width * channels, os.SEEK_CUR))
                else:
                    file.write(shrink(band[: 2 * height, : 2 * width]).tobytes())
            if blank:
                shape = (TILE, TILE, channels) if channels > 1 else (TILE, TILE)
                yield from itertools.repeat(np.zeros(shape, dtype=np.uint8), -(-band.shape[1] // TILE))
                continue
            padding = [(0, -band.shape[0] % TILE), (0, -band.shape[1] % TILE), (0, 0)]
            # Padded with the border, not with black, which JPEG would let ring into the picture.
            padded = np.pad(band, padding, mode="edge")
            for left in range(0, padded.shape[1], TILE):
                tile = padded[:, left : left + TILE]
                yield np.ascontiguousarray(tile if channels > 1 else tile[..., 0])


def _encoded(tiles: Iterable[np.ndarray], encode: Callable[[np.ndarray], bytes]) -> Iterator[bytes]:
    """Yield the encoded tiles; tiles of 0 only are encoded once."""
    empty = encode(np.zeros((TILE, TILE), dtype=np.uint8))
    for tile in tiles:
        yield encode(tile) if tile.any() else empty


def _deflated(tile: np.ndarray) -> bytes:
    return zlib.compress(tile.tobytes())


def _differences(tile: np.ndarray) -> bytes:
    """Deflate a tile with TIFF's horizontal predictor."""
    return _deflated(np.asarray(imagecodecs.delta_encode(tile, axis=-1)))


def _spilled(path: Path, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Yield the bands of a half-size copy, then remove its file."""
    height, width, channels = shape
    with path.open("rb") as file:
        for top in range(0, height, TILE):
            count = min(TILE, height - top)
            yield np.fromfile(file, np.uint8, count * width * channels).reshape(count, width, channels)
    path.unlink()


def _every_other(band: np.ndarray) -> np.ndarray:
    return band[::2, ::2]


def _mean_of_four(band: np.ndarray) -> np.ndarray:
    height, width, channels = band.shape
    total = band.reshape(height // 2, 2, width // 2, 2, channels).sum(axis=(1, 3), dtype=np.uint16)
    return ((total + 2) // 4).astype(np.uint8)
