"""Damage small slides at random and read them: ``python -m tests.slides.fuzz FIRST COUNT``.

One line of JSON per case, flushed before the next, so that a crash or a hang names its case, which is repeatable by
its number. What a damaged slide may do:

- ``error``: raise a SlideError naming it;
- ``right``: read, at every pixel that it shows, what the sound file shows there;
- ``unseen``: read other pixels only inside JPEG or LZW tiles whose own bytes were changed and still decode without a
  warning, by OpenSlide as well: they have no checksum, no reader can notice (Deflate and PNG have one);
- ``declared``: show another size or scale, because the damage is in what the file says of them and contradicts
  nothing else in it.

Anything else is ``wrong``, or the process does not come back.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from common.slides import SlideError, open_slide
from tests.conftest import ramp

LEVELS = [ramp(side, 48) for side in (48, 24)]
MEMORY = 6 << 30
KINDS = ("jpeg", "deflate", "lzw strips", "ome", "png")


class Tile(NamedTuple):
    """A stored tile or strip: where it is shown, and where it is stored."""

    level: int
    place: tuple[slice, slice]
    offset: int
    count: int


def sound_file(kind: str, folder: Path) -> Path:
    """A small slide of one kind."""
    if kind == "png":
        Image.fromarray(LEVELS[0]).save(folder / "sound.png")
        return folder / "sound.png"
    path = folder / ("sound.ome.tif" if kind == "ome" else "sound.tif")
    options: dict = {"photometric": "rgb", "metadata": None}
    if kind == "lzw strips":
        options |= {"compression": "lzw", "rowsperstrip": 8}
    elif kind == "jpeg":
        options |= {"compression": "jpeg", "tile": (16, 16), "compressionargs": {"level": 95, "outcolorspace": "RGB"}}
    else:
        options |= {"compression": "adobe_deflate", "tile": (16, 16)}
    with tifffile.TiffWriter(path, ome=kind == "ome") as writer:
        if kind == "ome":
            metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            writer.write(LEVELS[0], subifds=1, **{**options, "metadata": metadata})
            writer.write(LEVELS[1], subfiletype=1, **options)
        else:
            for number, level in enumerate(LEVELS[: 1 if kind == "lzw strips" else 2]):
                scale = 2e4 * level.shape[0] / LEVELS[0].shape[0]
                extra = {"resolution": (scale, scale), "resolutionunit": "CENTIMETER", "subfiletype": int(number > 0)}
                writer.write(level, **options, **extra)
    return path


@cache
def sound(kind: str) -> tuple[bytes, list[np.ndarray], list[Tile]]:
    """Bytes, levels and tiles of a sound file."""
    with tempfile.TemporaryDirectory() as folder:
        path = sound_file(kind, Path(folder))
        levels = shown(path, kind)
        tiles = []
        if kind != "png":
            with tifffile.TiffFile(path) as file:
                pages = [file.pages[0], *(file.pages[0].pages or []), *file.pages[1:]]
                for level, page in enumerate(p.aspage() for p in pages):
                    down, across = (
                        (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
                    )
                    columns = -(-page.imagewidth // across)
                    for index, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
                        row, column = divmod(index, columns)
                        place = (slice(row * down, row * down + down), slice(column * across, column * across + across))
                        tiles.append(Tile(level, place, offset, count))
        return path.read_bytes(), levels, tiles


def shown(path: Path, kind: str, backend: str = "auto") -> list[np.ndarray]:
    """Every level as it is read; none if the slide says another size or scale than it should."""
    with open_slide(path, backend, mpp=0.5 if kind == "png" else None) as slide:
        found = []
        if slide.shape != (48, 48) or any(abs(slide.levels[0].mpp[axis] / 0.5 - 1) > 1e-6 for axis in (0, 1)):
            return []
        for level in slide.levels:
            mpp = float(np.sqrt(level.mpp[0] * level.mpp[1]))
            found.append(slide.read((slide.shape[0] / 2, slide.shape[1] / 2), mpp, level.shape))
        return found


def damage(kind: str, rng: np.random.Generator) -> tuple[bytes, str, set[int]]:
    """A damaged copy, how it was damaged, and which tiles have changed bytes."""
    content, _, tiles = sound(kind)
    changed = bytearray(content)
    in_tiles = np.zeros(len(content), dtype=np.int64) - 1
    for number, tile in enumerate(tiles):
        in_tiles[tile.offset : tile.offset + tile.count] = number
    how = rng.choice(["header", "tile", "anywhere", "cut", "zeros"], p=[0.4, 0.25, 0.15, 0.1, 0.1])
    if how == "cut":
        return bytes(changed[: rng.integers(0, len(changed))]), how, set()
    if how == "zeros":
        start = int(rng.integers(0, len(changed)))
        places = np.arange(start, min(start + int(rng.integers(1, 200)), len(changed)))
        changed[start : start + len(places)] = bytes(len(places))
    else:
        pool = {"header": np.nonzero(in_tiles < 0)[0], "tile": np.nonzero(in_tiles >= 0)[0]}.get(
            how, np.arange(len(changed))
        )
        pool = pool if len(pool) else np.arange(len(changed))
        places = rng.choice(pool, size=int(rng.integers(1, 5)))
        for place in places:
            changed[place] = int(rng.integers(0, 256))
    return bytes(changed), how, {int(t) for t in in_tiles[places] if t >= 0}


def verdict(kind: str, found: list[np.ndarray], touched: set[int]) -> str:
    """Compare a reading with that of the sound file."""
    _, levels, tiles = sound(kind)
    if not found:
        return "declared"
    for level, pixels in enumerate(found):
        if level >= len(levels) or pixels.shape != levels[level].shape:
            return "declared"
        differs = (pixels != levels[level]).any(axis=2)
        if not differs.any():
            continue
        for number in touched:
            if tiles[number].level == level and kind in ("jpeg", "lzw strips"):
                differs[tiles[number].place] = False
        if differs.any():
            return "wrong"
    same = all(np.array_equal(a, b) for a, b in zip(found, levels, strict=False))
    return "right" if same else "unseen"


def noticed_by_openslide(content: bytes, path: Path) -> bool:
    """Return whether libjpeg, called by OpenSlide, finds fault with a tile.

    Damage to the header is left out: OpenSlide refuses some that changes no pixel.
    """
    whole, _, tiles = sound("jpeg")
    only_tiles = bytearray(whole)
    for tile in tiles:
        part = slice(tile.offset, tile.offset + tile.count)
        only_tiles[part] = content[part]
    path.write_bytes(only_tiles)
    try:
        shown(path, "jpeg", "openslide")
    except SlideError:
        return True
    return False


def run_case(number: int, folder: Path) -> dict:
    """One damaged file, read."""
    rng = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    backend = "auto" if kind in ("png", "ome") else ("auto", "tiff", "openslide")[number // len(KINDS) % 3]
    content, how, touched = damage(kind, rng)
    path = folder / ("case.png" if kind == "png" else "case.ome.tif" if kind == "ome" else "case.tif")
    path.write_bytes(content)
    case = {"case": number, "kind": kind, "backend": backend, "how": how}
    try:
        found = verdict(kind, shown(path, kind, backend), touched)
        if found == "unseen" and kind == "jpeg" and noticed_by_openslide(content, path.with_name("tiles.tif")):
            found = "wrong"
        return {**case, "verdict": found}
    except SlideError as error:
        return {**case, "verdict": "error", "named": path.name in str(error), "message": str(error)}
    except Exception as error:
        return {**case, "verdict": "wrong", "message": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Run cases FIRST to FIRST + COUNT."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    first, count = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            print(json.dumps({"begun": number}), flush=True)
            print(json.dumps(run_case(number, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
