"""Check the checksums of a PNG: Pillow ignores those of the pixel data."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def damaged_png_chunk(path: Path) -> str | None:
    """Return a phrase for the damage to a PNG; None if all chunks are whole or the file is not a PNG."""
    content = path.read_bytes()
    if not content.startswith(_SIGNATURE):
        return None
    start = len(_SIGNATURE)
    while start < len(content):
        header = content[start : start + 8]
        if len(header) < 8:
            return "the file ends in the middle"
        length, kind = struct.unpack(">I4s", header)
        body, checksum = content[start + 4 : start + 8 + length], content[start + 8 + length : start + 12 + length]
        if len(checksum) < 4:
            return "the file ends in the middle"
        if zlib.crc32(body) != struct.unpack(">I", checksum)[0]:
            return f"chunk {kind!r} at byte {start} is damaged"
        start += 12 + length
        if kind == b"IEND":
            return None
    return "it has no end"
