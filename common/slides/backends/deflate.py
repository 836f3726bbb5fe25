"""Check Deflate tiles before OpenSlide reads them: it returns damaged ones without an error."""

from __future__ import annotations

import os
import threading
import zlib
from pathlib import Path

import tifffile
from tifffile import COMPRESSION
from tqdm import tqdm

from ..errors import SlideError

_DEFLATE = (COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)
_checked: set[tuple[str, int, int]] = set()
_lock = threading.Lock()


def check_deflated_tiles(path: Path) -> None:
    """Inflate every Deflate tile of a TIFF once per process, which checks its checksum.

    Raises:
        SlideError: a tile is damaged; the message names the first.
    """
    status = path.stat()
    identity = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    with _lock:
        if identity in _checked:
            return
        for level, index, offset, count in tqdm(_tiles(path), desc=f"checking {path.name}", delay=3, leave=False):
            with path.open("rb") as file:
                data = os.pread(file.fileno(), count, offset)
            try:
                zlib.decompress(data)
            except zlib.error as error:
                raise SlideError(
                    path,
                    f"page {level}, tile {index} (byte {offset}) is damaged ({error})",
                    "Get an undamaged copy of the file; these pixels cannot be recovered",
                ) from error
        _checked.add(identity)


def _tiles(path: Path) -> list[tuple[int, int, int, int]]:
    """Return page, index, offset and number of bytes of every Deflate tile."""
    try:
        with tifffile.TiffFile(path) as file:
            return [
                (level, index, offset, count)
                for level, page in enumerate(page.aspage() for page in file.pages)
                if page.compression in _DEFLATE
                for index, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=False))
                if offset and count  # reading a missing one raises
            ]
    except Exception as error:  # tifffile fails on damaged tags in many ways
        raise SlideError(
            path, f"not a readable TIFF ({error})", "The header is damaged; get an undamaged copy"
        ) from error
