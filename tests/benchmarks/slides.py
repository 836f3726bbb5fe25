"""Write large slides in seconds, for benchmarks that need size and not content.

One small phantom is painted, and its encoded tiles are repeated over the whole slide.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile

from common.files import atomic_write
from common.outputs.pyramid import TILE
from common.phantom import BREAST
from common.phantom.layout import Layout
from common.phantom.paint import Painter

QUALITY = 90


def write_repeated_slide(
    path: str | Path, size: tuple[int, int], mpp: float = 0.5, period: int = 4096, seed: int = 3
) -> Path:
    """Write a slide that repeats one phantom, as a JPEG pyramid that shrinks by two from level to level.

    Every level is periodic, too, so there are as many as the phantom can be halved down to one tile.

    Args:
        path: the file, written whole.
        size: height and width in pixels.
        mpp: µm per pixel.
        period: pixels a side of the phantom; a power of two times the tiles' 512 pixels.
        seed: which phantom.

    Returns:
        the path.
    """
    halvings = (period // TILE).bit_length() - 1
    if period != TILE << max(halvings, 0):
        raise ValueError(f"period must be {TILE} pixels times a power of two, not {period}")
    image = _painted(period, mpp, seed)
    path, (height, width) = Path(path), size
    # The codec's defaults are how tifffile itself stores RGB: YCbCr with halved chroma, as scanners do.
    options = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": QUALITY}}
    with atomic_write(path) as partial, tifffile.TiffWriter(partial, bigtiff=True) as writer:
        for level in range(halvings + 1):
            writer.write(
                _repeated(_encoded_tiles(image), (height, width)),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                subfiletype=int(level > 0),
                resolution=(1e4 / (mpp * 2**level),) * 2,
                resolutionunit="CENTIMETER",
                description=f"MultiMag phantom, seed {seed}, repeated every {period} pixels" if level == 0 else None,
                metadata=None,
                **options,
            )
            height, width = height // 2, width // 2
            image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return path


def _painted(side: int, mpp: float, seed: int) -> np.ndarray:
    painter = Painter(Layout(BREAST, seed, side * mpp, side * mpp), mpp)
    image = np.empty((side, side, 3), dtype=np.uint8)
    with ThreadPoolExecutor() as pool:
        corners = list(product(range(0, side, TILE), repeat=2))
        tiles = pool.map(lambda corner: painter.image(*corner, TILE, TILE), corners)
        for (top, left), tile in zip(corners, tiles, strict=True):
            image[top : top + TILE, left : left + TILE] = tile
    return image


def _encoded_tiles(image: np.ndarray) -> list[list[bytes]]:
    """Encode the tiles of one level of the phantom, row by row."""
    starts = range(0, image.shape[0], TILE)
    tiles = [[np.ascontiguousarray(image[top : top + TILE, left : left + TILE]) for left in starts] for top in starts]
    return [
        [
            imagecodecs.jpeg8_encode(tile, level=QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling=(2, 2))
            for tile in row
        ]
        for row in tiles
    ]


def _repeated(tiles: list[list[bytes]], shape: tuple[int, int]) -> Iterator[bytes]:
    rows, columns = (-(-side // TILE) for side in shape)
    for row, column in product(range(rows), range(columns)):
        yield tiles[row % len(tiles)][column % len(tiles)]
