"""The series of a DICOM file, read from its header without an optional package."""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

_PREAMBLE = 128
_SERIES, _LAST = (0x0020, 0x000E), (0x0020, 0xFFFF)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
# Value representations whose length has four bytes, after two that are reserved.
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_UNDEFINED = 0xFFFFFFFF
_DEEPEST = 32
# The series mostly stands within the first few kilobytes.
_BUFFER = 4096

_Tag = tuple[int, int]


def series_uid(path: Path) -> str | None:
    """Return the UID of a DICOM file's series; None if the header cannot be read or names none.

    The result is cached in memory while the file's size and modification time stay the same.
    """
    try:
        status = os.stat(path)
        return _series_uid(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=2**14)
def _series_uid(path: Path, size: int, modified: int) -> str | None:
    with path.open("rb", buffering=_BUFFER) as file:
        try:
            file.seek(_PREAMBLE)
            return _find_series(file) if file.read(4) == b"DICM" else None
        except (struct.error, ValueError):
            return None


def _find_series(file: BinaryIO) -> str | None:
    """Return the series' UID from the elements that follow; those inside sequences belong to other series."""
    while True:
        tag, length = _element(file)
        if tag > _LAST:
            return None
        if tag == _SERIES:
            return file.read(min(length, 64)).rstrip(b"\0 ").decode("ascii") or None
        _skip(file, length, 0)


def _element(file: BinaryIO) -> tuple[_Tag, int]:
    """Read an element up to its value, explicit or implicit, and return its tag and length."""
    group, element, kind, short = struct.unpack("<HH2sH", file.read(8))
    if kind in _LONG:
        return (group, element), struct.unpack("<I", file.read(4))[0]
    if group != 0xFFFE and kind.isalpha() and kind.isupper():
        return (group, element), short
    return (group, element), struct.unpack("<I", kind + struct.pack("<H", short))[0]


def _skip(file: BinaryIO, length: int, depth: int) -> None:
    """Skip a value, or a sequence of undefined length with all its items."""
    if length != _UNDEFINED:
        file.seek(length, os.SEEK_CUR)
        return
    if depth > _DEEPEST:
        raise ValueError("sequences are nested too deeply")
    while True:
        tag, item_length = _element(file)
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM:
            raise ValueError("a sequence holds something other than items")
        if item_length != _UNDEFINED:
            file.seek(item_length, os.SEEK_CUR)
        else:
            _skip_item(file, depth)


def _skip_item(file: BinaryIO, depth: int) -> None:
    while True:
        tag, length = _element(file)
        if tag == _ITEM_END:
            return
        _skip(file, length, depth + 1)
